"""How good a job's answers are, by the true labels that its outputs keep."""

from collections import Counter
from collections.abc import Iterator, Set
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
from knnvote.data.containers.label_table import Labels
from knnvote.data.errors import ImageFileError, param
from knnvote.data.locations import Location
from knnvote.indexer.rungs import Interval

from .numbers import JobErrors, Numbers, judge_numbers
from .truth import TruthError, id_column, join_table, read_truth, truth_column

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


def judge_job(
    job: FinishedJob, label_column: str | None = None, table: Labels | None = None
) -> JobAccuracy | JobErrors | None:
    """Judge a job's rows; None where none has a true label.

    Args:
        job: whose outputs are read, batch by batch.
        label_column: of the true labels that they keep; by default the only one with a usual name.
        table: of the true labels, by ids of rows or in their order, in place of a column.

    Raises:
        ImageFileError: an output does not keep that column, or what stands there cannot be compared.
    """
    if table is not None and table.is_in_order and len(job.receipts) > 1:
        raise ImageFileError(
            f"{table.shown} has no ids, and so a label for each row of one output, and {job.out} holds "
            f"{len(job.receipts):,}: give a table with a column of ids, FILE#ROW"
        )
    read = partial(_read, job, label_column, table)
    kind = next((row.best.type for row in read()), None)
    if kind is not None and pa.types.is_floating(kind):
        found: JobAccuracy | JobErrors | None = judge_numbers(lambda: map(_numbers, read()))
    else:
        accepted, withheld = Counter[tuple[Any, Any]](), Counter[tuple[Any, Any]]()
        for rows in read():
            _count(rows.truth, rows.best, rows.status, accepted, withheld)
            _check_few(accepted.keys() | withheld.keys(), rows.column, rows.output)
        found = _judge(accepted, withheld)
    if table is not None:
        table.tell_unused()
    return found


@dataclass(frozen=True)
class _Rows:
    """Some rows of an output: the best guess, its status, and the true labels of a column."""

    output: Location
    column: str
    best: pa.Array
    status: pa.Array
    truth: list[Any]


def _read(job: FinishedJob, label_column: str | None, table: Labels | None) -> Iterator[_Rows]:
    """All rows of outputs that have true labels, batch by batch."""
    guess = "best" if "columns" in job.record.options else "prediction"  # jobs of before had no other
    options = job.record.output
    for name in job.receipts:
        output = job.out / name
        column = truth_column(output, options, label_column) if table is None else id_column(output, options, table)
        if column is None and table is None:
            continue
        label = column or "" if table is None else table.label_column
        batches = read_answers(output, options.prefix, guess, "status", kept=column)
        if table is not None:
            batches = join_table(output, name, table, column, batches)
        for best, status, labels in batches:
            yield _Rows(output, label, best, status, read_truth(output, label, labels, best.type))


def _numbers(rows: _Rows) -> Numbers:
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


def _check_few(pairs: Set[tuple[Any, Any]], column: str, output: Location) -> None:
    """Refuse a column that holds something else, of which there are as many as rows: counts of it would not be few."""
    if len(pairs) > _MOST_LABELS and len({true for true, _ in pairs}) > _MOST_LABELS:
        raise TruthError(
            f"{output}: column {column!r} holds over {_MOST_LABELS:,} values, so it is no label: "
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
