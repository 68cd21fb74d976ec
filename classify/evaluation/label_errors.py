"""How many labels are wrong, estimated from images whose neighbours agree most.

There the vote hardly errs, so that the share of labels which contradict it is nearly that of wrong labels, and where
labels went wrong at random it is so everywhere: such images serve as the anchor points by which Patrini et al. (CVPR
2017) estimate noise of labels. They are taken of each class that wins votes, as confident learning (Northcutt, Jiang
and Chuang, Journal of Artificial Intelligence Research 70, 2021) has a threshold of each class, for classes differ in
how well they are told apart. Confident learning itself counts all images whose neighbours give another label at least
the votes that it has on average among its own: these miss some wrong labels, and are right ones where classes overlap.
So are some here where they overlap everywhere, or are so small that the surest votes of a class are not sure.
docs/how-it-works.md has both beside made label errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.interval import share_interval

LEAST_K = 10  # neighbours whose agreement tells anything
_MOST_AGREED = 0.3  # of the images that a class wins


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """How many labels of an index are likely wrong, if labels went wrong at random and classes do not overlap.

    Attributes:
        value: wrong labels.
        low: the lower end of its 95% interval, which tells of chance alone.
        high: the upper end.
        first: suspects at the head of the list: as many as labels are likely wrong, or all of a shorter list.
        hold: wrong labels that these likely hold; None where equal images with unlike labels take all these places.
    """

    value: float
    low: float
    high: float
    first: int
    hold: float | None

    def told(self, images: int) -> str:
        """In a sentence, of so many images."""
        of_head = ""
        if self.first and self.hold is not None:
            of_head = f"; the first {self.first:,} suspects would hold {self.hold:,.0f} of them"
        return (
            f"the surest votes are contradicted as if about {self.value:,.0f} ({self.low:,.0f} to {self.high:,.0f}) of "
            f"the {images:,} labels were wrong at random; where classes overlap, fewer are{of_head}"
        )


@dataclass(frozen=True)
class Evidence:
    """What votes of left-out images tell of labels, for n images.

    Attributes:
        winner: (n,) int32 the class that wins the vote.
        share: (n,) float64 of the vote that it has.
        contradicted: (n,) whether the label is another, and nobody has confirmed it.
        loses: (n,) whether another label, drawn at random for each image, would lose the vote.
        against: (n,) float64 share of the vote against that label.
        relative_distance: (n,) float64 of that label, as `knnvote.find_suspects` has it.
    """

    winner: NDArray[np.int32]
    share: NDArray[np.float64]
    contradicted: NDArray[np.bool_]
    loses: NDArray[np.bool_]
    against: NDArray[np.float64]
    relative_distance: NDArray[np.float64]


Parts = TypeVar("Parts")


def joined(parts: Sequence[Parts]) -> Parts:
    """Records of arrays, of one class, as one record of the arrays behind each other."""
    return type(parts[0])(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def count_wrong(evidence: Evidence) -> tuple[float, float, float]:
    """How many of n labels are likely wrong, with a 95% interval.

    In each class that wins votes the share among its most agreed images counts for all of them. The interval is that of
    a share of as many images as would be as sure, had all classes equal parts (Kish 1965).
    """
    winner, share = evidence.winner, evidence.share
    n, counts = len(winner), np.bincount(winner)
    won = np.flatnonzero(counts)
    by_agreement = np.lexsort((-share, winner))
    starts = np.cumsum(counts) - counts
    limits = np.zeros(len(counts))
    limits[won] = share[by_agreement[starts[won] + (_MOST_AGREED * counts[won]).astype(np.int64)]]
    agreed = share >= limits[winner]
    asked = np.bincount(winner[agreed], minlength=len(counts))[won]
    wrong = np.bincount(winner[agreed & evidence.contradicted], minlength=len(counts))[won]
    effective = n**2 / float((counts[won] ** 2 / asked).sum())
    among = share_interval(float((counts[won] * wrong / asked).sum()) / n * effective, effective)
    return among.value * n, among.low * n, among.high * n


def other_classes(codes: NDArray[np.int32], classes: int) -> NDArray[np.int32]:
    """For each label (n,), as its place among the classes, another at random; the same where there is but one."""
    steps = np.random.default_rng(0).integers(1, max(2, classes), len(codes))
    return ((codes + steps) % classes).astype(np.int32)


def estimate(
    evidence: Evidence,
    against: NDArray[np.float64],
    relative_distance: NDArray[np.float64],
    is_contested: NDArray[np.bool_],
) -> LabelErrors:
    """How many labels are likely wrong, and how many of them the head of the list of suspects holds.

    Args:
        evidence: of all images.
        against: (m,) share of the vote against the label of each suspect, in the order of the list.
        relative_distance: (m,) likewise.
        is_contested: (m,) whether it is there for an equal image.
    """
    value, low, high = count_wrong(evidence)
    first = min(round(value), len(against))
    by_votes = np.flatnonzero(~is_contested[:first])
    hold = None if first else 0.0
    if len(by_votes):
        last = by_votes[-1]
        hold = min(float(first), value * _share_before(evidence, against[last], relative_distance[last]))
    return LabelErrors(value=value, low=low, high=high, first=first, hold=hold)


def _share_before(evidence: Evidence, against: float, relative_distance: float) -> float:
    """The share of labels gone wrong at random that a list holds down to a suspect of these figures."""
    is_nearer = (evidence.against == against) & (evidence.relative_distance >= relative_distance)
    return float((((evidence.against > against) | is_nearer) & evidence.loses).mean())
