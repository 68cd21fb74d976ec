"""Rows of an output as two jobs have them, side by side, with their true labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import in_step, read_answers
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.labels import common_label_type

from .truth import OutputTruth, Truth, leave_out_stored

_NAMES = ("prediction", "status", "distance")


@dataclass(frozen=True, kw_only=True)
class PairedRows:
    """Some rows of an output as two jobs have them: predictions of one type and statuses, each (n,), first and second.

    Attributes:
        start: number of the first of them.
        prediction: null where there is none.
        status: of each row.
        truth: (n,) true labels, None where there is none, or where a stored image of either index is equal; None
            where nothing tells them.
        stored: rows with a true label where one is.
    """

    start: int
    prediction: tuple[pa.Array, pa.Array]
    status: tuple[pa.Array, pa.Array]
    truth: list[Any] | None
    stored: int


def read_pairs(first: FinishedJob, second: FinishedJob, name: str, truth: Truth | None) -> Iterator[PairedRows]:
    """The rows of an output of both jobs, batch by batch; without a truth with no true labels.

    Raises:
        KnnvoteError: they cannot be read or compared, or hold no such labels.
    """
    keeper, of_output = (first, None) if truth is None else _find_truth(first, second, name, truth)
    of_first, of_second = (
        _read_columns(job, name, of_output if place == (keeper is not first) else None)
        for place, job in enumerate((first, second))
    )
    start = 0
    for one, other in in_step(of_first, of_second, (first.out / name, second.out / name)):
        n, prediction = len(one[0]), _of_one_type(one[0], other[0], first, second)
        labels, stored = None, 0
        if of_output is not None:
            kept = (one if keeper is first else other)[len(_NAMES)]
            are_stored = first.equal_stored(one[2]) | second.equal_stored(other[2])
            labels, stored = leave_out_stored(of_output.read(kept, prediction[0].type), are_stored)
        yield PairedRows(start=start, prediction=prediction, status=(one[1], other[1]), truth=labels, stored=stored)
        start += n


def _read_columns(job: FinishedJob, name: str, truth: OutputTruth | None) -> Iterator[list[pa.Array]]:
    """What a job answered, batch by batch, and last the true labels if it is asked for them."""
    column = None if truth is None else truth.column
    batches = read_answers(job.out / name, job.record.prefix, *_NAMES, kept=column)
    return batches if truth is None else truth.join(batches)


def _find_truth(
    first: FinishedJob, second: FinishedJob, name: str, truth: Truth
) -> tuple[FinishedJob, OutputTruth | None]:
    """The job whose output tells the true labels, the first if both do, and where they are; None where neither does."""
    try:
        found = truth.find(first, name)
    except KnnvoteError:
        found = None
    if found is not None and (found.column is not None or truth.table is None):
        return first, found
    of_second = truth.find(second, name)
    if found is not None and (of_second is None or of_second.column is None):  # rows are known by their numbers
        return first, found
    return second, of_second


def _of_one_type(one: pa.Array, other: pa.Array, first: FinishedJob, second: FinishedJob) -> tuple[pa.Array, pa.Array]:
    """Predictions of two jobs in a type that holds both.

    Raises:
        KnnvoteError: there is none, or they are numbers of a regression.
    """
    kind = common_label_type([one.type, other.type])
    if kind is None:
        raise KnnvoteError(
            f"{first.out} has labels of type {one.type} and {second.out} of type {other.type}, which are never equal: "
            "give two jobs of the same classes"
        )
    if pa.types.is_floating(kind):
        raise KnnvoteError(
            f"{first.out} holds numbers of a regression, and what is counted are rows with another class: "
            "knnvote compare tells how far two indexes are from the truth"
        )
    return one.cast(kind), other.cast(kind)
