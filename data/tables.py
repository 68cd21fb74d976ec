"""Images and labels as Arrow tables, and those as Parquet files."""

import math
from collections.abc import Mapping, Set
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from .columns import is_list, is_number
from .errors import KnnvoteError, OptionError, param
from .files import atomic_write
from .layout import ImageOptions, Layout
from .layouts.wide import Wide
from .recognition import recognise_images
from .text import describe_error

_ROW_GROUP = 1 << 16


def image_table(
    images: NDArray[Any],
    labels: NDArray[Any] | pa.Array | None = None,
    *,
    image_column: str = "image",
    label_column: str = "label",
) -> pa.Table:
    """A table of images, and their labels if given.

    Args:
        images: (n, *shape) of integers, floats or booleans. Pixels that are contiguous and in the machine's
            byte order are not copied; booleans become uint8.
        labels: (n,) of any type that Arrow holds; NumPy's byte strings are taken as UTF-8.
        image_column: name of the image column, ``arrow.fixed_shape_tensor`` of the images' shape and type.
        label_column: name of the label column.

    Raises:
        KnnvoteError: images without pixels or not of numbers, labels of a number or type that does not fit.
    """
    columns, names = [image_array(images)], [image_column]
    if labels is not None:
        columns.append(labels_array(labels, len(images)))
        names.append(label_column)
    return pa.table(columns, names=names)


class SupportsArrow(Protocol):
    """A table of any library: pandas, Polars, PyArrow."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Its rows as Arrow hands them on."""


class SupportsDLPack(Protocol):
    """A tensor of any library: PyTorch, JAX, TensorFlow."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Its numbers as DLPack hands them on."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where they lie."""


def table_of(data: Any) -> pa.Table | None:
    """A table or data frame of any library as Arrow's; None of what has no named columns, such as an array.

    Columns that a DataFrame counts from 0 have no names.

    Raises:
        KnnvoteError: it has columns and cannot be read as a table, as one that is still to be computed.
    """
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return data
    if not hasattr(type(data), "columns"):
        return None
    is_pandas = hasattr(type(data), "iloc")
    try:
        if is_pandas and list(data.columns) == list(range(len(data.columns))):
            return None
        return pa.Table.from_pandas(data, preserve_index=False) if is_pandas else pa.table(data)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        library = type(data).__module__.partition(".")[0]
        raise KnnvoteError(
            f"a {type(data).__name__} of {library} cannot be read as a table ({describe_error(error)}): "
            "give a pandas or Polars DataFrame, or an Arrow table"
        ) from error


def column_of(data: Any) -> pa.Table | None:
    """One column of images, a Series or an Arrow array of lists, tensors or bytes, as a table with that alone.

    A NumPy array of lists or arrays is one too. None of what is no column, and of one of numbers, which is an array.
    """
    is_series = hasattr(type(data), "iloc") and not hasattr(type(data), "columns")
    is_of_objects = isinstance(data, np.ndarray) and data.dtype == object and data.ndim == 1
    try:
        if isinstance(data, pa.Array | pa.ChunkedArray):
            column = data
        elif is_series or is_of_objects:
            column = pa.array(data, from_pandas=is_series)
        elif hasattr(type(data), "__arrow_c_stream__") and not hasattr(type(data), "columns"):
            column = pa.chunked_array(data)
        else:
            return None
    except (pa.ArrowException, TypeError, ValueError):  # of arrays with several axes, which NumPy joins
        return None
    return None if is_number(column.type) else pa.table({"image": column})


def is_tensor(data: Any) -> bool:
    """Whether something is an array of a library that is not NumPy, such as a tensor of PyTorch."""
    kind = type(data)
    is_arrow = hasattr(kind, "__arrow_c_array__") or hasattr(kind, "__arrow_c_stream__")  # which tells what is missing
    return hasattr(kind, "__dlpack__") and not issubclass(kind, np.ndarray) and not is_arrow


def array_of(data: Any, name: str) -> NDArray[Any]:
    """An array, a tensor or nested lists of numbers as NumPy has them; memory is shared where it can be.

    A tensor is taken by its ``__array__``, or by DLPack where it has none; of arrays in one of objects, one of all.

    Args:
        data: what was given.
        name: of the parameter.

    Raises:
        OptionError: it is none, has values that are masked, or is a tensor that no array can share.
    """
    if isinstance(data, str | PurePath):
        raise OptionError(f"{param(name)} is {str(data)!r}: give an array; files are for index_files and run_job")
    if np.ma.is_masked(data):
        raise OptionError(
            f"{param(name)} has masked values, and no distance leaves any out: fill them, or drop the rows"
        )
    library, kind = type(data).__module__.partition(".")[0], type(data).__name__
    shown = f"{param(name)} of type {kind if library == 'builtins' else f'{library}.{kind}'}"
    try:
        by_dlpack = is_tensor(data) and not hasattr(type(data), "__array__")
        found = np.from_dlpack(data) if by_dlpack else np.asarray(data)
        if found.dtype == object and found.ndim == 1:
            found = np.asarray(found.tolist())
    except (RuntimeError, TypeError, ValueError, BufferError) as error:
        mend = "as tensor.detach().cpu().float().numpy() does" if is_tensor(data) else "each row as long as the first"
        why = (isinstance(data, list | tuple) and _unlike_row(data)) or describe_error(error)
        raise OptionError(f"{shown} cannot be read as an array ({why}): give numbers in memory, {mend}") from error
    if found.dtype == object and not found.ndim:
        mend = ", as its toarray() does" if hasattr(data, "toarray") else ""
        mend = "; Classifier.stream takes batches" if hasattr(data, "__next__") else mend
        raise OptionError(f"{shown} cannot be read as an array: give numbers in memory{mend}")
    return found


def values_of(given: Any, name: str) -> Any:
    """What lies beside images, such as labels, as Arrow takes it: of a tensor, or what NumPy alone reads, an array.

    Raises:
        OptionError: as `array_of`.
    """
    if is_tensor(given) or (hasattr(type(given), "__array__") and not hasattr(type(given), "__iter__")):
        given = array_of(given, name)
    if isinstance(given, np.ndarray) and not given.dtype.isnative:
        return given.astype(given.dtype.newbyteorder("="))
    return given


def check_several(given: Any, name: str, give: str) -> None:
    """Refuse what is no sequence of values in an order.

    Raises:
        OptionError: naming it, with what to give.
    """
    is_several = hasattr(given, "__len__") and getattr(given, "ndim", 1) != 0
    if not is_several or isinstance(given, str | bytes):
        raise OptionError(f"{param(name)} is {given!r}: {give}")
    if isinstance(given, Mapping | Set) or hasattr(type(given), "columns"):
        raise OptionError(f"{param(name)} is of type {type(given).__name__}: {give}")


def why_no_column(given: Any, error: BaseException) -> str:
    """Why Arrow makes no column of some values: they have several axes or are of two kinds, else as it says."""
    if getattr(given, "ndim", 1) != 1:
        return f"they have shape {np.shape(given)}"
    try:
        kinds = {type(value).__name__: row for row, value in reversed([*enumerate(given)]) if value is not None}
    except TypeError:
        return describe_error(error)
    first, *others = sorted(kinds, key=kinds.__getitem__) or [""]
    return (
        f"row {kinds[others[0]]} is of type {others[0]}, and others of type {first}"
        if others
        else describe_error(error)
    )


def _unlike_row(data: Any) -> str | None:
    """Which row is not as long as the first, or holds a row that is not; None where none is, or nothing has rows."""
    try:
        shapes = [np.shape(row) for row in data]
    except (TypeError, ValueError):
        return "a row within a row is not as long as the others"
    row = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    return None if row is None else f"row {row} has shape {shapes[row]}, and row 0 {shapes[0]}"


def check_numbers(dtype: np.dtype[Any]) -> None:
    """Refuse images of a type that is none of numbers, or of numbers that no index stores.

    Raises:
        KnnvoteError: with what to do.
    """
    if dtype.kind == "V" and dtype.itemsize == 2:
        raise KnnvoteError(
            f"images of type {dtype} cannot be used: if they are bfloat16, which NumPy saves as such, "
            "(images.view(np.uint16).astype(np.uint32) << 16).view(np.float32) are the same numbers"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise KnnvoteError(
            f"images of type {dtype} cannot be used: convert them to integers or floats of at most 64 bits"
        )


def named_values(data: Any) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Vectors, and the names of their values where they are a table with a column a value.

    Args:
        data: (n, ...) an array, or a table as `table_of` takes it or a column as `column_of` does, of n rows.

    Raises:
        KnnvoteError: a column of a table is not of numbers, or a row has a null.
    """
    table = table_of(data)
    column = column_of(data) if table is None else table
    if column is not None and (table is None or _is_of_lists(column)):
        return _decoded(column), None
    if table is None:
        return array_of(data, "images"), None
    for field in table.schema:
        if not is_number(field.type):
            raise KnnvoteError(
                f"column {field.name!r} is {field.type}: give a table with one column of numbers a value, or an array"
            )
    names = tuple(table.column_names)
    return _all_good(Wide(name="", columns=names, shape=(len(names),), grayscale=False), table), names


def _is_of_lists(table: pa.Table) -> bool:
    """Whether a table has one column, of lists or tensors."""
    kinds = table.schema.types
    return len(kinds) == 1 and (is_list(kinds[0]) or isinstance(kinds[0], pa.FixedShapeTensorType))


def _decoded(column: pa.Table) -> NDArray[Any]:
    """Images (n, *shape) of a table that has them in its one column."""
    layout = recognise_images(column, ImageOptions())
    return _all_good(layout, column).reshape(len(column), *layout.shape)


def _all_good(layout: Layout, table: pa.Table) -> NDArray[Any]:
    values, bad = layout.decode(table)
    for row, reason in bad.items():
        raise KnnvoteError(f"image {row} cannot be stored: {reason}; leave it out")
    return values


def write_new_table(table: pa.Table, path: Path) -> None:
    """Write a table as `write_table` does, but never over another: the same table that is there already may stay.

    Raises:
        KnnvoteError: the path holds something else, or cannot be written.
    """
    if not path.exists():
        write_table(table, path)
        return
    try:
        is_same = pq.read_table(path).equals(table)
    except (pa.ArrowException, OSError):
        is_same = False
    if not is_same:
        raise KnnvoteError(f"{path} exists and holds something else: give another folder, or move it away")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, whole or not at all, compressed with zstd.

    Raises:
        KnnvoteError: it cannot be written.
    """
    # Pixels repeat within an image, not image by image: a dictionary of them costs time and saves nothing.
    plain = [field.name for field in table.schema if not isinstance(field.type, pa.FixedShapeTensorType)]
    with atomic_write(path) as stream:
        pq.write_table(table, stream, compression="zstd", use_dictionary=plain, row_group_size=_ROW_GROUP)


def write_new_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV, whole or not at all and never over another, with nothing where a value is null.

    Raises:
        KnnvoteError: it cannot be written, or the path holds something by then.
    """
    with atomic_write(path, is_new=True) as stream:
        csv.write_csv(table, stream)


def image_array(images: NDArray[Any]) -> pa.Array:
    """Images as `image_table` has them in its column.

    Raises:
        KnnvoteError: they are without pixels or not of numbers.
    """
    shape = images.shape[1:]
    width = math.prod(shape)
    if images.ndim < 2 or width == 0:
        raise KnnvoteError(f"images of shape {images.shape} have no pixels: expected (n, height, width) or (n, d)")
    check_numbers(images.dtype)
    native = np.uint8 if images.dtype.kind == "b" else images.dtype.newbyteorder("=")
    pixels = pa.array(np.ascontiguousarray(images, dtype=native).reshape(-1))
    return pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pixels.type, shape), pa.FixedSizeListArray.from_arrays(pixels, width)
    )


def labels_array(labels: NDArray[Any] | pa.Array, n: int) -> pa.Array:
    """Labels of n images as `image_table` has them in its column.

    Raises:
        KnnvoteError: they are not as many, or of a type that does not fit.
    """
    try:
        array = pa.array(_plain(labels)) if isinstance(labels, np.ndarray) else labels
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise KnnvoteError(
            f"labels of type {labels.dtype} and shape {labels.shape} cannot be used ({error}): "
            "give one integer, string or boolean for each image"
        ) from error
    if len(array) != n:
        raise KnnvoteError(f"{n} images but {len(array)} labels: give one label for each image")
    return array


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """The same labels as text where they are bytes, and in the machine's byte order."""
    if labels.dtype.kind == "S":
        return np.strings.decode(labels, "utf-8")
    return labels.astype(labels.dtype.newbyteorder("="), copy=False)
