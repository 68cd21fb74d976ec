"""Whether queries are of the stored images' scale: nothing is ever rescaled, and what is off answers all the same."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

_BEYOND = 1 / 4  # of the width of the stored range: what a few new images exceed it by is less
_NARROW = 1 / 8  # of the usual width of a stored image
_SAMPLE = 256  # stored images
_TOO_MANY = 1 / 10  # of the queries
_FEW = 20  # queries, which may well be all faint


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The range of queries, which adds up: the same for all however they are split.

    Attributes:
        rows: queries.
        beyond: those with a number far beyond all stored ones.
        low: their least number.
        high: their greatest.
    """

    rows: int = 0
    beyond: int = 0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, index: Index, xq: NDArray[np.generic], bad: Any = ()) -> "Scale":
        """That of queries (nq, d) of an index, but for bad rows; nothing where a distance does not depend on it."""
        good: NDArray[Any] = np.delete(xq, list(bad), axis=0) if bad else xq
        if not good.size or not METRICS[index.metric].keeps_values:
            return cls()
        low, high = index.manifest.range
        room = _BEYOND * (high - low)
        least, greatest = good.min(axis=1), good.max(axis=1)
        beyond = (least < low - room) | (greatest > high + room)
        return cls(
            rows=len(good),
            beyond=int(np.count_nonzero(beyond)),
            low=float(least.min()),
            high=float(greatest.max()),
        )

    def __add__(self, other: "Scale") -> "Scale":
        """That of both."""
        return Scale(
            rows=self.rows + other.rows,
            beyond=self.beyond + other.beyond,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
        )

    def unlike(self, index: Index) -> str | None:
        """What is to be told where many queries lie far beyond what is stored, or all within a small part of it.

        Args:
            index: that answers them.

        Returns:
            A line for people; None where there is nothing to tell.
        """
        off = self.beyond
        if self.rows < _FEW:
            return None
        if off <= _TOO_MANY * self.rows:
            width = self.high - self.low
            if not 0 < width < _NARROW * _usual_width(index):
                return None
            off = self.rows
        low, high = index.manifest.range
        return (
            f"{off:,} of {self.rows:,} images are of another scale than the stored ones: the images range from "
            f"{self.low:g} to {self.high:g}, the stored ones from {low:g} to {high:g}, and nothing is rescaled; give "
            "images of the stored scale, or an index of images of theirs"
        )


def _usual_width(index: Index) -> float:
    """The median of the ranges of stored images, of some of them; one far-out number of one image does not widen it."""
    some: NDArray[Any] = index.vectors[:: -(-index.n // _SAMPLE)]
    with np.errstate(over="ignore"):
        widths, columns = (
            some.max(axis=axis).astype(np.float64) - some.min(axis=axis).astype(np.float64) for axis in (1, 0)
        )
    usual = float(np.median(widths))
    # Numbers of unlike meanings have no scale in common.
    return usual if np.median(columns) >= _NARROW * usual else 0.0
