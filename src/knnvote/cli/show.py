"""Commands that make a picture or a page: show, map, report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvote.classify.names import SORTS, STATUSES, Ink
from knnvote.data.codecs.names import Background
from knnvote.data.text import counted

from .command import Command
from .options import (
    check_table_ids,
    class_weight_option,
    complete_file,
    complete_folder,
    example,
    find_labelled,
    image_options,
    images_argument,
    index_argument,
    ink_option,
    is_given,
    label_column_option,
    labels_option,
    neighbor_options,
    page_frame,
    parse_grid,
    parse_page,
    picture_option,
    seed_option,
    seen_options,
    table_ids_option,
)
from .talk import talk, talk_note, talk_written

if TYPE_CHECKING:
    from knnvote.data.errors import KnnvoteError


@click.command(
    cls=Command,
    short_help="Draw images with their labels, or what a job got wrong.",
    epilog=example("knnvote show digits/test.parquet"),
)
@images_argument
@click.option(
    "--grid",
    metavar="RxC",
    default="2x5",
    show_default=True,
    callback=parse_grid,
    help="Rows and columns; of --errors the rows alone count: an image and its neighbours fill a row.",
)
@click.option(
    "--predictions",
    metavar="DIR",
    shell_complete=complete_folder,
    help="A job's outputs for these images: each prediction above the truth.",
)
@click.option("--errors", is_flag=True, help="Only wrong predictions, each in a row with its neighbours.")
@click.option(
    "--index",
    "index_folder",
    metavar="INDEX",
    shell_complete=complete_folder,
    help="The job's index, to find neighbours in for --errors.",
)
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this row: FILE#ROW or an id; may be repeated.")
@click.option("--id-column", metavar="NAME", help="Column of ids, by default id, __key__ or file; or of --labels.")
@click.option(
    "--where", metavar="COMPARISON", multiple=True, help="Only rows where it holds: 'margin < 0.2'; may be repeated."
)
@click.option("--class", "label", metavar="NAME", help="Only this class: the job's best guess, else the label.")
@click.option("--status", type=click.Choice(STATUSES), help="Only what the job gave this status.")
@click.option("--sort", type=click.Choice(SORTS), help="The least confidence or margin first, or the farthest.")
@click.option("--sample", type=click.IntRange(1, 400), metavar="N", help="So many of the rows, drawn at random.")
@seed_option("Of --sample.")
@image_options
@seen_options
@label_column_option
@labels_option
@ink_option
@picture_option("show.png")
def show(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    grid: tuple[int, ...],
    predictions: str | None,
    errors: bool,
    index_folder: str | None,
    ids: tuple[str, ...],
    id_column: str | None,
    where: tuple[str, ...],
    label: str | None,
    status: str | None,
    sort: str | None,
    sample: int | None,
    seed: int,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    background: Background | None,
    label_column: str | None,
    labels: str | None,
    ink: Ink,
    out: Path,
) -> None:
    """Draw images with their labels, or those that a job got wrong beside their neighbours."""
    from knnvote.classify.job.filter import RowFilter
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.job.selection import Selection, select_images
    from knnvote.classify.pictures.figures import save
    from knnvote.classify.pictures.grid import check_grid, draw_errors, draw_grid
    from knnvote.data.errors import KnnvoteError
    from knnvote.data.layout import ImageOptions
    from knnvote.data.locations import locate
    from knnvote.indexer.folder.open import open_index

    if errors and (predictions is None or index_folder is None):
        raise click.UsageError("--errors needs the job's outputs and its index: give --predictions and --index")
    if index_folder is not None and not errors:
        raise click.UsageError("--index is for --errors alone: give both, or none")
    rows, columns = check_grid(_grid_of(sample) if sample and not is_given("grid") else grid)
    job = None if predictions is None else FinishedJob.open(locate(predictions))
    selection = Selection(
        count=rows if errors else rows * columns,
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        label_column=None if labels else label_column,
        rows=RowFilter(
            ids=ids,
            id_column=None if labels else id_column,
            where=where,
            label=label,
            status=status,
            sort=sort,
            sample=sample,
            seed=seed,
        ),
        job=job,
        classifier=None if job is None or index_folder is None else job.classifier(open_index(index_folder)),
    )
    try:
        inputs = find_labelled(images, labels, label_column, id_column)
    except KnnvoteError as error:
        raise _of_made(images) or error from error
    shown, total = select_images(inputs, selection)
    if not shown and (errors or not selection.rows.takes_all):
        talk(f"no {'prediction is wrong' if selection.rows.takes_all else 'row is as asked for'}: nothing is drawn")
        return
    save(draw_errors(shown, ink=ink) if errors else draw_grid(shown, columns, ink=ink), out)
    more = f" of {total:,}{' wrong ones' if errors else ''}" if total > len(shown) else ""
    more += "; a larger --grid shows more" if more and len(shown) < (sample or total) else ""
    talk(f"{out}: {counted(len(shown), 'image')}{more}")


def _of_made(folders: tuple[str, ...]) -> "KnnvoteError | None":
    """What draws the images of an index or of a job, where the folder of one was given in place of its images."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.job.record import has_records
    from knnvote.data.errors import KnnvoteError
    from knnvote.data.locations import locate
    from knnvote.indexer.manifest import is_index_folder

    for folder in folders:
        place = locate(folder)
        if is_index_folder(place):
            return KnnvoteError(f"{folder} is an index: knnvote map {shlex.quote(folder)} draws its images")
        if has_records(place):
            record, command = FinishedJob.open(place).record, f"report {shlex.quote(folder)}"
            inputs = {name: address for name, address in record.inputs.items() if record.input(name) is not None}
            if len(record.inputs) == len(inputs) == 1 and "/" not in "".join(inputs):
                command = f"show {shlex.quote(*inputs.values())} --predictions {shlex.quote(folder)}"
            return KnnvoteError(f"{folder} holds a job's answers, not its images: knnvote {command} draws these")
    return None


def _grid_of(sample: int) -> tuple[int, int]:
    """Rows and columns for so many images."""
    columns = min(sample, 5 if sample <= 100 else 20)
    return -(-sample // columns), columns


@click.command(
    "map",
    cls=Command,
    short_help="Draw stored images and regions of classes on two axes.",
    epilog=example("knnvote map digits.knn"),
)
@index_argument
@neighbor_options(" for a region", default_k="; by default 15, or all images of fewer")
@class_weight_option("; by default as the index was made for")
@seed_option("Of the images drawn.")
@picture_option("map.png")
def map_space(index_folder: str, out: Path, **options: Any) -> None:
    """Draw stored images on two principal components, and the regions of nearest neighbours there."""
    from knnvote.classify.pictures.figures import save
    from knnvote.classify.pictures.space_map import draw_map
    from knnvote.indexer.folder.open import open_index

    save(draw_map(open_index(index_folder), **options), out)
    talk_written(out)


@click.command(
    cls=Command,
    short_help="Write a page of a finished job: what to look at.",
    epilog=example("knnvote report predictions"),
)
@click.argument("folder", metavar="OUT", shell_complete=complete_folder)
@click.option(
    "--index",
    "index_folder",
    metavar="INDEX",
    shell_complete=complete_folder,
    help="The job's index: shows the neighbours that voted.",
)
@label_column_option
@labels_option
@table_ids_option
@click.option(
    "--out",
    metavar="FILE",
    default="report.html",
    show_default=True,
    callback=parse_page,
    shell_complete=complete_file,
    help="The page.",
)
@ink_option
def report(  # noqa: PLR0917  # click passes options by name
    folder: str,
    index_folder: str | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    out: Path,
    ink: Ink,
) -> None:
    """Write a page of a finished job: how good its answers are, how they spread, and the rows to look at."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.job.report import report_job
    from knnvote.classify.judgement.job import judge_job
    from knnvote.classify.judgement.truth import Truth
    from knnvote.classify.pages.job import write_job
    from knnvote.data.locations import locate
    from knnvote.indexer.folder.open import open_index

    from .tables.accuracy import print_judged, print_unfinished

    check_table_ids(labels, id_column)
    index, job = None if index_folder is None else open_index(index_folder), FinishedJob.open(locate(folder))
    truth, found = Truth.of(job, labels, label_column, id_column, index), report_job(job, index)
    for words in job.kept_told:
        talk_note(words)
    judged = judge_job(job, truth)
    if judged.note is not None:
        talk_note(f"no row is judged: {judged.note}")
    write_job(out, found, index, judged, page_frame(out, ink))
    talk_written(out)
    print_unfinished(found.facts)
    print_judged(judged)
