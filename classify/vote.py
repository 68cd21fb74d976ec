"""The vote of k neighbours: a class, how sure it is, or none; for regression their mean."""

import math
import reprlib
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import OptionError, check, check_one_of, is_number, is_whole, param, plain
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import TIES, ClassWeight, MetricName, NumbersByClass, Ties, Weights
from knnvote.indexer.rungs import Acceptance

from .notebook.weight_function import AnyWeights, neighbor_weights, plain_weights
from .weighting import (
    check_weights,
    class_weight_of,
    numbers_by_class,
    numbers_of_index,
    plain_class_weight,
    weights_of_metric,
)

MaxDistance = float | Literal["auto", "none"] | None
Factors = NDArray[np.float64] | None  # what each neighbour's vote (nq, k) is multiplied by; None: all count the same


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How neighbours become an answer.

    Attributes:
        k: neighbours that vote.
        weights: ``uniform``, one vote each; ``distance``, 1 / distance, and neighbours at distance zero then outvote
            all others; ``softmax[T]``, exp(-distance / T), which for cosine is exp(similarity / T) and has T 0.07 as
            ``softmax`` alone. Or as scikit-learn has it None, which is uniform, or a function of the distances (nq, k)
            of each query's neighbours, ascending, that gives weights of the same shape: by it no index is tuned, and
            no job done.
        ties: among classes with equal votes the one with the smaller summed distance, then the first in class order
            (``nearest``); or the first in class order, as scikit-learn has it (``first-class``).
        class_weight: what the votes of each class are multiplied by, for unequal classes: ``balanced`` for
            n / (classes * rows of the class), as scikit-learn has it, or weights by label, 1 for those not named; None
            or ``none`` for nothing.
        min_confidence: abstain where the winner's share of the vote is smaller.
        min_confidence_by_class: likewise of winners of some classes, by label; min_confidence is of the others then.
        max_distance: abstain where the nearest neighbour is farther; ``auto`` has a classifier find the distance that a
            hundredth of images of the stored kind exceed (`distance_limit`); None or ``none`` for any distance.

    Example:
        >>> from knnvote import Classifier, Rule
        >>> classify = Classifier.open("digits.knn", Rule(k=3, weights="distance", max_distance=10))
        >>> far = classify(16 - classify.index.vectors[:1])
        >>> far.prediction.to_pylist(), far.reason.tolist()
        ([None], ['nearest neighbour farther than 10'])
    """

    k: int = 5
    weights: AnyWeights = "uniform"
    ties: Ties = "nearest"
    class_weight: ClassWeight = None
    min_confidence: float | None = None
    min_confidence_by_class: NumbersByClass | None = None
    max_distance: MaxDistance = None

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: naming the value.
        """
        check("k", self.k, is_whole(self.k) and self.k >= 1, "give a whole number of at least 1")
        object.__setattr__(self, "weights", plain_weights(self.weights))
        check_one_of("ties", self.ties, TIES)
        if self.min_confidence is not None:
            is_share = is_number(self.min_confidence) and 0 <= self.min_confidence <= 1
            check("min_confidence", self.min_confidence, is_share, "give a share of the vote from 0 to 1")
        if self.min_confidence_by_class is not None:
            check("min_confidence", self.min_confidence, self.min_confidence is not None, "give that of other classes")
            own = ("min_confidence_by_class", self.min_confidence_by_class)
            numbers = numbers_by_class(*own, (0, 1), "give shares of the vote from 0 to 1 by label, each once")
            object.__setattr__(self, "min_confidence_by_class", numbers)
        limit: Any = self.max_distance
        if isinstance(limit, str) and limit == "none":
            limit = None
            object.__setattr__(self, "max_distance", None)
        is_limit = limit is None or is_auto(limit) or (is_number(limit) and 0 <= limit < math.inf)
        check("max_distance", limit, is_limit, "give a distance of at least 0 or 'auto', or leave it out")
        object.__setattr__(self, "class_weight", plain_class_weight(self.class_weight))
        for name in ("k", "min_confidence", "max_distance"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def __repr__(self) -> str:
        """What makes it again: k, weights, and what is not as usual."""
        usual = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        said = [(name, value) for name, value, default in usual if name in {"k", "weights"} or value != default]
        return f"Rule({', '.join(f'{name}={_shown(value)}' for name, value in said)})"

    @classmethod
    def of(
        cls,
        index: Index,
        *,
        k: int | None = None,
        weights: AnyWeights = None,
        ties: Ties | None = None,
        class_weight: Any = None,
        min_confidence: float | None = None,
        max_distance: MaxDistance = None,
    ) -> "Rule":
        """The rule of the vote that an index was made for, but for what is given.

        The confidence from which it accepts answers is kept, where the vote is its own, and the distance up to which
        it does, unless ``none`` is given.

        Raises:
            OptionError: weights lack a temperature that the metric does not tell.

        Example:
            >>> from knnvote import Rule, open_index
            >>> Rule.of(open_index("digits.knn"), weights="distance").k
            5
        """
        own = index.vote
        kept = None if own.max_distance is None else own.max_distance.limit
        rule = cls(
            k=own.k if k is None else k,
            weights=own.weights if weights is None else weights,
            ties=ties or own.ties,
            class_weight=own.class_weight if class_weight is None else class_weight,
            min_confidence=min_confidence,
            max_distance=kept if max_distance is None else max_distance,
        ).of_index(index)
        if min_confidence is not None or own.acceptance is None or not rule.is_vote_of(index):
            return rule
        return rule.accepting(own.acceptance)

    def accepting(self, acceptance: Acceptance | None) -> "Rule":
        """The same that abstains as was chosen; of None, never, be an answer sure or not, and near or far."""
        if acceptance is None:
            return replace(self, min_confidence=None, min_confidence_by_class=None, max_distance=None)
        if acceptance.min_confidence is None:
            return replace(self, min_confidence=None, min_confidence_by_class=None)
        by_class = acceptance.min_confidence_by_class
        return replace(self, min_confidence=acceptance.min_confidence, min_confidence_by_class=by_class)

    def refuse_unreached(self, index: Index) -> None:
        """Refuse to accept all answers of an index that was made to accept some, of which too few are right.

        Raises:
            OptionError: naming what can be given.
        """
        acceptance = index.vote.acceptance
        is_unsaid = self.min_confidence is None and self.is_vote_of(index)
        if acceptance is not None and acceptance.min_confidence is None and is_unsaid:
            raise OptionError(
                f"{index.path} was made for accuracy {acceptance.target_accuracy:g} of accepted answers, which no "
                f"confidence is shown to reach: give {param('min_confidence')} 0 to accept all, or another; "
                "knnvote choose-threshold tells what each accepts"
            )

    def is_vote_of(self, index: Index) -> bool:
        """Whether k, weights, ties and class weights are those that an index was made for."""
        own = index.vote
        return all(getattr(self, name) == getattr(own, name) for name in ("k", "weights", "ties", "class_weight"))

    def of_index(self, index: Index) -> "Rule":
        """The same with all that its weights need of an index, and the labels of its class weights as that has them.

        Raises:
            OptionError: they lack a temperature that the metric does not tell, or name a class that the index lacks.
        """
        class_weight = class_weight_of(index, self.class_weight)
        rule, own = self.of_metric(index.metric), self.min_confidence_by_class
        if own is not None:
            own = numbers_of_index(index, "min_confidence_by_class", own)
        found = replace(rule, class_weight=class_weight, min_confidence_by_class=own)
        return self if found == self else found

    def of_metric(self, metric: MetricName) -> "Rule":
        """The same with all that its weights need, where distances are of that metric.

        Raises:
            OptionError: they lack a temperature that the metric does not tell, or no distance is beyond max_distance.
        """
        farthest = METRICS[metric].farthest
        limit = None if is_auto(self.max_distance) else self.limit
        expected = f"no {metric} distance is greater than {farthest:g}: give less, or leave it out"
        check("max_distance", limit, limit is None or limit <= farthest, expected)
        if not isinstance(self.weights, str):
            return self
        weights = weights_of_metric(self.weights, metric)
        return self if weights == self.weights else replace(self, weights=weights)

    def factors(self, index: Index, I: NDArray[np.int64]) -> Factors:
        """What the votes of neighbours I (nq, k) are multiplied by, of a rule as `of_index` gives it."""
        return index.vote_factors(self.class_weight, I)

    @property
    def stored_weights(self) -> Weights:
        """The text of its weights, as indexes and jobs keep it.

        Raises:
            OptionError: they are a function.
        """
        check_weights(self.weights)
        return str(self.weights)

    @property
    def limit(self) -> float | None:
        """`max_distance` as a number, which a classifier has found where it is to be found."""
        if isinstance(self.max_distance, str):
            raise TypeError(f"max_distance is {self.max_distance!r}, which no classifier has made a number yet")
        return self.max_distance


def _shown(value: Any) -> str:
    """A value of a rule in a line: of a function its name."""
    return str(getattr(value, "__name__", None) or reprlib.repr(value))


def is_auto(max_distance: object) -> bool:
    """Whether a distance is to be found."""
    return isinstance(max_distance, str) and max_distance == "auto"


def vote(
    codes: NDArray[np.int32], D: NDArray[np.float64], rule: Rule, factors: Factors = None
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The winning class of each query.

    Args:
        codes: (nq, k) class of each neighbour, as its place in class order.
        D: (nq, k) distances, ascending.
        rule: weights and ties.
        factors: (nq, k) what each neighbour's vote is multiplied by, as `Rule.factors` has it.

    Returns:
        winner (nq,) int32, and confidence (nq,) float64: the winner's share of the vote.
    """
    votes, distance, total = _sums(codes, D, rule, factors)
    most = votes.max(axis=1)
    return _first(codes, votes == most[:, None], distance, rule), most / total


def runner_up(
    codes: NDArray[np.int32],
    D: NDArray[np.float64],
    rule: Rule,
    winner: NDArray[np.int32],
    factors: Factors = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The class that would win each query's vote if the winner's voters had none.

    Args:
        codes: (nq, k) class of each neighbour, as `vote` takes it.
        D: (nq, k) distances, ascending.
        rule: weights and ties.
        winner: (nq,) as `vote` found it.
        factors: as `vote` takes it.

    Returns:
        second (nq,) int32, -1 where all neighbours are of one class, and share (nq,) float64 of the vote, 0 there.
    """
    second, share = np.full(len(codes), -1, np.int32), np.zeros(len(codes))
    others = codes != winner[:, None]
    rows = np.flatnonzero(others.any(axis=1))
    if not len(rows):
        return second, share
    codes, others = codes[rows], others[rows]
    of_rows = None if factors is None else factors[rows]
    votes, distance, total = _sums(codes, D[rows], rule, of_rows)
    most = np.where(others, votes, -1).max(axis=1)
    second[rows] = _first(codes, others & (votes == most[:, None]), distance, rule)
    share[rows] = most / total
    return second, share


def ranked(
    codes: NDArray[np.int32], D: NDArray[np.float64], rule: Rule, n: int, factors: Factors = None
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The n first classes of each query, by their votes and then as ties go: `vote`'s first, then `runner_up`'s.

    Args:
        codes: (nq, k) class of each neighbour, as `vote` takes it.
        D: (nq, k) distances, ascending.
        rule: weights and ties.
        n: how many, at least 1.
        factors: as `vote` takes it.

    Returns:
        classes (nq, m) int32 with m at most n and at most k, -1 where the neighbours are of fewer classes, and share
        (nq, m) float64 of the vote, 0 there.
    """
    votes, distance, total = _sums(codes, D, rule, factors)
    is_again = np.zeros(codes.shape, dtype=np.bool_)
    for j in range(1, codes.shape[1]):
        is_again[:, j] = (codes[:, :j] == codes[:, j, None]).any(axis=1)
    ties = (codes, distance) if rule.ties == "nearest" else (codes,)
    places = np.lexsort((*ties, -votes, is_again), axis=1)[:, :n]
    classes = np.where(is_again, -1, codes).astype(np.int32)
    shares = np.where(is_again, 0, votes / total[:, None])
    return np.take_along_axis(classes, places, axis=1), np.take_along_axis(shares, places, axis=1)


def _sums(
    codes: NDArray[np.int32], D: NDArray[np.float64], rule: Rule, factors: Factors
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """At each neighbour's place the votes (nq, k) and distances (nq, k) of all of its class; and all votes (nq,)."""
    w = votes_of(D, rule.weights, factors)
    votes, distance = np.zeros_like(D), np.zeros_like(D)
    for j in range(codes.shape[1]):
        same = codes == codes[:, j, None]
        votes += same * w[:, j, None]
        distance += same * D[:, j, None]
    return votes, distance, _total(w)


def _first(
    codes: NDArray[np.int32], tied: NDArray[np.bool_], distance: NDArray[np.float64], rule: Rule
) -> NDArray[np.int32]:
    """The first (nq,) by the rule of the classes that are tied (nq, k), one at least for each query."""
    if rule.ties == "nearest":
        distance = np.where(tied, distance, np.inf)
        tied = tied & (distance == distance.min(axis=1)[:, None])
    first: NDArray[np.int32] = np.where(tied, codes, np.iinfo(np.int32).max).min(axis=1).astype(np.int32)
    return first


def votes_of(D: NDArray[np.float64], weights: AnyWeights, factors: Factors) -> NDArray[np.float64]:
    """What each neighbour's vote counts (nq, k): by its distance, and what that is multiplied by."""
    w = neighbor_weights(weights, D)
    return w if factors is None else w * factors


def class_shares(
    codes: NDArray[np.int32],
    D: NDArray[np.float64],
    n_classes: int,
    weights: AnyWeights,
    factors: Factors = None,
) -> NDArray[np.float64]:
    """Each class's share of the vote, (nq, n_classes)."""
    w = votes_of(D, weights, factors)
    shares = np.zeros((len(codes), n_classes))
    rows = np.arange(len(codes))
    for j in range(codes.shape[1]):
        shares[rows, codes[:, j]] += w[:, j]
    return shares / _total(w)[:, None]


def mean_target(
    targets: NDArray[np.float64], D: NDArray[np.float64], weights: AnyWeights, factors: Factors = None
) -> NDArray[np.float64]:
    """The weighted mean (nq,) of the neighbours' targets (nq, k); the rest as `vote` takes it."""
    w = votes_of(D, weights, factors)
    total = np.zeros(len(D))
    for j in range(targets.shape[1]):
        total += w[:, j] * targets[:, j]
    return total / _total(w)


def _total(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of weights (nq,), added in the order of the neighbours as everything here is."""
    total = np.zeros(len(w))
    for j in range(w.shape[1]):
        total += w[:, j]
    return total
