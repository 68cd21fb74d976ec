"""Principal components on a grid of whole numbers, where sums in float32 and float64 are exact in any order, in 8 bits.

BLAS adds products in an order that depends on how many rows it is given and on where a row stands among them, so the
same image would be projected to other bits in another batch, and a search could then choose other candidates. Here
pixels, axes and projections are whole multiples of powers of two, few enough bits that no sum is ever rounded:

- pixels, centred, in units of ``grid``: at most 2^20;
- axes in steps so fine that they hardly turn: of 2^-20 of their length, so that a projection in float64 needs
  20 + 20 + log2(d) / 2 of its 53 bits; for 8-bit pixels larger ones, as long as these are small beside an axis, so
  that it needs no more than float32's 24 bits.

Axes are so long that a projection fits 8 bits when it is rounded to whole numbers. What rounding takes off, and what no
axis sees, is told with it: `table` makes lower bounds of distances of these.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.threads import limit_threads

_PIXEL_LIMIT = 2.0**20
_AXIS_UNIT = 2.0**-20
_CODE_LIMIT = 127
# With its own rounding: a step of the grid along an axis has the largest code at most. Nor are all so short.
LONGEST, SHORTEST = 128.0, 2.0**-64
_IN_RANGE = 0.999  # of the sample, whose codes are not cut off
_FLOAT32_WHOLE = 2.0**24
_PLAIN_STEPS = 2.0**12
_COARSEST = 2.0**-4  # axis unit times sqrt(d): it turns an axis by a fiftieth of a radian at most
_COVARIANCE_UP_TO = 1024  # dimensions: its eigenvectors take 2 s there, and eight times that of twice as many
_CACHED = 1 << 18  # pixels projected at a time: they stay in the processor's cache
_EXACT_SQUARES = 256  # of 8-bit pixels, that float32 adds without rounding


class Coded(NamedTuple):
    """Vectors (nq,) as codes, and what codes leave out, in units of codes.

    With u for a vector of this unit, |u - v| >= |(a_u, rest_u) - (a_v, rest_v)| - rounding_u - rounding_v.

    Attributes:
        codes: (nq, p) int8, a.
        norm: (nq,) float64, |a|^2 + rest^2.
        rest: (nq,) float64, how far the vector is from the space that the axes span.
        rounding: (nq,) float64, how far at most the rounded vector is from the true one.
    """

    codes: NDArray[np.int8]
    norm: NDArray[np.float64]
    rest: NDArray[np.float64]
    rounding: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> "Coded":
        """Those at rows."""
        return Coded(self.codes[rows], self.norm[rows], self.rest[rows], self.rounding[rows])


def join(parts: list[Coded]) -> Coded:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    codes, *others = zip(*parts, strict=True)
    norm, rest, rounding = map(np.concatenate, others)
    return Coded(np.concatenate(codes), norm, rest, rounding)


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map to a few whole numbers.

    Attributes:
        centre: (d,) float64, subtracted first; whole numbers for integer pixels.
        grid: the unit of centred values, a power of two; 1 for integer pixels.
        axes: (p, d) float64, one scaled axis a row; those that fill p up to a multiple of four are zero. Or (1, d), by
            what each pixel is multiplied to be a component of its own.
    """

    centre: NDArray[np.float64]
    grid: float
    axes: NDArray[np.float64]

    @cached_property
    def unit(self) -> float:
        """How many units of codes a distance of 1 in the metric's space is, at most."""
        return self._stretch / self.grid

    @property
    def is_plain(self) -> bool:
        """Whether each pixel is a component of its own."""
        return len(self.axes) == 1

    @property
    def p(self) -> int:
        """Components."""
        return _fill(self.axes.shape[1]) if self.is_plain else len(self.axes)

    def _along_axes(self, steps: NDArray[Any]) -> NDArray[Any]:
        """Projections (nq, p) of steps (nq, d) in their own type, exactly."""
        if not self.is_plain:
            y: NDArray[Any] = steps @ (self._float32[1] if steps.dtype == np.float32 else self.axes.T)
            return y
        y = np.zeros((len(steps), self.p), dtype=steps.dtype)
        np.multiply(steps, self.axes[0].astype(steps.dtype), out=y[:, : self.axes.shape[1]])
        return y

    @cached_property
    def _stretch(self) -> float:
        """By how much the axes lengthen a vector, at most."""
        if self.is_plain:
            return float(np.abs(self.axes).max())
        return float(np.sqrt(np.linalg.eigvalsh(self.axes @ self.axes.T)[-1])) * (1 + 2.0**-30)

    def first(self, p: int) -> "Projection":
        """On its first p axes alone."""
        return replace(self, axes=self.axes[:p])

    def components(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What codes are rounded from (nq, p), and the squared length of each vector (nq,), in units of codes."""
        y, squares, _ = self._project(x)
        return y, squares * self._stretch**2

    def encode(self, x: NDArray[np.generic]) -> Coded:
        """Vectors (nq, d) in the metric's space as codes; 8-bit pixels may come as they are, which is faster."""
        step = max(1, _CACHED // x.shape[1])
        blocks = [self._encode(x[start : start + step]) for start in range(0, max(1, len(x)), step)]
        return join(blocks)

    def _encode(self, x: NDArray[np.generic]) -> Coded:
        if x.dtype == np.uint8 and self._fits_float32:
            return self._code(*self._project_bytes(x), np.zeros(len(x)))
        return self._code(*self._project(np.ascontiguousarray(x, dtype=np.float64)))

    def _project(self, x: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
        """Projections (nq, p), squared lengths (nq,) and how far each was from the grid (nq,), in its units."""
        with np.errstate(over="ignore"):  # infinitely many steps are clipped like too many
            exact = (x - self.centre) / self.grid
        steps = np.rint(exact).clip(-_PIXEL_LIMIT, _PIXEL_LIMIT)
        y = self._along_axes(steps)
        exact -= steps
        with np.errstate(over="ignore"):
            return y, np.einsum("ij,ij->i", steps, steps), np.sqrt(np.einsum("ij,ij->i", exact, exact))

    def _project_bytes(self, x: NDArray[np.generic]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The same in float32, which for these vectors rounds no sum either; they are on the grid."""
        pixels = x.astype(np.float32)
        pixels -= self._float32[0]
        squares = np.zeros(len(x))
        for first in range(0, pixels.shape[1], _EXACT_SQUARES):
            part = pixels[:, first : first + _EXACT_SQUARES]
            squares += np.einsum("ij,ij->i", part, part)
        return self._along_axes(pixels), squares

    def _code(
        self,
        y: NDArray[Any],
        squares: NDArray[np.float64],
        off_grid: NDArray[np.float64],
    ) -> Coded:
        rounded = np.rint(y).clip(-_CODE_LIMIT, _CODE_LIMIT)
        seen = np.einsum("ij,ij->i", y, y, dtype=np.float64)
        codes_squared = np.einsum("ij,ij->i", rounded, rounded)  # whole numbers, in float32 too
        y -= rounded
        length = self._stretch * np.sqrt(squares)
        rest = np.sqrt(np.maximum(length**2 - seen, 0))
        # What is lost to float64, and of `rest` goes with the root of what its difference loses.
        lost = length * 2.0**-24
        rounding = np.sqrt(np.einsum("ij,ij->i", y, y, dtype=np.float64)) + off_grid * self._stretch + lost
        return Coded(rounded.astype(np.int8), codes_squared + rest**2, rest, rounding)

    @cached_property
    def _float32(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Centre (d,) and transposed axes (d, p)."""
        return self.centre.astype(np.float32), np.ascontiguousarray(self.axes.T, dtype=np.float32)

    @cached_property
    def _fits_float32(self) -> bool:
        """Whether centred 8-bit pixels are projected without rounding: no sum of products reaches 2^24 of its unit."""
        d = self.axes.shape[1]
        longest = np.sqrt(np.square(self.axes).sum(axis=1).max())
        whole = self.grid == 1 and np.array_equal(self.centre, np.rint(self.centre).clip(0, 255))
        fits = self.is_plain or 255 * np.sqrt(d) * longest < _FLOAT32_WHOLE * _unit(self.axes)
        return bool(whole and fits)


def fit_projection(sample: NDArray[np.float64], p: int, *, largest: int | None) -> Projection:
    """Principal axes of a sample, by the eigenvectors of its covariance (Pearson 1901).

    Of many dimensions by randomized singular vectors (Halko, Martinsson and Tropp 2011).

    Args:
        sample: (n, d) vectors in the metric's space; those to be stored may lie somewhat farther out.
        p: number of axes, at most: of many dimensions there are no more than rows in the sample.
        largest: value of a pixel, where vectors hold whole numbers, which the grid keeps as they are; None for floats.
    """
    centred, centre, grid = _on_grid(sample, largest)
    axes = _principal_axes(centred, p)
    axes *= _scale(centred @ axes.T)
    unit = _axis_unit(sample.shape[1], largest, float(np.sqrt(np.square(axes).sum(axis=1).max())))
    filled = np.zeros((_fill(len(axes)), sample.shape[1]))
    filled[: len(axes)] = np.rint(axes / unit) * unit
    return Projection(centre=centre, grid=grid, axes=filled)


def plain_projection(sample: NDArray[np.float64], *, largest: int | None) -> Projection:
    """Every pixel as a component of its own; arguments as `fit_projection` has them."""
    centred, centre, grid = _on_grid(sample, largest)
    fraction, exponent = np.frexp(_scale(centred))
    scale = np.floor(fraction * _PLAIN_STEPS) / _PLAIN_STEPS * 2.0**exponent  # no product with a pixel is rounded
    return Projection(centre=centre, grid=grid, axes=np.full((1, sample.shape[1]), scale))


def _on_grid(
    sample: NDArray[np.float64], largest: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """A sample (n, d) centred in units of the grid, its centre (d,), and the grid."""
    centre = sample.mean(axis=0)
    if largest is not None:
        centre = np.rint(centre)
    centred = sample - centre
    grid = 1.0 if largest is not None else _power_of_two(4 * float(np.abs(centred).max()) / _PIXEL_LIMIT)
    return centred / grid, centre, grid


def _scale(y: NDArray[np.float64]) -> float:
    """By what projections (n, p) are to be multiplied, so that nearly all of them fit 8 bits."""
    farthest = float(np.quantile(np.abs(y).max(axis=1), _IN_RANGE))
    return _CODE_LIMIT / max(farthest, 1.0)  # what is not in the centre is a step of the grid away from it


def _fill(p: int) -> int:
    """So many components, or up to three more: codes of four lie side by side."""
    return -(-p // 4) * 4


def _principal_axes(centred: NDArray[np.float64], p: int) -> NDArray[np.float64]:
    """(p, d) orthonormal, or as many as there are rows of centred (n, d) where that is fewer and d is large.

    The covariance of many dimensions has no room and its eigenvectors take too long; what is random in the singular
    vectors that stand for them then has a seed of its own, and one thread: with more the last bits would differ.
    """
    if centred.shape[1] <= _COVARIANCE_UP_TO:
        eigenvectors: NDArray[np.float64] = np.linalg.eigh(centred.T @ centred)[1]
        return eigenvectors[:, ::-1][:, :p].T.copy()
    from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415  # its import takes longer than most commands

    with limit_threads(1):
        found: NDArray[np.float64] = randomized_svd(centred, min(p, len(centred)), n_iter=4, random_state=0)[2]
    return found


def _axis_unit(d: int, largest: int | None, length: float) -> float:
    """Steps of entries of axes so long: such that float32 can add products with pixels, if these are fine enough."""
    if largest is not None:
        coarse = _power_of_two(1.05 * largest * length * np.sqrt(d) / _FLOAT32_WHOLE)
        if coarse * np.sqrt(d) <= _COARSEST * length:
            return coarse
    return _AXIS_UNIT * _power_of_two(length)


def _unit(values: NDArray[np.float64]) -> float:
    """The largest power of two of which all values are whole multiples; 1 if all are 0."""
    fraction, exponent = np.frexp(values[values != 0])
    digits = (fraction * 2.0**53).astype(np.int64)
    lowest = np.log2(digits & -digits) + exponent - 53
    return float(2.0 ** lowest.min(initial=np.inf)) if len(lowest) else 1.0


def _power_of_two(least: float) -> float:
    """The smallest power of two that is at least this; 1 for 0."""
    return float(2.0 ** np.ceil(np.log2(least))) if least > 0 else 1.0
