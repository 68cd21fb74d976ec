"""What every file of rows is, whatever its container: opened, looked at, and read a few rows at a time."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .columns import check_text, first_filled, has_filled, may_hold_images
from .errors import ImageFileError
from .locations import Location, hash_stream, local_state

HEAD_ROWS = 64
_BATCH = 2048
# Keys under which writers describe all columns of a file, for readers that believe them before the file; with a dot at
# the end, how such keys begin.
_OF_ALL_COLUMNS = (b"huggingface", b"pandas", b"knnvote", b"geo", b"avro.schema")
_OF_ALL_COLUMNS_BEGIN = (b"org.apache.spark.", b"parquet.avro.", b"parquet.proto.", b"parquet.thrift.", b"iceberg.")


@dataclass(frozen=True)
class RowSource(Location):
    """Where rows lie, and what the names of folders say of them.

    Attributes:
        inner: the path relative to the folder that was named; empty for that folder itself.
        told: columns that have one value in all rows, for the names of folders say so.
        only: of a folder of images, what the names of those match that are meant; None for all.
        beside: a file of the labels alone.
    """

    inner: str = field(default="", kw_only=True)
    told: tuple[tuple[str, int | float | str], ...] = field(default=(), kw_only=True)
    only: str | None = field(default=None, kw_only=True)
    beside: Location | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class RowFile(ABC):
    """A file of rows, open.

    Memory stays bounded whatever the size of the file: a container may give fewer rows at a time than it is asked for.

    Attributes:
        source: where it lies, for messages.
    """

    source: Location

    @classmethod
    @abstractmethod
    def open(cls, source: RowSource) -> AbstractContextManager[Self]:
        """Open a file.

        Raises:
            ImageFileError: it is not of this container.
        """

    @classmethod
    def mark(cls, source: RowSource) -> dict[str, Any]:
        """What tells this content from any other: size, and SHA-256 or the tag that its store gives it.

        Raises:
            KnnvoteError: it cannot be read.
        """
        with source.open() as stream, source.errors_told():
            tag = stream.metadata().get("ETag")
            mark = {"sha256": hash_stream(stream)} if tag is None else {"etag": tag.decode()}
            return {"size": stream.size(), **mark}

    @classmethod
    def state(cls, source: RowSource) -> tuple[object, ...]:
        """What no change of the content leaves as it is.

        Raises:
            KnnvoteError: it cannot be read.
        """
        with source.errors_told():
            if source.is_local:
                return local_state(Path(source.path).stat())
            with source.open() as stream:
                return stream.size(), stream.metadata().get("ETag"), stream.metadata().get("Last-Modified")

    @classmethod
    def has_ranges(cls, source: RowSource) -> bool:  # noqa: ARG003 - of most containers, whatever the file
        """Whether rows are counted, and some of them read, without reading all the others."""
        return False

    @property
    def id_column(self) -> str | None:
        """The column by which rows are known; None where their numbers tell them apart."""
        return None

    @property
    def id_prefix(self) -> str:
        """What stands before a value of that column in an id, where rows of other files may have the same."""
        return ""

    @property
    def of_folders(self) -> tuple[str, ...]:
        """Columns that are not in the file, but in the names of its folders, where other readers find them too."""
        return ()

    def row_name(self, number: int) -> str:
        """A row for messages, by its number from 0."""
        return f"{self.source}, row {number}"

    def place(self, number: int) -> tuple[str, int]:
        """The file that a row is in, as users know it, and the row there, by its number from 0."""
        return self.source.shown, number

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows that the file says it holds."""

    @abstractmethod
    def head(self) -> pa.Table:
        """The first rows of every column, HEAD_ROWS at most, to recognise what the file holds.

        Raises:
            ImageFileError: they cannot be read.
        """

    def telling_head(self) -> pa.Table:
        """The head, but for columns of images that are blank there: they show the first values that they have.

        Raises:
            ImageFileError: rows cannot be read.
        """
        head = self.head()
        for place, column in enumerate(head.schema):
            may_tell = may_hold_images(column.type) and head.schema.names.count(column.name) == 1
            if may_tell and self.num_rows > len(head) and not has_filled(head, column.name):
                values = self._first_values(column, len(head))
                head = head if values is None else head.set_column(place, column, values)
        return head

    def _first_values(self, column: pa.Field, rows: int) -> pa.ChunkedArray | None:
        """So many rows of a column, filled ones of the file as far as there are; None if there are none."""
        found: list[pa.Array] = []
        for batch in self.batches([column.name], _BATCH):
            found += first_filled(batch, column.name, rows - len(found))
            if len(found) == rows:
                break
        return pa.chunked_array([*found, pa.nulls(rows - len(found), column.type)], column.type) if found else None

    def rows_to_hold(self, _columns: Sequence[str], rows: int) -> int:
        """So many rows of some columns, or fewer where they may be large: the same number for the same file.

        Raises:
            ImageFileError: not even one may be held, or the file cannot be read.
        """
        return rows

    @abstractmethod
    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        """As `batches`, of columns that are there."""

    def batches(self, columns: Sequence[str], batch_size: int, span: range | None = None) -> Iterator[pa.RecordBatch]:
        """Rows of some columns, in order, `batch_size` at a time (the last batch, and some others, may be shorter).

        Args:
            columns: that are read.
            batch_size: rows at a time, at most.
            span: the rows that are read, which are there; None for all.

        Raises:
            ImageFileError: a column's name is not there once and only once, or rows cannot be read or are not all
            there.
        """
        times = Counter(self.schema.names)
        for name in columns:
            if times[name] != 1:
                raise ImageFileError(
                    f"{self.source} has {times[name]} columns named {name!r}, and one was expected: "
                    "write the file again so"
                )
        yield from self._batches(columns, batch_size) if span is None else self._span(columns, batch_size, span)

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `_batches`, of some rows; those before them are read too, if the container cannot do without."""
        yield from rows_of_span(self._batches(columns, batch_size), span)

    def checked(self, rows: pa.RecordBatch | pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
        """(n,) a column of some of its rows, a dictionary's as its values.

        Raises:
            ImageFileError: it holds text that is none.
        """
        column = rows.column(name)
        try:
            check_text(column, name)
        except ImageFileError as error:
            raise ImageFileError(f"{self.source}: {error.marked}") from error
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def cells(self, _column: str) -> pa.Array | None:
        """(n,) a column as people wrote it, in strings; None where the file itself has types."""
        return None

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """Some rows of some columns.

        Args:
            wanted: (m,) rows from 0, ascending; batches behind the last are not read.
            columns: that are read.
            batch_size: rows read at a time, at most.

        Yields:
            Which of the wanted rows these are, and a table of them.
        """
        start = 0
        if not len(wanted):
            return
        for batch in self.batches(columns, min(batch_size, int(wanted[-1]) + 1)):
            here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
            if len(here):
                yield here, pa.Table.from_batches([batch]).take(pa.array(here - start))
            start += batch.num_rows
            if start > wanted[-1]:
                return


def blocks_of(wanted: NDArray[np.int64], rows: int) -> Iterator[NDArray[np.int64]]:
    """Those of some rows (m,), ascending, that lie in the same block of so many, block by block."""
    yield from filter(len, np.split(wanted, np.flatnonzero(np.diff(wanted // rows)) + 1))


def rows_of_span(batches: Iterable[pa.RecordBatch], span: range) -> Iterator[pa.RecordBatch]:
    """What batches hold of some rows, by their numbers from the first batch's first row; what follows is not read."""
    start = 0
    for batch in batches:
        first, last = max(span.start - start, 0), min(span.stop - start, batch.num_rows)
        if first < last:
            yield batch.slice(first, last - first)
        start += batch.num_rows
        if start >= span.stop:
            return


def schema_metadata_without_images(schema: pa.Schema) -> pa.Schema:
    """A schema less metadata that describe columns which are no longer all there, or are the receipt of an output."""
    metadata: dict[Any, Any] = schema.metadata or {}
    kept = {
        key: value
        for key, value in metadata.items()
        if key not in _OF_ALL_COLUMNS and not key.startswith(_OF_ALL_COLUMNS_BEGIN)
    }
    return schema.with_metadata(kept or None)
