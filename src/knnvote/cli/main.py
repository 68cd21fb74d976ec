"""The command line: options in, calls to the library, its results and errors as text.

stdout is data, stderr is talk. Exit 0 done, 1 data or run-time error, 2 usage, 130 interrupted. A command imports
what it needs when it runs, so that ``--help`` answers at once.
"""

import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from knnvote.data.text import printable

from .interruption import Interrupted, heed_signals, was_interrupted
from .options import (
    POSITIVE,
    grayscale_option,
    image_column_option,
    image_options,
    images_argument,
    index_argument,
    json_option,
    label_column_option,
    local_index_argument,
    neighbor_options,
    page_option,
    parse_algorithms,
    parse_distance,
    parse_grid,
    parse_local,
    parse_page,
    parse_plot,
    picture_option,
    seed_option,
    skip_bad_option,
    threads_option,
    vote_options,
)

if TYPE_CHECKING:
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.vote import Rule
    from knnvote.indexer.index import Index

_INTERRUPTED = 130


@dataclass
class _Interruption:
    """What to say when the command is interrupted."""

    told: str = "interrupted"

    def tell_done(self, done: int, files: int) -> None:
        """Of a job at work."""
        self.told = f"interrupted: {done:,} of {files:,} files are done and kept; run the same command again to go on"

    def tell_index(self) -> None:
        """Of an index that is being written."""
        self.told = "interrupted: an index is changed as a whole or not at all; run the same command again"


_interruption = _Interruption()


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="knnvote", message="%(package)s %(version)s")
def cli() -> None:
    """Classify images in Parquet files by their nearest labelled neighbours.

    \b
    Two steps, one folder between them:
      labelled images --knnvote index--> index folder --knnvote classify--> predictions
    """  # noqa: D301  # click needs the real character


@cli.command(epilog=_example("knnvote demo"))
@click.argument("folder", callback=parse_local, default="knnvote-demo")
def demo(folder: Path) -> None:
    """Walk the whole tour on scikit-learn's digits."""
    from knnvote.demo import run_demo

    run_demo(folder, click.echo, program=_program())


@cli.command(epilog=_example("knnvote sample digits digits"))
@click.argument("name", type=click.Choice(["digits"]))
@click.argument("folder", callback=parse_local)
def sample(name: str, folder: Path) -> None:  # noqa: ARG001  # digits are the only sample there is
    """Write a sample data set to FOLDER as Parquet."""
    from knnvote.data.sample import write_digits

    for path in write_digits(folder):
        click.echo(path)


@cli.command(epilog=_example("knnvote convert images-idx3-ubyte.gz labels-idx1-ubyte.gz images.parquet"))
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SRC...")
@click.argument("destination", metavar="DEST", callback=parse_local)
@click.option("--images-key", metavar="NAME", help="Array of the images in an NPZ file that holds several.")
@click.option("--labels-key", metavar="NAME", help="Array of the labels in an NPZ file that holds several.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def convert(
    sources: tuple[Path, ...], destination: Path, images_key: str | None, labels_key: str | None, overwrite: bool
) -> None:
    """Convert IDX, CSV, NPY and NPZ files to Parquet."""
    from knnvote.data.convert import convert as convert_files

    rows = convert_files(sources, destination, images_key=images_key, labels_key=labels_key, overwrite=overwrite)
    _talk(f"{destination}: {rows:,} rows")


@cli.command(epilog=_example("knnvote index digits/train.parquet --out digits.knn"))
@images_argument
@click.option("--out", required=True, callback=parse_local, help="The index folder to make.")
@click.option(
    "--kind",
    type=click.Choice(["exact", "adaptive", "hnsw"]),
    default="exact",
    show_default=True,
    help="How it searches.",
)
@click.option("--factory", metavar="STRING", help="Any FAISS factory string, instead of a kind.")
@click.option(
    "--metric",
    type=click.Choice(["l2", "cosine", "l1"]),
    default="l2",
    show_default=True,
    help="Of distances.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="Vote for a class, or average numbers.",
)
@neighbor_options(", for which an adaptive index is tuned")
@click.option(
    "--target-agreement",
    type=float,
    default=0.999,
    show_default=True,
    help="Share of images that an adaptive index is tuned to give the label of exact search.",
)
@image_options
@label_column_option
@click.option("--id-column", metavar="NAME", help="Column of ids; file#row otherwise.")
@grayscale_option
@skip_bad_option
@click.option("--overwrite", is_flag=True, help="Replace an index folder that exists.")
@seed_option("Of everything random.")
@threads_option
def index(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    out: Path,
    kind: Any,
    factory: str | None,
    metric: Any,
    task: str,
    k: int,
    weights: Any,
    target_agreement: float,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    label_column: str | None,
    id_column: str | None,
    grayscale: bool,
    skip_bad: bool,
    overwrite: bool,
    seed: int,
    threads: int | None,
) -> None:
    """Build an index folder from labelled images."""
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.build import IndexOptions, index_files
    from knnvote.indexer.training import TrainingOptions

    if factory is not None:
        if click.get_current_context().get_parameter_source("kind") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--factory names a kind of its own: leave out --kind")
        kind = "factory"
    of_images = ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale)
    training = TrainingOptions(
        images=of_images,
        label_column=label_column,
        id_column=id_column,
        is_regression=task == "regression",
        skip_bad=skip_bad,
    )
    options = IndexOptions(
        kind=kind,
        factory=factory,
        metric=metric,
        seed=seed,
        threads=threads,
        overwrite=overwrite,
    )
    tune = Tuning(k=k, weights=weights, target_agreement=target_agreement)
    if kind != "adaptive":
        _talk_given(
            ("k", "weights", "target_agreement"),
            f"without effect: only adaptive indexes are tuned, and this one is {kind}",
        )
    inputs = find_inputs(images)
    _interruption.tell_index()
    with _progress("indexing", inputs) as progress:
        index_files(inputs, out, training=training, options=options, tune=tune, progress=progress)
    _talk_index(out)


@cli.command(epilog=_example("knnvote add digits.knn digits/test.parquet"))
@local_index_argument
@images_argument
@image_column_option
@label_column_option
@click.option("--id-column", metavar="NAME", help="Column of ids; that of the index otherwise.")
@skip_bad_option
@threads_option
def add(  # noqa: PLR0917  # click passes options by name
    index_folder: Path,
    images: tuple[str, ...],
    image_column: str | None,
    label_column: str | None,
    id_column: str | None,
    skip_bad: bool,
    threads: int | None,
) -> None:
    """Add labelled images to an index folder."""
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.grow import add_files
    from knnvote.indexer.training import TrainingOptions

    training = TrainingOptions(
        images=ImageOptions(image_column=image_column),
        label_column=label_column,
        id_column=id_column,
        skip_bad=skip_bad,
    )
    inputs = find_inputs(images)
    _interruption.tell_index()
    with _progress("adding", inputs) as progress:
        added = add_files(index_folder, inputs, tuning=Tuning, training=training, threads=threads, progress=progress)
    _talk(f"{index_folder}: {added:,} images added")
    _talk_index(index_folder)


@cli.command(epilog=_example("knnvote remove digits.knn test.parquet#0 test.parquet#1"))
@local_index_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--ids", "id_file", metavar="FILE", help="A Parquet file of ids.")
@click.option("--id-column", metavar="NAME", help="Column of ids in FILE; its only one, or id, otherwise.")
@threads_option
def remove(
    index_folder: Path, ids: tuple[str, ...], id_file: str | None, id_column: str | None, threads: int | None
) -> None:
    """Remove images from an index folder by their ids."""
    import pyarrow as pa

    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.inputs import find_inputs
    from knnvote.indexer.grow import read_id_column, remove_ids

    if not ids and id_file is None:
        raise click.UsageError("nothing to remove is named: give IDs, or a Parquet file of them with --ids")
    if id_column is not None and id_file is None:
        raise click.UsageError("--id-column is of a file of ids: give one with --ids")
    from_file = [] if id_file is None else read_id_column(find_inputs([id_file]), id_column).chunks
    all_ids = pa.chunked_array([pa.array(ids, pa.string()), *from_file])
    _interruption.tell_index()
    removed = remove_ids(index_folder, all_ids, tuning=Tuning, threads=threads)
    _talk(f"{index_folder}: {removed:,} images removed")
    _talk_index(index_folder)


@cli.command(epilog=_example("knnvote classify digits.knn digits/test.parquet --out predictions"))
@index_argument
@images_argument
@click.option("--out", required=True, help="The output folder, or its URI on an object store.")
@vote_options
@click.option("--min-confidence", type=float, help="Abstain where the winner's share of the vote is smaller.")
@click.option(
    "--max-distance",
    metavar="NUMBER|auto",
    callback=parse_distance,
    help="Abstain where the nearest neighbour is farther; auto finds the limit from the stored images.",
)
@click.option(
    "--false-alarms",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of images of the stored kind that --max-distance auto lets abstain.",
)
@click.option("--neighbors", is_flag=True, help="Add each voter's row, id, label and distance.")
@click.option("--probabilities", is_flag=True, help="Add the share of each class.")
@click.option(
    "--keep", multiple=True, metavar="NAME", help="Keep only this input column (not the image); may be repeated."
)
@click.option("--prefix", default="", metavar="TEXT", help="Before the names of the columns that are added.")
@image_options
@grayscale_option
@click.option("--fail-fast", is_flag=True, help="Stop at the first file that fails.")
@click.option(
    "--batch-size", type=click.IntRange(1, 2**20), help="Rows searched at a time; it never changes an answer."
)
@threads_option
@json_option
def classify(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    images: tuple[str, ...],
    out: str,
    neighbors: bool,
    probabilities: bool,
    keep: tuple[str, ...],
    prefix: str,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    fail_fast: bool,
    batch_size: int | None,
    threads: int | None,
    as_json: bool,
    false_alarms: float,
    **rule: Any,
) -> None:
    """Classify images, one output file for each input."""
    from knnvote.classify.job.output import OutputOptions
    from knnvote.classify.job.run import run_job
    from knnvote.classify.job.work import BATCH_SIZE, JobOptions
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.data.locations import locate

    inputs, folder = find_inputs(images), locate(out)
    classifier = _classifier(index_folder, rule, false_alarms, threads)
    options = JobOptions(
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale),
        output=OutputOptions(neighbors=neighbors, probabilities=probabilities, keep=keep or None, prefix=prefix),
    )
    _talk_promise(classifier.index, classifier.rule)
    with _progress("classifying", inputs) as progress:
        summary = run_job(
            classifier,
            inputs,
            folder,
            options,
            threads=threads,
            batch_size=batch_size or BATCH_SIZE,
            fail_fast=fail_fast,
            progress=progress,
            tell_done=_interruption.tell_done,
        )
    for reason in summary.failed.values():
        _talk(f"failed: {reason}")
    if summary.bad_example is not None:
        _talk(f"bad image, the first: {summary.bad_example}")
    counts = summary.counts
    _talk(
        f"{folder}: {counts.rows:,} rows "
        f"({counts.ok:,} ok, {counts.abstained:,} abstained, {counts.bad_image:,} bad images); "
        f"files: {summary.written:,} written, {summary.skipped:,} skipped as done, {len(summary.failed):,} failed; "
        f"{summary.seconds:.1f} s"
    )
    if as_json:
        _print_json(summary.to_json())
    if summary.failed:
        click.get_current_context().exit(1)


@cli.command(epilog=_example("knnvote compare digits/test.parquet --index digits.knn"))
@images_argument
@click.option(
    "--index",
    "index_folders",
    required=True,
    multiple=True,
    help="An index folder to compare; may be repeated.",
)
@vote_options
@image_options
@click.option("--label-column", metavar="NAME", help="Column of the true labels.")
@threads_option
@click.option(
    "--with",
    "algorithms",
    metavar="NAMES",
    callback=parse_algorithms,
    help="Searches of scikit-learn too, over the images of the first --index: some of brute,kd_tree,ball_tree.",
)
@page_option("figures, plots, and the first 500 flips of each index")
@json_option
def compare(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    index_folders: tuple[str, ...],
    image_column: str | None,
    shape: tuple[int, ...] | None,
    label_column: str | None,
    threads: int | None,
    algorithms: Any,
    report: Path | None,
    as_json: bool,
    **rule: Any,
) -> None:
    """Compare indexes with exact search on test images."""
    from knnvote.classify.evaluation.compare import compare as compare_indexes
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.folder.open import open_index

    inputs, of_images = find_inputs(images), ImageOptions(image_column=image_column, shape=shape)
    indexes = [open_index(folder) for folder in index_folders]
    for index in indexes:
        _talk_promise(index, _rule(rule))
    comparison = compare_indexes(
        inputs,
        indexes,
        _rule(rule),
        images=of_images,
        label_column=label_column,
        algorithms=algorithms,
        threads=threads,
        progress=_talk if sys.stderr.isatty() else lambda _step: None,
    )
    if report is not None:
        from knnvote.classify.pages.comparison import write_comparison

        write_comparison(
            report,
            comparison,
            inputs,
            indexes,
            _rule(rule),
            images=of_images,
            label_column=label_column,
            threads=threads,
        )
        _talk(f"{report}: written")
    if as_json:
        _print_json(comparison.to_json())
        return
    from .tables import print_comparison

    print_comparison(comparison)


@cli.command(epilog=_example("knnvote choose-k digits.knn"))
@index_argument
@click.option(
    "--max-k", type=POSITIVE, help="The most neighbours to try; by default 30, or all others of fewer images."
)
@click.option(
    "--plot",
    metavar="FILE",
    is_flag=False,
    flag_value="choose-k.png",
    callback=parse_plot,
    help="Draw them too, as PNG or SVG; to choose-k.png if no FILE is given.",
)
@threads_option
@json_option
def choose_k(index_folder: str, max_k: int | None, plot: Path | None, threads: int | None, as_json: bool) -> None:
    """Measure the accuracy of every k and weighting, each stored image left out in turn."""
    from knnvote.classify.evaluation.choose_k import choose_k as choose
    from knnvote.indexer.folder.open import open_index

    opened = open_index(index_folder)
    _talk_approximate(opened, "accuracies")
    with _progress("leaving one out", total=opened.n) as progress:
        choice = choose(opened, max_k=max_k, threads=threads, progress=progress)
    if plot is not None:
        from knnvote.classify.pictures.choice import draw_choice
        from knnvote.classify.pictures.figures import save

        save(draw_choice(choice), plot)
        _talk(f"{plot}: written")
    if as_json:
        _print_json(choice.to_json())
        return
    from .tables import print_choice

    print_choice(choice)


@cli.command(epilog=_example("knnvote show digits/test.parquet"))
@images_argument
@click.option(
    "--grid",
    metavar="RxC",
    default="2x5",
    show_default=True,
    callback=parse_grid,
    help="Rows and columns; of --errors the rows alone count: an image and its neighbours fill a row.",
)
@click.option("--predictions", metavar="DIR", help="A job's outputs for these images: each prediction above the truth.")
@click.option("--errors", is_flag=True, help="Only wrong predictions, each in a row with its neighbours.")
@click.option("--index", "index_folder", metavar="INDEX", help="The job's index, to find neighbours in for --errors.")
@image_options
@grayscale_option
@label_column_option
@picture_option("show.png")
def show(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    grid: tuple[int, ...],
    predictions: str | None,
    errors: bool,
    index_folder: str | None,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    label_column: str | None,
    out: Path,
) -> None:
    """Draw images with their labels, or those that a job got wrong beside their neighbours."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.job.selection import Selection, select_images
    from knnvote.classify.pictures.figures import save
    from knnvote.classify.pictures.grid import check_grid, draw_errors, draw_grid
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.data.locations import locate
    from knnvote.indexer.folder.open import open_index

    if errors and (predictions is None or index_folder is None):
        raise click.UsageError("--errors needs the job's outputs and its index: give --predictions and --index")
    if index_folder is not None and not errors:
        raise click.UsageError("--index is for --errors alone: give both, or none")
    rows, columns = check_grid(grid)
    job = None if predictions is None else FinishedJob.open(locate(predictions))
    selection = Selection(
        count=rows if errors else rows * columns,
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale),
        label_column=label_column,
        job=job,
        classifier=None if job is None or index_folder is None else job.classifier(open_index(index_folder)),
    )
    shown, total = select_images(find_inputs(images), selection)
    if errors and not shown:
        _talk("no prediction is wrong: nothing is drawn")
        return
    save(draw_errors(shown) if errors else draw_grid(shown, columns), out)
    more = f" of {total:,} wrong ones; a larger --grid shows more" if total > len(shown) else ""
    _talk(f"{out}: {len(shown):,} images{more}")


@cli.command("map", epilog=_example("knnvote map digits.knn"))
@index_argument
@neighbor_options(" for a region", k=None, default_k="; by default 15, or all images of fewer")
@seed_option("Of the images drawn.")
@picture_option("map.png")
def map_space(index_folder: str, k: int | None, weights: Any, seed: int, out: Path) -> None:
    """Draw stored images on two principal components, and the regions of nearest neighbours there."""
    from knnvote.classify.pictures.figures import save
    from knnvote.classify.pictures.space_map import draw_map
    from knnvote.indexer.folder.open import open_index

    save(draw_map(open_index(index_folder), k=k, weights=weights, seed=seed), out)
    _talk(f"{out}: written")


@cli.command(epilog=_example("knnvote suspects digits.knn"))
@index_argument
@click.option(
    "--k",
    type=POSITIVE,
    help="Neighbours that vote; by default 20, or all others of fewer images. Classes of fewer than 10 need less.",
)
@click.option(
    "--top", type=POSITIVE, default=20, show_default=True, help="Suspects in the table and the page; --json has all."
)
@page_option("suspects as pictures, with their neighbours", has_figures=False)
@threads_option
@json_option
def suspects(  # noqa: PLR0917  # click passes options by name
    index_folder: str, k: int | None, top: int, report: Path | None, threads: int | None, as_json: bool
) -> None:
    """List stored images whose neighbours disagree with their label."""
    from knnvote.classify.evaluation.suspects import find_suspects
    from knnvote.indexer.folder.open import open_index

    opened = open_index(index_folder)
    _talk_approximate(opened, "neighbours")
    with _progress("leaving one out", total=opened.n) as progress:
        found = find_suspects(opened, k=k, threads=threads, progress=progress)
    if report is not None:
        from knnvote.classify.pages.suspects import write_suspects

        write_suspects(report, found, opened, top)
        _talk(f"{report}: written")
    if as_json:
        _print_json(found.to_json())
        return
    from .tables import print_suspects

    print_suspects(found, top)


@cli.command(epilog=_example("knnvote report predictions"))
@click.argument("folder", metavar="OUT")
@click.option("--index", "index_folder", metavar="INDEX", help="The job's index: shows the neighbours that voted.")
@click.option("--out", metavar="FILE", default="report.html", show_default=True, callback=parse_page, help="The page.")
def report(folder: str, index_folder: str | None, out: Path) -> None:
    """Write a page of a finished job: how its answers spread, and the rows to look at."""
    from knnvote.classify.job.finished import FinishedJob
    from knnvote.classify.job.report import report_job
    from knnvote.classify.pages.job import write_job
    from knnvote.data.locations import locate
    from knnvote.indexer.folder.open import open_index

    index = None if index_folder is None else open_index(index_folder)
    write_job(out, report_job(FinishedJob.open(locate(folder)), index), index)
    _talk(f"{out}: written")


@cli.command(epilog=_example("knnvote inspect digits.knn"))
@click.argument("path")
@json_option
def inspect(path: str, as_json: bool) -> None:
    """Show what an index, a job's output or images hold."""
    from knnvote.classify.inspection import inspect_path

    facts = inspect_path(path)
    if as_json:
        _print_json(facts)
    if facts["type"] == "images" and all("error" in file for file in facts["files"]):
        for name, error in (file.values() for file in facts["files"]):
            _talk(f"error: {error if name in error else f'{name}: {error}'}")
        click.get_current_context().exit(1)
    if not as_json:
        from .tables import print_inspection

        print_inspection(facts)


@cli.command(epilog=_example("knnvote verify digits.knn"))
@click.argument("path")
def verify(path: str) -> None:
    """Check every byte of an index folder, or of a job's outputs against receipts and inputs."""
    from knnvote.classify.verification import verify_path

    found = verify_path(path)
    for problem in found.problems:
        _talk(problem)
    if found.gone:
        _talk(f"note: {len(found.gone):,} inputs are gone and could not be compared, the first {found.gone[0]}")
    if found.problems:
        click.get_current_context().exit(1)
    _talk(f"{found.shown}: {found.summary}")


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = lambda message, *_rest, **_named: _talk(f"note: {message}")
    heed_signals(_exit_interrupted)
    sys.exit(_run())


def _run() -> int:
    from knnvote.data.errors import KnnvoteError, OptionError

    try:
        code = _call()
    except OptionError as error:
        _talk(f"error: {error}")
        return 2
    except KnnvoteError as error:
        _talk(f"error: {error}")
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = None  # who reads it is gone: nothing is left to flush
        return 1
    except OSError as error:
        sys.stdout = None  # what it still holds cannot be written either
        _talk(f"error: cannot write {error.filename or 'to stdout'}: {error.strerror}")
        return 1
    except (Interrupted, KeyboardInterrupt, click.Abort):
        sys.stdout.flush()
        _exit_interrupted()  # a batch still at work in a thread is not waited for
    return code if isinstance(code, int) else 0


def _call() -> Any:
    try:
        return cli.main(standalone_mode=False)
    except BaseException as error:
        if was_interrupted():  # whatever a library made of it: an interrupted import, say, is an ImportError
            raise Interrupted from error
        raise


def _exit_interrupted() -> NoReturn:
    _talk(_interruption.told)
    os._exit(_INTERRUPTED)


def _rule(options: dict[str, Any]) -> "Rule":
    from knnvote.classify.vote import Rule

    return Rule(**options)


def _classifier(index_folder: str, rule: dict[str, Any], false_alarms: float, threads: int | None) -> "Classifier":
    """A classifier whose rule has its distance limit as a number."""
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.evaluation.distance_limit import MAX_IMAGES, distance_limit

    if rule["max_distance"] != "auto":
        default = click.core.ParameterSource.DEFAULT
        if click.get_current_context().get_parameter_source("false_alarms") is not default:
            raise click.UsageError("--false-alarms is of --max-distance auto: give that too")
        return Classifier.open(index_folder, _rule(rule))
    classifier = Classifier.open(index_folder, _rule({**rule, "max_distance": None}))
    index = classifier.index
    with _progress("leaving one out", total=min(index.n, MAX_IMAGES)) as progress:
        found = distance_limit(index, classifier.rule, false_alarms=false_alarms, threads=threads, progress=progress)
    _talk(
        f"--max-distance is {found.limit}, which about {false_alarms:.4g} of images of the stored kind exceed: "
        f"from {found.images:,} stored images, each left out"
        + (f"; {found.with_copies:,} have an exact copy stored, so it is too narrow" if found.has_many_copies else "")
    )
    return Classifier(index, replace(classifier.rule, max_distance=found.limit))


@contextmanager
def _progress(label: str, inputs: Any = (), *, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar where a person is looking; `total` rows, or those of the inputs."""
    if not sys.stderr.isatty():
        yield lambda _rows: None
        return
    from .tables import row_progress

    rows = sum(source.count_rows() for source in inputs) if total is None else total
    with row_progress(label, rows) as advance:
        yield advance


def _talk_index(out: Path) -> None:
    from knnvote.indexer.folder.generations import read_timing
    from knnvote.indexer.manifest import read_manifest

    from .tables import show_bytes, tuning_lines

    manifest = read_manifest(out)
    timing = read_timing(out, manifest.generation)
    skipped = f", {manifest.skipped:,} bad rows left out" if manifest.skipped else ""
    _talk(
        f"{out}: {manifest.n:,} images of {' x '.join(map(str, manifest.shape))}{skipped}, {manifest.kind}, "
        f"{show_bytes(manifest.folder_bytes)}; read in {timing.read_seconds:.1f} s, "
        f"built in {timing.build_seconds:.1f} s"
    )
    for line in tuning_lines(manifest.search):
        _talk(line)


def _talk_given(names: Sequence[str], fact: str) -> None:
    """Tell a fact of options that were given and change nothing."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given = [f"--{name.replace('_', '-')}" for name in names if context.get_parameter_source(name) is not default]
    if given:
        _talk(f"note: {', '.join(given)} {fact}")


def _talk_promise(index: "Index", rule: "Rule") -> None:
    from knnvote.classify.adaptive.ladder import why_no_promise

    reason = why_no_promise(index, rule)
    if reason is not None:
        _talk(f"note: {reason}")


def _talk_approximate(index: "Index", what: str) -> None:
    if not index.is_exact(1):
        _talk(f"note: the search of {index.path} is approximate, and so are {what}: an exact index gives exact ones")


def _program() -> str:
    """How a person calls this command: by its name where that finds it, else by its path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m knnvote"
    on_path = shutil.which("knnvote")
    return "knnvote" if on_path is not None and Path(on_path).resolve() == called.resolve() else str(called)


def _print_json(record: dict[str, Any]) -> None:
    text = json.dumps(record, ensure_ascii=False)
    # What a terminal would obey is written as JSON escapes it.
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def _talk(message: str) -> None:
    click.echo("\n".join(map(printable, message.split("\n"))), err=True)
