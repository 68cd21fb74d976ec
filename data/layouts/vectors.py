"""Vectors as Spark's machine learning holds them: structs of a tag, a size, indices and values, many of them sparse."""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_vector, read_column, vector_lengths
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape, commonest
from knnvote.data.vectors import Numbers, Reasons, blank_unusable

_SPARSE, _DENSE = 0, 1  # tags
_LONGEST = 1 << 24  # numbers; a sparse vector says its length and need not hold it


class Vectors(Layout):
    """A vector a row, dense or sparse."""

    title: ClassVar[str] = "vectors of Spark"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Structs of Spark's type, which Parquet knows as such alone."""
        return cls._columns_of(schema, is_vector)

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """Flat shapes, as long as the rows are."""
        lengths = vector_lengths(first.column).to_pylist()
        shapes: list[Shape] = [(length,) for length in lengths if length and 0 < length <= _LONGEST]
        reason = f"every one is null, empty or longer than {_LONGEST:,}"
        return commonest(shapes), "" if shapes or not lengths else reason

    @classmethod
    def takes_squares(cls, first: FirstRows) -> bool:  # noqa: ARG003 - whatever the rows
        """They hold floats, and so are vectors, not images."""
        return False

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) float64."""
        column = read_column(batch, self.name)
        lengths = vector_lengths(column).fill_null(0).to_numpy()
        row, at, numbers, is_whole = _taken_apart(column, lengths, self.d)
        null = column.is_null().to_numpy(zero_copy_only=False)
        bad: Reasons = dict.fromkeys(np.flatnonzero(null).tolist(), "null vector")
        for place in np.flatnonzero(lengths != self.d).tolist():
            bad.setdefault(place, f"{lengths[place]} values, expected {self.d}")
        for place in np.flatnonzero(~is_whole).tolist():
            bad.setdefault(place, "damaged vector")
        vectors = np.zeros((len(column), self.d))
        good = ~np.isin(row, list(bad))
        vectors[row[good], at[good]] = numbers[good]
        return blank_unusable(vectors, None, bad)


def _taken_apart(column: pa.StructArray, lengths: Numbers, d: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """For each number that is held its row, its place there and itself; and (n,) whether a row makes sense."""
    tags, _, indices, values = column.flatten()
    tags = tags.fill_null(-1).to_numpy()
    told, held = (pc.list_value_length(lists).fill_null(0).to_numpy() for lists in (indices, values))
    is_sparse = (tags == _SPARSE) & (told == held)
    is_whole = is_sparse | ((tags == _DENSE) & (lengths == held))
    row = np.repeat(np.arange(len(column)), held)
    first = np.repeat(np.cumsum(held) - held, held)
    at = np.arange(len(row)) - first
    is_first = at == 0
    at[is_sparse[row]] = indices.flatten().fill_null(-1).to_numpy()[np.repeat(is_sparse, told)]
    # Indices ascend: each place is told once.
    is_lost = (at < 0) | (at >= d) | (~is_first & (np.diff(at, prepend=-1) <= 0))
    is_whole[row[is_lost]] = False
    return row, at, values.flatten().fill_null(np.nan).to_numpy(), is_whole
