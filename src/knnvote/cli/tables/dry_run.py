"""The table of ``--dry-run``."""

from knnvote.classify.dry_run import DryRun, Seconds
from knnvote.data.text import show_bytes

from .table import add_row, new_list, print_table


def print_dry_run(found: DryRun) -> None:
    """What a command would do, on stdout."""
    table = new_list(f"{found.out}: nothing was written")
    files = f"{found.files:,} file{'' if found.files == 1 else 's'}"
    done = f"; {found.done:,} done already" if found.done else ""
    decided = f"; {found.decided:,} without a search" if found.decided else ""
    add_row(table, "rows", f"{found.rows:,} of {files}{done}{decided}, measured on {found.measured:,}")
    for name, seconds in found.steps.items():
        add_row(table, name, _spread(seconds))
    add_row(table, "writes", f"about {show_bytes(found.bytes)}")
    for reason in found.failed:
        add_row(table, "failed", reason)
    print_table(table)


def _spread(seconds: Seconds) -> str:
    low, high = (f"{value:,.1f}" for value in seconds)
    return f"{low} s" if low == high else f"{low} to {high} s"
