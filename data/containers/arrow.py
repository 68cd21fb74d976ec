"""Arrow IPC files, which Feather's are too, and streams: read where they lie, a few rows at a time."""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import check_text, is_string, view_buffer
from knnvote.data.errors import ImageFileError, warn
from knnvote.data.locations import Location, describe_os_error
from knnvote.data.rows import HEAD_ROWS, RowFile, RowSource, blocks_of
from knnvote.data.text import describe_error

from .foreign import what_it_is
from .parquet import BATCH_BYTES, UNREADABLE

_FILE, _STREAM, _PARQUET = b"ARROW1", b"\xff\xff\xff\xff", b"PAR1"
_END_OF_STREAM = _STREAM + bytes(4)
_NUMBER_BYTES = 8  # of a number in a list, at most
_HELD = 1 << 26  # bytes of a mapped file that were read, and may go from memory
_counted: dict[tuple[object, ...], tuple[int, ...]] = {}


@dataclass
class _Content:
    """The bytes of a file: mapped where they lie on this machine, and forgotten after they were read.

    Attributes:
        source: the file.
        is_stream: it has no footer.
        mapping: of it; None of a file elsewhere.
        seen: bytes of rows that were given on since memory was last let go.
    """

    source: Location
    is_stream: bool
    mapping: mmap.mmap | None
    seen: int = 0

    def stream(self) -> Any:
        """It from its begin, whatever else is reading it."""
        return self.source.open() if self.mapping is None else pa.BufferReader(pa.py_buffer(self.mapping))

    def all_batches(self, stream: Any, places: Sequence[int]) -> Any:
        """All record batches, with some columns where that spares work, or else with all."""
        reader = self._reader(stream, places)
        return reader if self.is_stream else map(reader.get_batch, range(reader.num_record_batches))

    def batches(self, places: Sequence[int], of: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Record batches of some numbers, ascending, with the columns of some places; with all without any."""
        if not of:
            return
        reader = self._reader(self.stream(), places)
        wanted = {*of}
        for number, batch in enumerate(reader) if self.is_stream else ((n, reader.get_batch(n)) for n in of):
            if number in wanted:
                yield batch.select([*places]) if places and self._is_plain else batch
            if number == of[-1]:
                return

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._open(self.stream(), []).schema

    @cached_property
    def _is_plain(self) -> bool:
        """Values are those that are mapped, as the first record batch shows: columns of files would be copied."""
        if self.mapping is None or self.is_stream:
            return False
        held, reader = pa.py_buffer(self.mapping), self._open(self.stream(), [])
        columns = reader.get_batch(0).columns if reader.num_record_batches else []
        buffers = [buffer for column in columns for buffer in column.buffers() if buffer]
        return all(held.address <= buffer.address <= held.address + held.size for buffer in buffers)

    def _reader(self, stream: Any, places: Sequence[int]) -> Any:
        return self._open(stream, [] if self._is_plain else places)

    def _open(self, stream: Any, places: Sequence[int]) -> Any:
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=[*places])
        return (pa.ipc.open_stream if self.is_stream else pa.ipc.open_file)(stream, options=options)

    def let_go(self, size: int) -> None:
        """Let go from memory what was mapped, if much of it was read: the system has it still, or reads it again."""
        self.seen += size
        if self.mapping is not None and self.seen > _HELD and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)
            self.seen = 0


@dataclass(frozen=True)
class ArrowRows(RowFile):
    """An Arrow IPC file or stream, open.

    Attributes:
        content: its bytes.
        held: names and types of the columns, as it holds them.
        sizes: rows of each record batch.
    """

    content: _Content = field(compare=False)
    held: pa.Schema
    sizes: tuple[int, ...]

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:
        """Open it, and count the rows of its record batches.

        Raises:
            ImageFileError: it is neither, or is not whole.
        """
        content = _opened(source)
        with _told_by_name(source):
            schema = content.schema
            _ = schema.names  # which fails where they are not UTF-8
            sizes = _sizes(source, content, schema)
        yield cls(source, content, schema, sizes)

    @classmethod
    def has_ranges(cls, source: RowSource) -> bool:
        """Of what lies on this machine: the rows of a stream are counted by going through it."""
        return source.is_local

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, those of Arrow alone as the ones that Parquet and others have."""
        return pa.schema([column.with_type(_plain(column.type)) for column in self.held], self.held.metadata)

    @property
    def num_rows(self) -> int:
        """Rows of all record batches."""
        return sum(self.sizes)

    def head(self) -> pa.Table:
        """As `RowFile.head`."""
        rows = range(min(HEAD_ROWS, self.num_rows))
        with _told_by_name(self.source):
            return pa.Table.from_batches([*self._pieces(self.schema.names, HEAD_ROWS, rows)], self.schema)

    def rows_to_hold(self, columns: Sequence[str], rows: int) -> int:
        """As `RowFile.rows_to_hold`, by the record batch whose rows are the largest."""
        names = [name for name in columns if not pa.types.is_primitive(self.schema.field(name).type)]
        if not names:
            return rows
        with _told_by_name(self.source):
            return min(
                (_bounded(batch, rows) for batch in self._whole_batches(names, range(len(self.sizes)))), default=rows
            )

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        return self._span(columns, batch_size, range(self.num_rows))

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`; of other rows those of the same record batch are read too where they are compressed."""
        with _told_by_name(self.source):
            yield from self._pieces(columns, batch_size, span)

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """As `RowFile.take`; record batches without any of them are not read."""
        ends = np.cumsum(self.sizes, dtype=np.int64)
        of = np.searchsorted(ends, wanted, side="right")
        numbers = np.unique(of).tolist()
        with _told_by_name(self.source):
            for number, batch in zip(numbers, self._whole_batches(columns, numbers), strict=True):
                first, here = int(ends[number]) - self.sizes[number], wanted[of == number]
                for rows in blocks_of(here - first, _bounded(batch, batch_size)):
                    start = int(rows[0])
                    piece = self._piece(batch, columns, range(start, int(rows[-1]) + 1))
                    yield rows + first, pa.Table.from_batches([piece]).take(pa.array(rows - start))

    def _pieces(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """Some rows of some columns, so many at a time at most."""
        ends = [*accumulate(self.sizes)]
        of = [number for number, end in enumerate(ends) if end > span.start and end - self.sizes[number] < span.stop]
        for number, batch in zip(of, self._whole_batches(columns, of), strict=True):
            first = ends[number] - self.sizes[number]
            start, stop = max(span.start - first, 0), min(span.stop - first, batch.num_rows)
            rows = _bounded(batch, batch_size)
            for at in range(start, stop, rows):
                yield self._piece(batch, columns, range(at, min(at + rows, stop)))

    def _whole_batches(self, columns: Sequence[str], of: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Record batches of some numbers, ascending, with some columns at least.

        What columns within columns hold was looked at: of a piece Arrow looks at all of it.
        """
        for batch in self.content.batches(self._places(columns), of):
            batch.validate()  # that values lie where they may be read, without which none is looked at
            self._check(batch, is_nested=True)
            yield batch

    def _check(self, rows: pa.RecordBatch, *, is_nested: bool) -> None:
        """Refuse damaged values, which nothing has looked at so far."""
        for column, name in zip(rows.columns, rows.schema.names, strict=True):
            try:
                if _is_nested(column.type) is is_nested:
                    check_text(column, name)
            except ImageFileError as error:
                raise ImageFileError(f"{self.source}: {error.marked}") from error

    def _piece(self, batch: pa.RecordBatch, columns: Sequence[str], rows: range) -> pa.RecordBatch:
        """Some rows of a record batch, every value of which was looked at.

        Raises:
            ImageFileError: one is damaged.
        """
        self.content.let_go(len(rows) * (batch.get_total_buffer_size() // batch.num_rows))  # of what was read before
        piece = batch.slice(rows.start, len(rows))
        self._check(piece, is_nested=False)
        if piece.schema.names != [*columns]:
            piece = piece.select([*columns])
        kinds = [_plain(kind) for kind in piece.schema.types]
        if kinds == piece.schema.types:
            return piece
        plain = [_as_plain(column, kind) for column, kind in zip(piece.columns, kinds, strict=True)]
        fields = [column.with_type(kind) for column, kind in zip(piece.schema, kinds, strict=True)]
        return pa.RecordBatch.from_arrays(plain, schema=pa.schema(fields, piece.schema.metadata))

    def _places(self, names: Sequence[str]) -> list[int]:
        """Of columns; none where all are meant, whose names may then stand there twice."""
        wanted = {*names}
        if [*names] == self.schema.names:
            return []
        return [place for place, name in enumerate(self.schema.names) if name in wanted]


def _opened(source: Location) -> _Content:
    """The bytes of a file or stream.

    Raises:
        ImageFileError: it is neither.
    """
    with source.open() as stream, source.errors_told():
        size, head = stream.size(), stream.read_at(len(_FILE), 0)
        end = stream.read_at(len(_FILE), max(0, size - len(_FILE)))
        if not head.startswith((_FILE, _STREAM)) or (head == _FILE and end != _FILE):
            raise ImageFileError(f"cannot read {source} as Arrow: {_other(source, head)}")
    mapping = None
    if source.is_local:
        with source.errors_told(), Path(source.path).open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _Content(source, head.startswith(_STREAM), mapping)


def _other(source: Location, head: bytes) -> str:
    """What a file is that is neither file nor stream of Arrow."""
    if head.startswith(_PARQUET):
        return "it is Parquet: rename it, so that its name ends in .parquet"
    if head.startswith(_FILE):
        return "it was not downloaded or written to its end: get it again"
    return what_it_is(source) or "it is neither an Arrow IPC file nor a stream: get or write it again"


def _sizes(source: RowSource, content: _Content, schema: pa.Schema) -> tuple[int, ...]:
    """Rows of each record batch, which are counted once while the file stays as it is."""
    key = (source.place, *ArrowRows.state(source))
    if key not in _counted:
        cheapest = [place for place, kind in enumerate(schema.types) if pa.types.is_primitive(kind)][:1] or [0]
        stream = content.stream()
        sizes = tuple(batch.num_rows for batch in content.all_batches(stream, cheapest if len(schema) else []))
        if content.is_stream:
            _check_end(source, stream)
        _counted[key] = sizes
    return _counted[key]


def _check_end(source: Location, stream: Any) -> None:
    """Refuse what follows the end of the first of several streams in one file, and tell where there is no end."""
    end = stream.tell()
    if stream.size() > end:
        raise ImageFileError(
            f"{source} holds more behind the end of its stream, as streams put one behind the other do: part them"
        )
    stream.seek(max(0, end - len(_END_OF_STREAM)))
    if stream.read(len(_END_OF_STREAM)) != _END_OF_STREAM:
        warn(f"{source} has no end mark, as if it were not written to its end: rows may be missing")


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that stands for one of views or of runs, of which Arrow takes no rows, nor Parquet holds all."""
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return _plain(kind.value_type) if pa.types.is_run_end_encoded(kind) else kind


def _as_plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    column = pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column
    return column if column.type == kind else column.cast(kind)


def _bounded(batch: pa.RecordBatch, rows: int) -> int:
    """So many rows, or fewer where those of a record batch are large."""
    return max(1, min(rows, BATCH_BYTES // max(1, _row_bytes(batch))))


def _row_bytes(batch: pa.RecordBatch) -> int:
    """What a row of a record batch takes on average, or may take where rows share values that are held once."""
    shared = sum(_longest(column) for column in batch.columns)
    return int(batch.get_total_buffer_size() // max(1, batch.num_rows)) + shared


def _longest(values: pa.Array) -> int:
    """Bytes of the longest value of an array whose values several rows may share; else 0."""
    t, kind = pa.types, values.type
    if t.is_struct(kind):
        return sum(_longest(values.field(place)) for place in range(kind.num_fields))
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        held = values.dictionary if t.is_dictionary(kind) else values.values
        is_text = t.is_binary(held.type) or t.is_large_binary(held.type) or is_string(held.type)
        longest = pc.max(pc.binary_length(held)).as_py() if is_text and not _is_view(held.type) else 0
        return max(int(longest or 0), _longest(held))
    if _is_view(kind):  # of 16 bytes each, of which the first four say how long it is
        lengths = view_buffer(values.buffers()[1], np.int32, 4 * values.offset, 4 * len(values))[::4]
        return int(lengths.max(initial=0))
    if t.is_list_view(kind) or t.is_large_list_view(kind):
        return _NUMBER_BYTES * int(pc.max(pc.list_value_length(values)).as_py() or 0)
    return 0


def _is_nested(kind: pa.DataType) -> bool:
    """Whether an array of a type has others within it."""
    return bool(kind.num_fields or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType))


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


@contextmanager
def _told_by_name(source: Location) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else describe_error(error)
        raise ImageFileError(f"cannot read {source} as Arrow: {reason}; get or write it again") from error
