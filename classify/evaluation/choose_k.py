"""How many neighbours to ask: leave-one-out accuracy for every k and weighting, from a single search.

Each stored image is classified by the others (Lachenbruch and Mickey 1968). The votes of k neighbours are those of
k - 1 and one more, so that one search for the most neighbours serves every k and every weighting.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.left_out import (
    LeftOut,
    check_left_out,
    count_groups,
    leave_out,
    most_left,
    neighbors_left_out,
    told_of_classes,
)
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.vote import Factors, Rule
from knnvote.classify.weighting import WEIGHTINGS
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import noun
from knnvote.data.text import counted
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.names import ClassWeight, Weights
from knnvote.indexer.rungs import class_weight_to_json
from knnvote.indexer.threads import limit_threads

from .every_k import mean_targets, votes
from .near_copies import NearCopies, near_copies_stored

MAX_K = 30
_SPREAD_OF, _SPREAD_NEIGHBORS = 256, 10  # images, and neighbours of each, that show how far neighbours lie apart
_WIDEST_TARGETS = 1e75  # fourth powers enter the standard error, and stay finite


@dataclass(frozen=True, kw_only=True)
class Score:
    """The leave-one-out estimate for one k and weighting.

    Attributes:
        k: neighbours that vote.
        weights: of their votes.
        value: accuracy; for regression the mean squared error.
        standard_error: of the value over the images; for an accuracy a over n images sqrt(a (1 - a) / n).
        balanced_accuracy: the mean of the accuracies of the classes, each of which counts the same; None for
            regression.
    """

    k: int
    weights: Weights
    value: float
    standard_error: float
    balanced_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `choose_k` found.

    Attributes:
        images: that were left out, one at a time: all that the index stores.
        search: kind of the index, exact or approximate, that found the neighbours.
        measure: ``accuracy``, where more is better, or ``mean_squared_error``, where less is.
        with_copies: images with an exact copy among the others, which make the accuracy flattering.
        scores: by k, then in the order of `weights_to_try`.
        class_weight: what the votes of classes were multiplied by, as `Rule` has it.
        groups: that were left out, each with its images; None where the index has none.
        near_copies: what near copies decide of the vote that the index was made for; None where too few images tell.
        notes: what is to be known of the figures, in words; parameters are marked.
        noun: what they are, image or vector.
    """

    images: int
    search: str
    measure: str
    with_copies: int
    scores: list[Score]
    class_weight: ClassWeight = None
    groups: int | None = None
    near_copies: NearCopies | None = None
    notes: tuple[str, ...] = ()
    noun: str = "image"

    def __repr__(self) -> str:
        """The best of them."""
        best, measure = self.best, self.measure.replace("_", " ")
        tried = f"{len(self.scores):,} tried on {counted(self.images, self.noun)}"
        return f"<Choice k {best.k}, {best.weights}: {measure} {best.value:.4g}; {tried}>"

    @property
    def weights(self) -> list[Weights]:
        """The weightings that were tried."""
        return list(dict.fromkeys(score.weights for score in self.scores))

    @property
    def best(self) -> Score:
        """The best value; among equal ones the smaller k, then uniform weights."""
        return self.by_quality()[0]

    @property
    def best_balanced(self) -> Score | None:
        """The best balanced accuracy, of equal ones likewise; None for regression."""
        return max(self.scores, key=lambda score: score.balanced_accuracy or 0) if self.measure == "accuracy" else None

    def by_quality(self) -> list[Score]:
        """All from the best down; equal ones by k, then in the order of the weightings, as scores come."""
        return sorted(self.scores, key=self._loss)

    @property
    def smallest_within_one_standard_error(self) -> Score:
        """The smallest k whose value is within one standard error of the best; of its weightings the better.

        The cheapest vote that comes so near the best by this measure, and no simpler model: the fewer neighbours, the
        more does an answer depend on each.
        """
        return min(self._within_one_standard_error(), key=lambda score: (score.k, self._loss(score)))

    @property
    def largest_within_one_standard_error(self) -> Score:
        """The largest such k; of its weightings the better.

        The smoothest vote, and so the simplest model, as the one-standard-error rule of Breiman, Friedman, Olshen and
        Stone chooses it (Classification and Regression Trees, 1984, section 3.4.3). It may be the most that were tried.
        """
        return min(self._within_one_standard_error(), key=lambda score: (-score.k, self._loss(score)))

    def _within_one_standard_error(self) -> list[Score]:
        limit = self._loss(self.best) + self.best.standard_error
        return [score for score in self.scores if self._loss(score) <= limit]

    def to_json(self) -> dict[str, Any]:
        """The object of ``choose-k`` as JSON."""
        return {
            "images": self.images,
            "search": self.search,
            "with_copies": self.with_copies,
            "groups": self.groups,
            "near_copies": None if self.near_copies is None else asdict(self.near_copies),
            **class_weight_to_json(self.class_weight),
            "results": [self._score_to_json(score) for score in self.scores],
            "best": self._score_to_json(self.best),
            **({} if self.best_balanced is None else {"best_balanced": self._score_to_json(self.best_balanced)}),
            "smallest_within_one_standard_error": self._score_to_json(self.smallest_within_one_standard_error),
            "largest_within_one_standard_error": self._score_to_json(self.largest_within_one_standard_error),
        }

    def _loss(self, score: Score) -> float:
        return -score.value if self.measure == "accuracy" else score.value

    def _score_to_json(self, score: Score) -> dict[str, Any]:
        return {
            "k": score.k,
            "weights": score.weights,
            self.measure: score.value,
            "standard_error": score.standard_error,
            **({} if score.balanced_accuracy is None else {"balanced_accuracy": score.balanced_accuracy}),
        }


def choose_k(
    index: Index,
    *,
    max_k: int | None = None,
    class_weight: Any = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Choice:
    """Leave-one-out accuracy, for regression the mean squared error, of every k from 1 to max_k and each weighting.

    Of weights with a temperature a range is tried: about 0.07 for cosine, else about how much farther than the nearest
    its ten neighbours usually lie. Ties of votes go to the nearer class, as `vote` has it by default.

    Args:
        index: an opened index of any kind.
        max_k: the most neighbours to try; by default `MAX_K`, or n - 1 where that is less.
        class_weight: of the vote, as `Rule` has it; by default that of the index.
        threads: of the search.
        progress: called with the number of rows after each block.

    Raises:
        KnnvoteError: the index holds one image or one group, or targets too far apart to square.
        OptionError: max_k is more than there are neighbours, or less than 1, or class_weight is none of the index.

    Example:
        >>> from knnvote import choose_k, open_index
        >>> choice = choose_k(open_index("digits.knn"), max_k=10)
        >>> choice.best.k, choice.best.weights, round(choice.best.value, 4)
        (4, 'uniform', 0.9889)
    """
    check_index(index)
    max_k = check_left_out(index, "max_k", max_k, MAX_K)
    _check_targets(index)
    rule = Rule.of(index, class_weight=class_weight)
    with limit_threads(threads):
        with_copies, scores = _measure(index, max_k, rule.class_weight, progress)
        near_copies = near_copies_stored(index, rule)
    return Choice(
        images=index.n,
        search=index.kind,
        measure="mean_squared_error" if index.is_regression else "accuracy",
        with_copies=with_copies,
        scores=scores,
        class_weight=rule.class_weight,
        groups=count_groups(index),
        near_copies=near_copies,
        notes=tuple(_notes(index, near_copies)),
        noun=noun(index.shape),
    )


def _notes(index: Index, near_copies: NearCopies | None) -> Iterator[str]:
    if of_classes := told_of_classes(index):
        yield of_classes
    if near_copies is not None and (of_copies := near_copies.told_of_stored(index)):
        yield of_copies


def _measure(
    index: Index, max_k: int, class_weight: ClassWeight, progress: Callable[[int], None]
) -> tuple[int, list[Score]]:
    """How many images have a copy among the others, and the scores."""
    moments = {weights: _Moments() for weights in weights_to_try(index)}
    classes = {weights: _ByClass.of(index, max_k) for weights in moments}
    with_copies = 0
    for part in leave_out(index, max_k, progress=progress):
        with_copies += part.count_copies(index)
        factors = index.vote_factors(class_weight, part.I)
        for weights, found in moments.items():
            values = _values(index, part, weights, factors)
            found.add(values)
            classes[weights].add(values, index, part.rows)
    return with_copies, _scores(moments, classes, max_k)


def weights_to_try(index: Index) -> tuple[Weights, ...]:
    """Weights that do not depend on farther neighbours: those of k are then those of k - 1 and one more.

    Args:
        index: of two images at least, or two groups.
    """
    k = min(_SPREAD_NEIGHBORS, most_left(index))
    D, _ = neighbors_left_out(index, sample_rows(index.n, _SPREAD_OF), k)
    farther = (D - D[:, :1]).mean(axis=1)
    spread = float(np.median(farther[farther > 0])) if (farther > 0).any() else 0.0
    stepwise = (weighting for weighting in WEIGHTINGS.values() if weighting.is_stepwise)
    return tuple(text for weighting in stepwise for text in weighting.to_try(index.metric, spread))


def _scores(moments: "Mapping[Weights, _Moments]", classes: "Mapping[Weights, _ByClass]", max_k: int) -> list[Score]:
    """By k, then by weights."""
    found = {weights: (of.mean(), of.standard_error(), classes[weights].mean()) for weights, of in moments.items()}
    return [
        Score(
            k=j + 1,
            weights=weights,
            value=float(value[j]),
            standard_error=float(error[j]),
            balanced_accuracy=None if balanced is None else float(balanced[j]),
        )
        for j in range(max_k)
        for weights, (value, error, balanced) in found.items()
    ]


def _check_targets(index: Index) -> None:
    if not index.is_regression:
        return
    low, high = float(index.targets.min()), float(index.targets.max())
    if high / 2 - low / 2 > _WIDEST_TARGETS / 2:
        raise KnnvoteError(
            f"labels of {index.path} go from {low:g} to {high:g}, and squared errors would overflow: "
            f"scale them to a range below {_WIDEST_TARGETS:g}"
        )


def _values(index: Index, part: LeftOut, weights: Weights, factors: Factors) -> NDArray[np.float64]:
    """(m, k) for each row and k: 1 where its label is found and 0 else; for regression the squared error."""
    if index.is_regression:
        means = mean_targets(index.targets[part.I], part.D, weights, factors)
        squared: NDArray[np.float64] = np.square(means - index.targets[part.rows, None])
        return squared
    is_right = votes(index.class_codes[part.I], part.D, weights, factors) == index.class_codes[part.rows, None]
    values: NDArray[np.float64] = is_right.astype(np.float64)
    return values


@dataclass
class _Moments:
    """Mean and variance of the columns of matrices that come one after the other.

    Squared deviations of blocks are combined as by Chan, Golub and LeVeque (The American Statistician 37, 1983):
    sums of squares would cancel.
    """

    rows: int = 0
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    deviations: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in values (nq, k)."""
        total = values.sum(axis=0)
        mean = total / len(values)
        between = np.square(mean - self.mean()) * (self.rows * len(values) / (self.rows + len(values)))
        self.deviations = self.deviations + np.square(values - mean).sum(axis=0) + between
        self.total = self.total + total
        self.rows += len(values)

    def mean(self) -> NDArray[np.float64]:
        """(k,) the mean of each column; 0 where there is none yet."""
        return self.total / max(1, self.rows)

    def standard_error(self) -> NDArray[np.float64]:
        """(k,) of each mean; of zeros and ones with mean a it is sqrt(a (1 - a) / n)."""
        result: NDArray[np.float64] = np.sqrt(self.deviations) / self.rows
        return result


@dataclass(frozen=True)
class _ByClass:
    """How many images each class has (classes,), and how many of them are right (classes, k); none of a regression."""

    images: NDArray[np.int64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, index: Index, k: int) -> "_ByClass":
        """Of no image yet."""
        return cls(np.zeros(len(index.classes), np.int64), np.zeros((len(index.classes), k)))

    def add(self, values: NDArray[np.float64], index: Index, rows: NDArray[np.int64]) -> None:
        """Take in values (m, k) of stored rows (m,)."""
        if index.is_regression:
            return
        codes, classes = index.class_codes[rows], len(self.right)
        self.images[:] += np.bincount(codes, minlength=classes)
        for j in range(values.shape[1]):
            self.right[:, j] += np.bincount(codes, weights=values[:, j], minlength=classes)

    def mean(self) -> NDArray[np.float64] | None:
        """(k,) the mean of the shares over the classes; None of a regression."""
        if not len(self.images):
            return None
        there = self.images > 0
        shares: NDArray[np.float64] = self.right[there] / self.images[there, None]
        means: NDArray[np.float64] = shares.mean(axis=0)
        return means
