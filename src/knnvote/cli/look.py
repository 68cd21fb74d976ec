"""Commands that look at single answers: explain, review."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvote.data.codecs.names import Background
from knnvote.data.errors import spelled

from .command import Command
from .options import (
    POSITIVE,
    complete_file,
    complete_folder,
    example,
    is_given,
    json_option,
    page_frame,
    page_option,
    parse_list,
    seen_options,
    threads_option,
    vote_options,
)
from .spelling import as_typed
from .talk import end, talk, talk_note, talk_written

if TYPE_CHECKING:
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.look.review import Review

_OF_INDEX = ("k", "weights", "ties", "class_weight", "grayscale", "background")  # which a job has settled


@click.command(
    cls=Command,
    short_help="Tell why rows or images are given their labels.",
    epilog=example("knnvote explain predictions 17 --index digits.knn"),
)
@click.argument("place", metavar="OUT|INDEX", shell_complete=complete_folder)
@click.argument("names", metavar="ROW|ID|IMAGE...", nargs=-1, required=True)
@click.option(
    "--index",
    "index_folder",
    metavar="INDEX",
    shell_complete=complete_folder,
    help="Of a job's OUT: the index that classified.",
)
@click.option(
    "--id-column", metavar="NAME", help="Column of ids in OUT; by default that of classify, id, __key__ or file."
)
@vote_options
@seen_options
@page_option("all of it, with pictures", has_figures=False)
@threads_option
@json_option
def explain(  # noqa: PLR0917  # click passes options by name
    place: str,
    names: tuple[str, ...],
    index_folder: str | None,
    id_column: str | None,
    grayscale: bool,
    background: Background | None,
    report: Path | None,
    threads: int | None,
    as_json: bool,
    **rule: Any,
) -> None:
    """Tell why rows of a job's OUT, or images given to an INDEX, stored ones by their ids, have their labels."""
    from knnvote.classify.answer import BAD_IMAGE
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.look.explain import gather
    from knnvote.classify.look.seen import explain_images, explain_rows
    from knnvote.classify.vote import Rule
    from knnvote.data.layout import ImageOptions
    from knnvote.data.locations import locate
    from knnvote.indexer.folder.open import open_index
    from knnvote.indexer.leftovers import refuse_unfinished
    from knnvote.indexer.manifest import is_index_folder

    from .tables.explanation import print_explanations

    if is_index_folder(locate(place)):
        if index_folder is not None or id_column is not None:
            raise click.UsageError(
                f"{place} is an index, whose images are files, or ids of stored ones: leave out --index and --id-column"
            )
        index = open_index(place)
        classifier = Classifier(index, Rule.of(index, **rule))
        shown, job = explain_images(classifier, names, ImageOptions(grayscale=grayscale, background=background)), None
    else:
        refuse_unfinished(place)
        job = FinishedJob.open(locate(place))
        if index_folder is None:
            raise click.UsageError(
                f"the rows of {place} are explained by the index that classified: give it as --index"
            )
        if given := [name for name in _OF_INDEX if is_given(name)]:
            raise click.UsageError(f"the job {place} has settled --{given[0].replace('_', '-')}: leave it out")
        classifier = job.classifier(open_index(index_folder))
        for words in job.kept_told:
            talk_note(words)
        shown = explain_rows(job, classifier, names, id_column)
    found = gather(classifier, shown, threads=threads)

    def write(page: Path) -> None:
        from knnvote.classify.pages.explanation import write_explanations

        write_explanations(page, found, page_frame(page), job=job)

    end(found, file=report, write=write, as_json=as_json, print_table=print_explanations)
    if all(one.status == BAD_IMAGE for one in shown):
        click.get_current_context().exit(1)


def _open_job(_ctx: click.Context, _param: click.Parameter, folder: str) -> "FinishedJob":
    """The job, opened before other options are looked at: that it is none is what there is to say first."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.data.locations import locate

    return FinishedJob.open(locate(folder))


@click.command(
    cls=Command,
    short_help="List the rows of a job whose look pays most.",
    epilog=example("knnvote review predictions --index digits.knn --report review.html"),
)
@click.argument("job", metavar="OUT", callback=_open_job, is_eager=True, shell_complete=complete_folder)
@click.option("--top", type=POSITIVE, metavar="N", default=200, show_default=True, help="Rows to list, at most.")
@click.option(
    "--index",
    "index_folder",
    metavar="INDEX",
    shell_complete=complete_folder,
    help="The job's index: shows neighbours, finds near copies.",
)
@click.option("--id-column", metavar="NAME", help="Column of ids in OUT; by default that of classify or of the index.")
@click.option(
    "--out",
    metavar="FILE",
    default="review.csv",
    show_default=True,
    callback=parse_list,
    shell_complete=complete_file,
    help="The CSV to fill in; a file that is there is not written over.",
)
@page_option("a card for each row, with its picture", has_figures=False)
def review(  # noqa: PLR0917  # click passes options by name
    job: "FinishedJob",
    top: int,
    index_folder: str | None,
    id_column: str | None,
    out: Path,
    report: Path | None,
) -> None:
    """List the rows of a job whose look pays most, as a CSV whose column of labels is to be filled in."""
    from knnvote.classify.look.review import review as review_job
    from knnvote.data.tables import write_new_csv
    from knnvote.indexer.folder.open import open_index

    index = None if index_folder is None else open_index(index_folder)
    classifier = None if index is None else job.classifier(index)
    found = review_job(job, classifier, top=top, id_column=id_column, pixels=report is not None)
    write_new_csv(found.to_table(), out)
    _talk_review(out, found)
    if report is not None:
        from knnvote.classify.pages.review import write_review_page

        write_review_page(report, found, index, out, page_frame(report))
        talk_written(report)


def _talk_review(out: Path, found: "Review") -> None:
    """Say what stands in the file, and what is left out of it."""
    kinds = [f"{listed:,} of {rows:,} {kind}" for kind, listed, rows in found.kinds if rows]
    talk(f"{out}: {len(found.rows):,} rows to look at{': ' if kinds else ''}{', '.join(kinds)}")
    for told in (found.told_of_stored, found.told_of_copies):
        if told:
            talk(f"left out: {spelled(told, as_typed)}")
    for words in found.notes:
        talk_note(words)
    if found.unread:
        talk(
            f"note: {len(found.unread):,} inputs are gone or were changed, the first {found.unread[0]}: their rows are "
            "listed without a look at their images"
        )
