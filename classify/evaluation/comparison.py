"""What `compare` finds, and what is to be known of its figures."""

from dataclasses import asdict, dataclass, field
from typing import Any

from knnvote.classify.notebook.weight_function import told_weights
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import told_class_weight
from knnvote.data.errors import param
from knnvote.indexer.names import ClassWeight, Ties
from knnvote.indexer.rungs import Interval

from .accuracy import Judgement
from .coverage import Coverage
from .mcnemar import Difference
from .near_copies import NearCopies
from .sklearn_search import ALGORITHMS

_UNKNOWN = 5  # labels that are named


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Share of the true k neighbours that were found, over queries.

    Attributes:
        mean: of the shares.
        p5: their 5th percentile.
        min: the least.
        found: k + 1 numbers of queries, of which none, one and so on up to all of the k were found.
    """

    mean: float
    p5: float
    min: float
    found: list[int]


@dataclass(frozen=True, kw_only=True)
class Vote:
    """How the neighbours of an index voted.

    Attributes:
        k: neighbours that vote.
        weights: of a function in words.
        ties: what breaks ties.
        class_weight: what the votes of classes are multiplied by.
    """

    k: int
    weights: str
    ties: Ties
    class_weight: ClassWeight

    @classmethod
    def of(cls, rule: Rule) -> "Vote":
        """That of a rule."""
        weights = told_weights(rule.weights).removesuffix(" weights")
        return cls(k=rule.k, weights=weights, ties=rule.ties, class_weight=rule.class_weight)

    def __str__(self) -> str:
        """What is not as usual, beside k."""
        ties = "" if self.ties == "nearest" else f", ties to the {self.ties}"
        weighed = "" if self.class_weight is None else f", {told_class_weight(self.class_weight)}"
        return f"k = {self.k}{'' if self.weights == 'uniform' else f', {self.weights}'}{ties}{weighed}"


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that gets another label than exact search gives it.

    Attributes:
        row: its place in all inputs, from 0.
        name: the path of an image file, else the row.
        exact: the label that exact search gives it.
        label: the one that it gets.
        truth: the true one; None where it has none.
    """

    row: int
    name: str
    exact: Any
    label: Any
    truth: Any


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """How one index does.

    Attributes:
        path: the index folder, or what another search is called.
        kind: of index, or the algorithm of another search.
        vote: of its neighbours, and of those that exact search finds beside it.
        judged: images that it was asked for: all, or a sample of them for searches that are slow.
        recall: of the true neighbours.
        tolerance: of a regression: labels no farther apart than this agree, in their unit; None for classes.
        agreement: share of images that get the label exact search gives them.
        accuracy: against true labels; for regression the coefficient of determination; None without labels.
        accuracy_interval: of it; None without labels and for regression.
        top5_accuracy: how often the true label is among the five best of the classes that have votes; None without
            labels, for regression and where there are no more than five classes.
        mean_absolute_error: of a regression, in the labels' unit; None without labels and for classes.
        judgement: of predicted classes by true ones; None without labels and for regression.
        coverage: what a few thresholds of the confidence accept, and how much of it is right; empty likewise.
        relative_speed: search and vote, in queries per processor-second over those of FAISS's flat index and a plain
            vote.
        images_per_second: of search and vote, on the threads of the comparison.
        hours_per_million: that a million images take so.
        bytes: of the index folder.
        build_seconds: reading excluded.
        stored: test images that equal a stored one, by the distance.
        flips: images whose label differs from exact search's.
        near_copies: test images that have a near copy in store, and what these decide; None where too few tell.
        unlike_stored: what is to be told where most test images are of another scale than the stored ones.
    """

    path: str
    kind: str
    vote: Vote
    judged: int
    recall: Recall
    tolerance: float | None
    agreement: Interval
    accuracy: float | None
    accuracy_interval: Interval | None
    top5_accuracy: Interval | None
    mean_absolute_error: float | None
    judgement: Judgement | None
    coverage: list[Coverage]
    relative_speed: float
    images_per_second: float
    hours_per_million: float
    bytes: int
    build_seconds: float
    stored: int
    flips: list[Flip]
    near_copies: NearCopies | None = None
    unlike_stored: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found: `to_json` gives the object of ``compare`` as JSON.

    Attributes:
        queries: test images.
        k: neighbours that vote, of the first index.
        weights: of the vote likewise; of a function in words.
        threads: that searched.
        bad_images: rows that are no images, by reason.
        indexes: how each index does.
        differences: in accuracy, of each index from the first one, and from exact search where that is not the same.
        class_names: what integer labels of the first index stand for; None where they have no names.
        unknown_labels: test images with each label that no stored image has.
        unlabelled: test images without a true label.
    """

    queries: int
    k: int
    weights: str
    threads: int
    bad_images: dict[str, int]
    indexes: list[IndexReport]
    differences: list[Difference]
    class_names: list[str] | None
    unknown_labels: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0

    def __repr__(self) -> str:
        """How often each index agrees with exact search."""
        told = "; ".join(f"{report.path} agrees {report.agreement.value:.4f}" for report in self.indexes)
        return f"<Comparison of {len(self.indexes):,} on {self.queries:,} images, k {self.k}: {told}>"

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers, which agree where they are near each other."""
        return self.indexes[0].tolerance is not None

    @property
    def told_of_accuracies(self) -> str:
        """What the figures beside the accuracy are."""
        told = "balanced: the mean of the accuracies of the true labels"
        if all(report.top5_accuracy is None for report in self.indexes):
            return told
        k = "k" if self.told_votes else self.k
        return f"{told}; top-5: the true label is among the five best of the classes that the {k} neighbours have"

    @property
    def told_votes(self) -> str | None:
        """The votes, where not all indexes are judged by the same, with parameters marked; else None."""
        if len({report.vote for report in self.indexes}) == 1:
            return None
        told = "; ".join(f"{report.path}: {report.vote}" for report in self.indexes)
        return f"each by its own vote, or all by the one of {param('k')} and {param('weights')}: {told}"

    @property
    def stored_in(self) -> list[IndexReport]:
        """Indexes that store some of the test images; searches of scikit-learn are over an index's images."""
        return [report for report in self.indexes if report.stored and report.kind not in ALGORITHMS]

    @property
    def notes(self) -> list[str]:
        """What is to be known of the figures, in words; parameters are marked."""
        found = [
            f"{report.path}: {report.unlike_stored}"
            for report in self.indexes
            if report.unlike_stored is not None and report.judged == self.queries
        ]
        found += [
            f"{report.path}: {report.stored:,} of the {report.judged:,} test images equal a stored one, and "
            "find it: accuracy on them says nothing"
            for report in self.stored_in
        ]
        found += [
            f"{report.path}: {report.near_copies.told_of_tests}"
            for report in self.indexes
            if report.near_copies is not None
            and report.near_copies.are_told
            and report.near_copies.images > report.stored
        ]
        if self.unknown_labels:
            shown = ", ".join([*self.unknown_labels][:_UNKNOWN])
            more = ", ..." if len(self.unknown_labels) > _UNKNOWN else ""
            found.append(
                f"{sum(self.unknown_labels.values()):,} test images have labels that no stored image has "
                f"({shown}{more}): they count as wrong, whatever the answer"
            )
        if self.unlabelled == self.queries:
            found.append(
                "no test image has a true label, so accuracy is not known: "
                f"name their column with {param('label_column')}"
            )
        elif self.unlabelled:
            found.append(
                f"{self.unlabelled:,} of the {self.queries:,} test images have no true label: accuracy is of the others"
            )
        return found + [f"left out: {rows:,} rows ({reason})" for reason, rows in self.bad_images.items()]

    def to_json(self) -> dict[str, Any]:
        """As plain objects."""
        return asdict(self)
