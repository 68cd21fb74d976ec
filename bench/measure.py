"""Contenders measured side by side: quality once, speed in turns, so that the machine's noise hits all alike."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.sampling import sample_rows

from .contenders import CONTENDERS, FLAT
from .problem import NO_LABEL, Neighbors, Problem
from .worker import Build, Worker, WorkerError

_QUALITY_SECONDS = 30.0  # at most, for one setting
_RATE_SHARE = 0.5  # of a turn's seconds after which it ends: the number of test images aims at all of them

Talk = Callable[[str], None]
Choice = tuple[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Quality:
    """How good a setting's answers are beside exact search's.

    Attributes:
        images: test images that were judged.
        recall: mean share of the true k neighbours that were found.
        recall_p5: its 5th percentile over test images.
        agreement: share of test images with the label that exact search gives.
        accuracy: against true labels; None without labels.
    """

    images: int
    recall: float
    recall_p5: float
    agreement: float
    accuracy: float | None


@dataclass(kw_only=True)
class Result:
    """One contender at one setting.

    Attributes:
        contender: its name.
        setting: the number; None if it has but one.
        shown: the setting for people.
        n: stored images.
        build: what building took.
        quality: of its answers.
        timed_images: test images of a timed call.
        rates: test images a processor-second, for each turn.
        ratios: of the rates to IndexFlatL2's in the same turn.
    """

    contender: str
    setting: float | None
    shown: str
    n: int
    build: Build
    quality: Quality
    timed_images: int
    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def queries_per_second(self) -> float:
        """The median over turns."""
        return statistics.median(self.rates)

    @property
    def ratio(self) -> float:
        """The median over turns."""
        return statistics.median(self.ratios)

    def to_json(self) -> dict[str, Any]:
        """As plain objects, with the medians."""
        return {**asdict(self), "queries_per_second": self.queries_per_second, "ratio": self.ratio}


def choices(names: Sequence[str], *, growing: bool = False) -> list[Choice]:
    """What takes an index, and so a process, of its own: a contender with the settings measured on that index."""
    chosen: list[Choice] = []
    for name in dict.fromkeys((FLAT, *names)):
        entry = CONTENDERS[name]
        settings = (entry.growth,) if growing else entry.settings
        chosen += [(name, (one,)) for one in settings] if entry.is_built_for_setting else [(name, settings)]
    return chosen


def measure(
    problem: Problem,
    exact: Neighbors,
    chosen: Sequence[Choice],
    folder: Path,
    *,
    k: int,
    turns: int,
    seconds: float,
    talk: Talk,
) -> list[Result]:
    """Build, judge and time contenders; one whose process ends is left out from there on.

    Args:
        problem: stored and test images, saved in `folder`.
        exact: the answers of exact search.
        chosen: from `choices`; IndexFlatL2 first.
        folder: of the problem.
        k: neighbours that vote.
        turns: of timing.
        seconds: of a turn of one setting, about.
        talk: told each step.
    """
    with _started(chosen, folder, k) as workers:
        entries: list[tuple[Worker, Result]] = []
        ended: set[Worker] = set()
        for worker in workers:
            with _told(worker, ended, talk):
                worker.wait_until_ready()
        for worker in [worker for worker in workers if worker not in ended]:
            with _told(worker, ended, talk):
                entries += _judged(worker, problem, exact, seconds, talk)
        for turn in range(turns):
            talk(f"turn {turn + 1} of {turns}")
            for worker, result in entries:
                if worker in ended:
                    continue
                with _told(worker, ended, talk):
                    rows = sample_rows(len(problem.xq), max(1, result.timed_images))
                    result.rates.append(worker.time(result.setting, rows, _RATE_SHARE * seconds))
                    result.ratios.append(result.rates[-1] / entries[0][1].rates[-1])
    return [result for worker, result in entries if worker not in ended]


def _judged(
    worker: Worker, problem: Problem, exact: Neighbors, seconds: float, talk: Talk
) -> list[tuple[Worker, Result]]:
    """Each setting of a contender with all but its timing."""
    talk(f"building {worker.name} of {len(problem.x):,} images")
    build = worker.build()
    judged = []
    for setting in worker.settings:
        rate = worker.rate(setting)
        rows = sample_rows(len(problem.xq), int(max(1, worker.entry.least, rate * _QUALITY_SECONDS)))
        quality = judge(worker.answer(setting, rows), exact, problem.truth, rows)
        result = Result(
            contender=worker.name,
            setting=setting,
            shown=worker.entry.named(setting),
            n=len(problem.x),
            build=build,
            quality=quality,
            timed_images=min(len(problem.xq), int(max(worker.entry.least, rate * seconds))),
        )
        judged.append((worker, result))
    return judged


def judge(found: Neighbors, exact: Neighbors, truth: NDArray[np.int32], rows: NDArray[np.int64]) -> Quality:
    """The quality of the answers to the test images at `rows`; exact and truth are of all of them."""
    is_found = (found.I[:, :, None] == exact.I[rows][:, None, :]).any(axis=1)
    recall = is_found.mean(axis=1)
    has_label = truth[rows] != NO_LABEL
    right = found.codes[has_label] == truth[rows][has_label]
    return Quality(
        images=len(rows),
        recall=float(recall.mean()),
        recall_p5=float(np.percentile(recall, 5)),
        agreement=float(np.mean(found.codes == exact.codes[rows])),
        accuracy=float(right.mean()) if len(right) else None,
    )


@contextmanager
def _started(chosen: Sequence[Choice], folder: Path, k: int) -> Iterator[list[Worker]]:
    """A process for each."""
    workers: list[Worker] = []
    try:
        workers.extend(Worker(name, settings, folder, k) for name, settings in chosen)
        yield workers
    finally:
        for worker in workers:
            worker.close()


@contextmanager
def _told(worker: Worker, ended: set[Worker], talk: Talk) -> Iterator[None]:
    """A contender whose process ends costs a line, not the run; without IndexFlatL2 there is nothing to compare."""
    try:
        yield
    except WorkerError as error:
        if worker.name == FLAT:
            raise
        talk(f"{error}: left out")
        ended.add(worker)
