"""All rows of a text file seen once: what each column is, and the lines that do not fit."""

import csv as plain_csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from knnvote.data.errors import KnnvoteError

from .dialect import Dialect
from .kinds import LIST, NUMBER, Kind, first_other, join, kind_of, same_number
from .source import BLOCK, open_source, reading

_MOST_VALUES = 1000  # told apart in a column whose values are counted


@dataclass(kw_only=True)
class Column:
    """A column of a text file, and what was seen in it.

    Attributes:
        place: from 0.
        is_pixel: whether it is one of many whose cells are numbers.
        kind: of all its cells.
        filled: cells that are not empty.
        numbers: of these so many are numbers, counted where not all are.
        other: the first row that holds something else.
        values: how often each occurs, of a column whose values are counted; none where they are too many.
        counts_rows: whether it holds 0, 1, 2... or 1, 2, 3..., likewise.
    """

    place: int
    is_pixel: bool
    kind: Kind = Kind.NULL
    filled: int = 0
    numbers: int = 0
    other: int | None = None
    values: Counter[str] | None = field(default_factory=Counter)
    counts_rows: bool = True

    def see(self, cells: pa.Array, rows: NDArray[np.int64], dialect: Dialect) -> None:
        """Look at some more cells, of these rows."""
        filled = len(cells) - cells.null_count
        is_quoted = self.place in dialect.quoted
        kind = kind_of(cells, dialect.decimal, is_pixel=self.is_pixel, is_quoted=is_quoted)
        self.kind = join(self.kind, kind)
        self.filled += filled
        if kind <= Kind.LONG:
            self.numbers += filled
            return
        pattern = NUMBER if self.is_pixel else f"{NUMBER}|{LIST}"
        numbers, other = first_other(cells, dialect.decimal, pattern)
        self.numbers += numbers
        if self.other is None and other is not None:
            self.other = int(rows[other])

    def count(self, cells: pa.Array, rows: NDArray[np.int64]) -> None:
        """Count the values of some more cells, of these rows."""
        self.counts_rows = self.counts_rows and any(
            cells.equals(pa.array(map(str, (rows + first).tolist()))) for first in (0, 1)
        )
        if self.values is None:
            return
        found = pc.value_counts(cells)
        self.values.update(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
        if len(self.values) > _MOST_VALUES:
            self.values = None

    def keep_apart(self, decimal: str) -> tuple[str, str] | None:
        """Leave text what is no pixel and holds two texts that would become one number; these, if there are any."""
        if self.is_pixel or self.kind > Kind.FLOAT or self.values is None:
            return None
        merged = same_number(self.values, decimal)
        if merged:
            self.kind = Kind.TEXT
        return merged


@dataclass(frozen=True)
class TextRows:
    """A text file of rows.

    Attributes:
        path: where it lies.
        dialect: how it is written.
    """

    path: Path
    dialect: Dialect

    def batches(self) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """All rows as text, null where empty, and their numbers from 0; rows that repeat the header are left out."""
        first = 0
        for batch in self._all_batches():
            rows = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            kept = ~self._headers(batch)
            yield (rows, batch) if kept.all() else (rows[kept], batch.filter(pa.array(kept)))

    def repeated_headers(self, rows: NDArray[np.int64]) -> list[int]:
        """Lines of the rows that `batches` left out, of which it gave these."""
        missing = np.setdiff1d(np.arange(rows[-1] + 1 if len(rows) else 0), rows)
        return [self._at(int(row))[0] for row in missing]

    def first_other(self, column: Column) -> tuple[int, str]:
        """The line of the first cell of a column that is no number, and the cell."""
        line, cells = self._at(cast("int", column.other))
        return line, cells[column.place][:40]

    def _at(self, row: int) -> tuple[int, list[str]]:
        """The line of the file in which a row stands (its last, if it has several), from 1, and its cells."""
        return next(found for place, found in enumerate(self._lines()) if place == row)

    def _all_batches(self) -> Iterator[pa.RecordBatch]:
        dialect = self.dialect
        with reading(self.path), open_source(self.path) as stream:
            stream.seek(dialect.start)
            if not stream.read(1):
                return  # which is no empty file, for it has a header
            stream.seek(dialect.start)
            options = (
                csv.ReadOptions(block_size=BLOCK, column_names=[str(place) for place in range(dialect.width)]),
                csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
                csv.ConvertOptions(
                    default_column_type=pa.string(),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            try:
                yield from csv.open_csv(stream, *options)
            except pa.ArrowInvalid as error:
                self._refuse_ragged(error)
                raise

    def _refuse_ragged(self, error: pa.ArrowInvalid) -> None:
        """Tell the first line that has fewer or more columns, if there is one."""
        for line, cells in self._lines():
            if len(cells) != self.dialect.width:
                raise KnnvoteError(
                    f"{self.path}, line {line}: {len(cells)} columns, where {self.dialect.width} were expected: "
                    "mend that line or take it out"
                ) from error

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row, and the line of the file on which it ends."""
        with reading(self.path), open_source(self.path) as stream:
            stream.seek(self.dialect.start)
            text = io.TextIOWrapper(cast("io.BufferedReader", stream), encoding="utf-8", newline="")
            rows = plain_csv.reader(text, delimiter=self.dialect.delimiter)
            yield from ((self.dialect.lines + rows.line_num, row) for row in rows if row)

    def _headers(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """(n,) whether a row is the header once more, as in files that were put one after the other."""
        same = np.ones(batch.num_rows, np.bool_)
        for name, cells in zip(self.dialect.names or [None], batch.columns, strict=False):
            if name is None or not same.any():
                return np.zeros(batch.num_rows, np.bool_)
            same &= pc.equal(pc.fill_null(pc.utf8_trim_whitespace(cells), ""), name).to_numpy(zero_copy_only=False)
        return same


def look_over(
    text: TextRows, pixels: Sequence[bool], counted: Collection[int]
) -> tuple[list[Column], NDArray[np.int64]]:
    """See all rows of a file.

    Args:
        text: the file.
        pixels: for each column whether its cells are numbers, as one of many.
        counted: places of columns whose values are counted: one may be the label.

    Returns:
        Its columns, and the numbers of its rows but of repeated headers.
    """
    columns = [Column(place=place, is_pixel=is_pixel) for place, is_pixel in enumerate(pixels)]
    seen: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for rows, batch in text.batches():
        seen.append(rows)
        for column, cells in zip(columns, batch.columns, strict=True):
            column.see(cells, rows, text.dialect)
        for place in counted:
            columns[place].count(batch.column(place), rows)
    return columns, np.concatenate(seen)


def refuse_dirty(text: TextRows, columns: Sequence[Column], names: Sequence[str]) -> None:
    """Refuse a pixel column with a cell that is no number.

    Raises:
        KnnvoteError: naming the line.
    """
    for column in columns:
        if column.is_pixel and column.kind == Kind.TEXT and column.other is None:
            raise KnnvoteError(
                f"{text.path}: column {names[column.place]!r} holds fractions and whole numbers of so many digits that "
                "no number keeps both: round them"
            )
    dirty = [column for column in columns if column.is_pixel and column.kind > Kind.LONG and column.other is not None]
    wrong = [column for column in dirty if column.kind != Kind.BOOLEAN]
    if wrong:
        column = min(wrong, key=lambda column: cast("int", column.other))
        line, cell = text.first_other(column)
        raise KnnvoteError(
            f"{text.path}, line {line}: {cell!r} in column {names[column.place]!r}, "
            f"where a number was expected, as in {column.numbers:,} of its {column.filled:,} cells: "
            "mend that line or take it out"
        )
