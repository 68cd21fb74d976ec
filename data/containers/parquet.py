"""Streaming Parquet files: a few batches in memory, whatever the size of files and row groups."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from knnvote.data.errors import ImageFileError
from knnvote.data.locations import Location, describe_os_error
from knnvote.data.rows import HEAD_ROWS, RowFile, RowSource, rows_of_span
from knnvote.data.text import describe_error

from .foreign import what_it_is

_BUFFER = 1 << 20
BATCH_BYTES = 1 << 27  # of a batch as Arrow holds it
_ROW_BYTES = 1 << 30  # a row that may be larger is no image
_NUMBER_BYTES = 12  # of a number in a list: itself, and its two levels
_OF_SPARK = b"org.apache.spark."  # how the keys begin that Spark writes in footers
_INT96 = "INT96"
# What PyArrow raises for damaged files: its own errors (some are only MemoryError, ValueError or KeyError too), those
# of decoding names that are not UTF-8, and those of an extension type that cannot be made from what the file says.
UNREADABLE = (
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


@dataclass(frozen=True)
class ParquetRows(RowFile):
    """A Parquet file, open for streaming.

    Attributes:
        file: as PyArrow reads it.
        longest: bytes of the longest value in dictionaries that were looked at, by row group and column.
        sound: row groups whose figures make sense.
        whole: all rows of a file whose head they are, so that they are read once; else nothing.
    """

    file: pq.ParquetFile
    longest: dict[tuple[int, str], int] = field(default_factory=dict, compare=False)
    sound: set[int] = field(default_factory=set, compare=False)
    whole: list[pa.RecordBatch] = field(default_factory=list, compare=False)

    @classmethod
    @contextmanager
    def open(cls, source: Location) -> Iterator[Self]:
        """Open a Parquet file for streaming.

        Without pre-buffering and with a buffer of its own for each column, pyarrow does not hold a whole row group.

        Raises:
            ImageFileError: it is not a Parquet file.
        """
        with source.open() as stream:
            try:
                with _told_by_name(source):
                    file = pq.ParquetFile(
                        stream, pre_buffer=False, buffer_size=_BUFFER, coerce_int96_timestamp_unit="us"
                    )
                    rows = cls(source, file)
                    _ = rows.schema.names  # which fails where they are not UTF-8
            except ImageFileError as error:
                found = what_it_is(source)
                if found is None:
                    raise
                kind = " as Parquet" if source.path.endswith(".parquet") else ""
                raise ImageFileError(f"cannot read {source}{kind}: {found}") from error
            yield rows

    @classmethod
    def has_ranges(cls, source: RowSource) -> bool:  # noqa: ARG003 - of all
        """As the footer and its row groups allow."""
        return True

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; PyArrow makes it anew whenever it is asked.

        Spark's timestamps of 96 bits are instants, as those of 64 bits say that they are.
        """
        schema = self.file.schema_arrow
        if any(key.startswith(_OF_SPARK) for key in schema.metadata or {}):
            physical = self._physical_types()
            for place, field in enumerate(schema):
                if _INT96 in physical[field.name]:
                    schema = schema.set(place, field.with_type(_in_utc(field.type, iter(physical[field.name]))))
        return schema

    @property
    def num_rows(self) -> int:
        """Rows as the footer has them."""
        return int(self.file.metadata.num_rows)

    def head(self) -> pa.Table:
        """The first rows of every column, HEAD_ROWS at most, to recognise what the file holds.

        Raises:
            ImageFileError: they cannot be read.
        """
        rows = self._bounded_rows(self.schema.names, HEAD_ROWS, first_only=True)
        with _told_by_name(self.source):
            for batch in self._read(self.schema.names, rows):
                if batch.num_rows == self.num_rows:
                    self.whole[:] = [batch]
                return pa.Table.from_batches([batch])
            return pa.Table.from_batches([], self.schema)  # empty_table() takes no permuted tensors

    def rows_to_hold(self, columns: Sequence[str], rows: int) -> int:
        """As `RowFile.rows_to_hold`, by what the footer says of the columns."""
        return self._bounded_rows(columns, rows)

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        rows, seen = self._bounded_rows(columns, batch_size), 0
        with _told_by_name(self.source):
            is_read = self.whole and self.num_rows <= rows
            for batch in [self.whole[0].select(columns)] if is_read else self._read(columns, rows):
                seen += batch.num_rows
                yield batch
        if seen != self.num_rows:
            raise self._not_all(seen, self.num_rows)

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`; of the rows before them, those of the same row group are read too."""
        sizes = [self.file.metadata.row_group(group).num_rows for group in range(self.file.metadata.num_row_groups)]
        ends = [*accumulate(sizes)]
        groups = [group for group, end in enumerate(ends) if end > span.start and end - sizes[group] < span.stop]
        skipped, seen = (ends[groups[0]] - sizes[groups[0]] if groups else 0), 0
        rows = self._bounded_rows(columns, batch_size)
        with _told_by_name(self.source):
            of_groups = range(span.start - skipped, span.stop - skipped)
            for batch in rows_of_span(self._read(columns, rows, groups), of_groups):
                seen += batch.num_rows
                yield batch
        if seen != len(span):
            raise self._not_all(seen, len(span))

    def _not_all(self, seen: int, told: int) -> ImageFileError:
        return ImageFileError(f"{self.source} holds {seen:,} rows, and its footer says {told:,}: write the file again")

    def _read(self, columns: Sequence[str], rows: int, of: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """So many rows at a time of some columns; fewer where a row group ends, if PyArrow cannot join row groups.

        Of all row groups, or of some.
        """
        every = range(self.file.metadata.num_row_groups) if of is None else of
        is_joined = not any(_has_inner_dictionary(self.schema.field(name).type) for name in columns)
        is_cast = self.schema.types != self.file.schema_arrow.types
        for groups in [[*every]] if is_joined else [[group] for group in every]:
            for batch in self.file.iter_batches(rows, row_groups=groups, columns=list(columns), use_threads=False):
                yield batch.cast(_only(self.schema, batch.schema.names)) if is_cast else batch

    def _physical_types(self) -> dict[str, list[str]]:
        """By column, of the values that lie in it, in its lists and structs."""
        found: dict[str, list[str]] = defaultdict(list)
        leaves = self.file.metadata.schema
        for leaf, path in enumerate(self.file.reader.column_paths):
            found[path[0]].append(leaves.column(leaf).physical_type)
        return found

    def _bounded_rows(self, names: Collection[str], rows: int, *, first_only: bool = False) -> int:
        """As many rows, or fewer where those of some row group may be large, to hold at a time.

        Where only the first rows are wanted, only the row groups that hold them count.

        Raises:
            ImageFileError: a row may be larger than any image, or the footer cannot be read.
        """
        largest = seen = 0
        file = self.file
        with _told_by_name(self.source):
            wanted = frozenset(names)
            leaves = [leaf for leaf, path in enumerate(file.reader.column_paths) if path[0] in wanted]
            for group in range(file.metadata.num_row_groups):
                if group not in self.sound:
                    # PyArrow ends the process if Python asks for a chunk whose figures make no sense. No rows of it,
                    # asked for first, raise instead.
                    next(file.reader.iter_batches(0, [group], use_threads=False), None)
                    self.sound.add(group)
                largest = max(largest, sum(self._row_bytes(group, leaf, rows) for leaf in leaves))
                seen += file.metadata.row_group(group).num_rows
                if first_only and seen >= rows:
                    break
        if largest > _ROW_BYTES:
            raise ImageFileError(
                f"{self.source}: a row may take {largest:,} bytes, and at most {_ROW_BYTES:,} are read: "
                "leave out the column that is so large"
            )
        return max(1, min(rows, BATCH_BYTES // max(1, largest)))

    def _row_bytes(self, group: int, leaf: int, rows: int) -> int:
        """What a row of a column chunk takes on average, or may take where a dictionary holds values that repeat."""
        metadata = self.file.metadata
        n, chunk = metadata.row_group(group).num_rows, metadata.row_group(group).column(leaf)
        values = -(-chunk.num_values // max(1, n))
        if chunk.physical_type != "BYTE_ARRAY":
            return int(values * max(_NUMBER_BYTES, metadata.schema.column(leaf).length))
        held = int(chunk.total_uncompressed_size // max(1, n))
        # A dictionary is at most as large as its chunk: small ones need no look.
        if chunk.has_dictionary_page and chunk.total_uncompressed_size * rows > BATCH_BYTES:
            place = group, chunk.path_in_schema
            if place not in self.longest:
                self.longest[place] = self._longest_in_dictionary(*place)
            held = max(held, values * self.longest[place])
        return held

    def _longest_in_dictionary(self, group: int, path: str) -> int:
        """Bytes of the longest value in the dictionary of a column chunk of binary or text."""
        with self.source.open() as stream:
            metadata = self.file.metadata
            as_dictionary = pq.ParquetFile(stream, metadata=metadata, read_dictionary=[path], pre_buffer=False)
            for batch in as_dictionary.iter_batches(1, row_groups=[group], columns=[path], use_threads=False):
                column = batch.column(0)
                while not pa.types.is_dictionary(column.type) and column.type.num_fields:
                    column = column.field(0) if pa.types.is_struct(column.type) else column.flatten()
                values = column.dictionary if pa.types.is_dictionary(column.type) else column
                return int(pc.max(pc.binary_length(values)).as_py() or 0)
        return 0


def _has_inner_dictionary(kind: pa.DataType) -> bool:
    """Whether dictionaries lie within lists, structs or maps, whose chunks PyArrow does not join."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return any(pa.types.is_dictionary(of) or _has_inner_dictionary(of) for of in inner)


def _only(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names], schema.metadata)


def _in_utc(kind: pa.DataType, physical: Iterator[str]) -> pa.DataType:
    """A type whose timestamps of 96 bits, by the physical types of what lies in it, are instants."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_utc(field.type, physical)) for field in kind])
    if pa.types.is_map(kind):
        key, value = (field.with_type(_in_utc(field.type, physical)) for field in (kind.key_field, kind.item_field))
        return pa.map_(key, value)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_utc(kind.value_type, physical)))
    is_local = next(physical, None) == _INT96 and pa.types.is_timestamp(kind) and kind.tz is None
    return pa.timestamp(kind.unit, "UTC") if is_local else kind


@contextmanager
def _told_by_name(source: Location) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else describe_error(error)
        raise ImageFileError(
            f"cannot read {source} as Parquet: {reason}; for IDX, CSV and NPZ files there is knnvote convert"
        ) from error
