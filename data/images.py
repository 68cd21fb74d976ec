"""Images as Arrow holds them to vectors of numbers, and numbers from one type to another without loss."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .codec import CodecError, decode_into
from .columns import fixed_shape, read_column, unfold_lists
from .errors import KnnvoteError
from .layout import Layout, compatible, show_shape

Numbers = NDArray[Any]
Reasons = dict[int, str]

_LARGEST_EXACT = 1 << 53  # float64 holds every integer up to here.


def decode_images(batch: pa.RecordBatch | pa.Table, layout: Layout) -> tuple[Numbers, Reasons]:
    """Decode the images of a batch.

    Args:
        batch: rows of a file, with the layout's columns among others.
        layout: of that file.

    Returns:
        (n, d) numbers, C-contiguous and perhaps read-only views of the batch, in the source's own type
        (booleans as uint8, float16 as float32), zeros where the image is bad; and the reason for each bad
        row, by its number in the batch.
    """
    if layout.kind == "encoded":
        return _decode_encoded(read_column(batch, layout.name), layout)
    if layout.kind == "wide":
        return _blank(*_wide(batch, layout))
    column = read_column(batch, layout.columns[0])
    if layout.kind == "raw":
        return _blank(*_raw(column, layout))
    vectors, null, bad = _lists(column, layout)
    kind = batch.schema.field(layout.name).type
    if layout.kind == "tensor" and kind.permutation:
        vectors, null = (_permute(matrix, kind) for matrix in (vectors, null))
    return _blank(vectors, null, bad)


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


def _blank(vectors: Numbers, null: Numbers, bad: Reasons) -> tuple[Numbers, Reasons]:
    """Make rows with null, NaN or infinite pixels bad; null is (n, d), or of no rows if nothing is null."""
    if len(null):
        bad = _explain(null, vectors, lambda place, _: f"null pixel at {place}") | bad
    if vectors.dtype.kind == "f":
        bad = _explain(~np.isfinite(vectors), vectors, _not_finite) | bad
    return _zero_rows(vectors, bad), dict(sorted(bad.items()))


def _decode_encoded(column: pa.Array, layout: Layout) -> tuple[Numbers, Reasons]:
    held = layout.held_shape or layout.shape
    vectors = np.zeros((len(column), layout.d), np.uint8)
    places = vectors.reshape(len(column), *held) if layout.d else vectors
    deep: dict[int, Numbers] = {}
    bad: Reasons = {}
    for row, data in enumerate(column.to_pylist()):
        place = places[row]
        try:
            image = _decode_one(data, place, grayscale=layout.grayscale)
        except CodecError as error:
            place[...] = 0
            bad[row] = str(error)
            continue
        if image.dtype == np.uint16:
            deep[row] = image
        elif image is not place:
            vectors[row] = image.ravel()
    if not deep:
        return vectors, bad
    wider = vectors.astype(np.uint16)
    for row, image in deep.items():
        wider[row] = image.ravel()
    return wider, bad


def _decode_one(data: bytes | None, place: Numbers, *, grayscale: bool) -> Numbers:
    """The image, of the shape of its place or as many pixels if that is flat; the place itself if it can."""
    if data is None:
        raise CodecError("null image")
    image = decode_into(data, place, grayscale=grayscale)
    if not compatible(image.shape, place.shape):
        raise CodecError(f"image is {show_shape(image.shape)}, expected {show_shape(place.shape)}")
    return image


def _raw(column: pa.Array, layout: Layout) -> tuple[Numbers, Numbers, Reasons]:
    n, null = len(column), column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_binary(column.type):
        size = column.type.byte_width
        lengths = np.full(n, size)
        first, last = column.offset * size, (column.offset + n) * size
    else:
        kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
        offsets = _view(column.buffers()[1], kind, column.offset, n + 1)
        lengths = np.diff(offsets) if n else np.zeros(0, np.int64)
        first, last = (int(offsets[0]), int(offsets[-1])) if n else (0, 0)
    pixels = _view(column.buffers()[-1], np.uint8, first, last - first)
    bad = dict.fromkeys(np.flatnonzero(null).tolist(), "null image")
    for row in np.flatnonzero((lengths != layout.d) & ~null).tolist():
        bad[row] = f"{lengths[row]} bytes, expected {layout.d}"
    return _rows(pixels, lengths, bad, layout.d), np.zeros((0, 0), np.bool_), bad


def _lists(column: pa.Array, layout: Layout) -> tuple[Numbers, Numbers, Reasons]:
    """Vectors, where their pixels are null (of no rows if none is), and bad rows."""
    levels, counts, numbers = unfold_lists(column)
    held = fixed_shape(column.type) or layout.held_shape or layout.shape
    bad: Reasons = {}
    for depth, level in enumerate(levels):
        # Where the first rows told nothing of lists within lists, only the number of pixels can be held to.
        wrong = level.length != held[depth] if len(held) == len(levels) else level.null
        wrong_lists = np.flatnonzero(wrong | level.null)
        rows, first = np.unique(level.row[wrong_lists], return_index=True)
        for row, at in zip(rows.tolist(), wrong_lists[first].tolist(), strict=True):
            bad.setdefault(row, _wrong_list(level.null[at], level.length[at], depth, held, len(levels)))
    for row in np.flatnonzero(counts != layout.d).tolist():
        bad.setdefault(row, f"{counts[row]} values, expected {layout.d}")
    vectors = _rows(_numbers(numbers), counts, bad, layout.d)
    if not numbers.null_count:
        return vectors, np.zeros((0, 0), np.bool_), bad
    return vectors, _rows(numbers.is_null().to_numpy(zero_copy_only=False), counts, bad, layout.d), bad


def _wrong_list(null: bool, length: int, depth: int, held: tuple[int, ...], depths: int) -> str:
    if null:
        return "null image" if depth == 0 else "null row of pixels"
    if depth:
        return f"a row of {length} pixels, expected {held[depth]}"
    return f"{length} {'values' if depths == 1 else 'rows of pixels'}, expected {held[0]}"


def _wide(batch: pa.RecordBatch | pa.Table, layout: Layout) -> tuple[Numbers, Numbers, Reasons]:
    columns = [read_column(batch, name) for name in layout.columns]
    pixels = [_numbers(column) for column in columns]
    by_pixel = np.stack(pixels, dtype=np.result_type(*{values.dtype for values in pixels}), casting="unsafe")
    vectors = np.ascontiguousarray(by_pixel.T)
    if not any(column.null_count for column in columns):
        return vectors, np.zeros((0, 0), np.bool_), {}
    return vectors, np.stack([c.is_null().to_numpy(zero_copy_only=False) for c in columns], axis=1), {}


def _permute(matrix: Numbers, kind: pa.FixedShapeTensorType) -> Numbers:
    """Rows in the order in which users see a tensor, from the order in which it is stored."""
    axes = [axis + 1 for axis in kind.permutation]
    return matrix.reshape(len(matrix), *kind.shape).transpose(0, *axes).reshape(len(matrix), math.prod(kind.shape))


def _rows(values: Numbers, counts: Numbers, bad: Reasons, d: int) -> Numbers:
    """(n, d) of values that lie row by row, counts[i] in row i: a view, or a copy with bad rows zero."""
    if not bad:
        return values.reshape(len(counts), d)
    good = np.ones(len(counts), np.bool_)
    good[list(bad)] = False
    rows = np.zeros((len(counts), d), values.dtype)
    rows[good] = values[np.repeat(good, counts)].reshape(np.count_nonzero(good), d)
    return rows


def _numbers(array: pa.Array) -> Numbers:
    """The numbers of a flat array without a copy, any value where null; bool and float16 are converted."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    numbers = _view(array.buffers()[1], array.type.to_pandas_dtype(), array.offset, len(array))
    return numbers.astype(np.float32) if numbers.dtype == np.float16 else numbers


def _view(buffer: pa.Buffer | None, dtype: Any, first: int, count: int) -> Numbers:
    """Elements of an Arrow buffer, from the first of so many, read-only; without any it may be missing."""
    if count == 0 or buffer is None:
        return np.zeros(count, dtype)
    view = np.frombuffer(buffer, dtype, count, first * np.dtype(dtype).itemsize)
    view.flags.writeable = False
    return view
