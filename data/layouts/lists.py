"""Lists of numbers, flat or nested, and tensors, which are lists that know their shape."""

import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa

from knnvote.data.columns import (
    fixed_shape,
    innermost,
    is_float,
    is_list,
    is_number,
    logical_shape,
    read_column,
    read_numbers,
    unfold_lists,
)
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape, commonest, in_rows, noun
from knnvote.data.vectors import Numbers, Reasons, blank_unusable


class Lists(Layout):
    """A list of numbers a row, or lists of lists."""

    title: ClassVar[str] = "lists of numbers"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Columns of lists of any sort, of numbers at last."""
        return cls._columns_of(
            schema, lambda kind: is_list(kind) and is_number(innermost(kind)) and all(fixed_shape(kind))
        )

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """As the type tells, else as the rows are."""
        if fixed := fixed_shape(first.column.type):
            return [fixed], ""
        measured = _measure_rows(first.column)
        is_told = bool(measured) or not len(first.column)
        return commonest(measured), "" if is_told else "every one is null, empty or ragged"

    @classmethod
    def takes_squares(cls, first: FirstRows) -> bool:
        """A flat list of floats is a vector, not an image."""
        return not is_float(innermost(first.column.type))

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) in the lists' own type, a view where no row is bad."""
        return blank_unusable(*self._unfold(read_column(batch, self.name)))

    def _unfold(self, column: pa.Array) -> tuple[Numbers, Numbers | None, Reasons]:
        """Vectors, where their pixels are null (None if none is), and bad rows."""
        levels, counts, numbers = unfold_lists(column)
        held = fixed_shape(column.type) or self.held_shape or self.shape
        bad: Reasons = dict.fromkeys(np.flatnonzero(levels[0].null).tolist(), f"null {noun(self.shape)}")
        for depth, level in enumerate(levels):
            # Where the first rows told nothing of lists within lists, only the number of pixels can be held to.
            wrong = level.length != held[depth] if len(held) == len(levels) else level.null
            wrong_lists = np.flatnonzero(wrong | level.null)
            rows, first = np.unique(level.row[wrong_lists], return_index=True)
            for row, at in zip(rows.tolist(), wrong_lists[first].tolist(), strict=True):
                bad.setdefault(row, _wrong_list(level.null[at], level.length[at], depth, held, len(levels)))
        for row in np.flatnonzero(counts != self.d).tolist():
            bad.setdefault(row, f"{counts[row]} values, expected {self.d}")
        vectors = in_rows(read_numbers(numbers), counts, bad, self.d)
        if not numbers.null_count:
            return vectors, None, bad
        return vectors, in_rows(numbers.is_null().to_numpy(zero_copy_only=False), counts, bad, self.d), bad


class Tensors(Lists):
    """A tensor a row, of Arrow's type ``arrow.fixed_shape_tensor``."""

    title: ClassVar[str] = "tensors"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Columns of tensors of numbers."""
        return cls._columns_of(
            schema,
            lambda kind: isinstance(kind, pa.FixedShapeTensorType) and is_number(kind.value_type) and all(kind.shape),
        )

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """As the type tells."""
        return [logical_shape(first.type)], ""

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) in the tensors' own type, a view where no row is bad and the type permutes nothing."""
        vectors, null, bad = self._unfold(read_column(batch, self.name))
        kind = batch.schema.field(self.name).type
        if kind.permutation:
            vectors = _permute(vectors, kind)
            null = None if null is None else _permute(null, kind)
        return blank_unusable(vectors, null, bad)


def _measure_rows(column: pa.Array) -> list[Shape]:
    """The shape of each row whose lists are all there and as long as their neighbours."""
    levels, _, _ = unfold_lists(column)
    n = len(column)
    whole = np.ones(n, np.bool_)
    extents = []
    for level in levels:
        shortest, longest = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        np.minimum.at(shortest, level.row, level.length)
        np.maximum.at(longest, level.row, level.length)
        whole &= (shortest == longest) & (longest > 0)
        extents.append(longest)
    return [tuple(map(int, row)) for row in np.stack(extents, axis=1)[whole]]


def _wrong_list(null: bool, length: int, depth: int, held: Shape, depths: int) -> str:
    if null:
        return "null row of pixels"
    if depth:
        return f"a row of {length} pixels, expected {held[depth]}"
    return f"{length} {'values' if depths == 1 else 'rows of pixels'}, expected {held[0]}"


def _permute(matrix: Numbers, kind: pa.FixedShapeTensorType) -> Numbers:
    """Rows in the order in which users see a tensor, from the order in which it is stored."""
    axes = [axis + 1 for axis in kind.permutation]
    return matrix.reshape(len(matrix), *kind.shape).transpose(0, *axes).reshape(len(matrix), math.prod(kind.shape))
