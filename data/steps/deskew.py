"""Slanted pictures made upright by a shear.

As for handwritten digits: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (1998), where moments tell how far each row is shifted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from knnvote.data.vectors import Numbers, sum_in_lanes

from .picture import PART, PictureStep, mass, mixed

_FLAT = 2.0**-20  # variance, in pixels squared, below which a picture is one row: it has no slant but by rounding


@dataclass(frozen=True)
class Deskew(PictureStep):
    """Each row shifted by its distance from the centre of mass times covariance by vertical variance of the mass."""

    name = "deskew"

    def _made(self, pictures: Numbers) -> Numbers:
        b, rows, columns, channels = pictures.shape
        # Left of each row are as many zeros as it may be shifted, which are those to the right of the row before.
        padded = np.zeros((b * rows + 1, 2 * columns + 1, channels), pictures.dtype)
        padded[:-1, columns + 1 :] = pictures.reshape(b * rows, columns, channels)
        places = np.floor(_shifts(mass(pictures)) * PART + 0.5)
        places = np.clip(places, -(columns + 1) * PART, columns * PART).astype(np.intp).ravel()
        first = np.arange(b * rows) * (2 * columns + 1) + (columns + 1) + places // PART
        pieces = sliding_window_view(padded.ravel(), columns * channels)
        return mixed(pieces[first * channels], pieces[(first + 1) * channels], places % PART)


def _shifts(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b, rows) pixels from where a pixel of each row is to where it was, of masses (b, rows, columns)."""
    b, rows, columns = mass.shape
    y, x = (np.arange(size) - (size - 1) / 2 for size in (rows, columns))
    sums = np.zeros((3, b, columns))  # of the mass times 1, y and y squared, row by row: always in this order
    for row in range(rows):
        term = mass[:, row]
        for power in range(3):
            sums[power] += term
            term = term * y[row]
    m00, m01, m02 = sum_in_lanes(sums)
    m10, m11 = sum_in_lanes(sums[:2] * x)
    centre = m01 / np.where(m00 > 0, m00, 1)
    covariance, variance = m11 - m10 * centre, m02 - m01 * centre
    has_slant = variance > m00 * _FLAT
    slant = np.where(has_slant, covariance, 0) / np.where(has_slant, variance, 1)
    shifts: NDArray[np.float64] = slant[:, None] * (y - centre[:, None])
    return shifts
