"""Labels that are not in the file of the rows: in a table of their own, by ids or paths, or in the name of a folder."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import is_binary, is_string, is_usual_label
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
        texts: (n,) the same as people wrote them, in strings; None where the file itself has types.
        by_name: place of the key whose last part each name is; -1 where several have it.
        rows_column: column of the rows whose values are keys; None for that of the key column's name, where rows have
            one, or else what they are known by.
        taken: by place, the row that has the label, of those that were seen.
    """

    shown: str
    key_column: str
    label_column: str
    keys: pa.Array
    labels: pa.Array
    texts: pa.Array | None
    by_name: dict[str, int]
    rows_column: str | None = None
    taken: dict[int, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says of rows."""
        digest = hashlib.sha256(repr((self.shown, self.label_column, self.rows_column)).encode())
        batch = pa.RecordBatch.from_arrays([self.keys, self.labels], ["keys", "labels"])
        digest.update(batch.serialize())
        return digest.hexdigest()

    @classmethod
    def read(cls, rows: RowFile, label_column: str | None, id_column: str | None) -> "LabelTable":
        """Those of a file of rows.

        Raises:
            ImageFileError: its columns of keys and labels are not known, a key is missing, or has two labels.
        """
        shown, names = rows.source.shown, rows.schema.names
        rows_column = None if id_column in names else id_column
        key_column, label_column = _columns(rows, label_column, None if rows_column else id_column)
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
        labels = _without_blanks(found[label_column].combine_chunks())
        kept = _once(shown, keys, labels)
        keys, labels, texts = keys.take(kept), labels.take(kept), rows.cells(label_column)
        if texts is not None:
            texts = _without_blanks(texts.take(kept))
        elif is_string(labels.type) or pa.types.is_null(labels.type):
            texts = labels.cast(pa.string())
        by_name: dict[str, int] = {}
        for place, key in enumerate(keys.to_pylist()):
            name = PurePosixPath(key).name
            by_name[name] = -1 if name in by_name else place
        return cls(shown, key_column, label_column, keys, labels, texts, by_name, rows_column)

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
            why = "" if self.taken else f"; {param('id_column')} names the column of the images' files that has such"
            warn(f"{self.shown}: {unused:,} of {len(self.keys):,} labels are of no image, the first of {first!r}{why}")


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

    @abstractmethod
    def _labels(self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        """(n,) the labels of rows of some numbers, of which the columns by which they are known are held."""

    @property
    def _known_by(self) -> list[str]:
        """The columns that `_labels` needs."""
        return []

    @property
    def id_column(self) -> str | None:
        """As the rows have it."""
        return self.rows.id_column

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, with the labels last."""
        kept = [column for column in self.rows.schema if column.name != self.label.name]
        return pa.schema([*kept, self.label], self.rows.schema.metadata)

    @property
    def num_rows(self) -> int:
        """Of the rows."""
        return self.rows.num_rows

    def row_name(self, number: int) -> str:
        """As the rows have it."""
        return self.rows.row_name(number)

    def rows_to_hold(self, columns: Sequence[str], rows: int) -> int:
        """As the rows have it."""
        return self.rows.rows_to_hold([name for name in columns if name != self.label.name], rows)

    def head(self) -> pa.Table:
        """The first rows, with their labels."""
        head = self.rows.head()
        return self._joined(head, np.arange(len(head)), self.schema.names)

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        first, needed = 0, self._needed(columns)
        if not needed:
            for start in range(0, self.num_rows, batch_size):
                numbers = np.arange(start, min(self.num_rows, start + batch_size))
                yield from self._joined(None, numbers, columns).to_batches()
            return
        for batch in self.rows.batches(needed, batch_size):
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
        """The columns of the rows that some of theirs and the labels need."""
        known_by = self._known_by if self.label.name in columns else []
        return list(dict.fromkeys([*(name for name in columns if name != self.label.name), *known_by]))

    def _joined(
        self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64], columns: Sequence[str]
    ) -> pa.Table:
        """Some columns of rows, of which all that are needed are held; None where none are."""
        found = [
            self._labels(held, numbers) if held is None or name == self.label.name else held.column(name)
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

    def _labels(self, _held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        return pa.repeat(pa.scalar(self.value, self.label.type), len(numbers))


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
    def id_column(self) -> str | None:
        """The column whose values are the table's keys, else that by which the rows are known.

        Raises:
            ImageFileError: it was named, and is not there.
        """
        key = self.table.rows_column or self.table.key_column
        if self.table.rows_column not in {None, *self.rows.schema.names}:
            raise ImageFileError(
                f"neither {self.source} nor {self.table.shown} has a column {key!r} for {param('id_column')}; the "
                f"first has {', '.join(self.rows.schema.names)}"
            )
        if key in self.rows.schema.names and not is_binary(self.rows.schema.field(key).type):
            return key
        return self.rows.id_column

    @property
    def _known_by(self) -> list[str]:
        return [] if self.id_column is None else [self.id_column]

    def head(self) -> pa.Table:
        """As `RowFile.head`; where a table of as many labels has none of the first rows, that is told."""
        joined = super().head()
        if len(joined) and not self.table.taken and len(self.table.keys) >= self.num_rows:
            first, key = self._ids(joined, np.arange(1))[0].as_py(), self.table.keys[0].as_py()
            warn(
                f"none of the first {len(joined)} rows of {self.source} has a label in {self.table.shown}, where keys "
                f"in column {self.table.key_column!r} are such as {key!r}: the first row is {first!r}"
            )
        return joined

    def _labels(self, held: pa.RecordBatch | pa.Table | None, numbers: NDArray[np.int64]) -> pa.Array:
        return self.table.find(self._ids(held, numbers), are_paths=self.id_column == self.rows.id_column)

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
    if len(keys) > 1 and "id" in keys:  # as in lists of knnvote's own, which tell files too
        keys = ["id"]
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


def _without_blanks(labels: pa.Array) -> pa.Array:
    """Labels (n,) with null for blank texts and NaN, as programs write what is not filled in."""
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if pa.types.is_floating(labels.type):
        return pc.if_else(pc.is_nan(labels), pa.scalar(None, labels.type), labels)
    if not is_string(labels.type):
        return labels
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(labels), ""), pa.scalar(None, labels.type), labels)


def _once(shown: str, keys: pa.Array, labels: pa.Array) -> pa.Array:
    """The places of each key: of the first that has a label, or else of the first.

    Raises:
        ImageFileError: one has two labels.
    """
    places, values = np.arange(len(keys)), labels.to_pylist()
    has_label = labels.is_valid().to_numpy(zero_copy_only=False)
    first: dict[str, int] = {}
    texts = keys.to_pylist()
    for place in places[has_label].tolist():
        key = texts[place]
        before = first.setdefault(key, place)
        if values[before] != values[place]:
            raise ImageFileError(
                f"{shown}: {key!r} has two labels, {values[before]} and {values[place]}: leave in the right one"
            )
    if repeated := int(has_label.sum()) - len(first):
        warn(f"{shown}: {repeated:,} of {len(keys):,} rows repeat a key with the same label")
    for place in places[~has_label].tolist():
        first.setdefault(texts[place], place)
    return pa.array(sorted(first.values()), pa.int64())
