"""Streaming Parquet files: a few batches in memory, whatever the size of files and row groups."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import ImageFileError
from data.inputs import InputFile
from data.locations import describe_os_error

HEAD_ROWS = 64
_BUFFER = 1 << 20
_BUDGET = 1 << 24  # pixels of a batch: as float64, the widest form they pass through, 128 MiB


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
        yield file


@contextmanager
def _told_by_name(source: InputFile) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise ImageFileError(
            f"cannot read {source.shown} as Parquet: {reason}; for IDX, CSV and NPZ files there is knnvote convert"
        ) from error


def read_head(source: InputFile, file: pq.ParquetFile) -> pa.Table:
    """The first rows of every column, to recognise what the file holds.

    Raises:
        ImageFileError: they cannot be read.
    """
    with _told_by_name(source):
        for batch in file.iter_batches(HEAD_ROWS, use_threads=False):
            return pa.Table.from_batches([batch])
    return file.schema_arrow.empty_table()


def read_batches(
    source: InputFile, file: pq.ParquetFile, *, columns: Sequence[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """All rows of some columns, in order, `batch_size` at a time (the last batch, and some others, may be shorter).

    Raises:
        ImageFileError: a column's name is not there once and only once, or rows cannot be read.
    """
    for name in columns:
        found = file.schema_arrow.names.count(name)
        if found != 1:
            raise ImageFileError(
                f"{source.shown} has {found} columns named {name!r}, and one was expected: write the file again so"
            )
    with _told_by_name(source):
        yield from file.iter_batches(batch_size, columns=list(columns), use_threads=False)


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
