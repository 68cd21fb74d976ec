"""Weights of images: what the vote of each is multiplied by, read with them and kept beside their labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from knnvote.data.columns import is_number
from knnvote.data.errors import KnnvoteError, param
from knnvote.data.vectors import Reasons

WEIGHT = "weight"  # the column of provenance
# So far apart may weights lie, and no sum of votes is lost in rounding to 0.
LEAST, MOST = 1e-30, 1e30
_DIGITS = 40  # binary ones, of what a vote is multiplied by


@dataclass(frozen=True)
class SampleWeight:
    """What is known of the weights of stored images.

    Attributes:
        column: that held them; None for arrays.
        least: the smallest.
        most: the largest.
    """

    column: str | None
    least: float
    most: float

    @classmethod
    def of(cls, provenance: pa.Table, column: str | None) -> "SampleWeight | None":
        """Of the weights that a table has (n rows); None where it has none."""
        weights = weights_of(provenance)
        if weights is None:
            return None
        values = weights.to_numpy()
        return cls(column, float(values.min()), float(values.max()))


def weights_of(provenance: pa.Table) -> pa.Array | None:
    """The weights (n,) of images; None where they have none."""
    return provenance[WEIGHT].combine_chunks() if WEIGHT in provenance.column_names else None


def read_weights(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """Weights (n,) of a column of numbers; NaN where there is none.

    Raises:
        KnnvoteError: they are no numbers.
    """
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (is_number(column.type) or pt.is_decimal(column.type) or pt.is_null(column.type)):
        raise KnnvoteError(f"weights of type {column.type} cannot be used: give numbers")
    weights: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return weights


def unusable_weights(weights: NDArray[np.float64]) -> Reasons:
    """Why weights (n,) cannot be used, by row: there is none, or it is not above 0 and finite."""
    unusable = np.flatnonzero(~((weights >= LEAST) & (weights <= MOST)))
    return {row: _why(weights[row]) for row in unusable.tolist()}


def _why(weight: float) -> str:
    if np.isnan(weight):
        return "no weight"
    if weight == 0:
        return "weight 0, with which an image has no vote"
    if not 0 < weight < np.inf:
        return f"weight {weight:g}, which is {'below 0' if weight < 0 else 'infinite'}"
    return f"weight {weight:g}, which is not from {LEAST:g} to {MOST:g}"


def weights_from_array(given: Any, n: int) -> NDArray[np.float64]:
    """Weights (n,) that are given as an array or a sequence.

    Raises:
        KnnvoteError: they are no n numbers, or one of them cannot be used.
    """
    try:
        weights = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise KnnvoteError(f"{param('sample_weight')} is no array of numbers ({error}): give one an image") from error
    if weights.shape != (n,):
        raise KnnvoteError(f"{param('sample_weight')} has shape {weights.shape}: give ({n},), a number an image")
    for row, reason in unusable_weights(weights).items():
        raise KnnvoteError(f"image {row} has {reason}: leave it out, or give another")
    return weights


def scaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights by a power of two less than 1, so that no sum of votes overflows, as `rounded` has them."""
    return np.ldexp(rounded(weights), -np.frexp(weights.max())[1])  # type: ignore[no-any-return]


def rounded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights to 40 binary digits, so that equal votes have equal shares, four of five just 0.8.

    Sums of these are not rounded where none is a thousandth of another, as those of 0.7 would be. Whole numbers stay
    what they are, ties among their sums too.
    """
    mantissa, exponent = np.frexp(weights)
    return np.ldexp(np.round(np.ldexp(mantissa, _DIGITS)), exponent - _DIGITS)  # type: ignore[no-any-return]
