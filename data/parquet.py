"""Streaming Parquet files: a few batches in memory, whatever the size of files and row groups."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import ImageFileError
from .inputs import InputFile
from .locations import describe_os_error
from .text import describe_error

HEAD_ROWS = 64
_BUFFER = 1 << 20
_BUDGET = 1 << 24  # pixels of a batch: as float64, the widest form they pass through, 128 MiB
_BATCH_BYTES = 1 << 27  # of a batch as Arrow holds it
_ROW_BYTES = 1 << 30  # a row that may be larger is no image
_NUMBER_BYTES = 12  # of a number in a list: itself, and its two levels
# What PyArrow raises for damaged files: its own errors (some are only MemoryError, ValueError or KeyError too), those
# of decoding names that are not UTF-8, and those of an extension type that cannot be made from what the file says.
_UNREADABLE = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
)


@contextmanager
def open_parquet(source: InputFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for streaming.

    Without pre-buffering and with a buffer of its own for each column, pyarrow does not hold a whole row group.

    Raises:
        ImageFileError: it is not a Parquet file.
    """
    with source.open() as stream:
        with _told_by_name(source):
            file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER)
            _ = file.schema_arrow.names  # which fails where they are not UTF-8
        yield file


@contextmanager
def _told_by_name(source: InputFile) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else describe_error(error)
        raise ImageFileError(
            f"cannot read {source.shown} as Parquet: {reason}; for IDX, CSV and NPZ files there is knnvote convert"
        ) from error


def read_head(source: InputFile, file: pq.ParquetFile) -> pa.Table:
    """The first rows of every column, to recognise what the file holds.

    Raises:
        ImageFileError: they cannot be read.
    """
    rows = _bounded_rows(source, file, file.schema_arrow.names, HEAD_ROWS, first_only=True)
    with _told_by_name(source):
        for batch in file.iter_batches(rows, use_threads=False):
            return pa.Table.from_batches([batch])
        return pa.Table.from_batches([], file.schema_arrow)  # empty_table() takes no permuted tensors


def read_batches(
    source: InputFile, file: pq.ParquetFile, *, columns: Sequence[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """All rows of some columns, in order, `batch_size` at a time (the last batch, and some others, may be shorter).

    Raises:
        ImageFileError: a column's name is not there once and only once, or rows cannot be read or are not all there.
    """
    for name in columns:
        found = file.schema_arrow.names.count(name)
        if found != 1:
            raise ImageFileError(
                f"{source.shown} has {found} columns named {name!r}, and one was expected: write the file again so"
            )
    rows, seen = _bounded_rows(source, file, columns, batch_size), 0
    with _told_by_name(source):
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            seen += batch.num_rows
            yield batch
    if seen != file.metadata.num_rows:
        raise ImageFileError(
            f"{source.shown} holds {seen:,} rows, and its footer says {file.metadata.num_rows:,}: write the file again"
        )


def _bounded_rows(
    source: InputFile, file: pq.ParquetFile, names: Collection[str], rows: int, *, first_only: bool = False
) -> int:
    """As many rows, or fewer where those of some row group may be large, to hold at a time.

    Where only the first rows are wanted, only the row groups that hold them count.

    Raises:
        ImageFileError: a row may be larger than any image, or the footer cannot be read.
    """
    largest = seen = 0
    with _told_by_name(source):
        leaves = [leaf for leaf, path in enumerate(file.reader.column_paths) if path[0] in names]
        for group in range(file.metadata.num_row_groups):
            # PyArrow ends the process if Python asks for a chunk whose figures make no sense. No rows of it, asked for
            # first, raise instead.
            next(file.reader.iter_batches(0, [group], use_threads=False), None)
            largest = max(largest, sum(_row_bytes(source, file, group, leaf, rows) for leaf in leaves))
            seen += file.metadata.row_group(group).num_rows
            if first_only and seen >= rows:
                break
    if largest > _ROW_BYTES:
        raise ImageFileError(
            f"{source.shown}: a row may take {largest:,} bytes, and at most {_ROW_BYTES:,} are read: "
            "leave out the column that is so large"
        )
    return max(1, min(rows, _BATCH_BYTES // max(1, largest)))


def _row_bytes(source: InputFile, file: pq.ParquetFile, group: int, leaf: int, rows: int) -> int:
    """What a row of a column chunk takes on average, or may take where a dictionary holds values that repeat."""
    n, chunk = file.metadata.row_group(group).num_rows, file.metadata.row_group(group).column(leaf)
    values = -(-chunk.num_values // max(1, n))
    if chunk.physical_type != "BYTE_ARRAY":
        return int(values * max(_NUMBER_BYTES, file.metadata.schema.column(leaf).length))
    held = int(chunk.total_uncompressed_size // max(1, n))
    # A dictionary is at most as large as its chunk: small ones need no look.
    if chunk.has_dictionary_page and chunk.total_uncompressed_size * min(rows, n) > _BATCH_BYTES:
        held = max(held, values * _longest_in_dictionary(source, file, group, chunk.path_in_schema))
    return held


def _longest_in_dictionary(source: InputFile, file: pq.ParquetFile, group: int, path: str) -> int:
    """Bytes of the longest value in the dictionary of a column chunk of binary or text."""
    with source.open() as stream:
        as_dictionary = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=[path], pre_buffer=False)
        for batch in as_dictionary.iter_batches(1, row_groups=[group], columns=[path], use_threads=False):
            column = batch.column(0)
            while not pa.types.is_dictionary(column.type) and column.type.num_fields:
                column = column.field(0) if pa.types.is_struct(column.type) else column.flatten()
            values = column.dictionary if pa.types.is_dictionary(column.type) else column
            return int(pc.max(pc.binary_length(values)).as_py() or 0)
    return 0


def rows_within_budget(d: int, rows: int) -> int:
    """How many images of d pixels to hold at a time: `rows` of them, or fewer where they are large."""
    return max(1, min(rows, _BUDGET // max(1, d)))


def count_rows(source: InputFile) -> int:
    """Rows as the footer has them; 0 for a file that cannot be read, which is told when its turn comes."""
    try:
        with open_parquet(source) as file:
            return int(file.metadata.num_rows)
    except ImageFileError:
        return 0


def schema_metadata_without_images(schema: pa.Schema) -> pa.Schema:
    """A schema less metadata that describe columns which are no longer all there, or are the receipt of an output."""
    stale = (b"huggingface", b"pandas", b"knnvote")
    kept: dict[Any, Any] = {key: value for key, value in (schema.metadata or {}).items() if key not in stale}
    return schema.with_metadata(kept or None)


def take_rows(
    source: InputFile, file: pq.ParquetFile, wanted: NDArray[np.int64], *, columns: Sequence[str], batch_size: int
) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """Some rows of a file.

    Args:
        source: the file, for messages.
        file: the same, open.
        wanted: (m,) rows from 0, ascending; batches behind the last are not read.
        columns: that are read.
        batch_size: rows read at a time, at most.

    Yields:
        Which of the wanted rows these are, and a table of them.
    """
    start = 0
    if not len(wanted):
        return
    for batch in read_batches(source, file, columns=columns, batch_size=min(batch_size, int(wanted[-1]) + 1)):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
        if len(here):
            yield here, pa.Table.from_batches([batch]).take(pa.array(here - start))
        start += batch.num_rows
        if start > wanted[-1]:
            return
