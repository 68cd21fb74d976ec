"""Labels of stored images against the votes of the others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.left_out import LeftOut, leave_out
from knnvote.classify.vote import Factors, Rule, vote
from knnvote.indexer.index import Index

from .label_errors import Evidence, joined, other_classes


@dataclass(frozen=True)
class Votes:
    """Of m stored images: rows (m,), neighbours D and I (m, k), winning class (m,) and its share, and what ranks."""

    rows: NDArray[np.int64]
    D: NDArray[np.float64]
    I: NDArray[np.int64]
    winner: NDArray[np.int32]
    share: NDArray[np.float64]
    against: NDArray[np.float64]
    relative_distance: NDArray[np.float64]

    def take(self, places: NDArray[Any]) -> "Votes":
        """Those at some places, which are indices or a mask."""
        return Votes(*(values[places] for values in vars(self).values()))


def find_contradicted(
    index: Index,
    rule: Rule,
    is_contested: NDArray[np.bool_],
    is_reviewed: NDArray[np.bool_],
    progress: Callable[[int], None],
) -> tuple[Votes, Evidence]:
    """The votes of images whose label is contradicted or contested, and what those of all images tell of labels."""
    other = other_classes(index.class_codes, len(index.classes))
    found, evidence = [], []
    for part in leave_out(index, rule.k, progress=progress):
        rows, factors = part.rows, rule.factors(index, part.I)
        votes = _count_votes(index, rule, part, factors)
        loses = votes.winner != index.class_codes[rows]
        found.append(votes.take(loses | is_contested[rows]))
        contradiction = _contradict(index.class_codes[part.I], part.D, other[rows], factors)
        loses_otherwise = votes.winner != other[rows]
        evidence.append(
            Evidence(votes.winner, votes.share, loses & ~is_reviewed[rows], loses_otherwise, *contradiction)
        )
    return joined(found), joined(evidence)


def _count_votes(index: Index, rule: Rule, part: LeftOut, factors: Factors) -> Votes:
    rows, D, I = part
    codes = index.class_codes[I]
    winner, share = vote(codes, D, rule, factors)
    return Votes(rows, D, I, winner, share, *_contradict(codes, D, index.class_codes[rows], factors))


def _contradict(
    codes: NDArray[np.int32], D: NDArray[np.float64], own: NDArray[np.int32], factors: Factors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share (m,) of votes of neighbours (m, k) against labels (m,), and their relative distance (m,)."""
    is_own = codes == own[:, None]
    farthest = D[:, -1]
    own = np.where(is_own, D, farthest[:, None]).min(axis=1)
    other = np.where(is_own, farthest[:, None], D).min(axis=1)
    total = own + other
    relative = np.divide(own, total, out=np.full_like(total, 0.5), where=total > 0)
    if factors is None:
        return (~is_own).mean(axis=1), relative
    return np.where(is_own, 0, factors).sum(axis=1) / factors.sum(axis=1), relative
