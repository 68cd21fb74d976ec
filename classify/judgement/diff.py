"""Two jobs over the same inputs: which rows got another answer, and whether for better or worse."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import compress
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.answer import OK
from knnvote.classify.evaluation.mcnemar import Difference, difference
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import in_step, read_answers
from knnvote.classify.job.rows import Place, kept_ids, read_kept_ids
from knnvote.data.errors import KnnvoteError, as_recorded, spelled
from knnvote.indexer.labels import common_label_type
from knnvote.indexer.rungs import Interval

from .truth import TruthError, read_truth, truth_column

_FIRST = 3  # rows of each change


@dataclass(kw_only=True)
class Change:
    """Rows whose answer was one and is another.

    Attributes:
        before: label or status in the first job.
        now: in the second.
        rows: how many.
        better: of these, rows that only the second job answers rightly.
        worse: rows that only the first does.
        first: the first of the rows.
        ids: of these, as a job kept them; none where neither did.
    """

    before: Any
    now: Any
    rows: int = 0
    better: int = 0
    worse: int = 0
    first: list[Place] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def shown_first(self) -> list[str]:
        """The first of the rows, each by its id if there is one."""
        return self.ids or [str(place) for place in self.first]


@dataclass(kw_only=True)
class Judged:
    """How a job did on the rows with a true label.

    Attributes:
        rows: such rows, by true label.
        hits: of them, rows whose prediction is the true label, likewise.
        answers: of all, rows with a prediction, likewise.
    """

    rows: Counter[Any] = field(default_factory=Counter)
    hits: Counter[Any] = field(default_factory=Counter)
    answers: Counter[Any] = field(default_factory=Counter)

    @property
    def labelled(self) -> int:
        """Rows with a true label."""
        return self.rows.total()

    @property
    def answered(self) -> int:
        """Rows with a prediction."""
        return self.answers.total()

    @property
    def right(self) -> int:
        """Rows whose prediction is the true label."""
        return self.hits.total()

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the true labels of the share of right rows among all of each."""
        return fmean(self.hits[true] / n for true, n in self.rows.items())

    @property
    def accuracy(self) -> Interval:
        """Right rows among all: one without a prediction is not right."""
        return share_interval(self.right, self.labelled)

    @property
    def accuracy_of_answered(self) -> Interval | None:
        """Right rows among those with a prediction; None where there is none."""
        return share_interval(self.right, self.answered) if self.answered else None

    @property
    def balanced_accuracy_of_answered(self) -> float | None:
        """The mean over the true labels of the share of right rows among those with a prediction; None likewise."""
        return fmean(self.hits[true] / n for true, n in self.answers.items()) if self.answers else None

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        of_answered = self.accuracy_of_answered
        return {
            "labelled": self.labelled,
            "answered": self.answered,
            "right": self.right,
            "accuracy": asdict(self.accuracy),
            "balanced_accuracy": self.balanced_accuracy,
            "accuracy_of_answered": None if of_answered is None else asdict(of_answered),
            "balanced_accuracy_of_answered": self.balanced_accuracy_of_answered,
        }


@dataclass(frozen=True, kw_only=True)
class JobDiff:
    """What `diff_jobs` found.

    Attributes:
        first: folder of the one job.
        second: of the other.
        differences: what the two were made from otherwise, with parameters marked.
        kept: a sentence, with parameters marked, for each job before one of the two of whose answers that keeps some.
        files: outputs that were compared.
        only_one: outputs that one of the jobs alone has.
        other_input: outputs that the jobs made of inputs of other content.
        rows: that were compared.
        labels: rows with another label, by the two, the most first.
        statuses: rows with another status.
        stored: rows with a true label that equal a stored image of either index: these answer for themselves, and are
            not judged.
        judged: the first job and the second, None where no other row has a true label.
        note: why labels that the outputs keep are not the true ones, with parameters marked; None where they may be.
    """

    first: str
    second: str
    differences: list[str]
    kept: list[str]
    files: int
    only_one: list[str]
    other_input: list[str]
    rows: int
    labels: list[Change]
    statuses: list[Change]
    stored: int
    judged: tuple[Judged, Judged] | None
    note: str | None

    @property
    def changed(self) -> int:
        """Rows with another label or status."""
        return sum(change.rows for change in (*self.labels, *self.statuses))

    @property
    def accuracies(self) -> Difference | None:
        """Whether the second job is right on more rows than the first, by more than chance."""
        if self.judged is None:
            return None
        changes = (*self.labels, *self.statuses)
        better, worse = (sum(getattr(change, name) for change in changes) for name in ("better", "worse"))
        return difference(self.second, self.first, better, worse)

    def to_json(self) -> dict[str, Any]:
        """The object of ``diff`` as JSON."""
        accuracies = self.accuracies
        return {
            "first": self.first,
            "second": self.second,
            "differences": [spelled(words, as_recorded) for words in self.differences],
            "kept": [spelled(words, as_recorded) for words in self.kept],
            "files": self.files,
            "only_one": self.only_one,
            "other_input": self.other_input,
            "rows": self.rows,
            "changed": self.changed,
            "labels": [asdict(change) for change in self.labels],
            "statuses": [asdict(change) for change in self.statuses],
            "note": None if self.note is None else spelled(self.note, as_recorded),
            "stored": self.stored,
            "truth": None
            if self.judged is None or accuracies is None
            else {
                "first": self.judged[0].to_json(),
                "second": self.judged[1].to_json(),
                "better": accuracies.only_name,
                "worse": accuracies.only_other,
                "p": accuracies.p,
            },
        }


_NAMES = ("prediction", "status", "distance")


def diff_jobs(first: FinishedJob, second: FinishedJob, *, label_column: str | None = None) -> JobDiff:
    """Compare the answers that two jobs gave the same rows; outputs are read batch by batch.

    Args:
        first: the one job.
        second: the other.
        label_column: of the true labels that outputs of either keep; by default the only one with a usual name.

    Raises:
        KnnvoteError: they have no output of the same input, or answers that cannot be compared.
    """
    files = sorted(first.receipts.keys() & second.receipts.keys())
    same = [name for name in files if first.receipts[name].input == second.receipts[name].input]
    if not same:
        why = f"; {files[0]} was made of other contents" if files else ""
        raise KnnvoteError(
            f"{first.out} and {second.out} have no output of the same input{why}: "
            "give two jobs that classified the same files"
        )
    note = None
    try:
        found = _count_all(same, partial(_read, first, second, label_column=label_column))
    except TruthError as error:
        if label_column is not None:
            raise
        note = error.marked
        found = _count_all(same, partial(_read, first, second, is_judged=False))
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
        note=note,
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Some rows of an output as two jobs have them: predictions of one type and statuses, each (n,), first and second.

    Attributes:
        start: number of the first of them.
        prediction: null where there is none.
        status: of each row.
        equal: whether a stored image of either index is equal.
        truth: true labels, None where there is none.
    """

    start: int
    prediction: tuple[pa.Array, pa.Array]
    status: tuple[pa.Array, pa.Array]
    equal: NDArray[np.bool_]
    truth: list[Any] | None


def _read(
    first: FinishedJob, second: FinishedJob, name: str, *, label_column: str | None = None, is_judged: bool = True
) -> Iterator[_Rows]:
    """The rows of an output of both jobs, and their true labels where they are judged and an output keeps them."""
    keeper, column = _find_truth(first, second, name, label_column) if is_judged else (first, None)
    of_first, of_second = (
        read_answers(job.out / name, job.record.prefix, *_NAMES, kept=column if job is keeper else None)
        for job in (first, second)
    )
    start = 0
    for one, other in in_step(of_first, of_second, (first.out / name, second.out / name)):
        prediction = _of_one_type(one[0], other[0], first, second)
        truth = None
        if column is not None:
            labels = (one if keeper is first else other)[len(_NAMES)]
            truth = read_truth(keeper.out / name, column, labels, prediction[0].type)
        distances = (column[2].fill_null(1).to_numpy(zero_copy_only=False) for column in (one, other))
        equal = np.logical_or(*(distance == 0 for distance in distances))
        yield _Rows(start=start, prediction=prediction, status=(one[1], other[1]), equal=equal, truth=truth)
        start += len(one[0])


def _find_truth(
    first: FinishedJob, second: FinishedJob, name: str, named: str | None
) -> tuple[FinishedJob, str | None]:
    """The job whose output keeps the true labels, the first if both do, and their column; None where neither does."""
    try:
        column = truth_column(first.out / name, first.record.output, named)
    except KnnvoteError:
        column = None
    return (first, column) if column else (second, truth_column(second.out / name, second.record.output, named))


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


class _Tally:
    """What the rows so far show."""

    def __init__(self) -> None:
        self.rows = 0
        self.labels: dict[tuple[Any, Any], Change] = {}
        self.statuses: dict[tuple[Any, Any], Change] = {}
        self.stored = 0
        self.judged = (Judged(), Judged())

    def add(self, file: str, rows: _Rows) -> None:
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

    def _judge(self, rows: _Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) which rows the first job and the second answer rightly."""
        none = np.zeros(len(rows.status[0]), np.bool_)
        if rows.truth is None:
            return none, none
        is_labelled = np.array([true is not None for true in rows.truth], np.bool_)
        self.stored += int((is_labelled & rows.equal).sum())
        is_labelled &= ~rows.equal
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


def _count_all(names: Sequence[str], read: Callable[[str], Iterator[_Rows]]) -> _Tally:
    found = _Tally()
    for name in names:
        for rows in read(name):
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
