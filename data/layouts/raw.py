"""The pixels themselves, a byte each, in a column of bytes."""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_binary, read_column, view_buffer
from knnvote.data.errors import param
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape, commonest, in_rows
from knnvote.data.vectors import Numbers, Reasons, blank_unusable


class Raw(Layout):
    """A row of bytes, one a pixel."""

    title: ClassVar[str] = "raw pixels"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Columns of bytes; of a fixed number of them, if it is not none."""
        return cls._columns_of(
            schema, lambda kind: is_binary(kind) and not (pa.types.is_fixed_size_binary(kind) and not kind.byte_width)
        )

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """Flat shapes, of as many pixels as there are bytes."""
        column = first.column
        if pa.types.is_fixed_size_binary(column.type):
            return [(column.type.byte_width,)], ""
        measured: list[Shape] = [(size,) for size in pc.binary_length(column).to_pylist() if size]
        return commonest(measured), "" if measured or not len(column) else "every one is null, empty or ragged"

    @classmethod
    def doubt(cls, first: FirstRows, shape: Shape) -> str | None:
        """Bytes that are not the pixels of a square may be anything."""
        if len(shape) != 1:
            return None
        return (
            f"column {first.candidate.name!r} holds {shape[0]} bytes a row: neither PNG or JPEG nor the pixels of "
            f"a square image; give {param('shape')}, or name another column with {param('image_column')}"
        )

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) uint8, a view where no row is bad."""
        column = read_column(batch, self.name)
        n, null = len(column), column.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_fixed_size_binary(column.type):
            size = column.type.byte_width
            lengths = np.full(n, size)
            first, last = column.offset * size, (column.offset + n) * size
        else:
            kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
            offsets = view_buffer(column.buffers()[1], kind, column.offset, n + 1)
            lengths = np.diff(offsets) if n else np.zeros(0, np.int64)
            first, last = (int(offsets[0]), int(offsets[-1])) if n else (0, 0)
        pixels = view_buffer(column.buffers()[-1], np.uint8, first, last - first)
        bad = dict.fromkeys(np.flatnonzero(null).tolist(), "null image")
        for row in np.flatnonzero((lengths != self.d) & ~null).tolist():
            bad[row] = f"{lengths[row]} bytes, expected {self.d}"
        return blank_unusable(in_rows(pixels, lengths, bad, self.d), None, bad)
