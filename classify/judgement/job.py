"""How good a job's answers are, by true labels."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.classify.answer import OK
from knnvote.classify.evaluation.accuracy import Judgement, judge_counts
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import read_answers
from knnvote.data.errors import param
from knnvote.indexer.rungs import Interval

from .numbers import JobErrors, Numbers, judge_numbers
from .truth import NO_COLUMN, OutputTruth, Truth, TruthError, leave_out_stored

_MOST_LABELS = 10_000


@dataclass(frozen=True, kw_only=True)
class JobAccuracy:
    """A job's rows against their true labels.

    Attributes:
        rows: that are images and have a true label.
        accuracy: of the best guess, also where the job abstained.
        accepted: of these rows, those with a prediction.
        accuracy_of_accepted: of their predictions; None where there are none.
        balanced_accuracy_of_accepted: the mean of such accuracies over their true labels; None likewise.
        judgement: best guesses by class and what is taken for what, without bands of confidence.
    """

    rows: int
    accuracy: Interval
    accepted: int
    accuracy_of_accepted: Interval | None
    balanced_accuracy_of_accepted: float | None
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class JudgedJob:
    """What `judge_job` found.

    Attributes:
        stored: rows with a true label that equal a stored image: these answer for themselves, and are not judged.
        accuracy: of the others, or of a regression how far they are from the truth; None where there are none.
        note: why no row is judged, with parameters marked; None where there are true labels.
    """

    stored: int
    accuracy: JobAccuracy | JobErrors | None
    note: str | None = None


def judge_job(job: FinishedJob, truth: Truth | None = None) -> JudgedJob:
    """Judge a job's rows by their true labels.

    Args:
        job: whose outputs are read, batch by batch.
        truth: where the labels are; by default in a column that the outputs keep.

    Raises:
        ImageFileError: an output does not keep the column that is named, or what stands there cannot be compared.
    """
    truth = truth or Truth()
    truth.check([*job.receipts], job.out)
    found = [of_output for name in job.receipts if (of_output := truth.find(job, name)) is not None]
    if not found:
        return JudgedJob(stored=0, accuracy=None, note=NO_COLUMN)
    try:
        judged = _judge_all(partial(_read, job, found))
    except TruthError as error:
        if truth.is_named:
            raise
        return JudgedJob(stored=0, accuracy=None, note=error.marked)
    truth.tell_unused()
    return judged


def _judge_all(read: Callable[[], Iterator["_JudgedRows"]]) -> JudgedJob:
    kind = next((rows.best.type for rows in read()), None)
    if kind is None:
        return JudgedJob(stored=0, accuracy=None)
    if pa.types.is_floating(kind):
        stored = sum(rows.stored for rows in read())
        return JudgedJob(stored=stored, accuracy=judge_numbers(lambda: map(_numbers, read())))
    accepted, withheld = Counter[tuple[Any, Any]](), Counter[tuple[Any, Any]]()
    stored = 0
    for rows in read():
        stored += rows.stored
        _count(rows.truth, rows.best, rows.status, accepted, withheld)
        _check_few(accepted.keys() | withheld.keys(), rows.of_output)
    return JudgedJob(stored=stored, accuracy=_judge(accepted, withheld))


@dataclass(frozen=True)
class _JudgedRows:
    """Some rows of an output: the best guess, its status, the true labels and how many were left out as stored."""

    of_output: OutputTruth
    best: pa.Array
    status: pa.Array
    truth: list[Any]
    stored: int


def _read(job: FinishedJob, truth: Sequence[OutputTruth]) -> Iterator[_JudgedRows]:
    """All rows of outputs that have true labels, batch by batch."""
    guess = "best" if "columns" in job.record.options else "prediction"  # jobs of before had no other
    for of_output in truth:
        output, column = of_output.output, of_output.column
        batches = read_answers(output, job.record.prefix, guess, "status", "distance", kept=column)
        for best, status, distance, labels in of_output.join(batches):
            left = leave_out_stored(of_output.read(labels, best.type), job.equal_stored(distance))
            yield _JudgedRows(of_output, best, status, *left)


def _numbers(rows: _JudgedRows) -> Numbers:
    """Those of rows that have both a true number and an answer."""
    is_known = np.array([true is not None for true in rows.truth], np.bool_) & rows.best.is_valid().to_numpy(
        zero_copy_only=False
    )
    truth = np.array([np.nan if true is None else true for true in rows.truth], np.float64)
    found = rows.best.to_numpy(zero_copy_only=False).astype(np.float64)
    is_ok = pc.equal(rows.status, OK).to_numpy(zero_copy_only=False)
    return truth[is_known], found[is_known], is_ok[is_known]


def _count(
    truth: list[Any],
    best: pa.Array,
    status: pa.Array,
    accepted: Counter[tuple[Any, Any]],
    withheld: Counter[tuple[Any, Any]],
) -> None:
    """Count pairs of a true label and the best guess, of rows that have both."""
    rows = Counter(zip(truth, best.to_pylist(), pc.equal(status, OK).to_pylist(), strict=True))
    for (true, label, is_ok), n in rows.items():
        if true is not None and label is not None:
            (accepted if is_ok else withheld)[true, label] += n


def _check_few(pairs: Set[tuple[Any, Any]], found: OutputTruth) -> None:
    """Refuse a column that holds something else, of which there are as many as rows: counts of it would not be few."""
    if len(pairs) > _MOST_LABELS and len({true for true, _ in pairs}) > _MOST_LABELS:
        raise TruthError(
            f"{found.output}: column {found.label!r} holds over {_MOST_LABELS:,} values, so it is no label: "
            f"name the right column with {param('label_column')}"
        )


def _judge(accepted: Counter[tuple[Any, Any]], withheld: Counter[tuple[Any, Any]]) -> JobAccuracy | None:
    pairs = accepted + withheld
    if not pairs:
        return None
    labels = sorted({label for _, label in pairs})
    of_accepted = judge_counts(accepted, labels, []) if accepted else None
    return JobAccuracy(
        rows=pairs.total(),
        accuracy=_accuracy(pairs),
        accepted=accepted.total(),
        accuracy_of_accepted=_accuracy(accepted) if accepted else None,
        balanced_accuracy_of_accepted=None if of_accepted is None else of_accepted.balanced_accuracy,
        judgement=judge_counts(pairs, labels, []),
    )


def _accuracy(pairs: Counter[tuple[Any, Any]]) -> Interval:
    return share_interval(sum(n for (true, label), n in pairs.items() if true == label), pairs.total())
