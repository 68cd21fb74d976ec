"""The command that classifies files of images."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from knnvote.data.codecs.names import Background

from .interruption import words
from .options import (
    example,
    image_options,
    images_argument,
    index_argument,
    is_given,
    json_option,
    parse_distance,
    seen_options,
    threads_option,
    vote_options,
)
from .talk import print_json, row_progress, talk, talk_no_promise

if TYPE_CHECKING:
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.job.run import Summary


@click.command(epilog=example("knnvote classify digits.knn digits/test.parquet --out predictions"))
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
@seen_options
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
    background: Background | None,
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
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        output=OutputOptions(neighbors=neighbors, probabilities=probabilities, keep=keep or None, prefix=prefix),
    )
    talk_no_promise(classifier.index, classifier.rule)
    with row_progress("classifying", inputs) as progress:
        summary = run_job(
            classifier,
            inputs,
            folder,
            options,
            threads=threads,
            batch_size=batch_size or BATCH_SIZE,
            fail_fast=fail_fast,
            progress=progress,
            tell_done=words.of_job,
        )
    _talk_summary(str(folder), summary, images)
    if as_json:
        print_json(summary.to_json())
    if summary.failed or summary.has_no_answer:
        click.get_current_context().exit(1)


def _classifier(index_folder: str, options: dict[str, Any], false_alarms: float, threads: int | None) -> "Classifier":
    """A classifier whose rule has its distance limit as a number."""
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.evaluation.distance_limit import MAX_IMAGES, distance_limit
    from knnvote.classify.vote import Rule

    if options["max_distance"] != "auto":
        if is_given("false_alarms"):
            raise click.UsageError("--false-alarms is of --max-distance auto: give that too")
        return Classifier.open(index_folder, Rule(**options))
    classifier = Classifier.open(index_folder, Rule(**{**options, "max_distance": None}))
    index = classifier.index
    with row_progress("leaving one out", total=min(index.n, MAX_IMAGES)) as progress:
        found = distance_limit(index, classifier.rule, false_alarms=false_alarms, threads=threads, progress=progress)
    talk(
        f"--max-distance is {found.limit}, which about {false_alarms:.4g} of images of the stored kind exceed: "
        f"from {found.images:,} stored images, each left out"
        + (f"; {found.with_copies:,} have an exact copy stored, so it is too narrow" if found.has_many_copies else "")
    )
    return Classifier(index, replace(classifier.rule, max_distance=found.limit))


def _talk_summary(folder: str, summary: "Summary", images: Sequence[str]) -> None:
    """Say what a job of these inputs did."""
    for reason in summary.failed.values():
        talk(f"failed: {reason}")
    if summary.bad_example is not None:
        talk(f"bad image, the first: {summary.bad_example}")
    if summary.unlike_stored is not None:
        talk(f"note: {summary.unlike_stored}")
    counts = summary.counts
    talk(
        f"{folder}: {counts.rows:,} rows "
        f"({counts.ok:,} ok, {counts.abstained:,} abstained, {counts.bad_image:,} bad images); "
        f"files: {summary.written:,} written, {summary.skipped:,} skipped as done, {len(summary.failed):,} failed; "
        f"{summary.seconds:.1f} s"
    )
    if summary.has_no_answer:
        talk(f"error: no row got an answer; knnvote inspect {shlex.quote(images[0])} tells how its images are read")
