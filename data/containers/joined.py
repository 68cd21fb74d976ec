"""Labels from a table of their own, put beside rows by the ids or paths of these."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import is_binary, is_usual_label
from knnvote.data.errors import ImageFileError, param, warn
from knnvote.data.rows import RowFile, RowSource

_USUAL_IDS = ("id", "file", "file_name", "filename", "path", "key", "__key__", "image", "image_id")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels by keys, which are ids or paths of rows, or names of files alone.

    Attributes:
        shown: the file, as users know it.
        key_column: its column of keys.
        label_column: its column of labels.
        keys: (n,) strings, each once.
        labels: (n,) of any type.
        by_name: place of the key whose last part each name is; -1 where several have it.
        taken: by place, the row that has the label, of those that were seen.
    """

    shown: str
    key_column: str
    label_column: str
    keys: pa.Array
    labels: pa.Array
    by_name: dict[str, int]
    taken: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, rows: RowFile, label_column: str | None, id_column: str | None) -> "LabelTable":
        """Those of a file of rows.

        Raises:
            ImageFileError: its columns of keys and labels are not known, a key is missing, or has two labels.
        """
        shown = rows.source.shown
        key_column, label_column = _columns(rows, label_column, id_column)
        found = pa.Table.from_batches(
            rows.batches([key_column, label_column], 1 << 16),
            pa.schema([rows.schema.field(key_column), rows.schema.field(label_column)]),
        ).combine_chunks()
        try:
            keys = pc.utf8_trim_whitespace(found[key_column].cast(pa.string())).combine_chunks()
        except pa.ArrowException as error:
            raise ImageFileError(
                f"{shown}, column {key_column!r}: {found[key_column].type} is no id: name another with "
                f"{param('id_column')}"
            ) from error
        if keys.null_count:
            raise ImageFileError(f"{shown}, column {key_column!r}: {keys.null_count:,} ids are missing: fill them in")
        labels = found[label_column].combine_chunks()
        kept = _once(shown, keys, labels)
        keys, labels = keys.take(kept), labels.take(kept)
        by_name: dict[str, int] = {}
        for place, key in enumerate(keys.to_pylist()):
            name = PurePosixPath(key).name
            by_name[name] = -1 if name in by_name else place
        return cls(shown, key_column, label_column, keys, labels, by_name)

    def find(self, ids: pa.Array, *, are_paths: bool) -> pa.Array:
        """(n,) the labels of rows with some ids; null where there is none.

        Args:
            ids: (n,) strings.
            are_paths: the last parts of ids may be keys, or those of keys be ids.

        Raises:
            ImageFileError: the name of a file is that of two rows.
        """
        places = pc.index_in(ids, value_set=self.keys).to_pylist()
        texts = ids.to_pylist()
        for row, (place, text) in enumerate(zip(places, texts, strict=True)):
            if place is None and are_paths and text is not None:
                place = self._by_name(text)  # noqa: PLW2901
                places[row] = place
            if place is not None:
                self.taken.setdefault(place, text)
        return self.labels.take(pa.array(places, pa.int64()))

    def _by_name(self, path: str) -> int | None:
        """The place of the key that has the name of a file."""
        name = PurePosixPath(path).name
        place = self.by_name.get(name, -1)
        if place < 0 or ("/" in path and "/" in self.keys[place].as_py()):  # two paths that differ
            return None
        other = self.taken.get(place, path)
        if other != path:
            raise ImageFileError(
                f"{self.shown}: {name} is the name of several files, {other} and {path}: give paths in column "
                f"{self.key_column!r}"
            )
        return place

    def tell_unused(self) -> None:
        """Tell of labels that no row has."""
        unused = len(self.keys) - len(self.taken)
        if unused:
            first = next(key for place, key in enumerate(self.keys.to_pylist()) if place not in self.taken)
            warn(f"{self.shown}: {unused:,} of {len(self.keys):,} labels are of no image, the first of {first!r}")


@dataclass(frozen=True)
class JoinedRows(RowFile):
    """Rows with a column of labels from a table, in place of one of that name.

    Attributes:
        rows: without it.
        table: of the labels.
        relative: the path of the file in ids.
    """

    rows: RowFile
    table: LabelTable
    relative: str

    @classmethod
    def open(cls, source: RowSource) -> AbstractContextManager[Self]:
        """Rows are joined when they are open."""
        raise NotImplementedError

    @property
    def id_column(self) -> str | None:
        """The column of the table's ids where the rows have it, else that by which they are known."""
        key = self.table.key_column
        if key in self.rows.schema.names and not is_binary(self.rows.schema.field(key).type):
            return key
        return self.rows.id_column

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, with the labels last."""
        kept = [column for column in self.rows.schema if column.name != self.table.label_column]
        label = pa.field(self.table.label_column, self.table.labels.type)
        return pa.schema([*kept, label], self.rows.schema.metadata)

    @property
    def num_rows(self) -> int:
        """Of the rows."""
        return self.rows.num_rows

    def row_name(self, number: int) -> str:
        """As the rows have it."""
        return self.rows.row_name(number)

    def rows_to_hold(self, columns: Sequence[str], rows: int) -> int:
        """As the rows have it."""
        return self.rows.rows_to_hold([name for name in columns if name != self.table.label_column], rows)

    def head(self) -> pa.Table:
        """The first rows, with their labels."""
        head = self.rows.head()
        joined = self._joined(head, np.arange(len(head)), self.schema.names)
        if len(head) and not self.table.taken:
            first, key = self._ids(head, np.arange(1))[0].as_py(), self.table.keys[0].as_py()
            warn(
                f"none of the first {len(head)} rows of {self.source} has a label in {self.table.shown}, where keys in "
                f"column {self.table.key_column!r} are such as {key!r}: the first row is {first!r}"
            )
        return joined

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        first, needed = 0, self._needed(columns)
        if not needed:  # ids are numbers
            for start in range(0, self.num_rows, batch_size):
                numbers = np.arange(start, min(self.num_rows, start + batch_size))
                yield self._joined(None, numbers, columns).combine_chunks().to_batches()[0]
            return
        for batch in self.rows.batches(needed, batch_size):
            numbers = np.arange(first, first + batch.num_rows)
            yield from self._joined(batch, numbers, columns).combine_chunks().to_batches()
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
        """The columns of the rows that some of theirs and the labels need."""
        label, own = self.table.label_column, self.id_column
        ids = [own] if label in columns and own is not None else []
        return list(dict.fromkeys([*(name for name in columns if name != label), *ids]))

    def _joined(
        self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64], columns: Sequence[str]
    ) -> pa.Table:
        """Some columns of rows, of which some are held."""
        fields = [self.schema.field(name) for name in columns]
        found = []
        for name in columns:
            if name != self.table.label_column:
                found.append(held.column(name))  # type: ignore[union-attr]  # only labels need nothing of the rows
                continue
            ids = self._ids(held, numbers)
            found.append(self.table.find(ids, are_paths=self.id_column == self.rows.id_column))
        return pa.Table.from_arrays(found, schema=pa.schema(fields, self.schema.metadata))

    def _ids(self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        """(n,) of rows, as strings."""
        own = self.id_column
        if own is None or held is None:
            return pa.array([f"{self.relative}#{number}" for number in numbers.tolist()], pa.string())
        column = held.column(own).cast(pa.string())
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _columns(rows: RowFile, label_column: str | None, id_column: str | None) -> tuple[str, str]:
    """The columns of keys and of labels."""
    names, shown = rows.schema.names, rows.source.shown
    for option, name in (("label_column", label_column), ("id_column", id_column)):
        if name is not None and name not in names:
            raise ImageFileError(f"{shown}: no column {name!r} for {param(option)}; there are {', '.join(names)}")
    labels = [label_column] if label_column else [name for name in names if is_usual_label(name) and name != id_column]
    keys = [id_column] if id_column else [name for name in names if name.lower() in _USUAL_IDS and name not in labels]
    if len(names) == 2 and len(labels) == 1 and not keys:
        keys = [name for name in names if name not in labels]
    if len(names) == 2 and len(keys) == 1 and not labels:
        labels = [name for name in names if name not in keys]
    if len(labels) != 1 or len(keys) != 1 or labels == keys:
        raise ImageFileError(
            f"{shown}: which of the columns {', '.join(names)} holds labels, and which ids or paths of images, is not "
            f"known: name them with {param('label_column')} and {param('id_column')}"
        )
    return keys[0], labels[0]


def _once(shown: str, keys: pa.Array, labels: pa.Array) -> pa.Array:
    """The places of the first of each key.

    Raises:
        ImageFileError: one has two labels.
    """
    first: dict[str, int] = {}
    values = labels.to_pylist()
    for place, key in enumerate(keys.to_pylist()):
        before = first.setdefault(key, place)
        if values[before] != values[place]:
            raise ImageFileError(
                f"{shown}: {key!r} has two labels, {values[before]} and {values[place]}: leave in the right one"
            )
    if len(first) < len(keys):
        warn(f"{shown}: {len(keys) - len(first):,} of {len(keys):,} rows repeat a key with the same label")
    return pa.array(list(first.values()), pa.int64())
