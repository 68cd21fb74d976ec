"""What a comparison of two jobs found: the rows that got another answer, and how good each job is."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from knnvote.classify.evaluation.mcnemar import Difference, difference
from knnvote.classify.interval import share_interval
from knnvote.classify.job.rows import Place
from knnvote.data.errors import as_recorded, spelled
from knnvote.indexer.rungs import Interval


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
class JobScore:
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
        note: why no row is judged, with parameters marked; None where there are true labels.
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
    judged: tuple[JobScore, JobScore] | None
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
