"""What files say of stored images by their ids: which are meant, and which label each is to have."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from knnvote.data.columns import check_text, is_string, without_blanks
from knnvote.data.convert.ids import USUAL_NAME, holds_text, read_text_columns
from knnvote.data.errors import ImageFileError, KnnvoteError, is_whole, param, warn
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.labels.lists import FIX, LABEL, is_of_review, told_to_fill_in
from knnvote.indexer.building.provenance import id_array, known_ids, read_ids, repeated_told
from knnvote.indexer.index import Index
from knnvote.indexer.labels import common_label_type, show_class, true_labels

from .classes import refuse_new_classes, tell_of_classes
from .listed import of_stored

_OF_SUSPECTS = {"suggested", "against"}  # columns of a list whose labels are the stored ones
_BATCH = 1 << 16


def read_id_column(inputs: Inputs, id_column: str | None = None) -> pa.ChunkedArray:
    """Ids from files, as strings.

    Args:
        inputs: Parquet files, folders of them, globs or URIs, or text on this machine, CSV or one id a line: one or
            several.
        id_column: that holds the ids; without it the only column, or else the one named ``id``.

    Raises:
        KnnvoteError: a file has no such column, an id is null, or a file is a list to be filled in and no column named.
    """

    def choose(names: Sequence[str]) -> None:
        told = told_to_fill_in(names)
        if told and id_column is None:
            columns = f"{'a column' if len(told) == 1 else 'columns'} {' and '.join(map(repr, told))}"
            raise ImageFileError(
                f"it has {columns}, as lists to be filled in have, of which few rows may be meant: "
                f"give a file of these, or name its column of ids with {param('id_column')} if all rows are meant"
            )

    tables = [table for source in find_inputs(inputs) for table in _read(source, id_column, choose)]
    return pa.chunked_array([chunk for table in tables for chunk in table["id"].chunks], pa.string())


def read_reviewed(inputs: Inputs, id_column: str | None = None) -> pa.ChunkedArray:
    """Ids, as strings, of what a person has looked at: all of a file but, of a list to be filled in, rows that are not.

    Inputs, column and errors are as of `read_id_column`.
    """
    chunks = []
    for source in find_inputs(inputs):
        for table in _read(source, id_column, lambda names: next(reversed(told_to_fill_in(names)), None)):
            seen = table.filter(table["value"].is_valid()) if "value" in table.column_names else table
            chunks += seen["id"].chunks
    return pa.chunked_array(chunks, pa.string())


def read_fixes(
    inputs: Inputs,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    index: Index | None = None,
    tell: Callable[[str], None] = warn,
) -> pa.Table:
    """Labels to give to stored images, from files.

    Args:
        inputs: as of `read_id_column`.
        id_column: that holds the ids; without it the one named ``id``.
        label_column: that holds the labels; without it the one named ``fix``, or else ``label``.
        index: that they are for: of a list of `review` the rows of images that it does not store are left out.
        tell: told how many of these are labelled, and of a list of suspects without the column that is to be filled in.

    Returns:
        Columns id, string; label, text where the file is text and null where it is empty; and place, which says where
        in a file that is.

    Raises:
        KnnvoteError: a file has no such column, an id is null, or files hold labels of several types.
    """
    tables, headers = [], list[Sequence[str]]()

    def choose(names: Sequence[str]) -> str:
        headers.append(names)
        name = label_column or (FIX if FIX in names else LABEL)
        if name not in names:
            raise ImageFileError(
                f"no column {name!r} of labels; there are {', '.join(names)}: name one with {param('label_column')}"
            )
        if name not in {label_column, FIX} and {*names} >= _OF_SUSPECTS:
            tell(
                f"there is no column {FIX!r}, so labels are read of column {name!r}, which lists of suspects fill with "
                f"what is stored; {param('label_column')} names another"
            )
        return name

    for source in find_inputs(inputs):
        for table in _read(source, id_column, choose):
            if index is not None and is_of_review(headers[-1]):
                table = of_stored(table, index.ids, source.shown, tell)  # noqa: PLW2901  # others are add's
            tables.append(table)
    return _joined(tables)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Those of several files as one, as `read_fixes` has it."""
    types = {table["value"].type for table in tables}
    if len(types) > 1:
        raise KnnvoteError(
            f"labels are {' and '.join(sorted(map(str, types)))} in one file and another: give one file at a time"
        )
    return pa.concat_tables(tables).rename_columns(["id", "label", "place"])


def fixes_of(ids: str | int | Sequence[str] | Sequence[int] | pa.ChunkedArray, labels: Any) -> pa.Table:
    """Labels to give to stored images, as `read_fixes` has them, from what Python gives.

    Raises:
        KnnvoteError: there are not as many labels as ids, or they are of several kinds.
    """
    if isinstance(ids, str) or is_whole(ids):
        ids, labels = [ids], [labels]
    if isinstance(labels, str):
        raise KnnvoteError(f"labels are the text {labels!r}, and ids several: give a label for each")
    try:
        column = labels if isinstance(labels, pa.Array | pa.ChunkedArray) else pa.array(labels, from_pandas=True)
        given = _table(id_array(ids), column)
    except (pa.ArrowException, TypeError) as error:
        raise KnnvoteError(
            f"ids and labels cannot be used ({error}): give as many labels of one kind as ids"
        ) from error
    return given.rename_columns(["id", "label"])


def _read(
    source: InputFile, id_column: str | None, choose: Callable[[Sequence[str]], str | None]
) -> Iterator[pa.Table]:
    """Rows of a file: columns id and, where a column is chosen by the names of all, value, null where it is empty."""
    if source.is_local and Path(source.path).is_file() and holds_text(Path(source.path)):
        text, lines = read_text_columns(Path(source.path), id_column)
        name = id_column or (text.column_names[0] if text.num_columns == 1 else USUAL_NAME)
        with source.content_told():
            chosen = choose(text.column_names)
        yield _table(text[name], None if chosen is None else text[chosen], _places("line", lines, source.shown))
        return
    with source.open_rows() as rows:
        names = rows.schema.names
        name = id_column or (names[0] if len(names) == 1 else USUAL_NAME)
        if name not in names:
            raise ImageFileError(
                f"{source.shown}: no column {name!r} of ids; there are {', '.join(names)}: "
                f"name one with {param('id_column')}"
            )
        with source.content_told():
            chosen = choose(names)
        tables, null, first = [], 0, 0
        for batch in rows.batches(list(dict.fromkeys([name, chosen or name])), _BATCH):
            with source.content_told():
                for column in batch.schema.names:
                    check_text(batch.column(column), column)
            ids = read_ids(source, batch.column(name), name)
            null += ids.null_count
            places = _places("row", pa.array(range(first, first + len(ids))), source.shown)
            tables.append(_table(ids, None if chosen is None else batch.column(chosen), places))
            first += len(ids)
    if null:
        raise ImageFileError(f"{source.shown}, column {name!r}: {null:,} ids are null: leave those rows out")
    yield from tables


def _places(what: str, numbers: pa.Array, shown: str) -> pa.Array:
    """(n,) ``line 3 of fixes.csv``, or such a row."""
    return pc.binary_join_element_wise(f"{what} ", numbers.cast(pa.string()), f" of {shown}", "")


def _table(
    ids: pa.Array | pa.ChunkedArray, values: pa.Array | pa.ChunkedArray | None, places: pa.Array | None = None
) -> pa.Table:
    if values is None:
        return pa.table({"id": ids})
    values = without_blanks(values)
    if is_string(values.type):
        values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    table = pa.table({"id": ids, "value": values})
    return table if places is None else table.append_column("place", [places])


def change_labels(index: Index, fixes: pa.Table, tell: Callable[[str], None], *, new_classes: bool = False) -> pa.Array:
    """The labels (n,) of an index with some of them changed.

    Args:
        index: an opened one.
        fixes: columns id and label, which is null where nothing is to change, and else of the type of the stored ones,
            or text that says one; where classes have names, their names do. And place, if it is known.
        tell: told of ids that are stored several times, of classes that are new, and of those that no image has now.
        new_classes: whether a label may be of a class that the index has not.

    Raises:
        KnnvoteError: an id is not stored or has unlike labels, or a label is of another kind, or of a class that is new
            and must not be.
    """
    fixes = fixes.filter(fixes["label"].is_valid())
    if not len(fixes):
        return index.labels
    ids = known_ids(fixes["id"].combine_chunks(), index.ids, index.path, "nothing was changed", tell)
    labels = _like_stored(index, fixes)
    _refuse_unlike(index, pa.table({"id": ids, "label": labels}))
    if not new_classes:
        refuse_new_classes(index, labels, partial(_where, fixes))
    given = pc.index_in(index.ids, value_set=ids)  # the first of its rows, where an id is given several times
    if (told := repeated_told(index.ids.filter(given.is_valid()))) is not None:
        tell(f"{told}: all that have it get its label")
    changed = pc.if_else(given.is_valid(), labels.take(given), index.labels.cast(labels.type))
    tell_of_classes(index, changed, tell)
    return changed


def _where(fixes: pa.Table, place: int) -> str:
    """The id of a label that is given, and where that stands."""
    known = f" in {fixes['place'][place].as_py()}" if "place" in fixes.column_names else ""
    return f"{fixes['id'][place].as_py()!r}{known}"


def _refuse_unlike(index: Index, fixes: pa.Table) -> None:
    different = fixes.group_by(["id", "label"], use_threads=False).aggregate([])
    counts = different["id"].combine_chunks().value_counts()
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        labels = different.filter(pc.equal(different["id"], twice[0]))["label"].to_pylist()
        one, other = (show_class(label, index.manifest.class_names) for label in labels[:2])
        raise KnnvoteError(
            f"{len(twice):,} ids have several labels, the first, {twice[0].as_py()!r}, {one} and {other}; "
            "nothing was changed: leave one row of each id"
        )


def _like_stored(index: Index, fixes: pa.Table) -> pa.Array:
    """Labels (m,) of fixes in the type of the stored ones, or in a wider one that new classes need."""
    like, names, given = index.labels.type, index.manifest.class_names, fixes["label"].combine_chunks()
    if is_string(given.type):
        return LabelTexts(index).read_all(given, partial(_where, fixes))
    try:
        values = true_labels(given, like)
    except KnnvoteError as error:
        raise KnnvoteError(
            f"the labels to give to images of {index.path} are {error.marked}; nothing was changed: "
            "give labels of the kind that is stored"
        ) from error
    outside = next((value for value in values if names is not None and not 0 <= value < len(names)), None)
    if outside is not None:
        raise no_class(index, outside)
    return _typed(index, values)


def _typed(index: Index, values: list[Any]) -> pa.Array:
    """Labels (m,) in the type of the stored ones, or in a wider one that new classes need."""
    like = index.labels.type
    for kind in (like, common_label_type([like, pa.int64()]) or like):
        try:
            return pa.array(values, kind)
        except (OverflowError, pa.ArrowInvalid):
            continue
    raise KnnvoteError(f"a label does not fit the {like} of {index.path}; nothing was changed: give smaller numbers")


class LabelTexts:
    """Labels of an index as text, which people write, and back."""

    def __init__(self, index: Index) -> None:
        """Of an opened index."""
        self._index = index
        self._names = index.manifest.class_names or []
        self._numbers: dict[str, set[int]] = defaultdict(set)
        for number, name in enumerate(self._names):
            self._numbers[name.strip()].add(number)

    @cached_property
    def written(self) -> list[str]:
        """Of each class text that is read as it: its name, where no other class could be meant by that."""
        return [self._write(label) for label in self._index.manifest.classes]

    def read(self, text: str) -> Any:
        """The label that a text says.

        Raises:
            KnnvoteError: it says none, or one of several.
        """
        like = self._index.labels.type
        if is_string(like):
            return text
        found = self._find(text)
        if len(found) > 1:
            shown = " and ".join(show_class(label, self._names) for label in sorted(found))
            clear = " or ".join(repr(self._write(label)) for label in sorted(found))
            raise KnnvoteError(
                f"the label {text!r} may be {shown} of {self._index.path}; nothing was changed: give {clear}"
            )
        if not found:
            raise no_class(self._index, text)
        return found.pop()

    def read_all(self, texts: pa.Array, where: Callable[[int], str] | None = None) -> pa.Array:
        """The labels (m,) that texts (m,) say, in the type of the stored ones or a wider one; null where a text is.

        Raises:
            KnnvoteError: as of `read`, and where the place of the text is, if that is known; or a number is too large.
        """
        coded, read = texts.dictionary_encode(), []
        for number, text in enumerate(coded.dictionary.to_pylist()):
            try:
                read.append(self.read(text))
            except KnnvoteError as error:
                if where is None:
                    raise
                raise KnnvoteError(f"{where(coded.indices.index(number).as_py())}: {error.marked}") from error
        places = coded.indices.to_pylist()
        return _typed(self._index, [None if place is None else read[place] for place in places])

    def _write(self, label: Any) -> str:
        name = self._names[label] if self._names else None
        return str(label) if name is None or self._find(name.strip()) != {label} else name

    def _find(self, text: str) -> set[Any]:
        """The labels that a text may say, of an index whose labels are no text."""
        like, found = self._index.labels.type, set(self._numbers.get(text, ()))
        for kind in (like, pa.int64(), pa.float64()):
            try:
                number = pa.scalar(text).cast(kind).as_py()
            except pa.ArrowInvalid:
                continue
            if pt.is_boolean(like) or pt.is_floating(like):
                found.add(number)
            elif number == number // 1:  # 3.0 is 3, as programs write integers with gaps among them
                found.add(int(number))
            break
        return {label for label in found if 0 <= label < len(self._names)} if self._names else found


def no_class(index: Index, label: Any) -> KnnvoteError:
    """What is wrong with a label that none of an index can be."""
    names, like = index.manifest.class_names, index.labels.type
    kinds = {"bool": "true or false", "double": "a number"}
    expected = kinds.get(str(like), "a whole number")
    if names is not None:
        known = show_class(index.labels[0].as_py(), names)
        expected = f"one of its {len(names):,} classes by number or name, as {known}"
    return KnnvoteError(f"the label {label!r} cannot be one of {index.path}; nothing was changed: give {expected}")
