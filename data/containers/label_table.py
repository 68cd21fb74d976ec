"""A table of labels by ids or paths, which rows of other files are given."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_string, is_usual_label
from knnvote.data.errors import ImageFileError, param, warn
from knnvote.data.rows import RowFile

from .images import is_image_name

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
        header: the first line of a text file, by which its columns are called.
        weight_column: its column of weights; None where it has none.
        weights: (n,) of any type; None likewise.
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
    header: tuple[str, ...] = ()
    rows_column: str | None = None
    weight_column: str | None = None
    weights: pa.Array | None = None
    taken: dict[int, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says of rows."""
        digest = hashlib.sha256(repr((self.shown, self.label_column, self.rows_column)).encode())
        columns = {"keys": self.keys, "labels": self.labels}
        columns |= {} if self.weights is None else {f"weights {self.weight_column}": self.weights}
        digest.update(pa.RecordBatch.from_pydict(columns).serialize())
        return digest.hexdigest()

    @classmethod
    def read(
        cls,
        rows: RowFile,
        label_column: str | None = None,
        id_column: str | None = None,
        weight_column: str | None = None,
    ) -> "LabelTable":
        """Those of a file of rows, with the weights that it has in a column of that name, if it has one.

        Raises:
            ImageFileError: its columns of keys and labels are not known, or a key is missing, or has two labels or
                weights.
        """
        shown, names = rows.source.shown, rows.schema.names
        rows_column = None if id_column in names else id_column
        header = tuple(names if rows.cells(names[0]) is not None else ())
        if (path := next(filter(is_image_name, header), None)) is not None:
            raise _no_header(shown, header, path)
        weight_column = weight_column if weight_column in names else None
        key_column, label_column = _columns(rows, label_column, None if rows_column else id_column, weight_column)
        wanted = [key_column, label_column, *([] if weight_column is None else [weight_column])]
        schema = pa.schema([rows.schema.field(name) for name in wanted])
        found = pa.Table.from_batches(rows.batches(wanted, 1 << 16), schema).combine_chunks()
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
        weights = None
        if weight_column is not None:
            weights = _weights_once(shown, keys, found[weight_column].combine_chunks(), kept)
        keys, labels, texts = keys.take(kept), labels.take(kept), rows.cells(label_column)
        if texts is not None:
            texts = _without_blanks(texts.take(kept))
        elif is_string(labels.type) or pa.types.is_null(labels.type):
            texts = labels.cast(pa.string())
        by_name: dict[str, int] = {}
        for place, key in enumerate(keys.to_pylist()):
            name = PurePosixPath(key).name
            by_name[name] = -1 if name in by_name else place
        of_labels = (shown, key_column, label_column, keys, labels, texts, by_name, header, rows_column)
        return cls(*of_labels, weight_column, weights)

    def find(self, ids: pa.Array, *, are_paths: bool, prefix: str = "") -> pa.Array:
        """(n,) the labels of rows with some ids, as `places` finds them; null where there is none."""
        return self.labels.take(self.places(ids, are_paths=are_paths, prefix=prefix))

    def places(self, ids: pa.Array, *, are_paths: bool, prefix: str = "") -> pa.Array:
        """(n,) where the table has what belongs to rows with some ids; null where it has nothing.

        Args:
            ids: (n,) strings.
            are_paths: the last parts of ids may be keys, or those of keys be ids.
            prefix: of ids, without which they may be keys too.

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
            places.append(found)
        return pa.array(places, pa.int64())

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
            warn(f"{self.shown}: {unused:,} of {len(self.keys):,} labels are of no image, the first of {first!r}{why}")


def _columns(
    rows: RowFile, label_column: str | None, id_column: str | None, weight_column: str | None
) -> tuple[str, str]:
    """The columns of keys and of labels."""
    names, shown = [name for name in rows.schema.names if name != weight_column], rows.source.shown
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


def _weights_once(shown: str, keys: pa.Array, weights: pa.Array, kept: pa.Array) -> pa.Array:
    """The weights (m,) at the places that are kept, of which each key is at one.

    Raises:
        ImageFileError: a key has two.
    """
    places = pc.index_in(keys, value_set=keys.take(kept))
    of_keys = weights.take(kept)
    is_other = pc.fill_null(pc.not_equal(weights, of_keys.take(places)), False)
    if pc.any(is_other).as_py():
        place = pc.index(is_other, True).as_py()
        one, other = of_keys[places[place].as_py()].as_py(), weights[place].as_py()
        raise ImageFileError(
            f"{shown}: {keys[place].as_py()!r} has two weights, {one} and {other}: leave in the right one"
        )
    return of_keys


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
