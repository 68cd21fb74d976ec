"""The pixels themselves, a byte each, in a column of bytes."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_binary, read_column, view_buffer
from knnvote.data.errors import param
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape, commonest, in_rows
from knnvote.data.vectors import Numbers, Reasons, blank_unusable

_USUAL_NAME = re.compile(r"(image|img|pixel|picture|photo)s?([ _.-]?(bytes|data|raw|buffer|\d+))?$", re.IGNORECASE)
_SANE = 1e-6, 1e6  # what numbers of a vector lie between, by far the most of them
_MOST = 0.9
_TEXT = re.compile(rb"[\w\s.,:/=+-]", re.ASCII)
_FEWEST_RANDOM = 512  # bytes
_FEWEST_OF_TWO = 64  # bytes a row
_UNLIKE = 0.5  # share of bytes that would have to change
_FEWEST_VALUES = 16  # of whole numbers; pixels of black and white may look like -1 and 0
_NUMBERS = tuple(map(np.dtype, ("<f8", "<f4", "<i8", "<i4", "<i2")))


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
        """Bytes may be anything: they are pixels if they are as many as a square has, are called so, and nothing else.

        Called so is what the user names as the image column, and what has a usual name of one.
        """
        if not shape:
            return None
        size, name = math.prod(shape), first.candidate.name
        other = _other_reading([data for data in first.column.to_pylist() if data and len(data) == size], size)
        is_called_so = first.options.image_column is not None or _USUAL_NAME.search(name)
        if len(shape) > 1 and is_called_so and not other:
            return None
        sides = "HxW" if len(shape) == 1 else "x".join(map(str, shape))
        they = f"look like {other}" if other else "may be anything"
        return (
            f"column {name!r} holds {size} bytes a row, which {they}: pass {param('shape')} {sides} if they are "
            f"pixels, a byte each; if not, name another column with {param('image_column')}, or write numbers as lists"
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


def _other_reading(rows: Sequence[bytes], size: int) -> str | None:
    """What rows of so many bytes are more likely than pixels; None if nothing."""
    joined = b"".join(rows)
    if not joined:
        return None
    if all(data.startswith(b"\x80") and data.endswith(b".") for data in rows):
        return "pickles"
    if len(_TEXT.findall(joined)) > _MOST * len(joined):
        return "text"
    pixels = np.frombuffer(joined, np.uint8).astype(np.float64)
    if _are_random(pixels):
        return "bytes at random, as hashes are"
    if size % 2 == 0 and size >= _FEWEST_OF_TWO and _are_two_by_two(joined):
        return f"{size // 2} numbers of 16 bits"
    found = [
        f"{size // kind.itemsize} numbers of {kind.name}"
        for kind in _NUMBERS
        if size % kind.itemsize == 0
        and _are_numbers(np.frombuffer(joined, kind))
        # In images that are as narrow, a column of pixels may be blank.
        and (kind.kind == "f" or size > kind.itemsize**2)
    ]
    return " or ".join(found) or None


def _are_random(pixels: Numbers) -> bool:
    """Whether bytes are spread evenly and tell nothing of their neighbours, as those of no picture are."""
    if len(pixels) < _FEWEST_RANDOM or abs(pixels.mean() - 127.5) > 8 or abs(pixels.std() - 73.9) > 6:
        return False
    return bool(abs(np.corrcoef(pixels[:-1], pixels[1:])[0, 1]) < 0.1)


def _are_two_by_two(joined: bytes) -> bool:
    """Whether each other byte is of another kind, as the high and low ones of wider numbers are, and no columns are."""
    high, low = (
        np.bincount(np.frombuffer(joined, np.uint8)[first::2], minlength=256) / (len(joined) // 2) for first in (0, 1)
    )
    return bool(np.abs(high - low).sum() / 2 > _UNLIKE)


def _are_numbers(values: Numbers) -> bool:
    """Whether values have the sizes that numbers of a vector have, as hardly any do that pixels make by chance."""
    values = values[values != 0]
    if not len(values):
        return False
    if values.dtype.kind == "i":
        is_small = (values >> (4 * values.itemsize) == np.where(values < 0, -1, 0)).all()
        return bool(is_small and len(np.unique(values)) >= _FEWEST_VALUES)
    sizes = np.abs(values)
    return float(np.mean((sizes > _SANE[0]) & (sizes < _SANE[1]))) > _MOST
