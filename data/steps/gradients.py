"""Histograms of gradient orientation: which way edges run in each part of a picture, wherever in it they run exactly.

The cells that overlap are those of N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection",
CVPR (2005). A gradient is divided between the two directions beside it, as two vectors that add up to it: C.-L. Liu,
K. Nakashima, H. Sako and H. Fujisawa, "Handwritten digit recognition: benchmarking of state-of-the-art techniques",
Pattern Recognition 36 (2003). The root of each share is taken, so that the Euclidean distance of two histograms is
Hellinger's: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval", CVPR
(2012). By left-out images of MNIST 5, 6 or 8 to 10 cells a side, Sobel's differences, shares of the cells around in
place of the whole image's, and a blur before it are no better by more than chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers, Reasons

from .picture import PictureStep

CELLS = 7  # along each side
DIRECTIONS = 8
_LEVELS = 16  # of a pixel's weight in a cell
_BITS = 8  # that are kept of pixels
_FULL = 900  # the number for a share of one; shares above 0.08 are cut off at 255, which hardly any cell has
_BLOCK = 1 << 16  # pixels at a time, which stay in the cache until they are done
_EXACT = 1 << 24  # up to which float32 holds all whole numbers


@dataclass(frozen=True)
class Gradients(PictureStep):
    """What share of an image's gradients lies in each of 7 x 7 cells and points in each of 8 directions: its root.

    Pixels are taken at the 8 bits below the largest of the image. All up to the shares is whole numbers that float32,
    or float64, holds: the bits are the same in whatever order they are added.
    """

    name = "gradients"
    depends_on_scale = False
    weighs = False

    def output(self, shape: Shape) -> Shape:
        """(392,), whatever the picture's size.

        Raises:
            OptionError: images are no pictures.
        """
        super().output(shape)
        return (DIRECTIONS * CELLS * CELLS,)

    def unusable_rows(self, images: Numbers, shape: Shape) -> Reasons:
        """Those whose pixels are all alike, at the 8 bits that are kept."""
        whole = _whole(images)
        flat = np.flatnonzero(whole.min(axis=1) == whole.max(axis=1)).tolist()
        return dict.fromkeys(flat, "its pixels are all alike, and have no gradient") | super().unusable_rows(
            images, shape
        )

    def __call__(self, images: Numbers, shape: Shape) -> NDArray[np.uint8]:
        """(n, 392) uint8: directions one after the other, of each the cells from the upper left one on."""
        found = np.empty((len(images), *self.output(shape)), np.uint8)
        down, across = (_weights(size) for size in shape[:2])
        size = max(1, _BLOCK // images.shape[1])
        for start in range(0, len(images), size):
            pictures = self._pictures(_whole(images[start : start + size]), shape)
            channels = np.ascontiguousarray(
                np.moveaxis(pictures, (3, 0), (0, 3)), np.int16
            )  # a pixel's runs along pictures
            sums = np.sum([_sums(channel, down, across) for channel in channels], axis=0)
            found[start : start + size] = _roots(sums).T
        return found


def _whole(images: Numbers) -> NDArray[np.int16] | NDArray[np.uint8]:
    """Images (n, pixels) as whole numbers of at most 8 bits and a sign: times a power of two each, and rounded."""
    if images.dtype == np.uint8:
        return images
    values = images.astype(np.float64)
    largest = np.abs(values).max(axis=1, keepdims=True)
    whole: NDArray[np.float64] = np.rint(np.ldexp(values, _BITS - np.frexp(largest)[1]))
    return whole.astype(np.int16)


def _weights(size: int) -> NDArray[np.float64]:
    """(7, size) whole weights of a side's pixels in its cells: 16 in the middle of one, 0 from the next one's on."""
    pixels = CELLS * (2 * np.arange(size) + 1)
    middles = size * (2 * np.arange(CELLS) + 1)
    nearness = np.maximum(0, 2 * size - np.abs(pixels - middles[:, None]))  # of 2 * size
    weights: NDArray[np.float64] = ((_LEVELS * nearness + size) // (2 * size)).astype(np.float64)
    return weights


def _sums(pixels: NDArray[np.int16], down: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, 7, 7, b) gradients of pixels (rows, columns, b) by direction and cell, by weights (7, side)."""
    rows, columns, b = pixels.shape
    largest = 2 << _BITS
    fits = down.sum(axis=1).max() * across.sum(axis=1).max() * largest < _EXACT
    dtype = np.float32 if fits else np.float64
    down, across = down.astype(dtype), across.astype(dtype)
    part = np.empty((rows, columns, b), dtype)
    bands = np.empty((DIRECTIONS, CELLS, columns * b), dtype)
    for direction, gradient in enumerate(_gradients(pixels)):
        part[...] = gradient
        np.dot(down, part.reshape(rows, -1), out=bands[direction])
    sums: NDArray[np.floating] = np.matmul(across, bands.reshape(DIRECTIONS * CELLS, columns, b))
    return sums.reshape(DIRECTIONS, CELLS, CELLS, b).astype(np.float64)


def _gradients(pixels: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
    """What pixels' gradients have in each direction, from right on by way of down; in slanted ones the root of half."""
    beside = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    x, y = beside[1:-1, 2:] - beside[1:-1, :-2], beside[2:, 1:-1] - beside[:-2, 1:-1]
    left, up = -x, -y
    wide, tall = np.maximum(x, left), np.maximum(y, up)
    # Of a gradient (x, y) with x >= y >= 0 it is x - y to the right, and y in each of both for what is slanted.
    for one, other, straight in ((x, y, tall), (y, left, wide), (left, up, tall), (up, x, wide)):
        yield np.maximum(one - straight, 0)
        yield np.maximum(np.minimum(one, other), 0)


def _roots(sums: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(392, b) the root of each sum's share of all in its picture, of sums (8, 7, 7, b) that it overwrites."""
    sums[0::2] *= 5
    sums[1::2] *= 7  # root 2 is 7 / 5, nearly
    sums = sums.reshape(-1, sums.shape[3])
    total = sums.sum(axis=0)  # exact, in whatever order
    sums *= _FULL**2
    sums /= np.where(total == 0, 1, total)
    np.rint(np.sqrt(sums, out=sums), out=sums)
    return np.minimum(sums, 255, out=sums).astype(np.uint8)
