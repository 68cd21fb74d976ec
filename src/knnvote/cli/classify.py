"""The command that classifies files of images."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from knnvote.data.codecs.names import Background
from knnvote.data.text import counted

from .command import Command
from .interruption import words
from .options import (
    POSITIVE,
    complete_folder,
    dry_run_option,
    example,
    image_options,
    images_argument,
    index_argument,
    is_given,
    json_option,
    parse_distance,
    seen_options,
    threads_option,
    together,
    vote_options,
)
from .talk import end, print_json, talk, talk_error, talk_no_promise, talk_note

if TYPE_CHECKING:
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.job.engine import Engine
    from knnvote.classify.job.run import Summary
    from knnvote.classify.vote import MaxDistance, Rule
    from knnvote.indexer.index import Index

_SOME_FAILED = 3  # the exit code
# How far is too far, as `check_distance` takes it.
distance_options = together(
    click.option(
        "--max-distance",
        metavar="D|auto|none",
        callback=parse_distance,
        help="Abstain where the nearest neighbour is farther; auto finds the distance.",
    ),
    click.option(
        "--false-alarms",
        type=float,
        metavar="SHARE",
        default=0.01,
        show_default=True,
        help="Share that auto lets abstain.",
    ),
)
# When to abstain, as `check_acceptance` and `open_classifier` take it.
acceptance_options = together(
    click.option(
        "--min-confidence",
        type=float,
        metavar="SHARE",
        help="Abstain where the winner has less of the vote; by default as the index was made for, or never.",
    ),
    click.option(
        "--target-accuracy",
        type=float,
        metavar="SHARE",
        help="Find the --min-confidence with which so many accepted are right, by stored images left out.",
    ),
    click.option("--by-class", is_flag=True, help="Likewise for each class of enough answers."),
    distance_options,
)


@click.command(cls=Command, epilog=example("knnvote classify digits.knn digits/test.parquet --out predictions"))
@index_argument
@images_argument
@click.option(
    "--out",
    metavar="FOLDER",
    required=True,
    shell_complete=complete_folder,
    help="The output folder, or its URI.",
)
@vote_options
@acceptance_options
@click.option("--neighbors", is_flag=True, help="Add each voter's row, id, label and distance.")
@click.option("--probabilities", is_flag=True, help="Add the share of each class.")
@click.option("--top", type=POSITIVE, metavar="N", help="Add the N best classes and shares.")
@click.option("--source", is_flag=True, help="Add the file and row that each row is of.")
@click.option("--keep", multiple=True, metavar="NAME", help="Keep this input column alone; may be repeated.")
@click.option("--id-column", metavar="NAME", help="The column that names rows, kept always.")
@click.option("--prefix", default="", metavar="TEXT", help="Before the names of added columns.")
@image_options
@seen_options
@click.option(
    "--only",
    type=click.Choice(["abstained"]),
    help="Anew only the rows of OUT that abstained.",
)
@click.option(
    "--part",
    metavar="I/N",
    help="Do the I-th of N parts, each on its own.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs of other index or options.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first file that fails.")
@click.option(
    "--fail-if-bad",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit with 1 where more than this share of all rows are bad images; outputs are written all the same.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 2**20),
    metavar="N",
    help="Rows searched at a time; it never changes an answer.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who does the files: this process, or a Ray cluster.",
)
@click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster; by default this machine's.")
@dry_run_option
@threads_option
@json_option
def classify(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    images: tuple[str, ...],
    out: str,
    neighbors: bool,
    probabilities: bool,
    top: int | None,
    source: bool,
    keep: tuple[str, ...],
    prefix: str,
    id_column: str | None,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    background: Background | None,
    only: "Literal['abstained'] | None",
    part: str | None,
    overwrite: bool,
    fail_fast: bool,
    fail_if_bad: float | None,
    batch_size: int | None,
    engine: Literal["local", "ray"],
    address: str | None,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
    **of_rule: Any,
) -> None:
    """Classify images, one output file for each input."""
    from knnvote.classify.job.output import OutputOptions
    from knnvote.classify.job.parts.part import JobPart
    from knnvote.classify.job.run import run_job
    from knnvote.classify.job.work import BATCH_SIZE, JobOptions
    from knnvote.data.inputs import find_inputs
    from knnvote.data.layout import ImageOptions
    from knnvote.data.locations import locate

    _refuse_swapped(index_folder, images, out)
    of_parts = None if part is None else JobPart.read(part)
    doer = _engine(engine, address)
    inputs, folder = find_inputs(images), locate(out)
    check_acceptance(**of_rule)
    classifier = open_classifier(index_folder, threads, **of_rule)
    options = JobOptions(
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        output=OutputOptions(
            neighbors=neighbors,
            probabilities=probabilities,
            top=top,
            source=source,
            keep=keep or None,
            prefix=prefix,
            id_column=id_column,
        ),
        only=only,
    )
    talk_no_promise(classifier.index, classifier.rule)
    if dry_run:
        from knnvote.classify.dry_run import dry_job

        from .tables.dry_run import print_dry_run

        batch_size = batch_size or BATCH_SIZE
        found = dry_job(
            classifier,
            inputs,
            folder,
            options,
            threads=threads,
            batch_size=batch_size,
            overwrite=overwrite,
            part=of_parts,
        )
        end(found, file=None, write=lambda _page: None, as_json=as_json, print_table=print_dry_run)
        return
    summary = run_job(
        classifier,
        inputs,
        folder,
        options,
        threads=threads,
        batch_size=batch_size or BATCH_SIZE,
        fail_fast=fail_fast,
        overwrite=overwrite,
        part=of_parts,
        tell_done=words.of_job,
        engine=doer,
    )
    _talk_summary(str(folder), summary, images)
    if only is not None:
        from knnvote.classify.job.finished import FinishedJob

        for told in FinishedJob.open(folder).kept_told:
            talk_note(told)
    if as_json:
        print_json(summary.to_json())
    click.get_current_context().exit(_exit_code(summary, fail_if_bad))


def _refuse_swapped(index_folder: str, images: Sequence[str], out: str) -> None:
    """Refuse an index among the images, where what stands for the index is none."""
    from knnvote.data.locations import locate
    from knnvote.indexer.manifest import is_index_folder

    if is_index_folder(locate(index_folder)):
        return
    index = next((image for image in images if is_index_folder(locate(image))), None)
    if index is not None:
        others = [index_folder, *(image for image in images if image != index)]
        command = shlex.join(["knnvote", "classify", index, *others, "--out", out])
        raise click.UsageError(f"{index} is an index, and INDEX comes first: {command}")


def _engine(name: Literal["local", "ray"], address: str | None) -> "Engine | None":
    """Who does the files; None for this process."""
    if name == "local":
        if address is not None:
            raise click.UsageError("--address is of --engine ray: give that too")
        return None
    if is_given("part"):
        raise click.UsageError("--engine ray spreads the files by itself: leave out --part")
    from knnvote.classify.cluster.engine import RayEngine

    return RayEngine(address)


def check_acceptance(
    *,
    target_accuracy: float | None,
    by_class: bool,
    max_distance: "MaxDistance",
    min_confidence: float | None,
    **_others: Any,
) -> None:
    """Refuse options that say nothing together, or contradict each other."""
    check_distance(max_distance)
    if target_accuracy is not None and min_confidence is not None:
        raise click.UsageError("--target-accuracy finds --min-confidence: give one of them")
    if by_class and target_accuracy is None:
        raise click.UsageError("--by-class is of --target-accuracy: give that too")


def check_distance(max_distance: "MaxDistance") -> None:
    """Refuse a share of images for a distance that is not to be found."""
    if max_distance != "auto" and is_given("false_alarms"):
        raise click.UsageError("--false-alarms is of --max-distance auto: give that too")


def open_classifier(
    index_folder: str,
    threads: int | None,
    *,
    target_accuracy: float | None,
    by_class: bool,
    max_distance: "MaxDistance",
    false_alarms: float,
    **given: Any,
) -> "Classifier":
    """A classifier whose rule has its thresholds as numbers."""
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.vote import Rule
    from knnvote.indexer.folder.open import open_index

    index = open_index(index_folder)
    rule = Rule.of(index, **given, max_distance=None if max_distance == "auto" else max_distance)
    if target_accuracy is not None:
        rule = _accept(index, rule, target_accuracy, threads, by_class=by_class)
    else:
        _talk_acceptance(index, rule, is_own=given["min_confidence"] is None)
    if max_distance == "auto":
        rule = _limit_distance(index, rule, false_alarms, threads)
    elif max_distance is None and index.vote.max_distance is not None:
        talk(f"{index.vote.max_distance.told}, as the index was made; --max-distance none accepts any")
    return Classifier(index, rule)


def _accept(index: "Index", rule: "Rule", target_accuracy: float, threads: int | None, *, by_class: bool) -> "Rule":
    """The rule with the least confidence that reaches a target."""
    from knnvote.classify.evaluation.threshold import choose_threshold
    from knnvote.data.errors import KnnvoteError
    from knnvote.data.layout import noun

    from .tables.inspection import acceptance_lines, class_lines, typed_vote

    found = choose_threshold(index, rule, target_accuracy, threads=threads)
    acceptance = found.acceptance_by_class if by_class else found.acceptance
    if acceptance is None or found.chosen is None:
        raise KnnvoteError(found.why_none)
    asked = (str(index.path), typed_vote(index, rule))
    of_classes = class_lines(acceptance, index.manifest.class_names, *asked)
    for line in [*acceptance_lines(acceptance, noun(index.shape)), *of_classes]:
        talk(line)
    if found.has_many_copies:
        talk(f"note: {found.with_copies:,} of them have an exact copy stored, which flatters the accuracy")
    return rule.accepting(acceptance)


def _talk_acceptance(index: "Index", rule: "Rule", *, is_own: bool) -> None:
    """Say what of an index's own threshold stands where none was given."""
    rule.refuse_unreached(index)
    acceptance = index.vote.acceptance
    if acceptance is None or acceptance.min_confidence is None or not is_own:
        return
    if rule.is_vote_of(index):
        of_class = ", or with that of their class" if acceptance.min_confidence_by_class else ""
        talk(
            f"accepts answers with confidence {acceptance.min_confidence:g} or more, as the index was made for "
            f"accuracy {acceptance.target_accuracy:g}{of_class}; --min-confidence 0 accepts all"
        )
    else:
        talk(
            f"note: all answers are accepted, as the index's own threshold is for k {index.vote.k} and "
            f"{index.vote.weights} weights; --target-accuracy finds another"
        )


def _limit_distance(index: "Index", rule: "Rule", false_alarms: float, threads: int | None) -> "Rule":
    """The rule with the distance that a share of images of the stored kind exceed."""
    from knnvote.classify.search.distance_limit import distance_limit
    from knnvote.data.layout import noun

    found = distance_limit(index, rule, false_alarms=false_alarms, threads=threads)
    talk(
        f"--max-distance is {found.limit:.6g}, which about {false_alarms:.4g} of images of the stored kind exceed: "
        f"from {counted(found.images, f'stored {noun(index.shape)}')}, each left out"
        + (f"; {found.with_copies:,} have an exact copy stored, so it is too narrow" if found.has_many_copies else "")
    )
    return replace(rule, max_distance=found.limit)


def _exit_code(summary: "Summary", most_bad: float | None) -> int:
    """What a job's end says to programs, with a word on what the summary does not tell."""
    if most_bad is not None and summary.bad_share > most_bad:
        talk_error(
            f"error: {summary.bad_share:.4g} of the rows are bad images, more than --fail-if-bad {most_bad:g} allows"
        )
        return 1
    if summary.has_no_answer or (summary.failed and not summary.written + summary.skipped + summary.ranges):
        return 1
    return _SOME_FAILED if summary.failed else 0


def _talk_summary(folder: str, summary: "Summary", images: Sequence[str]) -> None:
    """Say what a job of these inputs did."""
    for reason in summary.failed.values():
        talk_error(f"failed: {reason}")
    if summary.bad_example is not None:
        talk(f"bad image, the first: {summary.bad_example}")
    if summary.unlike_stored is not None:
        talk(f"note: {summary.unlike_stored}")
    if summary.empty:
        talk(f"note: {counted(len(summary.empty), 'file')} without a row, the first {summary.empty[0]}")
    if summary.told_of_stored is not None:
        talk(f"note: {summary.told_of_stored}")
    counts = summary.counts
    ranges = f", {counted(summary.ranges, 'range')} of a file that several parts share" if summary.ranges else ""
    decided = f" ({summary.decided:,} without a search)" if summary.decided else ""
    talk(
        f"{folder}{'' if summary.part is None else f', part {summary.part.part}'}: {counts.rows:,} rows "
        f"({counts.ok:,} ok, {counts.abstained:,} abstained, {counts.bad_image:,} bad images); "
        f"files: {summary.written:,} written{decided}, {summary.skipped:,} skipped as done, "
        f"{len(summary.failed):,} failed{ranges}; {summary.seconds:.1f} s"
    )
    if summary.part is not None:
        talk(summary.part.told)
    if summary.has_no_answer:
        told = f"knnvote inspect {shlex.quote(images[0])} tells how its images are read"
        talk_error(f"error: no row got an answer; {told}")
