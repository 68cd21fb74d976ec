"""Whether images are of the stored ones' scale: nothing is ever rescaled, and what is off answers all the same."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.layout import noun
from knnvote.data.vectors import FEW, TOO_MANY, ends, far_beyond, is_narrow
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The range of images to answer, which adds up: the same for all however they are split.

    Attributes:
        rows: images.
        beyond: those with a number far beyond all stored ones.
        low: their least number.
        high: their greatest.
    """

    rows: int = 0
    beyond: int = 0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, index: Index, images: NDArray[np.generic], bad: Any = ()) -> "Scale":
        """That of images (nq, pixels) for an index, but for bad rows; nothing where no distance depends on it."""
        good: NDArray[Any] = np.delete(images, list(bad), axis=0) if bad else images
        if not good.size or not index.steps.depends_on_scale(METRICS[index.metric].keeps_values):
            return cls()
        (low, high), (least, greatest) = index.image_range, ends(good)
        return cls(
            rows=len(good),
            beyond=int(np.count_nonzero(far_beyond(good, low, high))),
            low=float(least),
            high=float(greatest),
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
        """What is to be told where many images lie far beyond what is stored, or all within a small part of it.

        Args:
            index: that answers them.

        Returns:
            A line for people; None where there is nothing to tell.
        """
        off = self.beyond
        if self.rows < FEW:
            return None
        if off <= TOO_MANY * self.rows:
            if not is_narrow(self.low, self.high, index.images):
                return None
            off = self.rows
        things = f"{noun(index.shape)}s"
        low, high = index.image_range
        return (
            f"{off:,} of {self.rows:,} {things} are of another scale than the stored ones: the {things} range from "
            f"{self.low:g} to {self.high:g}, the stored ones from {low:g} to {high:g}, and nothing is rescaled; give "
            f"{things} of the stored scale, or an index of {things} of theirs"
        )
