"""Principal components on a grid of whole numbers, where sums in float32 and float64 are exact in any order.

BLAS adds products in an order that depends on how many rows it is given and on where a row stands among them, so the
same image would be projected to other bits in another batch, and FAISS could then choose other candidates. Here
pixels, axes and projections are whole multiples of powers of two, few enough bits that no sum is ever rounded:

- pixels, centred, in units of ``grid``: at most 2^20;
- axes in multiples of 2^-20, so that a projection in float64 needs 20 + 20 + log2(d) / 2 of its 53 bits; for 8-bit
  pixels in larger steps, as long as these are small beside an axis, so that it needs no more than float32's 24 bits;
- projections, rounded to whole numbers of length below 2^11, so that each product sum and each squared distance
  between two of them is below 2^24, where float32 still counts by ones.
"""

from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
from numpy.typing import NDArray

from .threads import limit_threads

_PIXEL_LIMIT = 2.0**20
_AXIS_UNIT = 2.0**-20
_PROJECTION_LIMIT = 2.0**22  # of one coordinate before its row is shortened: squares still add up exactly
_LENGTH_LIMIT = 2.0**11 - 1
_FLOAT32_WHOLE = 2.0**24
_COARSEST = 2.0**-4  # axis unit times sqrt(d): it turns an axis by a fiftieth of a radian at most
_COVARIANCE_UP_TO = 1024  # dimensions: its eigenvectors take 2 s there, and eight times that of twice as many
_STORED_LENGTH = 1500.0  # leaves queries that lie farther out than any stored vector some room


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map to whole numbers.

    Attributes:
        centre: (d,) float64, subtracted first; whole numbers for integer pixels.
        grid: the unit of centred values, a power of two; 1 for integer pixels.
        axes: (p, d) float64, one scaled principal axis a row.
    """

    centre: NDArray[np.float64]
    grid: float
    axes: NDArray[np.float64]

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        """Vectors (nq, d) in the metric's space -> (nq, p) whole numbers as float32, each row shorter than 2^11.

        8-bit pixels may come as they are, which is faster.
        """
        if x.dtype == np.uint8 and self._fits_float32:
            return self._project_bytes(x)
        return self._project(x.astype(np.float64, copy=False))

    def _project(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # infinitely many steps are clipped like too many
            steps = np.clip(np.rint((x - self.centre) / self.grid), -_PIXEL_LIMIT, _PIXEL_LIMIT)
        y = np.clip(np.rint(steps @ self.axes.T), -_PROJECTION_LIMIT, _PROJECTION_LIMIT)
        length = np.sqrt(np.einsum("ij,ij->i", y, y))
        far = length > _LENGTH_LIMIT
        y[far] = np.trunc(y[far] * (_LENGTH_LIMIT / length[far])[:, None])
        return y.astype(np.float32)

    def _project_bytes(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        """The same in float32, which for these vectors rounds no sum either."""
        pixels = x.astype(np.float32)
        pixels -= self._float32[0]
        y = pixels @ self._float32[1]
        np.rint(y, out=y)
        far = np.einsum("ij,ij->i", y, y) > (0.99 * _LENGTH_LIMIT) ** 2
        y[far] = self._project(x[far].astype(np.float64))
        return y

    @cached_property
    def _float32(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Centre (d,) and transposed axes (d, p)."""
        return self.centre.astype(np.float32), np.ascontiguousarray(self.axes.T, dtype=np.float32)

    @cached_property
    def _fits_float32(self) -> bool:
        """Whether centred 8-bit pixels are projected without rounding: no sum of products reaches 2^24 of its unit."""
        d = self.axes.shape[1]
        longest = np.sqrt(np.square(self.axes).sum(axis=1).max())
        whole = self.grid == 1 and np.array_equal(self.centre, np.rint(self.centre))
        return bool(whole and 255 * np.sqrt(d) * longest / _unit(self.axes) < _FLOAT32_WHOLE)

    @cached_property
    def contraction(self) -> NDArray[np.float64]:
        """The axes scaled down so that they lengthen no vector, (p, d)."""
        longest = np.sqrt(np.linalg.eigvalsh(self.axes @ self.axes.T)[-1]) * (1 + 2.0**-30)
        scaled: NDArray[np.float64] = self.axes / longest
        return scaled

    def to_faiss(self) -> list[faiss.VectorTransform]:
        """The same map as FAISS transforms of x / grid, so that it is stored in the index file itself.

        In units of the grid, float32 holds it exactly whatever the scale of x.
        """
        p, d = self.axes.shape
        centring = faiss.CenteringTransform(d)
        faiss.copy_array_to_vector((self.centre / self.grid).astype(np.float32), centring.mean)
        centring.is_trained = True
        linear = faiss.LinearTransform(d, p, False)
        faiss.copy_array_to_vector(self.axes.astype(np.float32).ravel(), linear.A)
        linear.is_trained = True
        return [centring, linear]


def projection_from_faiss(chain: list[faiss.VectorTransform], grid: float) -> Projection:
    """Read back what `Projection.to_faiss` stored."""
    centring, linear = (faiss.downcast_VectorTransform(transform) for transform in chain)
    axes = faiss.vector_to_array(linear.A).reshape(linear.d_out, linear.d_in)
    return Projection(
        centre=faiss.vector_to_array(centring.mean).astype(np.float64) * grid,
        grid=grid,
        axes=axes.astype(np.float64),
    )


def fit_projection(sample: NDArray[np.float64], p: int, *, largest: int | None) -> Projection:
    """Principal axes of a sample, by the eigenvectors of its covariance (Pearson 1901).

    Of many dimensions by randomized singular vectors (Halko, Martinsson and Tropp 2011).

    Args:
        sample: (n, d) vectors in the metric's space; those to be stored may lie somewhat farther out.
        p: number of axes, at most: of many dimensions there are no more than rows in the sample.
        largest: value of a pixel, where vectors hold whole numbers, which the grid keeps as they are; None for floats.
    """
    whole = largest is not None
    mean = sample.mean(axis=0)
    centred = sample - mean
    rounding = 2.0**-24 * float(np.abs(mean).max())  # of the centre, which is stored in float32
    spread = float(np.abs(centred).max()) + rounding
    grid = 1.0 if whole else _power_of_two(4 * spread / _PIXEL_LIMIT)
    centre = np.rint(mean) if whole else (mean / grid).astype(np.float32).astype(np.float64) * grid
    centred /= grid
    unit = _axis_unit(sample.shape[1], largest)
    axes = np.rint(_principal_axes(centred, p) / unit) * unit
    projected = centred @ axes.T
    longest = float(np.sqrt(np.einsum("ij,ij->i", projected, projected).max()))
    return Projection(centre=centre, grid=grid, axes=axes / _power_of_two(longest / _STORED_LENGTH))


def _principal_axes(centred: NDArray[np.float64], p: int) -> NDArray[np.float64]:
    """(p, d) orthonormal, or as many as there are rows of centred (n, d) where that is fewer and d is large.

    The covariance of many dimensions has no room and its eigenvectors take too long; what is random in the singular
    vectors that stand for them then has a seed of its own, and one thread: with more the last bits would differ.
    """
    if centred.shape[1] <= _COVARIANCE_UP_TO:
        eigenvectors: NDArray[np.float64] = np.linalg.eigh(centred.T @ centred)[1]
        return eigenvectors[:, ::-1][:, :p].T
    from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415  # its import takes longer than most commands

    with limit_threads(1):
        found: NDArray[np.float64] = randomized_svd(centred, min(p, len(centred)), n_iter=4, random_state=0)[2]
    return found


def _axis_unit(d: int, largest: int | None) -> float:
    """Steps of an axis's entries: such that float32 can add products with pixels, if these are not too large a step."""
    if largest is not None:
        coarse = _power_of_two(1.05 * largest * np.sqrt(d) / _FLOAT32_WHOLE)
        if coarse * np.sqrt(d) <= _COARSEST:
            return coarse
    return _AXIS_UNIT


def _unit(values: NDArray[np.float64]) -> float:
    """The largest power of two of which all values are whole multiples; 1 if all are 0."""
    fraction, exponent = np.frexp(values[values != 0])
    digits = (fraction * 2.0**53).astype(np.int64)
    lowest = np.log2(digits & -digits) + exponent - 53
    return float(2.0 ** lowest.min(initial=np.inf)) if len(lowest) else 1.0


def _power_of_two(least: float) -> float:
    """The smallest power of two that is at least this; 1 for 0."""
    return float(2.0 ** np.ceil(np.log2(least))) if least > 0 else 1.0
