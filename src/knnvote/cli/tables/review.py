"""What ``review`` tells beside its files: how many rows of each kind of doubt are listed."""

from knnvote.classify.look.review import Review

from .table import add_row, new_table, print_line, print_table


def print_review(found: Review) -> None:
    """A table of the kinds on stdout, and below it what is not listed."""
    table = new_table("", "doubt", "listed", "in the job")
    for kind, listed, rows in found.kinds:
        add_row(table, kind, f"{listed:,}", f"{rows:,}")
    print_table(table)
    if found.copies:
        print_line(f"{found.copies:,} more equal a listed row, or have its neighbours in the same order: left out")
    if found.unread:
        print_line(
            f"{len(found.unread):,} files have inputs that are gone or were changed, the first {found.unread[0]}: "
            "their rows are listed without a look at their images"
        )
