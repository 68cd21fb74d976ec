"""Labels of images that are added, where people wrote them: in tables of text, or as names of folders."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_string
from knnvote.data.containers.label_table import Labels, LabelTable
from knnvote.data.convert.ids import line_of
from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.indexer.index import Index
from knnvote.indexer.labels import kind_of_labels

from .classes import refuse_new_classes
from .fixes import LabelTexts


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

    def read(shown: str, written: pa.Array, where: Callable[[int], str] | None = None) -> pa.Array:
        written, bare = written.cast(pa.string()), pc.utf8_trim_whitespace(written.cast(pa.string()))
        if is_string(like):  # whose classes may have spaces around them
            bare = pc.if_else(pc.is_in(written, value_set=index.labels.unique().cast(pa.string())), written, bare)
        try:
            return texts.read_all(bare, where)
        except KnnvoteError as error:
            raise KnnvoteError(error.marked if where else f"{shown}: {error.marked}") from error

    def of_table(table: Labels) -> Labels:
        is_like = kind_of_labels(table.labels.type) == kind_of_labels(like) and not is_string(like)
        if is_like or table.texts is None:
            return table
        return replace(table, labels=read(table.shown, table.texts, partial(_where, table)))

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


def refuse_new_in_tables(index: Index, inputs: Sequence[InputFile]) -> None:
    """Refuse labels of tables, which people fill in, that an index has no class for.

    Args:
        index: an opened one.
        inputs: as `read_as_stored` gives them; labels of another kind than the stored ones are refused elsewhere.

    Raises:
        KnnvoteError: as of `refuse_new_classes`.
    """
    for table in dict.fromkeys(source.labels for source in inputs):
        if table is not None and kind_of_labels(table.labels.type) == kind_of_labels(index.labels.type):
            refuse_new_classes(index, table.labels, partial(_where, table))


def _where(table: Labels, place: int) -> str:
    """What a label of a table is given, and where that stands."""
    if not isinstance(table, LabelTable):
        return f"row {place:,} of {table.shown}"
    key, path = table.keys[place].as_py(), Path(table.shown)
    line = line_of(path, table.key_column, key) if path.is_file() else None
    return f"{key!r} in {table.shown if line is None else f'line {line:,} of {table.shown}'}"
