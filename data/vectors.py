"""Vectors of numbers: from one type to another without loss, rows of them that cannot be used, and their scale."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KnnvoteError

Numbers = NDArray[Any]
Reasons = dict[int, str]  # why a row cannot be used, by its number

TOO_MANY = 1 / 10  # of some vectors, if they are far beyond others
FEW = 20  # vectors, which may well be all faint
LARGEST_EXACT = 1 << 53  # float64 holds every integer up to here
_BEYOND = 1 / 4  # of the width of a range: what a few new vectors exceed it by is less
_NARROW = 1 / 8  # of the usual width of a vector
_SAMPLE = 256  # vectors
_INT8 = np.iinfo(np.int8)
_LANES = 32


def smallest_type(vectors: Numbers) -> Numbers:
    """Convert finite numbers to the smallest type that holds them all without loss.

    Args:
        vectors: (n, d) integers or floats.

    Returns:
        (n, d) uint8, uint16, uint32 or, where some are negative, int8 for integers; float16 for float16; float32, else
        float64, for other floats and for integers that none of these holds.

    Raises:
        KnnvoteError: an integer beyond 2**53 that none of these holds.
    """
    if vectors.dtype.kind in "biu":
        low, high = (int(vectors.min()), int(vectors.max())) if vectors.size else (0, 0)
        if low >= 0:
            for unsigned in (np.uint8, np.uint16, np.uint32):
                if high <= np.iinfo(unsigned).max:
                    return vectors.astype(unsigned, copy=False)
        elif low >= _INT8.min and high <= _INT8.max:
            return vectors.astype(np.int8, copy=False)
        if max(-low, high) > LARGEST_EXACT:
            worst = high if high >= -low else low
            raise KnnvoteError(f"value {worst} is beyond 2**53, which no float holds exactly: scale the images")
    if vectors.dtype.itemsize == 2 and vectors.dtype.kind == "f":
        return vectors.astype(np.float16, copy=False)
    with np.errstate(over="ignore"):
        single = vectors.astype(np.float32, copy=False)
    return single if np.array_equal(single.astype(vectors.dtype), vectors) else vectors.astype(np.float64, copy=False)


@dataclass
class CommonType:
    """The type that holds several results of `smallest_type` without loss, however they are split.

    Bytes that int8 holds too join it; other unsigned numbers and negative ones are floats together.

    Attributes:
        names: of the types of the results.
        fit_int8: whether the unsigned ones among them fit int8.
    """

    names: set[str] = field(default_factory=set)
    fit_int8: bool = True

    def add(self, block: Numbers) -> None:
        """Take one more."""
        self.names.add(block.dtype.name)
        self.fit_int8 = self.fit_int8 and bool(block.dtype.kind != "u" or block.max(initial=0) <= _INT8.max)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one result at least."""
        dtypes = {np.dtype(name) for name in self.names}
        if np.dtype(np.int8) in dtypes and not self.fit_int8:
            dtypes.add(np.dtype(np.float32))
        if any(dtype.kind == "f" for dtype in dtypes):
            dtypes.discard(np.dtype(np.int8))  # every float holds it, and beside unsigned numbers it stands for more
        elif np.dtype(np.int8) in dtypes:
            return np.dtype(np.int8)
        return np.result_type(*dtypes)


def common_type(blocks: Iterable[Numbers]) -> np.dtype[Any]:
    """The `CommonType` of several results of `smallest_type`, one at least."""
    common = CommonType()
    for block in blocks:
        common.add(block)
    return common.dtype


def convert_queries(vectors: Numbers, stored: np.dtype[Any]) -> tuple[Numbers, Reasons]:
    """Convert query images to the type in which they are compared with stored ones; nothing is rescaled.

    Args:
        vectors: (nq, d) numbers of any type.
        stored: type of the stored vectors, as `smallest_type` has it.

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
    return zero_rows(vectors, bad).astype(np.float64, copy=False), bad


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
        bad = _explain(null, vectors, lambda place, _: f"null value at {place}") | bad
    if vectors.dtype.kind == "f":
        bad = _explain(~np.isfinite(vectors), vectors, _not_finite) | bad
    return zero_rows(vectors, bad), dict(sorted(bad.items()))


def _to_unsigned(vectors: Numbers, stored: np.dtype[Any]) -> tuple[Numbers, Reasons]:
    if np.can_cast(vectors.dtype, stored):
        return vectors.astype(stored, copy=False), {}
    with np.errstate(invalid="ignore"):
        converted = vectors.astype(stored)
    # What does not fit comes out as some number in range, and so unequal.
    whole = f"a whole number from 0 to {np.iinfo(stored).max}, as the index stores; knnvote never rescales"
    bad = _explain(converted != vectors, vectors, lambda _, value: f"value {value!s} is not {whole}")
    converted[list(bad)] = 0
    return converted, bad


def _exact_in_float64(vectors: Numbers) -> NDArray[np.bool_]:
    fits: NDArray[np.bool_] = vectors <= LARGEST_EXACT
    return fits & (vectors >= -LARGEST_EXACT) if vectors.dtype.kind == "i" else fits


def _not_exact(_: int, value: Any) -> str:
    return f"value {value} is beyond 2**53, where floats no longer hold every whole number"


def _not_finite(place: int, value: Any) -> str:
    return f"value {place} is {'NaN' if np.isnan(value) else 'infinite'}"


def _explain(wrong: NDArray[np.bool_], vectors: Numbers, reason: Callable[[int, Any], str]) -> Reasons:
    """The reason for each row with a wrong value, told of the first: reason(its place, its value)."""
    rows = np.flatnonzero(wrong.any(axis=1))
    places = wrong[rows].argmax(axis=1) if len(rows) else rows
    return {row: reason(place, vectors[row, place]) for row, place in zip(rows.tolist(), places.tolist(), strict=True)}


def zero_rows(vectors: Numbers, bad: Reasons) -> Numbers:
    """The vectors with bad rows zero; copied only if there are any."""
    if bad:
        vectors = vectors.copy()
        vectors[list(bad)] = 0
    return vectors


def sum_in_lanes(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of terms (..., d) along the last axis, in the one order that the compiled kernel has too.

    The i-th term goes to partial sum i mod 32, and at the end the upper half of these is added to the lower until one
    is left.
    """
    whole = terms.shape[-1] // _LANES * _LANES
    sums: NDArray[np.float64] = terms[..., :whole].reshape(*terms.shape[:-1], whole // _LANES, _LANES).sum(axis=-2)
    sums[..., : terms.shape[-1] - whole] += terms[..., whole:]
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]


def ends(vectors: Numbers) -> tuple[float, float]:
    """The least and the greatest of finite numbers (n, d), one at least, as Python has them.

    NumPy takes fifty times as long for float16 as for float32. The bits of float16, taken as integers, ascend with its
    numbers from 0 up, and without their sign with those below.
    """
    if vectors.dtype != np.float16:
        return vectors.min().item(), vectors.max().item()
    signed, bits = vectors.view(np.int16), vectors.view(np.uint16)
    low, high = signed.min(), signed.max()
    found = np.array([low if low >= 0 else bits.max(), high if high >= 0 else low]).astype(np.uint16)
    least, greatest = (found.view(np.float16) + 0).tolist()
    return least, greatest


def far_beyond(vectors: Numbers, low: float, high: float) -> NDArray[np.bool_]:
    """(n,) whether any number of a vector is far beyond a range."""
    room = _BEYOND * (high - low)
    least, greatest = (ends.astype(np.float64) for ends in (vectors.min(axis=1), vectors.max(axis=1)))
    far: NDArray[np.bool_] = (least < low - room) | (greatest > high + room)
    return far


def is_narrow(low: float, high: float, others: Numbers) -> bool:
    """Whether all of a range is a small part of what one of some other vectors (n, d) spans."""
    return 0 < high - low < _NARROW * _usual_width(others)


def all_equal(pieces: Sequence[Numbers]) -> bool:
    """Whether vectors, in pieces (m, d), are several and the same."""
    pieces = [piece for piece in pieces if len(piece)]
    first, last = pieces[0][0], pieces[-1][-1]
    ends_differ = sum(map(len, pieces)) < 2 or (first != last).any()
    return not ends_differ and all(
        bool((piece.min(axis=0) == first).all() and (piece.max(axis=0) == first).all()) for piece in pieces
    )


def scales_told(sources: Mapping[str, tuple[Numbers, np.dtype[Any]]]) -> str | None:
    """What is to be told where vectors of one source are of another scale than those of the largest.

    Args:
        sources: by name the vectors (m, d) of each, in whatever type, and the type that they alone need.

    Returns:
        A line for people with both ranges; None where there is nothing to tell.
    """
    found = {name: vectors for name, (vectors, _) in sources.items() if len(vectors)}
    largest = max(found, key=lambda name: len(found[name]))
    most = _sample(found[largest]).astype(sources[largest][1])
    for name, vectors in found.items():
        some = _sample(vectors).astype(sources[name][1])
        if name != largest and _are_unlike(some, most):
            (low, high), (least, greatest) = (ends(found[one]) for one in (name, largest))
            return (
                f"images of {name} range from {low:g} to {high:g}, and those of {largest} from {least:g} to "
                f"{greatest:g}: they are stored as they are, for nothing is rescaled; store images of one scale alone"
            )
    return None


def _are_unlike(one: Numbers, other: Numbers) -> bool:
    """Whether vectors of two sources are of unlike scales, and not one alone darker than the other.

    Of few vectors it is told by whole numbers beside fractions.
    """
    if min(len(one), len(other)) < FEW and (one.dtype.kind == "f") == (other.dtype.kind == "f"):
        return False
    one, other = one.astype(np.float64), other.astype(np.float64)
    return any(
        is_narrow(float(some.min()), float(some.max()), beside) or _are_far_below(some, beside)
        for some, beside in ((one, other), (other, one))
    )


def _are_far_below(some: Numbers, beside: Numbers) -> bool:
    """Whether many of some vectors have a number far below all of others, which have a scale."""
    low, high = float(beside.min()), float(beside.max())
    below = some.min(axis=1) < low - _BEYOND * (high - low)
    return bool(np.mean(below) > TOO_MANY) and _usual_width(beside) > 0


def _usual_width(vectors: Numbers) -> float:
    """The median of the ranges of vectors, of some of them; one far-out number of one of them does not widen it."""
    some = _sample(vectors)
    with np.errstate(over="ignore"):
        widths, columns = (
            some.max(axis=axis).astype(np.float64) - some.min(axis=axis).astype(np.float64) for axis in (1, 0)
        )
    usual = float(np.median(widths))
    # Numbers of unlike meanings have no scale in common.
    return usual if np.median(columns) >= _NARROW * usual else 0.0


def _sample(vectors: Numbers) -> Numbers:
    return vectors[:: -(-len(vectors) // _SAMPLE)]
