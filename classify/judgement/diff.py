"""Two jobs over the same inputs: which rows got another answer, and whether for better or worse."""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.answer import OK
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.rows import Place, kept_ids, read_kept_ids
from knnvote.data.errors import KnnvoteError

from .changes import Change, JobDiff, JobScore
from .paired import PairedRows, read_pairs
from .truth import NO_COLUMN, Truth, TruthError

_FIRST = 3  # rows of each change


def diff_jobs(first: FinishedJob, second: FinishedJob, truth: Truth | None = None) -> JobDiff:
    """Compare the answers that two jobs gave the same rows; outputs are read batch by batch.

    Args:
        first: the one job.
        second: the other.
        truth: where the true labels are; by default in a column that outputs of either keep.

    Raises:
        KnnvoteError: they have no output of the same input, or answers that cannot be compared.
    """
    truth = truth or Truth()
    files = sorted(first.receipts.keys() & second.receipts.keys())
    same = [name for name in files if first.receipts[name].input == second.receipts[name].input]
    if not same:
        why = f"; {files[0]} was made of other contents" if files else ""
        raise KnnvoteError(
            f"{first.out} and {second.out} have no output of the same input{why}: "
            "give two jobs that classified the same files"
        )
    truth.check(same, first.out)
    note = None
    try:
        found = _count_all(first, second, same, truth)
    except TruthError as error:
        if truth.is_named:
            raise
        note = error.marked
        found = _count_all(first, second, same, None)
    truth.tell_unused()
    for job in sorted((first, second), key=lambda job: job.record.id_column is not None):  # the last one's ids stay
        found.name_first(job)
    return JobDiff(
        first=first.out.shown,
        second=second.out.shown,
        differences=first.record.differences(second.record.made_from),
        kept=[f"{job.out.shown}: {words}" for job in (first, second) for words in job.kept_told],
        files=len(same),
        only_one=sorted(first.receipts.keys() ^ second.receipts.keys()),
        other_input=[name for name in files if name not in same],
        rows=found.rows,
        labels=_most_first(found.labels),
        statuses=_most_first(found.statuses),
        stored=found.stored,
        judged=found.judged if found.judged[0].labelled else None,
        note=note or (None if found.has_truth else NO_COLUMN),
    )


class _Tally:
    """What the rows so far show."""

    def __init__(self) -> None:
        self.rows = 0
        self.labels: dict[tuple[Any, Any], Change] = {}
        self.statuses: dict[tuple[Any, Any], Change] = {}
        self.has_truth = False
        self.stored = 0
        self.judged = (JobScore(), JobScore())

    def add(self, file: str, rows: PairedRows) -> None:
        """Take some rows of a file into account."""
        n = len(rows.status[0])
        self.rows += n
        right = self._judge(rows)
        columns = {
            "row": pa.array(np.arange(rows.start, rows.start + n)),
            "better": pa.array(right[1] & ~right[0]),
            "worse": pa.array(right[0] & ~right[1]),
        }
        other_status = pc.not_equal(*rows.status)
        other_label = pc.fill_null(pc.not_equal(*rows.prediction), False)  # only where both have one
        for changes, values, differ in (
            (self.labels, rows.prediction, other_label),
            (self.statuses, rows.status, other_status),
        ):
            table = pa.table({"before": values[0], "now": values[1], **columns}).filter(differ)
            _count(changes, file, table)

    def name_first(self, job: FinishedJob) -> None:
        """Give the first rows of each change the ids that a job kept, where all of them have one."""
        changes = [*self.labels.values(), *self.statuses.values()]
        ids = read_kept_ids(job, [place for change in changes for place in change.first], kept_ids(job, None))
        for change in changes:
            if all(place in ids for place in change.first):
                change.ids = [ids[place] for place in change.first]

    def _judge(self, rows: PairedRows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) which rows the first job and the second answer rightly."""
        none = np.zeros(len(rows.status[0]), np.bool_)
        if rows.truth is None:
            return none, none
        self.has_truth = True
        self.stored += rows.stored
        is_labelled = np.array([true is not None for true in rows.truth], np.bool_)
        found = []
        for judged, prediction, status in zip(self.judged, rows.prediction, rows.status, strict=True):
            pairs = zip(rows.truth, prediction.to_pylist(), strict=True)
            right = is_labelled & np.array([true == label for true, label in pairs], np.bool_)
            judged.rows.update(compress(rows.truth, is_labelled))
            judged.hits.update(compress(rows.truth, right))
            is_answered = is_labelled & pc.equal(status, OK).to_numpy(zero_copy_only=False)
            judged.answers.update(compress(rows.truth, is_answered))
            found.append(right)
        return found[0], found[1]


def _count_all(first: FinishedJob, second: FinishedJob, names: Sequence[str], truth: Truth | None) -> _Tally:
    found = _Tally()
    for name in names:
        for rows in read_pairs(first, second, name, truth):
            found.add(name, rows)
    return found


def _count(changes: dict[tuple[Any, Any], Change], file: str, rows: pa.Table) -> None:
    """Add changed rows of a file to the changes that they are of."""
    sums = [("row", "list"), ("better", "sum"), ("worse", "sum")]
    groups = rows.group_by(["before", "now"], use_threads=False).aggregate(sums)  # without threads in their order
    for group in groups.to_pylist():
        pair = (group["before"], group["now"])
        change = changes.setdefault(pair, Change(before=pair[0], now=pair[1]))
        change.rows += len(group["row_list"])
        change.better += group["better_sum"]
        change.worse += group["worse_sum"]
        change.first += [Place(file, row) for row in group["row_list"][: _FIRST - len(change.first)]]


def _most_first(changes: dict[tuple[Any, Any], Change]) -> list[Change]:
    return sorted(changes.values(), key=lambda change: (-change.rows, str(change.before), str(change.now)))
