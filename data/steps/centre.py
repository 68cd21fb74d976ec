"""What a picture shows, brought to one size and to the middle.

As MNIST was made: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (1998): fitted into 20 x 20 of 28 x 28 pixels, with the centre of mass in the
middle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.data.vectors import Numbers

from .picture import PART, PictureFilter, mass, mixed

_BOX, _PICTURE = 20, 28  # sides


@dataclass(frozen=True)
class Centre(PictureFilter):
    """The box of all that is not 0 scaled to 20/28 of the picture, and moved by whole pixels, none of it cut off."""

    name = "centre"

    def _made(self, pictures: Numbers) -> Numbers:
        masses = mass(pictures)
        by_row, by_column = masses @ np.ones(masses.shape[2]), np.ones(masses.shape[1]) @ masses
        down, across = _Extent.of(by_row), _Extent.of(by_column)
        pixels = np.maximum(down.pixels, across.pixels)
        upright = _scaled(pictures, down.sources(pixels))
        return _scaled(upright.swapaxes(1, 2), across.sources(pixels)).swapaxes(1, 2)


@dataclass(frozen=True)
class _Extent:
    """Where pictures lie along one side.

    Attributes:
        size: of the side.
        first: (b,) the first place that is not 0; 0 where all are.
        length: (b,) places from there to the last that is not 0.
        centre: (b,) of mass, from the beginning of the first place.
    """

    size: int
    first: NDArray[np.float64]
    length: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, totals: NDArray[np.float64]) -> "_Extent":
        """By the mass (b, size) at each place."""
        size, is_seen = totals.shape[1], totals > 0
        first = is_seen.argmax(axis=1).astype(np.float64)
        total, moment = totals.sum(axis=1), (totals * (np.arange(size) + 0.5)).sum(axis=1)  # exact, in whatever order
        return cls(
            size=size,
            first=first,
            length=size - is_seen[:, ::-1].argmax(axis=1) - first,
            centre=moment / np.where(total > 0, total, 1) - first,
        )

    @property
    def pixels(self) -> NDArray[np.float64]:
        """(b,) that go into one where the length is fitted."""
        return self.length * _PICTURE / (_BOX * self.size)

    def sources(self, pixels: NDArray[np.float64]) -> NDArray[np.intp]:
        """(b, size) places, in `PART`, of which each place is made; beyond the last where it is beyond the box.

        Args:
            pixels: (b,) that go into one.
        """
        length = self.length / pixels
        start = np.floor(
            self.size // 2 + 1 - self.centre / pixels
        )  # the centre of mass is in that pixel, as MNIST has it
        start = np.clip(start, 0, np.floor(self.size - length))
        within = (np.arange(self.size) + 0.5 - start[:, None]) * pixels[:, None]
        is_in_box = (within > 0) & (within < self.length[:, None])
        within = np.clip(within - 0.5, 0, self.length[:, None] - 1)
        places = np.floor((self.first[:, None] + within) * PART + 0.5)
        return np.where(is_in_box, places, self.size * PART).astype(np.intp)


def _scaled(pictures: Numbers, sources: NDArray[np.intp]) -> Numbers:
    """Pictures (b, size, others, channels) of which each line (others, channels) is made of two next to each other."""
    b, size = sources.shape
    lines = np.zeros((b, size + 2, *pictures.shape[2:]), pictures.dtype)  # beyond the last is nothing
    lines[:, :size] = pictures
    lines = lines.reshape(b * (size + 2), -1)
    places = (sources // PART + np.arange(b)[:, None] * (size + 2)).ravel()
    one, other = (np.take(lines, at, axis=0) for at in (places, places + 1))
    return mixed(one, other, sources.ravel() % PART).reshape(pictures.shape)
