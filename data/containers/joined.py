"""Labels that are not in the file of the rows: in one of their own, by ids, paths or rows, or in a folder's name."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import is_binary, is_string
from knnvote.data.errors import ImageFileError, param, warn
from knnvote.data.rows import RowFile, RowSource

from .label_table import Labels, LabelTable, are_of_rows

_BATCH = 1 << 16


@dataclass(frozen=True)
class LabelledRows(RowFile, ABC):
    """Rows with a column of labels that is not in their file, in place of one of that name.

    Attributes:
        rows: without it.
    """

    rows: RowFile

    @classmethod
    def open(cls, source: RowSource) -> AbstractContextManager[Self]:
        """Rows are given labels when they are open."""
        raise NotImplementedError

    @property
    @abstractmethod
    def label(self) -> pa.Field:
        """The column of labels."""

    @property
    def added(self) -> list[pa.Field]:
        """The columns that are not in the file: the labels, and perhaps others."""
        return [self.label]

    @abstractmethod
    def _added(self, name: str, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        """(n,) such a column for rows of some numbers, of which the columns by which they are known are held."""

    @property
    def _known_by(self) -> list[str]:
        """The columns that `_added` needs."""
        return []

    @property
    def id_column(self) -> str | None:
        """As the rows have it."""
        return self.rows.id_column

    @property
    def id_prefix(self) -> str:
        """As the rows have it."""
        return self.rows.id_prefix

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, with what is added last."""
        kept = [column for column in self.rows.schema if column.name not in self._added_names]
        return pa.schema([*kept, *self.added], self.rows.schema.metadata)

    @property
    def _added_names(self) -> list[str]:
        return [column.name for column in self.added]

    @property
    def num_rows(self) -> int:
        """Of the rows."""
        return self.rows.num_rows

    def row_name(self, number: int) -> str:
        """As the rows have it."""
        return self.rows.row_name(number)

    def place(self, number: int) -> tuple[str, int]:
        """As the rows have it."""
        return self.rows.place(number)

    def rows_to_hold(self, columns: Sequence[str], rows: int) -> int:
        """As the rows have it."""
        return self.rows.rows_to_hold([name for name in columns if name not in self._added_names], rows)

    def head(self) -> pa.Table:
        """The first rows, with their labels."""
        head = self.rows.head()
        return self._joined(head, np.arange(len(head)), self.schema.names)

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        return self._all_joined(columns, batch_size, None)

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`, and as the rows do it: a table is not told of rows before those."""
        return self._all_joined(columns, batch_size, span)

    def _all_joined(self, columns: Sequence[str], batch_size: int, span: range | None) -> Iterator[pa.RecordBatch]:
        every, needed = range(self.num_rows) if span is None else span, self._needed(columns)
        if not needed:
            for start in every[::batch_size]:
                numbers = np.arange(start, min(every.stop, start + batch_size))
                yield from self._joined(None, numbers, columns).to_batches()
            return
        first = every.start
        for batch in self.rows.batches(needed, batch_size, span):
            numbers = np.arange(first, first + batch.num_rows)
            yield from self._joined(batch, numbers, columns).to_batches()
            first += batch.num_rows

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """As `RowFile.take`."""
        needed = self._needed(columns)
        if not needed:
            yield wanted, self._joined(None, wanted, columns)
            return
        for numbers, table in self.rows.take(wanted, needed, batch_size):
            yield numbers, self._joined(table, numbers, columns)

    def _needed(self, columns: Sequence[str]) -> list[str]:
        """The columns of the rows that some of theirs and what is added need."""
        own = [name for name in columns if name not in self._added_names]
        return list(dict.fromkeys([*own, *(self._known_by if len(own) < len(columns) else [])]))

    def _joined(
        self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64], columns: Sequence[str]
    ) -> pa.Table:
        """Some columns of rows, of which all that are needed are held; None where none are."""
        found = [
            self._added(name, held, numbers) if held is None or name in self._added_names else held.column(name)
            for name in columns
        ]
        fields = [self.schema.field(name) for name in columns]
        return pa.Table.from_arrays(found, schema=pa.schema(fields, self.schema.metadata))


@dataclass(frozen=True)
class FolderLabelRows(LabelledRows):
    """Rows of a file in a folder whose name, such as ``label=3``, is the label of all.

    Attributes:
        name: of the column.
        value: of all rows.
    """

    name: str
    value: int | float | str

    @property
    def label(self) -> pa.Field:
        """Of one value."""
        return pa.field(self.name, pa.scalar(self.value).type)

    @property
    def of_folders(self) -> tuple[str, ...]:
        """The label."""
        return (self.name,)

    def _added(self, _name: str, _held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        return pa.repeat(pa.scalar(self.value, self.label.type), len(numbers))


@dataclass(frozen=True)
class InOrderRows(LabelledRows):
    """Rows with as many labels, in their order.

    Attributes:
        labels: one for each.
    """

    labels: Labels

    @property
    def label(self) -> pa.Field:
        """As they are in their own file."""
        return pa.field(self.labels.label_column, self.labels.labels.type)

    @property
    def added(self) -> list[pa.Field]:
        """The labels, and what is kept beside them."""
        return [self.label, *_fields(self.labels.kept)]

    def _added(self, name: str, _held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        return self.labels.kept.get(name, self.labels.labels).take(pa.array(numbers))


@dataclass(frozen=True)
class JoinedRows(LabelledRows):
    """Rows with labels from a table.

    Attributes:
        table: of the labels.
        relative: the path of the file in ids.
    """

    table: LabelTable
    relative: str

    @property
    def label(self) -> pa.Field:
        """The table's."""
        return pa.field(self.table.label_column, self.table.labels.type)

    @property
    def added(self) -> list[pa.Field]:
        """The labels, and what is kept beside them."""
        return [self.label, *_fields(self.table.kept)]

    @property
    def id_column(self) -> str | None:
        """The column whose values are the table's keys, else that by which the rows are known.

        It has the name that it has in the table, or the only one that is the same but for its case.

        Raises:
            ImageFileError: it was named, and is not there.
        """
        key = self.table.rows_column or self.table.key_column
        if self.table.rows_column not in {None, *self.rows.schema.names}:
            raise ImageFileError(
                f"neither {self.source} nor {self.table.shown} has a column {key!r} for {param('id_column')}; the "
                f"first has {', '.join(self.rows.schema.names)}"
            )
        names = self.rows.schema.names
        found = [key] if key in names else [name for name in names if name.casefold() == key.casefold()]
        if len(found) == 1 and not is_binary(self.rows.schema.field(found[0]).type):
            return found[0]
        return self.rows.id_column

    @property
    def id_prefix(self) -> str:
        """That of the rows, if they are known by their own column."""
        return self.rows.id_prefix if self.id_column == self.rows.id_column else ""

    @property
    def _known_by(self) -> list[str]:
        return [] if self.id_column is None else [self.id_column]

    def head(self) -> pa.Table:
        """As `RowFile.head`; where a table of as many labels has none of the first rows, that is told."""
        joined = super().head()
        is_first = len(self.table.seen) <= len(joined)  # of a table for many files it is told once
        if len(joined) and is_first and not self.table.taken and len(self.table.keys) >= self.num_rows:
            first, key = self._ids(joined, np.arange(1))[0].as_py(), self.table.keys[0].as_py()
            warn(
                f"none of the first {len(joined)} rows of {self.source} has a label in {self.table.shown}, where keys "
                f"in column {self.table.key_column!r} are such as {key!r}: the first row is {first!r}; "
                f"{param('id_column')} names the column that has such"
            )
        return joined

    def _added(self, name: str, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        is_own = self.id_column == self.rows.id_column
        return self.table.find(self._ids(held, numbers), are_paths=is_own, prefix=self.id_prefix, column=name)

    def _ids(self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        """(n,) of rows, as strings."""
        own = self.id_column
        if own is None or held is None:
            return pa.array([f"{self.relative}#{number}" for number in numbers.tolist()], pa.string())
        column = held.column(own).cast(pa.string())
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        return with_prefix(self.id_prefix, column)


def rows_with_labels(rows: RowFile, labels: Labels, relative: str) -> LabelledRows:
    """Rows with labels from a file of their own.

    Args:
        rows: without.
        labels: by keys, or in the order of the rows.
        relative: the path of the rows' file in ids.

    Raises:
        ImageFileError: labels in order are not as many, or there is a column by which they could be joined, or keys
            could be.
    """
    if isinstance(labels, LabelTable):
        joined = JoinedRows(rows.source, rows, labels, relative)
        if labels.rows_column is None and joined.id_column is None and not are_of_rows(labels.keys):
            _refuse_other_ids(rows, labels)
        return joined
    if shared := [name for name in labels.others if name in rows.schema.names]:
        raise ImageFileError(
            f"{rows.source} and {labels.shown} both have a column {shared[0]!r}: {param('id_column')} {shared[0]} "
            "joins labels by it; to have them in their order leave it out of one"
        )
    return InOrderRows(rows.source, rows, labels.of_rows(rows.num_rows, rows.source.shown))


def _refuse_other_ids(rows: RowFile, table: LabelTable) -> None:
    """Refuse rows that nothing joins to a table by what is named, where a column of theirs has its keys.

    Raises:
        ImageFileError: naming the column.
    """
    for field in rows.schema:
        if is_string(field.type):
            for batch in rows.batches([field.name], _BATCH):
                values = batch.column(0).cast(pa.string())
                if pc.any(pc.is_in(values, value_set=table.keys)).as_py() and len(values.unique()) == len(values):
                    raise ImageFileError(
                        f"{rows.source} has no column {table.key_column!r}, and its column {field.name!r} has the ids "
                        f"of {table.shown}: join them with {param('id_column')} {field.name}"
                    )


def _fields(columns: Mapping[str, pa.Array]) -> list[pa.Field]:
    return [pa.field(name, values.type) for name, values in columns.items()]


def with_prefix(prefix: str, values: pa.Array) -> pa.Array:
    """Strings (n,) behind a prefix; null stays null."""
    return pc.binary_join_element_wise(prefix, values, "") if prefix else values
