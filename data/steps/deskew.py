"""Slanted pictures made upright by a shear.

As for handwritten digits: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (1998), where moments tell how far each row is shifted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from knnvote.data.vectors import Numbers

from .picture import PART, PictureFilter, mass, mixed


@dataclass(frozen=True)
class Deskew(PictureFilter):
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


def _shifts(masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b, rows) pixels from where a pixel of each row is to where it was, of masses (b, rows, columns)."""
    b, rows, columns = masses.shape
    y, x = (np.arange(size, dtype=np.float64) - size // 2 for size in (rows, columns))
    across, down = np.tile(x, rows), np.repeat(y, columns)
    powers = np.stack([np.ones(rows * columns), across, down, across * down, down * down], axis=1)
    m00, m10, m01, m11, m02 = (masses.reshape(b, -1) @ powers).T  # exact, in whatever order
    centre = m01 / np.where(m00 > 0, m00, 1)
    covariance, variance = m11 - m10 * centre, m02 - m01 * centre
    has_slant = variance > 0  # which one row, or nothing, has not
    slant = np.where(has_slant, covariance, 0) / np.where(has_slant, variance, 1)
    shifts: NDArray[np.float64] = slant[:, None] * (y - centre[:, None])
    return shifts
