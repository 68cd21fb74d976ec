"""Images of length 1, so that neither contrast nor size of an embedding counts."""

from dataclasses import dataclass

import numpy as np

from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers, Reasons, sum_in_lanes

from .step import Step


@dataclass(frozen=True)
class Unit(Step):
    """Divided by the Euclidean length."""

    name = "unit"
    depends_on_scale = False

    def unusable_rows(self, images: Numbers, shape: Shape) -> Reasons:  # noqa: ARG002 - whatever the shape
        """Those without a length."""
        return dict.fromkeys(np.flatnonzero(~images.any(axis=1)).tolist(), "every value is zero, which has no length")

    def __call__(self, images: Numbers, shape: Shape) -> Numbers:  # noqa: ARG002 - all pixels are alike
        """(n, pixels) float32, rounded once from float64; zero stays zero."""
        values = images.astype(np.float64)
        largest = np.abs(values).max(axis=1, initial=0)
        values = np.ldexp(values, -np.frexp(largest)[1][:, None])  # exactly: squares neither overflow nor vanish
        length = np.sqrt(sum_in_lanes(np.square(values)))[:, None]
        units: Numbers = values / np.where(length == 0, 1, length)
        return units.astype(np.float32)
