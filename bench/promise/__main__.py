"""Whether tuning keeps its promise on images that it never saw: `python -m bench.promise`.

Made sets that differ in kind, each drawn anew for every seed: stored images and test images of one source. An adaptive
index is tuned on the stored ones alone; then its answers to the test images are set beside exact search's.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.table import new_table, print_legend, print_table
from knnvote.classify.adaptive.trials import ANSWERS
from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.answer import OK, Answer
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.search.search import exact_search
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write
from knnvote.data.vectors import convert_queries
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.index import Index
from knnvote.indexer.rungs import Interval, MeasuredLadder, Tuned
from knnvote.indexer.threads import limit_threads

from .sets import SETS

_MIN_CONFIDENCES = (1.0, 0.8)
_HEADERS = ("set", "seed", "promised", "reached", "test", "95% interval", "settled")
_LEGEND = (
    "promised: lower end of the 95% interval of agreement that tuning measured, reached if that is the target; test: "
    "agreement with exact search on the test images (of a regression, answers within the tolerance agree); *: below "
    "the target, **: its whole interval is; settled: test images that each rung settles; unanimous: those whose "
    "neighbours have one label; speed: exact search's processor time over that of the rungs for labels; outcome: "
    "agreement of labels and abstentions at such a --min-confidence; too sure: test images that get a label at these "
    "where exact search abstains"
)


@dataclass(frozen=True)
class Size:
    """How many images a set has: stored ones to tune on, test images to judge on."""

    stored: int
    test: int


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What tuning promised of one kind of answers, and what came of it on test images.

    Attributes:
        low: lower end of the 95% interval that tuning measured.
        is_reached: that is at least the target.
        test: agreement with exact search on the test images.
        settled: share of the test images that each rung settles.
        rungs: as the manifest has them.
    """

    low: float
    is_reached: bool
    test: Interval
    settled: list[float]
    rungs: list[dict[str, Any]]

    @property
    def is_exact(self) -> bool:
        """Exact search alone answers, which agrees by construction."""
        return all(rung["nprobe"] is None for rung in self.rungs)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Labels and abstentions at one least confidence: agreement, and labels where exact search abstains."""

    min_confidence: float
    test: Interval
    too_sure: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One set and seed.

    Attributes:
        name: of the set.
        seed: of the set and of the index.
        tune_queries: stored images that tested the rungs; 0 where exact search was chosen without a test.
        promises: by the answers that they are about.
        outcomes: none for a regression.
        unanimous: share of test images whose exact neighbours have one label; None for a regression.
        speed: exact search's processor time over that of the rungs for labels.
        build_seconds: tuning included.
    """

    name: str
    seed: int
    tune_queries: int
    promises: dict[str, Promise]
    outcomes: list[Outcome]
    unanimous: float | None
    speed: float
    build_seconds: float


def measure(name: str, seed: int, size: Size, tune: Tuning, *, folder: Path, threads: int | None) -> Run:
    """Draw a set, build and tune an index of it in a folder that is not there yet, and judge it on test images.

    Args:
        name: of the set, whose weights and ties, and k if it has one, replace those of `tune`.
        seed: of the set and of the index.
        size: how many images.
        tune: k and target.
        folder: of the index.
        threads: of building; None for as many as there are processors.

    Raises:
        KnnvoteError: so few images cannot be tuned on.
    """
    made = SETS[name]
    rule = Rule(k=made.k or tune.k, weights=made.weights, ties=made.ties)
    images, labels = made.make(np.random.default_rng([seed, *name.encode()]), size.stored + size.test)
    start = time.perf_counter()
    index_arrays(
        images[: size.stored],
        labels[: size.stored],
        folder,
        is_regression=made.is_regression,
        options=IndexOptions(kind="adaptive", metric=made.metric, seed=seed, threads=threads),
        tune=replace(tune, k=rule.k, weights=rule.stored_weights, ties=rule.ties),
    )
    build_seconds = time.perf_counter() - start
    classifier = Classifier.open(folder, rule)
    xq, _ = convert_queries(images[size.stored :].reshape(size.test, -1), classifier.index.vectors.dtype)
    return _judge(name, seed, classifier, xq, round(build_seconds, 1))


def _judge(name: str, seed: int, classifier: Classifier, xq: NDArray[np.generic], build_seconds: float) -> Run:
    """Set a tuned index's answers to test images xq (nq, d) beside exact search's."""
    index, k = classifier.index, classifier.rule.k
    for work in (lambda: exact_search(index, xq[:64], k), lambda: classifier.answer(xq[:64], {})):
        work()  # so that no first touch of a file is timed
    before = time.process_time()
    D, I = exact_search(index, xq, k)
    between = time.process_time()
    answer = classifier.answer(xq, {})
    after = time.process_time()
    tuned = _tuned(index)
    same = same_labels(answer, classifier.answer_neighbors(D, I), tuned.tolerance)
    promises = {"label": _promise(tuned.label, same, answer)}
    outcomes: list[Outcome] = []
    if not index.is_regression:
        promises["confidence"], outcomes = _judge_confidences(classifier, xq, D, I)
    return Run(
        name=name,
        seed=seed,
        tune_queries=tuned.queries,
        promises=promises,
        outcomes=outcomes,
        unanimous=None if index.is_regression else float((np.ptp(index.class_codes[I], axis=1) == 0).mean()),
        speed=(between - before) / (after - between),
        build_seconds=build_seconds,
    )


def _judge_confidences(
    classifier: Classifier, xq: NDArray[np.generic], D: NDArray[np.float64], I: NDArray[np.int64]
) -> tuple[Promise, list[Outcome]]:
    """What the rungs for confidences answer, beside exact search's neighbours D, I (nq, k)."""
    index, rule = classifier.index, classifier.rule
    tuned = _tuned(index)

    def answers(min_confidence: float) -> tuple[Answer, Answer]:
        sure = Classifier(index, replace(rule, min_confidence=min_confidence))
        return sure.answer(xq, {}), sure.answer_neighbors(D, I)

    answer, truth = answers(0)
    same = same_labels(answer, truth, None) & (answer.confidence == truth.confidence)
    outcomes = []
    for min_confidence in _MIN_CONFIDENCES:
        found, exact = answers(min_confidence)
        agreement = _share(same_labels(found, exact, None))
        too_sure = int(((found.status == OK) & (exact.status != OK)).sum())
        outcomes.append(Outcome(min_confidence=min_confidence, test=agreement, too_sure=too_sure))
    return _promise(tuned.confidence, same, answer), outcomes


def same_labels(answer: Answer, truth: Answer, tolerance: float | None) -> NDArray[np.bool_]:
    """(nq,) whether two answers have one label, or both none; for a regression, labels within the tolerance."""
    if tolerance is not None:
        near: NDArray[np.bool_] = np.abs(_numbers(answer.prediction) - _numbers(truth.prediction)) <= tolerance
        return near
    pairs = zip(answer.prediction.to_pylist(), truth.prediction.to_pylist(), strict=True)
    return np.array([label == true for label, true in pairs])


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    return numbers


def _tuned(index: Index) -> Tuned:
    if index.tuned is None:
        raise KnnvoteError(f"{index.path} was not tuned")
    return index.tuned


def _promise(found: MeasuredLadder, same: NDArray[np.bool_], answer: Answer) -> Promise:
    """What the manifest says of one kind of answers, with what became of it."""
    if answer.rung is None:
        raise KnnvoteError("the index is not adaptive")
    settled = np.bincount(answer.rung, minlength=len(found.rungs) + 1)[1:] / len(same)
    return Promise(
        low=found.agreement.low,
        is_reached=found.reached,
        test=_share(same),
        settled=settled.tolist(),
        rungs=found.to_json()["rungs"],
    )


def _share(same: NDArray[np.bool_]) -> Interval:
    return share_interval(int(same.sum()), len(same))


def print_runs(runs: Sequence[Run], size: Size, tune: Tuning) -> None:
    """A table for labels, one for labels with confidences, and what the columns mean."""
    target = tune.target_agreement
    title = f"{size.stored:,} stored and {size.test:,} test images, k = {tune.k}, target agreement {target:g}"
    labels = new_table(f"labels: {title}", *_HEADERS, "unanimous", "speed", "build", left=1)
    outcomes = (f"outcome at {least:g}" for least in _MIN_CONFIDENCES)
    confidences = new_table("labels with confidences", *_HEADERS, *outcomes, "too sure", left=1)
    for run in runs:
        unanimous = "" if run.unanimous is None else f"{run.unanimous:.1%}"
        cells = _promise_cells(run.promises["label"], target)
        labels.add_row(run.name, str(run.seed), *cells, unanimous, f"{run.speed:.1f} x", f"{run.build_seconds:.1f} s")
        if "confidence" in run.promises:
            cells = _promise_cells(run.promises["confidence"], target)
            cells += [f"{outcome.test.value:.4f}{_mark(outcome.test, target)}" for outcome in run.outcomes]
            too_sure = ", ".join(str(outcome.too_sure) for outcome in run.outcomes)
            confidences.add_row(run.name, str(run.seed), *cells, too_sure)
    for table in (labels, confidences):
        print_table(table)
    print_legend(_LEGEND)


def _promise_cells(promise: Promise, target: float) -> list[str]:
    test = promise.test
    rungs = zip(promise.settled, promise.rungs, strict=True)
    return [
        f"{promise.low:.4f}",
        "exact" if promise.is_exact else "yes" if promise.is_reached else "no",
        f"{test.value:.4f}",
        f"{test.low:.4f} to {test.high:.4f}{_mark(test, target)}",
        ", ".join(f"{share:.1%}{' exact' if rung['nprobe'] is None else ''}" for share, rung in rungs),
    ]


def _mark(test: Interval, target: float) -> str:
    return "**" if test.high < target else "*" if test.value < target else ""


def summary(runs: Sequence[Run], target: float) -> str:
    """In how many promises that reached the target the test images say otherwise; one line for both kinds.

    What exact search alone answers agrees by construction, and so counts for nothing.
    """
    parts = []
    for answers, what in zip(ANSWERS, ("labels", "labels with confidences"), strict=True):
        promises = [run.promises[answers] for run in runs if answers in run.promises]
        exact = sum(promise.is_exact for promise in promises)
        tests = [promise.test for promise in promises if promise.is_reached and not promise.is_exact]
        below = sum(test.value < target for test in tests)
        significant = sum(test.high < target for test in tests)
        parts.append(
            f"{what}: of {len(promises)} runs {len(tests)} reached the target {target:g}, and {exact} have exact "
            f"search alone; on test images {below} of the {len(tests)} are below it, {significant} significantly"
        )
    return "; ".join(parts) + " (tuning allows 1 in 20 to be below it in truth)"


def _parse_sets(_ctx: click.Context, _param: click.Parameter, value: Sequence[str]) -> list[str]:
    return list(value or SETS)


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of each set.")
@click.option("--target", type=click.FloatRange(0, 1, min_open=True), default=0.999, show_default=True)
@click.option("--stored", type=click.IntRange(min=100), default=20_000, show_default=True, help="Images to tune on.")
@click.option("--test", type=click.IntRange(min=1), default=10_000, show_default=True, help="Images to judge on.")
@click.option("--k", type=click.IntRange(min=1), default=5, show_default=True, help="Neighbours that vote.")
@click.option("--set", "sets", multiple=True, type=click.Choice(list(SETS)), callback=_parse_sets, help="All without.")
@click.option("--threads", type=click.IntRange(min=1), help="All processors by default.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Writes all figures here.")
def main(*, seeds: int, sets: list[str], threads: int | None, json_file: Path | None, **options: Any) -> None:
    """Show whether tuning keeps its promise on images that it never saw.

    Example: python -m bench.promise --seeds 20 --set noise
    """
    size = Size(options["stored"], options["test"])
    runs: list[Run] = []
    try:
        tune = Tuning(k=options["k"], target_agreement=options["target"])
        with limit_threads(threads), tempfile.TemporaryDirectory(prefix="promise-") as scratch:
            for name in sets:
                for seed in range(seeds):
                    click.echo(f"{name}, seed {seed}", err=True)
                    folder = Path(scratch) / f"{len(runs)}.knn"
                    runs.append(measure(name, seed, size, tune, folder=folder, threads=threads))
    except KnnvoteError as error:
        raise click.ClickException(str(error)) from error
    if json_file is not None:
        record = {**options, "runs": [asdict(run) for run in runs]}
        with atomic_write(json_file) as stream:
            stream.write(json.dumps(record, indent=2).encode() + b"\n")
    print_runs(runs, size, tune)
    click.echo(summary(runs, tune.target_agreement))


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m bench.promise"))
