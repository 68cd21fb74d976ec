"""Near copies: images that lie so near to another that chance does not bring them there, as frames of one film do.

An image has a near copy where a neighbour is at less than a quarter of the distance of the neighbour some thirty places
further on, and nearer than chance alone brings any of all images that were asked. Out to the K-th neighbour of an image
chance spreads the others evenly over a ball; a ball of t times its radius holds a share t^d of them, where d is the
dimension in which the images vary, so that of m images about m K t^d have one so near. t is chosen to make this 0.01.
The dimension is that of Farahmand, Szepesvári and Audibert (ICML 2007), ln 2 / ln(r_K / r_(K/2)) of the distances of
two neighbours, of which the median over the images counts: near copies of an image, fewer than K/2, do not shape it.

Near copies flatter what stored images, each left out, show of accuracy, and what test images do that have one in store.
How much is told by the answers that would be others without them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.ladder import answer_tolerance
from knnvote.classify.search.left_out import most_left, neighbors_left_out
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.search.search import search
from knnvote.classify.vote import Rule, mean_target, vote
from knnvote.data.errors import param
from knnvote.data.layout import noun
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

_BEYOND = 32  # neighbours that are found beside the k that vote
_LEAST_BEYOND = 8  # with fewer nothing is told
_NEAR = 1 / 4
_BY_CHANCE = 0.01  # images that have one by chance alone, of all that are asked
_ASKED = (256, 2000)  # at least and at most
_DISTANCES = 1_000_000_000  # that all of them have, if each stored image is looked at
_MANY, _DECIDED = 0.05, 0.002  # of the images, from which on they are told


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """How many images have near copies in store, exact ones among them, and what these decide.

    Attributes:
        asked: images that were looked at.
        of: so many, from which these were drawn at random where they are fewer.
        images: that have any.
        labels: of their answers that would be others without them.
        unknown: of their answers that have too few neighbours beside copies to tell.
        within: how near these are, as a share of the distance of a neighbour some thirty places further on.
    """

    asked: int
    of: int
    images: int
    labels: int
    unknown: int
    within: float

    @property
    def are_told(self) -> bool:
        """Whether they decide more than a label here and there, or are many."""
        return self.labels > _DECIDED * self.asked or self.images > _MANY * self.asked

    def told_of_stored(self, index: Index) -> str | None:
        """What is to be told of the stored images of an index; None where there is nothing."""
        if not self.are_told:
            return None
        things, others, advice = f"{noun(index.shape)}s", "among the others", "leave them out by"
        if index.groups is not None:
            others, advice = "in another group", "name a column whose groups hold them together with"
        return (
            f"{self.images:,} of {self._looked_at(f'stored {things}')} have a near copy {others}, and without such "
            f"{self._labels} of their answers would be others: what left-out {things} show {self._flattered}; "
            f"{advice} {param('group_column')} of knnvote index"
        )

    @property
    def _flattered(self) -> str:
        return "is flattered" if self.labels else "may be flattered"

    @property
    def _labels(self) -> str:
        """How many answers would be others, in words."""
        most = self.labels + self.unknown
        return f"{self.labels:,}" if most == self.labels else f"{self.labels:,} to {most:,}"

    def _looked_at(self, images: str) -> str:
        """How many of some images were looked at, in words."""
        return f"{self.asked:,} {images}" + ("" if self.asked == self.of else f", drawn of {self.of:,},")

    @property
    def told_of_tests(self) -> str:
        """What is to be told of test images, where they decide anything."""
        return (
            f"{self.images:,} of {self._looked_at('test images')} have a near copy in store, and without such "
            f"{self._labels} of their answers would be others: accuracy on them {self._flattered}; test images of "
            "other groups (patients, films, documents) tell that of new ones"
        )


def near_copies_stored(index: Index, rule: Rule) -> NearCopies | None:
    """Near copies among stored images, in other groups where there are groups; None where too few are stored to tell.

    Args:
        index: of any kind.
        rule: of the vote.
    """
    rows = sample_rows(index.n, _to_ask(index))
    return _find(index, rule, (len(rows), index.n), most_left(index), lambda k: neighbors_left_out(index, rows, k))


def near_copies_of_tests(index: Index, xq: NDArray[np.generic], rule: Rule) -> NearCopies | None:
    """Near copies that test images (nq, d) have in store; None where there are too few to tell."""
    rows = sample_rows(len(xq), _to_ask(index))
    return _find(index, rule, (len(rows), len(xq)), index.n, lambda k: search(index, xq[rows], k))


def _to_ask(index: Index) -> int:
    return int(np.clip(_DISTANCES // index.n, *_ASKED))


def _find(
    index: Index, rule: Rule, of: tuple[int, int], most: int, neighbors: Callable[[int], Neighbors]
) -> NearCopies | None:
    """Near copies of so many images, drawn of so many, of which one has so many neighbours at most."""
    asked, drawn_of = of
    width = min(most, rule.k + _BEYOND)
    if width < rule.k + _LEAST_BEYOND:
        return None
    D, I = neighbors(width)
    lengths = METRICS[index.metric].to_sklearn(D)
    within = _within(lengths, asked)
    is_near = lengths <= within * lengths[:, -1:]
    is_cluster = is_near.sum(axis=1, keepdims=True) > width // 2  # such as a class of its own, but for exact copies
    is_near &= ~is_cluster | METRICS[index.metric].are_equal(D)
    has_copies = is_near.any(axis=1)
    is_other = np.zeros(asked, dtype=np.bool_)
    can_tell = np.flatnonzero(has_copies & ((~is_near).sum(axis=1) >= rule.k))
    places = np.argsort(is_near[can_tell], axis=1, kind="stable")[:, : rule.k]
    with_copies = D[can_tell, : rule.k], I[can_tell, : rule.k]
    without = np.take_along_axis(D[can_tell], places, axis=1), np.take_along_axis(I[can_tell], places, axis=1)
    is_other[can_tell] = _differ(index, rule, with_copies, without)
    images, labels = int(has_copies.sum()), int(is_other.sum())
    unknown = images - len(can_tell)
    return NearCopies(asked=asked, of=drawn_of, images=images, labels=labels, unknown=unknown, within=within)


def _within(lengths: NDArray[np.float64], asked: int) -> float:
    """How near is nearer than chance brings any of so many images, as a share of the farthest distance (nq, width)."""
    width = lengths.shape[1]
    half = width // 2
    has_length = lengths[:, half - 1] > 0
    if not has_length.any():
        return 0.0
    spread = float(np.median(np.log(lengths[has_length, -1] / lengths[has_length, half - 1])))
    by_chance: float = (_BY_CHANCE / (asked * width)) ** (spread / math.log(width / half))
    return min(_NEAR, by_chance)


def _differ(index: Index, rule: Rule, one: Neighbors, other: Neighbors) -> NDArray[np.bool_]:
    """Which answers of two sets of neighbours, D and I (nq, k) each, are not the same."""
    answers = []
    for D, I in (one, other):
        if index.is_regression:
            answers.append(mean_target(index.targets[I], D, rule.weights, rule.factors(index, I)))
        else:
            answers.append(vote(index.class_codes[I], D, rule, rule.factors(index, I))[0].astype(np.float64))
    found: NDArray[np.bool_] = np.abs(answers[0] - answers[1]) > (answer_tolerance(index) or 0)
    return found
