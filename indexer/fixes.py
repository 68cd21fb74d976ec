"""What files say of stored images by their ids: which are meant, and which label each is to have."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from knnvote.data.columns import check_text, is_string
from knnvote.data.containers.label_table import Labels
from knnvote.data.convert.ids import USUAL_NAME, holds_text, read_text_columns
from knnvote.data.errors import ImageFileError, KnnvoteError, is_whole, param, warn
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import Inputs, find_inputs

from .building.listed import FIX, LABEL, is_of_review, of_stored, told_to_fill_in
from .building.provenance import id_array, ids_as_stored, read_ids
from .index import Index
from .labels import common_label_type, kind_of_labels, like_known, show_class, true_labels

_BATCH = 1 << 16
_SHOWN = 5  # classes in a message


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
        tell: told how many of these are labelled.

    Returns:
        Columns id, string, and label, text where the file is text and null where it is empty.

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
        return name

    for source in find_inputs(inputs):
        for table in _read(source, id_column, choose):
            if index is not None and is_of_review(headers[-1]):
                table = of_stored(table, index.ids, source.shown, tell)  # noqa: PLW2901  # others are add's
            tables.append(table)
    types = {table["value"].type for table in tables}
    if len(types) > 1:
        raise KnnvoteError(
            f"labels are {' and '.join(sorted(map(str, types)))} in one file and another: give one file at a time"
        )
    return pa.concat_tables(tables).rename_columns(["id", "label"])


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
        text = read_text_columns(Path(source.path), id_column)
        name = id_column or (text.column_names[0] if text.num_columns == 1 else USUAL_NAME)
        with source.content_told():
            chosen = choose(text.column_names)
        yield _table(text[name], None if chosen is None else text[chosen])
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
        tables, null = [], 0
        for batch in rows.batches(list(dict.fromkeys([name, chosen or name])), _BATCH):
            with source.content_told():
                for column in batch.schema.names:
                    check_text(batch.column(column), column)
            ids = read_ids(source, batch.column(name), name)
            null += ids.null_count
            tables.append(_table(ids, None if chosen is None else batch.column(chosen)))
    if null:
        raise ImageFileError(f"{source.shown}, column {name!r}: {null:,} ids are null: leave those rows out")
    yield from tables


def _table(ids: pa.Array | pa.ChunkedArray, values: pa.Array | pa.ChunkedArray | None) -> pa.Table:
    if values is None:
        return pa.table({"id": ids})
    if pt.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_string(values.type):
        values = pc.utf8_trim_whitespace(values.cast(pa.string()))
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    if pt.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return pa.table({"id": ids, "value": values})


def change_labels(index: Index, fixes: pa.Table, tell: Callable[[str], None]) -> pa.Array:
    """The labels (n,) of an index with some of them changed.

    Args:
        index: an opened one.
        fixes: columns id and label, which is null where nothing is to change, and else of the type of the stored ones,
            or text that says one; where classes have names, their names do.
        tell: told of ids that are stored several times, of classes that are new, and of those that no image has now.

    Raises:
        KnnvoteError: an id is not stored or has unlike labels, or a label is of another kind.
    """
    fixes = fixes.filter(fixes["label"].is_valid())
    if not len(fixes):
        return index.labels
    ids = ids_as_stored(fixes["id"].combine_chunks(), index.ids)
    labels = _like_stored(index, fixes["label"].combine_chunks())
    _refuse_unknown(index, ids)
    _refuse_unlike(index, pa.table({"id": ids, "label": labels}))
    given = pc.index_in(index.ids, value_set=ids)  # the first of its rows, where an id is given several times
    if given.is_valid().true_count > len(ids.unique()):
        tell(f"of the ids some are stored several times in {index.path}: each image that has one gets its label")
    changed = pc.if_else(given.is_valid(), labels.take(given), index.labels.cast(labels.type))
    _tell_classes(index, changed, tell)
    return changed


def _refuse_unknown(index: Index, ids: pa.Array) -> None:
    unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=index.ids))).unique()
    if len(unknown):
        raise KnnvoteError(
            f"{index.path} does not store {len(unknown):,} of the {len(ids.unique()):,} ids, the first "
            f"{unknown[0].as_py()!r}; nothing was changed: give ids as {param('Answer.neighbors')} shows them, and "
            "leave out rows of other images"
        )


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


def _like_stored(index: Index, given: pa.Array) -> pa.Array:
    """Labels (m,) in the type of the stored ones, or in a wider one that new classes need."""
    like, names = index.labels.type, index.manifest.class_names
    if is_string(given.type):
        return LabelTexts(index).read_all(given)
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


def read_as_stored(index: Index, inputs: Sequence[InputFile], label_column: str | None) -> list[InputFile]:
    """Inputs whose labels, where people wrote them, in a table of text or as names of folders, are read as fixes are.

    Labels that are of the kind of the stored ones already are left as they are, and so are those to which a file gives
    a type.

    Args:
        index: an opened one.
        inputs: of labelled images.
        label_column: the one that is named; what folders say of others is no label.

    Raises:
        KnnvoteError: a label is none of the index.
    """
    texts, like = LabelTexts(index), index.labels.type

    def read(shown: str, written: pa.Array) -> pa.Array:
        written, bare = written.cast(pa.string()), pc.utf8_trim_whitespace(written.cast(pa.string()))
        if is_string(like):  # whose classes may have spaces around them
            bare = pc.if_else(pc.is_in(written, value_set=index.labels.unique().cast(pa.string())), written, bare)
        try:
            return texts.read_all(bare)
        except KnnvoteError as error:
            raise KnnvoteError(f"{shown}: {error.marked}") from error

    def of_table(table: Labels) -> Labels:
        is_like = kind_of_labels(table.labels.type) == kind_of_labels(like) and not is_string(like)
        return table if is_like or table.texts is None else replace(table, labels=read(table.shown, table.texts))

    def of_folder(source: InputFile, name: str, value: Any) -> Any:
        if label_column not in {None, name} or kind_of_labels(pa.scalar(value).type) == kind_of_labels(like):
            return value
        try:
            return read(source.shown, pa.array([str(value)]))[0].as_py()
        except KnnvoteError:
            if source.is_image_folder:
                raise
            return value  # for a file's own column counts before its folder's; where it has none, that is refused

    tables = {table: of_table(table) for source in inputs if (table := source.labels) is not None}
    return [
        replace(source, told=tuple((name, of_folder(source, name, value)) for name, value in source.told))
        if source.labels is None
        else replace(source, labels=tables[source.labels])
        for source in inputs
    ]


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

    def read_all(self, texts: pa.Array) -> pa.Array:
        """The labels (m,) that texts (m,) say, in the type of the stored ones or a wider one; null where a text is.

        Raises:
            KnnvoteError: as of `read`, or a number is too large.
        """
        coded = texts.dictionary_encode()
        read = [self.read(text) for text in coded.dictionary.to_pylist()]
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


def _tell_classes(index: Index, labels: pa.Array, tell: Callable[[str], None]) -> None:
    """Tell of classes that are new, and of those that no image has now."""
    if index.is_regression:
        return
    before, after = set(index.manifest.classes), set(labels.unique().to_pylist())
    for told, some in (("new classes of {}", after - before), ("classes of which {} has no image now", before - after)):
        if some:
            names, known = index.manifest.class_names, sorted(before - some)
            shown = [f"{show_class(label, names)}{like_known(label, known)}" for label in sorted(some)]
            more = f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
            tell(f"{told.format(index.path)}: {', '.join(shown[:_SHOWN])}{more}")
