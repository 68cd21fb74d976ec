"""What a finished job says of itself, without labels: how its answers spread, and the rows to look at."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.answer import Neighbor, neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.data.reading import open_images
from knnvote.indexer.index import Index

from .finished import FinishedJob
from .output import read_answers
from .rows import Place, kept_ids, read_kept_ids
from .sums import sum_up

_SHOWN = 20  # rows of each kind
_BINS = 20
_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows whose value is at least low and below high; in the last bin, and in one of a single value, high too."""

    low: float
    high: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class ReportedRow:
    """A row of a job's outputs.

    Attributes:
        file: the output, by its path relative to the folder.
        row: in it, from 0.
        prediction: None unless the status is ok.
        confidence: the winner's share of the vote; None for regression.
        distance: to the nearest neighbour.
        status: ``ok`` or ``abstained``.
        id: that the job kept of it; None where it kept none.
        pixels: (height, width), or (height, width, 3), of its image; None where the input is gone, was changed or is no
            picture.
        neighbors: that voted, nearest first, where the index is given.
    """

    file: str
    row: int
    prediction: Any
    confidence: float | None
    distance: float
    status: str
    id: str | None = None
    pixels: NDArray[Any] | None = None
    neighbors: list[Neighbor] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """What `report_job` found.

    Attributes:
        facts: as of ``knnvote inspect``.
        rule: how neighbours became answers.
        confidence: their distribution, ascending; each value a bin of its own where there are few.
        distance: likewise, of the distances to the nearest neighbour.
        least_confident: rows whose winner has the smallest share of the vote, below 1; the smallest first, and of equal
            ones the farther first.
        farthest: rows that are least like anything stored, the farthest first; none that equals something.
        kept: a sentence, with parameters marked, for each earlier job of whose answers this one keeps some.
        unread: outputs whose input is gone or was changed, so that their rows have no picture.
        written: when the last output was written, in UTC; None where that is not known.
    """

    facts: dict[str, Any]
    rule: Rule
    confidence: list[Bin]
    distance: list[Bin]
    least_confident: list[ReportedRow]
    farthest: list[ReportedRow]
    kept: list[str]
    unread: list[str]
    written: datetime | None


def report_job(job: FinishedJob, index: Index | None) -> JobReport:
    """Sum up the outputs of a job, and find its rows to look at.

    Outputs are read batch by batch: a report of 300,000 rows raised the memory of a process by 120 MiB, one of
    3,000,000 by 150.

    Raises:
        KnnvoteError: an output or an input cannot be read, or the index is not that of the job.
    """
    if not job.receipts:
        others = f", but {job.left_out[0]}, of which knnvote verify says why it is none" if job.left_out else ""
        raise KnnvoteError(f"{job.out} holds no finished output of its job{others}: classify into it first")
    classifier = None if index is None else job.classifier(index)
    least_confident, farthest = _rows_to_look_at(job)
    seen, unread = _look_at([*least_confident, *farthest], job, classifier)
    places = [Place(row.file, row.row) for row in (*least_confident, *farthest)]
    for place, text in read_kept_ids(job, places, kept_ids(job, None)).items():
        seen.setdefault((place.file, place.row), {})["id"] = text
    return JobReport(
        facts={"path": job.out.shown, **sum_up(job)},
        rule=job.record.rule,
        confidence=spread(lambda: _values(job, "confidence")),
        distance=spread(lambda: _values(job, "distance")),
        least_confident=[replace(row, **seen.get((row.file, row.row), {})) for row in least_confident],
        farthest=[replace(row, **seen.get((row.file, row.row), {})) for row in farthest],
        kept=job.kept_told,
        unread=unread,
        written=job.written,
    )


def _rows_to_look_at(job: FinishedJob) -> tuple[list[ReportedRow], list[ReportedRow]]:
    """The least confident rows and the farthest, without their images; equal ones by file and row."""
    by_place = [("file", "ascending"), ("row", "ascending")]
    by_distance = ("distance", "descending")
    least_confident = farthest = None
    for every in job.every_answer("prediction", "confidence", "distance", "status"):
        answers = every.filter(every["distance"].is_valid())
        in_doubt = answers.filter(pc.less(answers["confidence"], 1))
        least_confident = _first(least_confident, in_doubt, [("confidence", "ascending"), by_distance, *by_place])
        unlike = answers.filter(pa.array(~job.equal_stored(answers["distance"].combine_chunks())))
        farthest = _first(farthest, unlike, [by_distance, *by_place])
    least, far = ([] if rows is None else rows.to_pylist() for rows in (least_confident, farthest))
    return [ReportedRow(**row) for row in least], [ReportedRow(**row) for row in far]


def _first(before: pa.Table | None, more: pa.Table, order: list[tuple[str, str]]) -> pa.Table:
    """The first of the rows so far and of more."""
    rows = more if before is None else pa.concat_tables([before, more])
    if not rows.num_rows:
        return rows  # PyArrow before 26 selects none of none with an error
    return rows.take(pc.select_k_unstable(rows, _SHOWN, order))  # no two rows are equal in all of an order


def _values(job: FinishedJob, name: str) -> Iterator[NDArray[np.float64]]:
    """A column of all outputs without what is no number, batch by batch."""
    for file in job.receipts:
        for (column,) in read_answers(job.out / file, job.record.prefix, name):
            values = column.drop_null().to_numpy(zero_copy_only=False)
            yield values[np.isfinite(values)]


def spread(read: Callable[[], Iterator[NDArray[np.float64]]]) -> list[Bin]:
    """Count values that are read batch by batch: each of few by itself, of many in bins of equal width."""
    counts: Counter[float] = Counter()
    low, high = math.inf, -math.inf
    for values in read():
        if len(counts) <= _BINS:
            distinct, rows = np.unique(values, return_counts=True)
            counts.update(dict(zip(distinct.tolist(), rows.tolist(), strict=True)))
        low, high = values.min(initial=low), values.max(initial=high)
    if len(counts) <= _BINS:
        return [Bin(low=value, high=value, rows=rows) for value, rows in sorted(counts.items())]
    high = max(high, low + 2 * _BINS * np.spacing(max(abs(low), abs(high))))  # else no number lies between edges
    edges = np.histogram_bin_edges([], bins=_BINS, range=(low, high))
    in_bins = np.zeros(_BINS, np.int64)
    for values in read():
        in_bins += np.histogram(values, bins=_BINS, range=(low, high))[0]
    return [
        Bin(low=float(low), high=float(high), rows=int(rows))
        for low, high, rows in zip(edges[:-1], edges[1:], in_bins, strict=True)
    ]


def _look_at(
    rows: Sequence[ReportedRow], job: FinishedJob, classifier: Classifier | None
) -> tuple[dict[tuple[str, int], dict[str, Any]], list[str]]:
    """Pixels and neighbours of rows, by file and row, and the files whose inputs are not there as they were."""
    seen: dict[tuple[str, int], dict[str, Any]] = {}
    unread = []
    for name in sorted({row.file for row in rows}):
        source = job.unchanged_input(name)
        if source is None:
            unread.append(name)
            continue
        wanted = np.unique([row.row for row in rows if row.file == name])
        for row, pixels, neighbors in _look(source, wanted, job, classifier):
            seen[name, row] = {"pixels": pixels, "neighbors": neighbors}
    return seen, unread


def _look(
    source: InputFile, wanted: NDArray[np.int64], job: FinishedJob, classifier: Classifier | None
) -> Iterator[tuple[int, NDArray[Any] | None, list[Neighbor]]]:
    """Some rows of an input, ascending, each with its pixels and neighbours."""
    with open_images(source, job.recognise) as images:
        for rows in images.take(wanted, batch_size=_BATCH):
            answer = None if classifier is None else classifier.answer(*classifier.queries(rows))
            for place, row in enumerate(rows.numbers.tolist()):
                neighbors = [] if answer is None else neighbors_of(answer.index, answer.I[place], answer.D[place])
                yield row, rows.picture(place), neighbors
