"""Whitening within classes: directions in which images of one class vary much count less.

This is relevant component analysis, with the classes as its chunks of like images: A. Bar-Hillel, T. Hertz, N. Shental
and D. Weinshall, "Learning distance functions using equivalence relations", ICML (2003); of speakers' vectors it is
known as within-class covariance normalization: A. Hatch and A. Stolcke, "Generalized linear kernels for one-versus-all
classification: application to speaker recognition", ICASSP (2006).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import OptionError, param
from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers

from .step import FitError, FittedStep

MOST = 128  # numbers of a vector
LEAST_IMAGES = 20  # for each number: fewer flatter themselves when they are left out, for they took part in the fit
_LARGEST_D = 2048
_BYTE, _FLOAT_BITS = 255, 15  # largest size of a number: of bytes, and in bits of all else
_LARGEST = (1 << _FLOAT_BITS) - 1
_SINGLE, _DOUBLE = 2.0**24, 2.0**52  # below which sums are exact in float32, and in float64
_DEVIATIONS = 4.5  # that int8 holds of the number that varies most
_INT8 = 127
_BLOCK = 1 << 20  # numbers at a time


@dataclass(frozen=True)
class Whitened(FittedStep):
    """Less the mean, along the directions of the covariance within classes, each divided by its deviation.

    A number is made whole, multiplied by whole numbers and added up exactly: so the bits are the same on any machine
    once it is fitted. To what it is fitted may differ in last bits where another library finds the eigenvectors.
    Its state is the largest size of such a number, the power of two that made it whole, the matrix (m, d), and for each
    of its rows what the sum is multiplied by and what is then added.
    """

    name = "whitened"
    depends_on_scale = True
    needs_classes = True

    def output(self, shape: Shape) -> Shape:
        """(m,), at most 128.

        Raises:
            OptionError: images have too many numbers.
        """
        d = math.prod(shape)
        if d > _LARGEST_D:
            raise OptionError(
                f"{param('steps')}: {self} takes at most {_LARGEST_D:,} numbers, and gets {d:,}: put gradients before "
                f"it, which makes fewer of a picture, or leave {self} out"
            )
        return (min(d, MOST),)

    def size(self, shape: Shape) -> int:
        """As many as the matrix has, and a few."""
        d, (m,) = math.prod(shape), self.output(shape)
        return 2 + m * d + 2 * m

    def least_images(self, shape: Shape) -> int:
        """So many for each number that a little fewer would flatter themselves."""
        return LEAST_IMAGES * math.prod(shape)

    def fit(
        self, blocks: Callable[[], Iterable[Numbers]], shape: Shape, classes: NDArray[np.integer] | None
    ) -> NDArray[np.float64]:
        """By products of whole numbers, added up exactly: the same however images are parted into blocks.

        Raises:
            FitError: there are too few images for so many numbers.
            OptionError: there are no classes.
        """
        self.check_classes(is_regression=classes is None)
        d, (m,) = math.prod(shape), self.output(shape)
        if classes is None or len(classes) < self.least_images(shape):
            n = 0 if classes is None else len(classes)
            raise FitError(
                f"{self} needs {self.least_images(shape):,} images, {LEAST_IMAGES} for each of {d:,} numbers that it "
                f"gets, and there are {n:,}",
                "leave it out, or have more images; of large pictures gradients before it makes fewer numbers",
            )
        largest, exponent = _grid(blocks)
        within, total, mean = _covariances((_whole(x, largest, exponent) for x in blocks()), d, classes)
        variances, directions = np.linalg.eigh(within)
        variances = np.maximum(variances, 0)
        shrinkage = variances.mean() or 1.0  # of copies alone nothing varies
        rows = np.arange(d)
        upright = np.sign(directions[np.abs(directions).argmax(axis=0), rows])
        W = (directions * upright / np.sqrt(variances + shrinkage)).T
        spread = np.einsum("ij,ij->i", W @ total, W)
        chosen = np.argsort(-spread, kind="stable")[:m]
        deviation = math.sqrt(max(0.0, float(spread[chosen[0]])))
        return _as_whole(W[chosen], mean, largest, exponent, _INT8 / (_DEVIATIONS * deviation) if deviation else 1.0)

    def __call__(self, images: Numbers, shape: Shape) -> NDArray[np.int8]:
        """(n, m) int8; what is larger than all that it was fitted to is cut off there."""
        (m,) = self.output(shape)
        largest, exponent = self.fitted[0], int(self.fitted[1])
        K, (factor, offset) = self.fitted[2 : -2 * m].reshape(m, -1), self.fitted[-2 * m :].reshape(2, m)
        K = K.T.astype(np.float32 if largest == _BYTE else np.float64)
        found = np.empty((len(images), m), np.int8)
        size = max(1, _BLOCK // images.shape[1])
        for start in range(0, len(images), size):
            y = (_whole(images[start : start + size], largest, exponent).astype(K.dtype) @ K).astype(np.float64)
            y *= factor
            y += offset
            found[start : start + size] = np.clip(np.rint(y, out=y), -_INT8, _INT8)
        return found


def _grid(blocks: Callable[[], Iterable[Numbers]]) -> tuple[int, int]:
    """The largest size of whole numbers, and the power of two by which images become such."""
    top = 0.0
    for block in blocks():
        if block.dtype in (np.uint8, np.int8):
            return _BYTE, 0
        top = max(top, float(block.max(initial=0)), -float(block.min(initial=0)))
    return _LARGEST, _FLOAT_BITS - int(np.frexp(top)[1]) if top else 0


def _whole(images: Numbers, largest: float, exponent: int) -> Numbers:
    """Images (n, d) as whole numbers: float64, but bytes as they are."""
    if largest == _BYTE and images.dtype in (np.uint8, np.int8):
        return images
    with np.errstate(over="ignore"):  # and cut off
        whole = np.rint(np.ldexp(images.astype(np.float64), exponent))
    return np.clip(whole, -largest, largest, out=whole)


def _covariances(
    blocks: Iterator[Numbers], d: int, classes: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(d, d) the covariance within classes, that of all, and the mean (d,) of blocks of whole numbers (b, d)."""
    codes, counts = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    products, sums = np.zeros((d, d), np.int64), np.zeros((len(counts), d), np.int64)
    start = 0
    for block in blocks:
        x = block.astype(np.float64)
        products += (x.T @ x).astype(np.int64)
        of_block = codes[start : start + len(x)]
        order = np.argsort(of_block, kind="stable")
        present, firsts = np.unique(of_block[order], return_index=True)
        sums[present] += np.add.reduceat(x[order], firsts, axis=0).astype(np.int64)
        start += len(x)
    n, of_all = len(classes), sums.sum(axis=0) / len(classes)
    means = sums / counts[:, None]
    within = (products - means.T @ sums.astype(np.float64)) / n
    total = products / n - np.outer(of_all, of_all)
    return within, total, of_all


def _as_whole(
    W: NDArray[np.float64], mean: NDArray[np.float64], largest: int, exponent: int, scale: float
) -> NDArray[np.float64]:
    """The state by a matrix (m, d) for whole numbers up to a size, whose outcomes are multiplied by a scale."""
    most = (_SINGLE if largest == _BYTE else _DOUBLE) / largest - W.shape[1]  # rounding adds half of that at most
    grid = most / np.abs(W).sum(axis=1)
    K = np.rint(W * grid[:, None])
    factor = scale / grid
    return np.concatenate([[largest, exponent], K.ravel(), factor, -factor * (K @ mean)])
