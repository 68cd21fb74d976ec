"""Leave-one-out estimates of every k and weighting, from a single search.

Each stored image is classified by the others (Lachenbruch and Mickey 1968). The votes of k neighbours are those of
k - 1 and one more, so that one search for the most neighbours serves every k and every weighting.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.left_out import LeftOut, leave_out, most_left, neighbors_left_out
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.vote import Factors
from knnvote.classify.weighting import WEIGHTINGS
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.index import Index
from knnvote.indexer.names import ClassWeight, Weights

from .every_k import mean_targets, votes

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


def check_targets(index: Index) -> None:
    """Refuse targets of a regression too far apart to square.

    Raises:
        KnnvoteError: they are.
    """
    if not index.is_regression:
        return
    low, high = float(index.targets.min()), float(index.targets.max())
    if high / 2 - low / 2 > _WIDEST_TARGETS / 2:
        raise KnnvoteError(
            f"labels of {index.path} go from {low:g} to {high:g}, and squared errors would overflow: "
            f"scale them to a range below {_WIDEST_TARGETS:g}"
        )


def measure_of(index: Index) -> str:
    """What is estimated: ``accuracy``, where more is better, or ``mean_squared_error``, where less is."""
    return "mean_squared_error" if index.is_regression else "accuracy"


def loss(score: Score, measure: str) -> float:
    """What is to be small of a measure: the accuracy below 0, or the mean squared error."""
    return -score.value if measure == "accuracy" else score.value


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What left-out images tell.

    Attributes:
        scores: by k, then in the order of `weights_to_try`.
        with_copies: images with an exact copy among their neighbours.
        right: by weighting (m, k), whether each image gets its label by each k, from 1; empty where that is not kept.
    """

    scores: list[Score]
    with_copies: int
    right: dict[Weights, NDArray[np.bool_]]


def measure(
    index: Index,
    max_k: int,
    class_weight: ClassWeight,
    *,
    rows: NDArray[np.int64] | None = None,
    keep_right: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Measured:
    """Leave out stored images, and answer them by every k to max_k and each of `weights_to_try`.

    Ties of votes go to the nearer class, as `vote` has it by default.

    Args:
        index: of any kind.
        max_k: the most neighbours, as `check_left_out` has them.
        class_weight: of the vote, with the labels of the index.
        rows: (m,) which images; by default all.
        keep_right: of classes, keep which answers were right.
        progress: called with the number of images after each block.
    """
    moments = {weights: _Moments() for weights in weights_to_try(index)}
    classes = {weights: _ByClass.of(index, max_k) for weights in moments}
    right: dict[Weights, list[NDArray[np.bool_]]] = {}
    with_copies = 0
    for part in leave_out(index, max_k, rows=rows, progress=progress):
        with_copies += part.count_copies(index)
        factors = index.vote_factors(class_weight, part.I)
        for weights, found in moments.items():
            values = _values(index, part, weights, factors)
            found.add(values)
            classes[weights].add(values, index, part.rows)
            if keep_right and not index.is_regression:
                right.setdefault(weights, []).append(values == 1)
    return Measured(
        scores=_scores(moments, classes, max_k),
        with_copies=with_copies,
        right={weights: np.concatenate(blocks) for weights, blocks in right.items()},
    )


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
