"""Arrow columns as plain arrays, and their types."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import ImageFileError
from .text import describe_error


@dataclass(frozen=True)
class ListLevel:
    """The lists at one depth of a column of lists.

    Attributes:
        row: (m,) the row of the column that each list belongs to.
        length: (m,) elements of each list, 0 where it is null.
        null: (m,) whether it is null.
    """

    row: NDArray[np.int64]
    length: NDArray[np.int64]
    null: NDArray[np.bool_]


def read_column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    """A column as one array of a plain type.

    Tensors become lists, structs but vectors their bytes, dictionaries their values and views plain binary.
    """
    column = batch.column(name)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.storage_type
        chunks = [chunk.storage for chunk in chunks]
    # To combine chunks copies them, even if there is but one.
    plain = chunks[0] if len(chunks) == 1 else pa.chunked_array(chunks, type=kind).combine_chunks()
    if pa.types.is_struct(kind) and not is_vector(kind):
        plain = pc.struct_field(plain, "bytes")
    if pa.types.is_dictionary(plain.type):
        plain = plain.dictionary_decode()
    return plain.cast(pa.large_binary()) if pa.types.is_binary_view(plain.type) else plain


_USUAL_LABELS = ("label", "labels", "class", "target", "y", "digit", "category")


def is_usual_label(name: str) -> bool:
    """Whether a column's name is one that labels usually have."""
    return name.lower() in _USUAL_LABELS


def may_hold_images(kind: pa.DataType) -> bool:
    """Whether a column of a type may hold images of which its rows alone tell how and of what shape."""
    if is_vector(kind):
        return True
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0 and is_binary(kind.field("bytes").type))
    return is_binary(kind) or (is_list(kind) and not fixed_shape(kind))


def has_filled(batch: pa.RecordBatch | pa.Table, name: str) -> bool:
    """Whether any value of a column that may hold images is there and of some length."""
    return bool(pc.any(pc.greater(_lengths(batch, name), 0)).as_py())


def first_filled(batch: pa.RecordBatch, name: str, rows: int) -> list[pa.Array]:
    """The first values of a column that may hold images which are there and of some length, each an array of its own.

    Arrow filters and takes no views; it slices all.
    """
    is_filled = pc.fill_null(pc.greater(_lengths(batch, name), 0), False).to_numpy(zero_copy_only=False)
    return [batch.column(name).slice(place, 1) for place in np.flatnonzero(is_filled)[:rows].tolist()]


def _lengths(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = read_column(batch, name)
    if is_vector(column.type):
        return vector_lengths(column)
    return pc.list_value_length(column) if is_list(column.type) else pc.binary_length(column)


def without_blanks(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Values (n,) with null for blank texts and NaN, as programs write what is not filled in; dictionaries decoded."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_float(values.type):
        is_blank = pc.is_nan(values)
    elif is_string(values.type):
        values = values.cast(pa.string()) if pa.types.is_string_view(values.type) else values
        is_blank = pc.equal(pc.utf8_trim_whitespace(values), "")
    elif is_binary(values.type):
        values = values.cast(pa.large_binary())
        is_blank = pc.equal(pc.binary_length(values), 0)
    else:
        return values
    return pc.if_else(is_blank, pa.scalar(None, values.type), values)


def check_text(column: pa.Array | pa.ChunkedArray, name: str) -> None:
    """Refuse text that is not UTF-8: writers of Parquet need not look.

    Raises:
        ImageFileError: naming the column.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ImageFileError(
            f"the column {name!r} holds text that is not UTF-8, or is damaged ({describe_error(error)}): "
            "write the file again in UTF-8"
        ) from error


def unfold_lists(column: pa.Array) -> tuple[list[ListLevel], NDArray[np.int64], pa.Array]:
    """Take nested lists apart, without a copy of their numbers where no list is null.

    Returns:
        The levels from the outermost, (n,) how many numbers lie in each row, and the numbers row by row.
    """
    levels, row = [], np.arange(len(column))
    counts = np.ones(len(column), np.int64)
    while is_list(column.type):
        null = column.is_null().to_numpy(zero_copy_only=False)
        length = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        levels.append(ListLevel(row, length, null))
        counts = np.bincount(row, weights=length, minlength=len(counts)).astype(np.int64)
        column = column.flatten()
        if is_list(column.type):
            row = np.repeat(row, length)
    return levels, counts, column


def read_numbers(array: pa.Array) -> NDArray[Any]:
    """The numbers of a flat array without a copy, any value where null; bool becomes uint8."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    return view_buffer(array.buffers()[1], array.type.to_pandas_dtype(), array.offset, len(array))


def vector_lengths(vectors: pa.StructArray) -> pa.Array:
    """(n,) how many numbers each of Spark's vectors has: a dense one holds them all, a sparse one says it."""
    _, size, _, values = vectors.flatten()
    return pc.coalesce(size, pc.list_value_length(values))


def view_buffer(buffer: pa.Buffer | None, dtype: Any, first: int, count: int) -> NDArray[Any]:
    """Elements of an Arrow buffer, from the first of so many, read-only; without any it may be missing."""
    if count == 0 or buffer is None:
        return np.zeros(count, dtype)
    view = np.frombuffer(buffer, dtype, count, first * np.dtype(dtype).itemsize)
    view.flags.writeable = False
    return view


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of any sort."""
    t = pa.types
    return bool(
        t.is_fixed_size_list(kind)
        or t.is_list(kind)
        or t.is_large_list(kind)
        or t.is_list_view(kind)
        or t.is_large_list_view(kind)
    )


def is_binary(kind: pa.DataType) -> bool:
    """Whether an Arrow type is binary of any sort, dictionaries of it included."""
    if pa.types.is_dictionary(kind):
        return is_binary(kind.value_type)
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind))


def is_vector(kind: pa.DataType) -> bool:
    """Whether an Arrow type is that of Spark's vectors, dense and sparse ones alike."""
    if not (pa.types.is_struct(kind) and kind.names == ["type", "size", "indices", "values"]):
        return False
    tag, size, indices, values = (field.type for field in kind)
    return bool(
        pa.types.is_int8(tag)
        and pa.types.is_int32(size)
        and is_list(indices)
        and pa.types.is_int32(indices.value_type)
        and is_list(values)
        and pa.types.is_float64(values.value_type)
    )


def is_string(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a string of any sort."""
    t = pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is an integer, a float or a boolean."""
    return bool(pa.types.is_integer(kind) or is_float(kind) or pa.types.is_boolean(kind))


def is_float(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a float of any width."""
    return bool(pa.types.is_floating(kind))


def innermost(kind: pa.DataType) -> pa.DataType:
    """The type of the elements of nested lists."""
    return innermost(kind.value_type) if is_list(kind) else kind


def logical_shape(kind: pa.FixedShapeTensorType) -> tuple[int, ...]:
    """The shape of a tensor as its users see it: the stored one, permuted."""
    order = kind.permutation or range(len(kind.shape))
    return tuple(kind.shape[axis] for axis in order)


def fixed_shape(kind: pa.DataType) -> tuple[int, ...]:
    """The shape that a type of nested fixed-size lists tells; () if a list's length varies."""
    shape: list[int] = []
    while is_list(kind):
        if not pa.types.is_fixed_size_list(kind):
            return ()
        shape.append(kind.list_size)
        kind = kind.value_type
    return tuple(shape)
