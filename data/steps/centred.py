"""The mean taken from images, as embeddings need it that all point one way."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers, Reasons

from .step import FittedStep

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Centred(FittedStep):
    """Less the mean of the images that the index was built of; its state is this mean."""

    name = "centred"
    depends_on_scale = True
    makes_negative = True

    def unusable_rows(self, images: Numbers, shape: Shape) -> Reasons:  # noqa: ARG002 - whatever the shape
        """Those that float32 does not hold, centred or not."""
        if images.dtype != np.float64:
            return {}
        large = np.flatnonzero(np.abs(images).max(axis=1, initial=0) > _LARGEST).tolist()
        return dict.fromkeys(large, f"a value beyond {_LARGEST:g}, which float32 does not hold")

    def size(self, shape: Shape) -> int:
        """As many as pixels."""
        return math.prod(shape)

    def fit(
        self,
        blocks: Callable[[], Iterable[Numbers]],
        shape: Shape,
        classes: NDArray[np.integer] | None,  # noqa: ARG002 - whatever the labels
    ) -> NDArray[np.float64]:
        """The mean, added up in one order: the same bits on any machine, and of whole numbers exact."""
        n, total = 0, np.zeros(self.size(shape))
        for block in blocks():
            n += len(block)
            total += _sum_of_rows(block)
        return total / n

    def __call__(self, images: Numbers, shape: Shape) -> Numbers:  # noqa: ARG002 - each pixel by itself
        """(n, pixels) float32, rounded once."""
        return (images.astype(np.float64) - self.fitted).astype(np.float32)


def _sum_of_rows(block: Numbers) -> NDArray[np.float64]:
    """(d,) the sum of rows (n, d), n at least 1: the later half is added to the earlier until one is left."""
    rows = block.astype(np.float64)
    while len(rows) > 1:
        half = -(-len(rows) // 2)
        rows[: len(rows) - half] += rows[half:]
        rows = rows[:half]
    total: NDArray[np.float64] = rows[0]
    return total
