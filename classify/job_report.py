"""What a finished job says of itself, without labels: how its answers spread, and the rows to look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classify.classifier import Classifier
from classify.finished_job import Job
from classify.inspection import inspect_job
from classify.job_folder import JobRecord
from classify.neighbors import Neighbor, neighbors_of
from classify.output import read_answers
from data.errors import ImageFileError, KnnvoteError
from data.images import decode_images
from data.inputs import InputFile
from data.locations import Location
from data.parquet import open_parquet, read_head, rows_within_budget, take_rows
from indexer.store import Index

_SHOWN = 20  # rows of each kind
_BANDS = 20
_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows whose value is from low to high."""

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
        pixels: (height, width) of its image; None where the input is gone, was changed, or is no picture.
        neighbors: that voted, nearest first, where the index is given.
    """

    file: str
    row: int
    prediction: Any
    confidence: float | None
    distance: float
    status: str
    pixels: NDArray[Any] | None
    neighbors: list[Neighbor]


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """What `report_job` found.

    Attributes:
        facts: as of ``knnvote inspect``.
        confidence: distribution; each value a bin of its own where there are few.
        distance: distribution of the distances to the nearest neighbour.
        edge: rows whose vote was the closest, the closest first.
        farthest: rows that are least like anything stored, the farthest first.
        unread: outputs whose input is gone or was changed, so that their rows have no picture.
    """

    facts: dict[str, Any]
    confidence: list[Bin]
    distance: list[Bin]
    edge: list[ReportedRow]
    farthest: list[ReportedRow]
    unread: list[str]


@dataclass(frozen=True)
class _Answers:
    """Of n rows that have neighbours: which output (n,), its row (n,), confidence (n,) or NaN, and distance (n,)."""

    file: NDArray[np.int64]
    row: NDArray[np.int64]
    confidence: NDArray[np.float64]
    distance: NDArray[np.float64]


def report_job(job: Job, index: Index | None) -> JobReport:
    """Sum up the outputs of a job, and find its rows to look at; 32 bytes a row are held meanwhile.

    Raises:
        KnnvoteError: an output or an input cannot be read, or the index is not that of the job.
    """
    if not job.receipts:
        others = f", but {job.left_out[0]}, of which knnvote verify says why it is none" if job.left_out else ""
        raise KnnvoteError(f"{job.out} holds no finished output of its job{others}: classify into it first")
    classifier = None if index is None else job.classifier(index)
    names = list(job.receipts)
    answers = _read_answers([job.out / name for name in names], job.record)
    near_edge = np.flatnonzero(answers.confidence < 1)
    edge = near_edge[np.lexsort((-answers.distance[near_edge], answers.confidence[near_edge]))[:_SHOWN]]
    farthest = np.argsort(-answers.distance, kind="stable")[:_SHOWN]
    rows: dict[tuple[int, int], ReportedRow] = {}
    unread = []
    chosen = np.union1d(edge, farthest)
    for file in np.unique(answers.file[chosen]).tolist():
        name = names[file]
        here = np.sort(answers.row[chosen[answers.file[chosen] == file]])
        source = _unchanged_input(job, name)
        if source is None:
            unread.append(name)
        for row in _report_rows(name, here, job, source=source, classifier=classifier):
            rows[file, row.row] = row
    pick = [[rows[int(answers.file[i]), int(answers.row[i])] for i in places] for places in (edge, farthest)]
    return JobReport(
        facts={"path": job.out.shown, **inspect_job(job)},
        confidence=_spread(answers.confidence[~np.isnan(answers.confidence)]),
        distance=_spread(answers.distance),
        edge=pick[0],
        farthest=pick[1],
        unread=unread,
    )


def _read_answers(outputs: list[Location], record: JobRecord) -> _Answers:
    no_rows, no_values = np.empty(0, np.int64), np.empty(0)
    parts: list[tuple[NDArray[Any], ...]] = [(no_rows, no_rows, no_values, no_values)]
    for file, output in enumerate(outputs):
        first = 0
        for confidence, distance in read_answers(output, record.prefix, "confidence", "distance"):
            values = [column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (confidence, distance)]
            has_neighbors = ~np.isnan(values[1])
            places = np.flatnonzero(has_neighbors)
            parts.append((np.full(len(places), file), first + places, *(column[has_neighbors] for column in values)))
            first += len(distance)
    return _Answers(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _spread(values: NDArray[np.float64]) -> list[Bin]:
    distinct, rows = np.unique(values, return_counts=True)
    if len(distinct) <= _BANDS:
        return [Bin(low=float(value), high=float(value), rows=int(n)) for value, n in zip(distinct, rows, strict=True)]
    counts, limits = np.histogram(values, bins=_BANDS)
    return [
        Bin(low=float(low), high=float(high), rows=int(n))
        for low, high, n in zip(limits[:-1], limits[1:], counts, strict=True)
    ]


def _unchanged_input(job: Job, name: str) -> InputFile | None:
    """The input that an output was made from, if it is there as it was."""
    source = job.record.input(name)
    return source if source is not None and source.describe() == job.receipts[name].input else None


def _report_rows(
    name: str, wanted: NDArray[np.int64], job: Job, *, source: InputFile | None, classifier: Classifier | None
) -> Iterator[ReportedRow]:
    columns = ("prediction", "confidence", "distance", "status")
    batches = [pa.table(batch, names=columns) for batch in read_answers(job.out / name, job.record.prefix, *columns)]
    told = pa.concat_tables(batches).take(pa.array(wanted)).to_pylist()
    seen = {} if source is None else dict(_look(source, wanted, job, classifier))
    for row, answer in zip(wanted.tolist(), told, strict=True):
        pixels, neighbors = seen.get(row, (None, []))
        yield ReportedRow(file=name, row=row, pixels=pixels, neighbors=neighbors, **answer)


def _look(
    source: InputFile, wanted: NDArray[np.int64], job: Job, classifier: Classifier | None
) -> Iterator[tuple[int, tuple[NDArray[Any] | None, list[Neighbor]]]]:
    """Pixels and neighbours of some rows of an input, ascending."""
    with source.steady(), open_parquet(source) as file:
        try:
            layout = job.recognise(read_head(source, file))
        except ImageFileError as error:
            raise ImageFileError(f"{source.shown}: {error}") from error
        size = rows_within_budget(layout.d, _BATCH)
        for here, table in take_rows(source, file, wanted, columns=layout.columns, batch_size=size):
            pixels, _ = decode_images(table, layout)
            answer = None if classifier is None else classifier.classify_table(table, layout)
            for place, row in enumerate(here.tolist()):
                picture = pixels[place].reshape(layout.shape) if len(layout.shape) == 2 else None
                yield (
                    row,
                    (picture, [] if answer is None else neighbors_of(answer.index, answer.I[place], answer.D[place])),
                )
