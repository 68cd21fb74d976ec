"""Metrics, a class each: the space in which vectors are compared, how far apart they are there, and who knows it.

To add one takes a class, its row in `METRICS`, its name in `names` and the help. One that derives from `Metric` alone
is searched exactly, by a plain scan that settles every stored vector. One that FAISS knows derives from `FaissMetric`,
and says how far float32 can be off; one that is l2 in its space, where principal components bound it, from `Euclidean`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.vectors import sum_in_lanes

from .names import MetricName

_LARGEST = 1e150
_SMALLEST = 1e-150
# Cosine distances of floats have two formulas, half the squared length and 1 - cos, which differ by about 2^-52.
_TWO_FORMULAS = 2.0**-48


@dataclass(frozen=True)
class Metric(ABC):
    """How far apart vectors are.

    Attributes:
        name: as it is typed and stored.
        sklearn: what scikit-learn calls the distance that it is in its space.
        keeps_values: its space holds vectors as they are.
        equal_within: how far apart equal vectors can be by rounding.
        farthest: how far apart any two vectors can be.
        scan_cost: of a plain scan, in microseconds for each value of a stored vector, on one core of 2023.
    """

    name: ClassVar[MetricName]
    sklearn: ClassVar[str]
    keeps_values: ClassVar[bool] = True
    equal_within: ClassVar[float] = 0.0
    farthest: ClassVar[float] = math.inf
    scan_cost: ClassVar[float] = 0.0008

    def space(self, x: NDArray[np.generic]) -> NDArray[np.float64]:
        """Vectors (..., d) of any number type -> a float64 copy in the space in which they are compared.

        A row's result has the same bits whatever rows stand beside it: every operation is by element or along one row.
        """
        return np.array(x, dtype=np.float64, order="C")

    def projectable(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        """Vectors as `Projection` takes them: in the space, but 8-bit pixels that are in it as they are."""
        return x if x.dtype == np.uint8 and self.keeps_values else self.space(x)

    def unusable_rows(self, x: NDArray[np.generic]) -> dict[int, str]:
        """Rows of x (n, d) that have no place in the space, each with the reason."""
        if x.dtype != np.float64:
            return {}
        large = np.flatnonzero(np.abs(x).max(axis=1, initial=0) > _LARGEST).tolist()
        return dict.fromkeys(large, f"a value beyond {_LARGEST:g}: squared distances would overflow")

    def are_equal(self, D: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether vectors at such distances are equal but for rounding; not so where one is NaN."""
        return self.equal_within >= D

    @abstractmethod
    def reduced(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """What orders candidates as the distance does, and may be cheaper: scikit-learn's ``rdist``.

        Args:
            xq: (nq, d) queries.
            stored: (nq, m, d) the candidates of each.

        Returns:
            (nq, m) float64, the same bits for a pair of vectors whatever is computed beside it.
        """

    def final(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """What `reduced` gives -> the distance: scikit-learn's ``dist``."""
        return D

    def from_sklearn(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances in the space, by the one that scikit-learn knows -> the distance."""
        return D

    def to_sklearn(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance -> that in the space, which grows as lengths do."""
        return D

    def settling_cost(self, dtype: np.dtype[np.generic]) -> float:  # noqa: ARG002  # of some metrics it depends on it
        """Of `reduced` for a candidate, in microseconds for each of its values, on one core of 2023."""
        return 0.00025

    def _differences(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """(nq, m, d) in the space, of queries (nq, d) and their candidates (nq, m, d)."""
        difference = self.space(stored)
        difference -= self.space(xq)[:, None, :]
        return difference


class FaissMetric(Metric):
    """One that FAISS knows, in its space: float32 can propose what float64 settles.

    Attributes:
        faiss_type: FAISS's number for it.
        power: p of the Minkowski distance that it is in its space.
        formula_rounding: by how much `reduced` can differ from the true distance beside what is in proportion to it.
    """

    faiss_type: ClassVar[int]
    power: ClassVar[float]
    formula_rounding: ClassVar[float] = 0.0

    @abstractmethod
    def unit(self, scale: float) -> float:
        """What turns FAISS's distances between vectors that are scaled so into those of `reduced`."""

    @abstractmethod
    def lengths(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) how far each vector (n, d) is from zero."""

    @abstractmethod
    def from_length(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """FAISS's distance between vectors that are so far apart."""

    def rounding(self, lengths: NDArray[np.float64], reach: float, d: int) -> NDArray[np.float64]:
        """(nq,) the most by which a float32 distance can differ from the true one.

        A sum of d products in any order is off by at most d 2^-24 times the sum of their sizes (Higham, Accuracy and
        Stability of Numerical Algorithms, section 3.1); the constants cover the conversion to float32, the few
        operations around the sum, and the rounding of the lengths themselves. What is not in proportion is added: each
        term may underflow, and `reduced` may have another formula.

        Args:
            lengths: (nq,) of the queries.
            reach: length of the longest stored vector.
            d: dimensions.
        """
        size = self.from_length(lengths + reach)
        return (d + 16) * 2.0**-24 * size * 1.05 + (d * 2.0**-126 + self.formula_rounding)


class Euclidean(FaissMetric):
    """One that is l2 in its space, so that principal components bound it (`codes.table`).

    Attributes:
        square: times what `reduced` gives is the square of that.
    """

    square: ClassVar[float] = 1
    sklearn = "euclidean"
    power = 2
    scan_cost = 0.000018
    faiss_type = faiss.METRIC_L2

    def lengths(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of the sums of squares the roots."""
        lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", x, x)).astype(np.float64)
        return lengths

    def from_length(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """FAISS's l2 is squared."""
        return length**2

    def squared(self, D: NDArray[np.float64], d: int) -> NDArray[np.float64]:
        """What `reduced` gives of d dimensions -> squared l2 distances in the space, not less than the true ones."""
        return (D + self.lost(d)) * self.square

    def lost(self, d: int) -> float:
        """By how much `reduced` can be too small: squares that float64 loses, and another formula."""
        return float(d * np.finfo(np.float64).tiny) + self.formula_rounding

    def _squares(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        difference = self._differences(xq, stored)
        return sum_in_lanes(np.square(difference, out=difference))


@dataclass(frozen=True)
class L2(Euclidean):
    """Euclidean distance; reduced, its square, which is exact between whole numbers while sums stay below 2^53."""

    name = "l2"

    def unit(self, scale: float) -> float:
        """Of squares."""
        return scale**-2

    def reduced(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """The squared distance."""
        return self._squares(xq, stored)

    def final(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """The root."""
        return np.sqrt(D)

    def settling_cost(self, dtype: np.dtype[np.generic]) -> float:
        """Less for bytes, of which many are subtracted at once."""
        return 0.00003 if dtype == np.uint8 else 0.00025


@dataclass(frozen=True)
class Cosine(Euclidean):
    """1 - cos of the angle: in its space every vector has length 1, and |u - v|^2 / 2 is the distance."""

    name = "cosine"
    keeps_values = False
    equal_within = 1e-12
    farthest = 2.0
    square = 2
    formula_rounding = _TWO_FORMULAS

    def space(self, x: NDArray[np.generic]) -> NDArray[np.float64]:
        """Each row is scaled to length 1."""
        values = super().space(x)
        length = np.sqrt(sum_in_lanes(np.square(values)))[..., None]
        values *= 1 / np.where(length == 0, 1, length)
        return values

    def unusable_rows(self, x: NDArray[np.generic]) -> dict[int, str]:
        """Beside values too large those rows that have no direction, or none that squares can tell."""
        reason = "every value is zero, and cosine distance needs a direction"
        bad = super().unusable_rows(x) | dict.fromkeys(np.flatnonzero(~x.any(axis=1)).tolist(), reason)
        if x.dtype == np.float64:
            small = np.abs(x).max(axis=1, initial=0)
            rows = np.flatnonzero((small > 0) & (small < _SMALLEST)).tolist()
            bad |= dict.fromkeys(rows, f"no value as large as {_SMALLEST:g}: squares would underflow to zero")
        return bad

    def unit(self, scale: float) -> float:
        """Half a square; in this space nothing is scaled."""
        return 0.5 * scale**-2

    def reduced(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """The distance itself: of whole numbers by their products, which are exact while below 2^53."""
        if xq.dtype.kind == stored.dtype.kind == "u":
            return self._of_whole_numbers(xq.astype(np.float64), stored.astype(np.float64))
        return self._squares(xq, stored) / 2

    def from_sklearn(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half the square."""
        return np.square(D) / 2

    def to_sklearn(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """The chord."""
        chord: NDArray[np.float64] = np.sqrt(2 * D)
        return chord

    @staticmethod
    def _of_whole_numbers(xq: NDArray[np.float64], stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 - cos of queries (nq, d) and candidates (nq, m, d)."""
        dot = sum_in_lanes(stored * xq[:, None, :])
        squares = sum_in_lanes(np.square(xq))[:, None] * sum_in_lanes(np.square(stored))
        cosine: NDArray[np.float64] = np.maximum(1 - dot / np.sqrt(squares), 0)
        return cosine


@dataclass(frozen=True)
class L1(FaissMetric):
    """The sum of absolute differences, exact between whole numbers while below 2^53; no bounds hold."""

    name = "l1"
    sklearn = "manhattan"
    power = 1
    scan_cost = 0.00006
    faiss_type = faiss.METRIC_L1

    def unit(self, scale: float) -> float:
        """Of the values themselves."""
        return 1 / scale

    def lengths(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums of absolute values."""
        lengths: NDArray[np.float64] = np.abs(x).sum(axis=1).astype(np.float64)
        return lengths

    def from_length(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """As it is."""
        return length

    def reduced(self, xq: NDArray[np.generic], stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """The distance itself."""
        difference = self._differences(xq, stored)
        return sum_in_lanes(np.abs(difference, out=difference))


METRICS: dict[MetricName, Metric] = {metric.name: metric for metric in (L2(), Cosine(), L1())}
