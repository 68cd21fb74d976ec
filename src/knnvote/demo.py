"""The recipe as a tour, on files that it leaves behind: scikit-learn's digits, from images to explained labels."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.comparison import Comparison, IndexReport
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.record import has_records, remove_records
from knnvote.classify.job.report import report_job
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.judgement.job import judge_job
from knnvote.classify.look.explain import gather
from knnvote.classify.look.seen import explain_rows
from knnvote.classify.pages.comparison import write_comparison
from knnvote.classify.pages.explanation import write_explanations
from knnvote.classify.pages.job import write_job
from knnvote.classify.pages.page import Frame, check_page, link_pages
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.sample import digits, drawn_one, write_digits
from knnvote.data.tables import image_table, write_new_table
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.manifest import MANIFEST
from knnvote.indexer.names import Kind

Say = Callable[[str], None]
_SHADES = " .:-=+*%@"
_KINDS: tuple[Kind, ...] = ("exact", "adaptive")


@dataclass(frozen=True)
class DemoPaths:
    """What a demo leaves behind in its folder.

    Attributes:
        folder: the demo's own.
        pages: to be opened in a browser, which lead to each other.
        lacks: why there is none, or not each.
    """

    folder: Path
    pages: tuple[Path, ...] = ()
    lacks: str = ""

    @property
    def test(self) -> Path:
        """The images that were classified."""
        return self.folder / "test.parquet"

    def index(self, kind: str) -> Path:
        """The index of a kind."""
        return self.folder / f"{kind}.knn"

    def predictions(self, kind: str) -> Path:
        """The outputs of a job."""
        return self.folder / "predictions" / kind

    @property
    def explained(self) -> Path:
        """Free for the outputs of a job with another rule."""
        return self.folder / "explained"

    @property
    def drawn(self) -> Path:
        """The image that was drawn."""
        return self.folder / "drawn.parquet"


def run_demo(folder: Path, say: Say) -> DemoPaths:
    """Walk the recipe in a folder, telling each step.

    Args:
        folder: made if need be; files of an earlier demo in it are replaced.
        say: told each line.

    Returns:
        What is left behind.

    Raises:
        KnnvoteError: the folder is a file, an index folder or a job's, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise KnnvoteError(f"{folder} is a file: give the demo a folder")
    if (folder / MANIFEST).exists() or has_records(locate(folder)):
        raise KnnvoteError(f"{folder} is an index folder, or a job's: give the demo a folder of its own")
    paths = DemoPaths(folder)
    train = _tell_data(folder, say)
    for kind in _KINDS:
        options = IndexOptions(kind=kind, overwrite=True)
        index_files(train, paths.index(kind), options=options, tune=Tuning())
        manifest = open_index(paths.index(kind)).manifest
        say(f"  {paths.index(kind)}: {kind}, metric {manifest.metric}, {manifest.n:,} images, checksummed")
    say("\n3. Classify the test file, a Parquet file in and one out")
    for kind in _KINDS:
        summary = _classify(paths, kind)
        say(f"  {paths.predictions(kind) / paths.test.name}: {summary}")
    say("\n4. Compare both indexes with exact search, on the same images")
    comparison = compare(paths.test, [open_index(paths.index(kind)) for kind in _KINDS])
    _tell_comparison(comparison, say)
    say("\n5. Draw a digit and have it recognised")
    _tell_drawn(paths, say)
    _forget_job(paths.explained)  # what a command made of an earlier demo's index
    return _write_pages(paths, comparison)


def _tell_data(folder: Path, say: Say) -> Path:
    images, labels = digits()
    flat = images.reshape(len(images), -1)
    train, test = write_digits(folder)
    say("1. The digits: handwritten, 8 x 8 pixels, from scikit-learn")
    say(f"  pixels range over ({flat.min()}, {flat.max()}), vectors have shape {flat.shape}; here are 0 to 9")
    first = [images[np.flatnonzero(labels == digit)[0]] for digit in range(10)]
    for row in (np.hstack(first[:5]), np.hstack(first[5:])):
        for line in draw(row, per_image=8):
            say(f"    {line}")
    for path in (train, test):
        say(f"  {path}: {pq.read_metadata(path).num_rows:,} images")
    say("\n2. Build an exact and an approximate index, and store them")
    return train


def _classify(paths: DemoPaths, kind: str) -> str:
    out = paths.predictions(kind)
    _forget_job(out)
    summary = run_job(Classifier.open(paths.index(kind)), paths.test, out)
    return f"{summary.counts.rows:,} rows, {summary.counts.ok:,} ok"


def _forget_job(out: Path) -> None:
    """Let the job be run again with the index of this demo, and leave every file in its folder in place."""
    remove_records(locate(out))


def _tell_comparison(comparison: Comparison, say: Say) -> None:
    for report in comparison.indexes:
        agreement = report.agreement
        say(
            f"  {report.kind:<9} accuracy {report.accuracy:.4f}{_balanced(report)}, agreement with exact search "
            f"{agreement.value:.4f} "
            f"(95% interval {agreement.low:.4f} to {agreement.high:.4f})"
        )


def _balanced(report: IndexReport) -> str:
    return "" if report.judgement is None else f" (balanced {report.judgement.balanced_accuracy:.4f})"


def _tell_drawn(paths: DemoPaths, say: Say) -> None:
    image = drawn_one()
    for line in draw(image, per_image=8):
        say(f"    {line}")
    write_new_table(image_table(image[None]), paths.drawn)
    out = paths.predictions("drawn")
    _forget_job(out)
    options = JobOptions(output=OutputOptions(neighbors=True))
    run_job(Classifier.open(paths.index("exact")), paths.drawn, out, options)
    answer = pq.read_table(out / paths.drawn.name).to_pylist()[0]
    say(f"  recognised as {answer['prediction']}, by {answer['confidence']:.0%} of the vote of these neighbours")
    for voter in answer["neighbors"]:
        say(f"    a {voter['label']} at distance {voter['distance']:.2f}: {voter['id']}")


def _write_pages(paths: DemoPaths, comparison: Comparison) -> DemoPaths:
    """Write what there is to see as pages, but for those that need a library which is not installed."""
    pages, lacks = [], ""
    for name, has_figures, write in (
        ("comparison", True, partial(_write_comparison, comparison)),
        ("report", False, _write_report),
        ("drawn", False, _write_drawn),
    ):
        page = paths.folder / f"{name}.html"
        try:
            check_page(page, has_figures=has_figures)
        except KnnvoteError as error:
            lacks = str(error)
        else:
            write(paths, page)
            pages.append(page)
    link_pages(pages)
    return replace(paths, pages=tuple(pages), lacks=lacks)


def _write_comparison(comparison: Comparison, paths: DemoPaths, page: Path) -> None:
    exact, adaptive = map(paths.index, _KINDS)
    indexes = [open_index(exact), open_index(adaptive)]
    frame = _frame("compare", paths.test, "--index", exact, "--index", adaptive, "--report", page)
    write_comparison(page, comparison, find_inputs(paths.test), indexes, None, frame=frame)


def _write_report(paths: DemoPaths, page: Path) -> None:
    job, index = FinishedJob.open(locate(paths.predictions("exact"))), open_index(paths.index("exact"))
    frame = _frame("report", paths.predictions("exact"), "--index", paths.index("exact"), "--out", page)
    write_job(page, report_job(job, index), index, judge_job(job), frame)


def _write_drawn(paths: DemoPaths, page: Path) -> None:
    job, index = FinishedJob.open(locate(paths.predictions("drawn"))), open_index(paths.index("exact"))
    classifier = job.classifier(index)
    frame = _frame("explain", paths.predictions("drawn"), 0, "--index", paths.index("exact"), "--report", page)
    write_explanations(page, gather(classifier, explain_rows(job, classifier, ["0"])), frame, job=job)


def _frame(*words: object) -> Frame:
    """A page by the command that writes it again, of which the page is the last word."""
    *most, page = map(str, words)
    return Frame(command=shlex.join(["knnvote", *most, Path(page).name]))


def draw(image: NDArray[np.generic], *, per_image: int) -> list[str]:
    """Digits (H, W) with pixels from 0 to 16 as lines of characters, two a pixel, with a gap after each image."""
    lines = []
    for row in image.astype(int):
        shades = [_SHADES[min(value // 2, len(_SHADES) - 1)] * 2 for value in row]
        parts = ["".join(shades[start : start + per_image]) for start in range(0, len(shades), per_image)]
        lines.append("  ".join(parts).rstrip())
    return lines
