"""Vectors of numbers: from one type to another without loss, and rows of them that cannot be used."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KnnvoteError

Numbers = NDArray[Any]
Reasons = dict[int, str]  # why a row cannot be used, by its number

_LARGEST_EXACT = 1 << 53  # float64 holds every integer up to here.


def smallest_type(vectors: Numbers) -> Numbers:
    """Convert finite numbers to the smallest type that holds them all without loss.

    Args:
        vectors: (n, d) integers or floats.

    Returns:
        (n, d) uint8, uint16 or uint32 for integers; float32, else float64, for floats and for integers that
        are negative or larger.

    Raises:
        KnnvoteError: an integer beyond 2**53 that none of these holds.
    """
    if vectors.dtype.kind in "biu":
        low, high = (int(vectors.min()), int(vectors.max())) if vectors.size else (0, 0)
        if low >= 0:
            for unsigned in (np.uint8, np.uint16, np.uint32):
                if high <= np.iinfo(unsigned).max:
                    return vectors.astype(unsigned, copy=False)
        if max(-low, high) > _LARGEST_EXACT:
            worst = high if high >= -low else low
            raise KnnvoteError(f"pixel {worst} is beyond 2**53, which no float holds exactly: scale the images")
    with np.errstate(over="ignore"):
        single = vectors.astype(np.float32, copy=False)
    return single if np.array_equal(single.astype(vectors.dtype), vectors) else vectors.astype(np.float64, copy=False)


def common_type(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The type that holds the numbers of several results of smallest_type without loss, one type at least."""
    return np.result_type(*dtypes)


def convert_queries(vectors: Numbers, stored: np.dtype[Any]) -> tuple[Numbers, Reasons]:
    """Convert query images to the type in which they are compared with stored ones; nothing is rescaled.

    Args:
        vectors: (nq, d) numbers of any type.
        stored: type of the stored vectors: uint8, uint16, uint32, float32 or float64.

    Returns:
        (nq, d) of the stored type if that is unsigned, else float64, zeros where a row does not convert; and
        the reason for each such row, by its number.
    """
    if stored.kind == "u":
        return _to_unsigned(vectors, stored)
    if vectors.dtype.kind == "f":
        bad = _explain(~np.isfinite(vectors), vectors, _not_finite)
    elif vectors.dtype.itemsize == 8:
        bad = _explain(~_exact_in_float64(vectors), vectors, _not_exact)
    else:
        bad = {}
    return _zero_rows(vectors, bad).astype(np.float64, copy=False), bad


def blank_unusable(vectors: Numbers, null: Numbers | None, bad: Reasons) -> tuple[Numbers, Reasons]:
    """Make rows with null, NaN or infinite numbers bad.

    Args:
        vectors: (n, d) numbers of any type.
        null: (n, d) whether each is null; None where none is.
        bad: rows that are bad already.

    Returns:
        (n, d) the vectors, copied only if there are bad rows, which are zero; and the reason for each, in order.
    """
    if null is not None:
        bad = _explain(null, vectors, lambda place, _: f"null pixel at {place}") | bad
    if vectors.dtype.kind == "f":
        bad = _explain(~np.isfinite(vectors), vectors, _not_finite) | bad
    return _zero_rows(vectors, bad), dict(sorted(bad.items()))


def _to_unsigned(vectors: Numbers, stored: np.dtype[Any]) -> tuple[Numbers, Reasons]:
    if np.can_cast(vectors.dtype, stored):
        return vectors.astype(stored, copy=False), {}
    with np.errstate(invalid="ignore"):
        converted = vectors.astype(stored)
    # What does not fit comes out as some number in range, and so unequal.
    whole = f"a whole number from 0 to {np.iinfo(stored).max}, as the index stores; knnvote never rescales"
    bad = _explain(converted != vectors, vectors, lambda _, value: f"pixel {value!s} is not {whole}")
    converted[list(bad)] = 0
    return converted, bad


def _exact_in_float64(vectors: Numbers) -> NDArray[np.bool_]:
    fits: NDArray[np.bool_] = vectors <= _LARGEST_EXACT
    return fits & (vectors >= -_LARGEST_EXACT) if vectors.dtype.kind == "i" else fits


def _not_exact(_: int, value: Any) -> str:
    return f"pixel {value} is beyond 2**53, where floats no longer hold every whole number"


def _not_finite(place: int, value: Any) -> str:
    return f"pixel {place} is {'NaN' if np.isnan(value) else 'infinite'}"


def _explain(wrong: NDArray[np.bool_], vectors: Numbers, reason: Callable[[int, Any], str]) -> Reasons:
    """The reason for each row with a wrong pixel, told of the first: reason(its place, its value)."""
    rows = np.flatnonzero(wrong.any(axis=1))
    places = wrong[rows].argmax(axis=1) if len(rows) else rows
    return {row: reason(place, vectors[row, place]) for row, place in zip(rows.tolist(), places.tolist(), strict=True)}


def _zero_rows(vectors: Numbers, bad: Reasons) -> Numbers:
    """The vectors with bad rows zero; copied only if there are any."""
    if bad:
        vectors = vectors.copy()
        vectors[list(bad)] = 0
    return vectors
