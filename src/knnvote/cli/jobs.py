"""Commands that look at what jobs made: diff."""

from pathlib import Path

import click

from .command import Command
from .options import (
    check_table_ids,
    complete_folder,
    example,
    json_option,
    label_column_option,
    labels_option,
    page_frame,
    page_option,
    table_ids_option,
)
from .talk import end


@click.command(
    cls=Command,
    short_help="Compare the answers of two jobs over the same inputs.",
    epilog=example("knnvote diff predictions others"),
)
@click.argument("first", metavar="OUT1", shell_complete=complete_folder)
@click.argument("second", metavar="OUT2", shell_complete=complete_folder)
@label_column_option
@labels_option
@table_ids_option
@page_option("the changes, the most first", has_figures=False, has_pictures=False)
@json_option
def diff(  # noqa: PLR0917  # click passes options by name
    first: str,
    second: str,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compare the answers of two jobs over the same inputs: which rows changed, and for better or worse."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.judgement.diff import diff_jobs
    from knnvote.classify.judgement.truth import Truth
    from knnvote.data.locations import locate

    from .tables.diff import print_diff

    check_table_ids(labels, id_column)
    one, other = (FinishedJob.open(locate(folder)) for folder in (first, second))
    found = diff_jobs(one, other, Truth.of(one, labels, label_column, id_column))

    def write(page: Path) -> None:
        from knnvote.classify.pages.diff import write_diff

        write_diff(page, found, (one, other), page_frame(page))

    end(found, file=report, write=write, as_json=as_json, print_table=print_diff)
