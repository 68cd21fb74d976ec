"""How good a job's answers are, by the true labels that its outputs keep."""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.classify.answer import OK
from knnvote.classify.evaluation.accuracy import Judgement, judge_counts
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import read_answers
from knnvote.data.errors import OptionError, param
from knnvote.data.locations import Location
from knnvote.indexer.rungs import Interval

from .truth import TruthError, read_truth, truth_column

_MOST_LABELS = 10_000


@dataclass(frozen=True, kw_only=True)
class JobAccuracy:
    """A job's rows against their true labels.

    Attributes:
        rows: that are images and have a true label.
        accuracy: of the best guess, also where the job abstained.
        accepted: of these rows, those with a prediction.
        accuracy_of_accepted: of their predictions; None where there are none.
        judgement: best guesses by class and what is taken for what, without bands of confidence.
    """

    rows: int
    accuracy: Interval
    accepted: int
    accuracy_of_accepted: Interval | None
    judgement: Judgement


def judge_job(job: FinishedJob, label_column: str | None = None) -> JobAccuracy | None:
    """Judge a job's rows; None where none has a true label, or they are numbers of a regression.

    Args:
        job: whose outputs are read, batch by batch.
        label_column: of the true labels that they keep; by default the only one with a usual name.

    Raises:
        ImageFileError: an output does not keep that column, or what stands there cannot be compared.
        OptionError: a column is named for numbers of a regression.
    """
    guess = "best" if "columns" in job.record.options else "prediction"  # jobs of before had no other
    accepted, withheld = Counter[tuple[Any, Any]](), Counter[tuple[Any, Any]]()
    for name in job.receipts:
        output = job.out / name
        column = truth_column(output, job.record.prefix, label_column)
        if column is None:
            continue
        for best, status, labels in read_answers(output, job.record.prefix, guess, "status", kept=column):
            if pa.types.is_floating(best.type):
                if label_column is not None:
                    raise OptionError(
                        f"{job.out} holds numbers of a regression, of which none is right or wrong: leave out "
                        f"{param('label_column')}"
                    )
                return None
            truth = read_truth(output, column, labels, best.type)
            _count(truth, best, status, accepted, withheld)
            _check_few(accepted.keys() | withheld.keys(), column, output)
    return _judge(accepted, withheld)


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
    return JobAccuracy(
        rows=pairs.total(),
        accuracy=_accuracy(pairs),
        accepted=accepted.total(),
        accuracy_of_accepted=_accuracy(accepted) if accepted else None,
        judgement=judge_counts(pairs, sorted({label for _, label in pairs}), []),
    )


def _accuracy(pairs: Counter[tuple[Any, Any]]) -> Interval:
    return share_interval(sum(n for (true, label), n in pairs.items() if true == label), pairs.total())
