"""Labels in a file of their own, which rows of other files are given: by ids or paths, or row by row."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_string, is_usual_label, without_blanks
from knnvote.data.errors import ImageFileError, param, warn
from knnvote.data.rows import RowFile

from .images import is_image_name
from .keys import kept_once, lost_zeros, once
from .row_numbers import is_row_number, refuse_other_order

_SEEN = 10_000  # ids
_USUAL_IDS = ("id", "file", "file_name", "filename", "path", "key", "__key__", "image", "image_id")


@dataclass(frozen=True, eq=False, kw_only=True)
class Labels:
    """Labels of rows, in their order.

    Attributes:
        shown: the file, as users know it.
        label_column: its column of labels.
        labels: (n,) of any type.
        texts: (n,) the same as people wrote them, in strings; None where the file itself has types.
        header: the first line of a text file, by which its columns are called.
        others: its other columns.
        kept: (n,) of any type, such of these as are kept beside the labels, by name.
        may_begin_with_name: the first may be what they are called, as nothing but their number tells.
    """

    shown: str
    label_column: str
    labels: pa.Array
    texts: pa.Array | None
    header: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    kept: dict[str, pa.Array] = field(default_factory=dict)
    may_begin_with_name: bool = False

    @property
    def is_in_order(self) -> bool:
        """There is one for each row of one file, in their order."""
        return True

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says of rows."""
        return self._digest((self.shown, self.label_column), [self.labels, *self.kept.values()])

    @staticmethod
    def _digest(names: tuple[object, ...], columns: Sequence[pa.Array]) -> str:
        digest = hashlib.sha256(repr(names).encode())
        digest.update(pa.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))]).serialize())
        return digest.hexdigest()

    @classmethod
    def in_order(cls, rows: RowFile, label_column: str, columns: Sequence[str] = ()) -> "Labels":
        """Those of a column of a file of rows, with such of some others as it has."""
        labels = without_blanks(_column(rows, label_column))
        texts = _as_written(labels, rows.cells(label_column))
        others = tuple(name for name in rows.schema.names if name != label_column)
        kept = {name: _column(rows, name) for name in columns if name in others}
        return Labels(
            shown=rows.source.shown, label_column=label_column, labels=labels, texts=texts, others=others, kept=kept
        )

    def of_rows(self, n: int, shown: str) -> "Labels":
        """Those of a file of so many rows, without what they are called.

        Raises:
            ImageFileError: they are not as many.
        """
        found = self.fitted(n)
        if len(found.labels) != n:
            raise ImageFileError(
                f"{shown} has {n:,} rows, and {self.shown} {len(self.labels):,} labels without ids: give as many, each "
                "in the place of its row, or a table with a column of ids"
            )
        return found

    def fitted(self, n: int) -> "Labels":
        """The same, but for the first if it is what they are called, as where there is one more than rows."""
        if not self.may_begin_with_name or len(self.labels) != n + 1:
            return self
        texts = None if self.texts is None else self.texts.slice(1)
        return replace(self, labels=self.labels.slice(1), texts=texts, may_begin_with_name=False)

    def tell_unused(self) -> None:
        """Nothing: there are as many as rows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelTable(Labels):
    """Labels by keys, which are ids or paths of rows, or names of files alone.

    Attributes:
        key_column: its column of keys.
        keys: (n,) strings, each once.
        by_name: place of the key whose last part each name is; -1 where several have it.
        rows_column: column of the rows whose values are keys; None for that of the key column's name, where rows have
            one, or else what they are known by.
        taken: by place, the row that has the label, of those that were seen.
        seen: ids of rows without a label, some of the first.
    """

    key_column: str
    keys: pa.Array
    by_name: dict[str, int]
    rows_column: str | None = None
    taken: dict[int, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    @property
    def is_in_order(self) -> bool:
        """It says by its keys which rows it is of."""
        return False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says of rows."""
        kept = [self.keys, self.labels, *self.kept.values()]
        return self._digest((self.shown, self.label_column, self.rows_column), kept)

    @classmethod
    def read(
        cls,
        rows: RowFile,
        key_column: str,
        label_column: str,
        rows_column: str | None,
        columns: Sequence[str] = (),
    ) -> "LabelTable":
        """Those of two columns of a file of rows, with such of some others as it has.

        Raises:
            ImageFileError: a key is missing, or has two labels or two values of another column.
        """
        shown, names = rows.source.shown, rows.schema.names
        header = tuple(names if rows.cells(names[0]) is not None else ())
        keys, labels = _column(rows, key_column), without_blanks(_column(rows, label_column))
        try:
            keys = pc.utf8_trim_whitespace(keys.cast(pa.string()))
        except pa.ArrowException as error:
            raise ImageFileError(
                f"{shown}, column {key_column!r}: {keys.type} is no id: name another with {param('id_column')}"
            ) from error
        missing = pc.and_(keys.is_null(), labels.is_valid()).true_count
        if missing:
            raise ImageFileError(f"{shown}, column {key_column!r}: {missing:,} ids are missing: fill them in")
        kept = once(shown, keys, labels)
        texts = _as_written(labels, rows.cells(label_column))
        by_name: dict[str, int] = {}
        for place, key in enumerate(keys.take(kept).to_pylist()):
            name = PurePosixPath(key).name
            by_name[name] = -1 if name in by_name else place
        beside = [name for name in columns if name in names and name != label_column]
        return cls(
            shown=shown,
            label_column=label_column,
            labels=labels.take(kept),
            texts=None if texts is None else texts.take(kept),
            kept={name: kept_once(shown, name, keys, _column(rows, name), kept) for name in beside},
            key_column=key_column,
            keys=keys.take(kept),
            by_name=by_name,
            header=header,
            rows_column=rows_column,
        )

    def find(self, ids: pa.Array, *, are_paths: bool, prefix: str = "", column: str | None = None) -> pa.Array:
        """(n,) the labels of rows with some ids; null where there is none.

        Args:
            ids: (n,) strings.
            are_paths: the last parts of ids may be keys, or those of keys be ids.
            prefix: of ids, without which they may be keys too.
            column: one that is kept, in place of the labels.

        Raises:
            ImageFileError: the name of a file, or what follows the prefix, is that of two rows.
        """
        texts = ids.to_pylist()
        bare = pa.array([None if text is None else text.removeprefix(prefix) for text in texts], pa.string())
        if self.header and self.key_column in {*texts, *bare.to_pylist()}:
            raise _no_header(self.shown, self.header, self.key_column)
        whole, parts = (pc.index_in(of, value_set=self.keys).to_pylist() for of in (ids, bare))
        places: list[int | None] = []
        for text, name, place, part in zip(texts, bare.to_pylist(), whole, parts, strict=True):
            found = place
            if place is None and are_paths and text is not None:
                found = self._named(name) if part is None else part
                self._refuse_second(found, text, name if prefix else PurePosixPath(name).name)
            if found is not None:
                self.taken.setdefault(found, text)
            elif text is not None and len(self.seen) < _SEEN:
                self.seen.append(text)
            places.append(found)
        return self.kept.get(column or "", self.labels).take(pa.array(places, pa.int64()))

    def _named(self, path: str) -> int | None:
        """The place of the key that has the name of a file."""
        place = self.by_name.get(PurePosixPath(path).name, -1)
        if place < 0 or ("/" in path and "/" in self.keys[place].as_py()):  # two paths that differ
            return None
        return place

    def _refuse_second(self, place: int | None, row: str, name: str) -> None:
        """Refuse a key that is only a part of the id of a row, and of another row's too."""
        other = row if place is None else self.taken.get(place, row)
        if other != row:
            raise ImageFileError(
                f"{self.shown}: {name} is the name of several rows, {other} and {row}: give these in column "
                f"{self.key_column!r}"
            )

    def tell_unused(self) -> None:
        """Tell of labels that no row has."""
        unused = len(self.keys) - len(self.taken)
        if unused:
            first = next(key for place, key in enumerate(self.keys.to_pylist()) if place not in self.taken)
            why = "" if self.taken else f"; {param('id_column')} names the column of the images' files that has such"
            if (zeros := lost_zeros(first, pa.array(self.seen, pa.string()))) is not None:
                why = f"; {zeros}"
            warn(f"{self.shown}: {unused:,} of {len(self.keys):,} labels are of no image, the first of {first!r}{why}")


def read_labels(
    rows: RowFile,
    label_column: str | None,
    id_column: str | None,
    columns: Sequence[str] = (),
    *,
    may_be_in_order: bool = False,
    are_numbered: bool = False,
) -> Labels:
    """The labels that a file of rows holds: by ids, or in their order where there are none to join by.

    Args:
        rows: the file.
        label_column: that of the labels, if one was named.
        id_column: that of the ids, or of the rows that are labelled, if one was named.
        columns: that are kept beside the labels, if it has them.
        may_be_in_order: the rows that are labelled are not known by a column of their own.
        are_numbered: they have no other columns, so that only ids ``file#row`` could be theirs.

    Raises:
        ImageFileError: the columns of keys and labels are not known, a key is missing, or has two labels.
    """
    names = rows.schema.names
    rows_column = None if id_column in names else id_column
    if rows.cells(names[0]) is not None and (path := next(filter(is_image_name, names), None)) is not None:
        raise _no_header(rows.source.shown, names, path)
    may_be_in_order &= id_column is None
    key, label = _columns(
        rows, label_column, None if rows_column else id_column, columns, needs_key=not may_be_in_order
    )
    if may_be_in_order and are_numbered and (key is None or not are_of_rows(_column(rows, key))):
        unused = key if key is not None and key.lower() in _USUAL_IDS else _like_ids(rows, label)
        if unused is not None:
            warn(f"{rows.source}: labels are taken in their order, for the rows have no ids as in column {unused!r}")
        key = None
    if key is None:
        refuse_other_order(rows)
        return Labels.in_order(rows, label, columns)
    return LabelTable.read(rows, key, label, rows_column, columns)


def _column(rows: RowFile, name: str) -> pa.Array:
    batches = rows.batches([name], 1 << 16)
    return pa.Table.from_batches(batches, pa.schema([rows.schema.field(name)]))[name].combine_chunks()


def _like_ids(rows: RowFile, label_column: str) -> str | None:
    """The first column but the labels that could be ids: single words, of which no two are the same; None without."""
    for column in rows.schema:
        if column.name != label_column and is_string(column.type):
            words = _column(rows, column.name)
            words = words.filter(pc.match_substring_regex(words, r"^\S+$"))
            if 1 < len(words) == rows.num_rows == len(words.unique()):
                return str(column.name)
    return None


def are_of_rows(keys: pa.Array) -> bool:
    """Whether any of some keys is an id ``file#row``."""
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)
    return bool(is_string(keys.type) and pc.any(pc.match_substring_regex(keys, r"#\d+\s*$")).as_py())


def _columns(
    rows: RowFile, label_column: str | None, id_column: str | None, columns: Sequence[str], *, needs_key: bool
) -> tuple[str | None, str]:
    """The columns of keys, None where there are none and none are needed, and of labels, but for some others."""
    shown, named = rows.source.shown, {label_column, id_column}
    names = [name for name in rows.schema.names if name not in columns or name in named]
    for option, name in (("label_column", label_column), ("id_column", id_column)):
        if name is not None and name not in names:
            raise ImageFileError(f"{shown}: no column {name!r} for {param(option)}; there are {', '.join(names)}")
    labels = [label_column] if label_column else [name for name in names if is_usual_label(name) and name != id_column]
    keys = [id_column] if id_column else [name for name in names if name.lower() in _USUAL_IDS and name not in labels]
    if len(keys) > 1 and "id" in keys:  # as in lists of knnvote's own, which tell files too
        keys = ["id"]
    if len(names) == 2 and len(labels) == 1 and not keys:
        keys = [name for name in names if name not in labels]
    others = [name for name in names if name not in keys and not is_row_number(name)]
    if not labels and len(others) == 1 and (len(names) == 2 or not needs_key):
        labels = others
    if len(labels) == 1 and len(keys) != 1 and not needs_key:
        return None, labels[0]
    if len(labels) != 1 and not needs_key:
        raise ImageFileError(
            f"{shown}: which of the columns {', '.join(names)} holds labels is not known: name it with "
            f"{param('label_column')}"
        )
    if len(labels) != 1 or len(keys) != 1 or labels == keys:
        raise ImageFileError(
            f"{shown}: which of the columns {', '.join(names)} holds labels, and which ids or paths of images, is not "
            f"known: name them with {param('label_column')} and {param('id_column')}"
        )
    return keys[0], labels[0]


def _as_written(labels: pa.Array, cells: pa.Array | None) -> pa.Array | None:
    """Labels (n,) as people wrote them: cells of text, or text that a file with types holds; else None."""
    if cells is not None:
        return without_blanks(cells)
    return labels.cast(pa.string()) if is_string(labels.type) or pa.types.is_null(labels.type) else None


def _no_header(shown: str, names: Sequence[str], key: str) -> ImageFileError:
    """That the first line of a text file, taken for names of its columns, is of an image.

    Args:
        shown: the file.
        names: that were taken for those of its columns.
        key: the one that is an image's.
    """
    others = iter(["label", *(f"column{place}" for place in range(3, len(names) + 1))])
    header = ",".join("id" if name == key else next(others) for name in names)
    made = f"{shown.removesuffix('.csv')}.named.csv"
    how = f", as {{ echo {header}; cat {shlex.quote(shown)}; }} > {shlex.quote(made)} does" * shown.endswith(".csv")
    return ImageFileError(
        f"{shown} has no header: its first line, {','.join(names)}, is of an image, {key}: put a line of names above "
        f"it{how}"
    )
