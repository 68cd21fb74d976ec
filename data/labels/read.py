"""A file of labels alone, or of labels by ids, of any format."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from knnvote.data.containers.arrays import LABEL
from knnvote.data.containers.label_table import Labels, read_labels
from knnvote.data.convert.arrays import StoredArray, load_labels, read_headers
from knnvote.data.convert.labels_file import read_one_column
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError, param
from knnvote.data.folders.endings import is_array, is_text
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import labels_array


def read_label_file(
    labels: str | Path,
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    columns: Sequence[str] = (),
    may_be_in_order: bool = True,
    are_numbered: bool = False,
) -> Labels:
    """The labels of a file, as `join_labels` takes it.

    Args:
        labels: the file.
        label_column: as of `join_labels`.
        id_column: likewise.
        columns: that are kept beside the labels, if it has them.
        may_be_in_order: the rows that are labelled are not known by a column of their own.
        are_numbered: they have no other columns, so that only ids ``file#row`` could be theirs.

    Raises:
        KnnvoteError: as of `join_labels`.
    """
    (source, *others) = find_inputs(str(labels))
    if others:
        raise KnnvoteError(f"{labels} is {len(others) + 1} files, and labels are read of one: give one of them")
    path = Path(source.path)
    found: Labels | None = None
    if source.is_local and path.is_file():
        if is_array(source.path):
            found = _of_array(source, path, label_column)
        elif is_text(source.path) or path.suffix.lower() == ".txt":
            found = _of_one_column(source, path)
    if found is None:
        with source.open_rows() as rows:
            return read_labels(
                rows, label_column, id_column, columns, may_be_in_order=may_be_in_order, are_numbered=are_numbered
            )
    if id_column is not None or not may_be_in_order:
        raise ImageFileError(f"{source} holds labels without ids: give a table with a column of ids, such as CSV")
    return found


def _of_array(source: InputFile, path: Path, name: str | None) -> Labels:
    """Those of an array (n,), the only one of its file or the one of a name.

    Raises:
        OptionError: several could be meant, or none is called so.
        KnnvoteError: there is none, or it cannot be read.
    """
    arrays = read_headers(path)
    named = [array for array in arrays if array.member is None or name in {None, array.name}]
    found = [array for array in named if array.rank == 1] or [array for array in named if array.dtype.hasobject]
    if len(found) == 1:
        return _labels(source, found[0])
    every = ", ".join(f"{array.name} {array.shape} {array.dtype}" for array in arrays) or "nothing"
    if not found:
        raise KnnvoteError(f"{source} holds {every}: expected an array of labels, (n,)")
    raise OptionError(f"{source} holds {every}: name the array of the labels with {param('label_column')}")


def _labels(source: InputFile, array: StoredArray) -> Labels:
    try:
        values = labels_array(load_labels(array), array.shape[0] if array.shape else 0)
    except KnnvoteError as error:
        raise KnnvoteError(f"{source}: {error.marked}") from error
    texts = values.cast(pa.string()) if pa.types.is_string(values.type) else None
    column = LABEL if array.member is None else array.name
    return Labels(shown=source.shown, label_column=column, labels=values, texts=texts)


def _of_one_column(source: InputFile, path: Path) -> Labels | None:
    """Those of text of one column, one a line; None of other text."""
    found = read_one_column(path)
    if found is None:
        return None
    column, values, cells = found
    return Labels(
        shown=source.shown,
        label_column=column or LABEL,
        labels=values,
        texts=cells,
        may_begin_with_name=column is None and pa.types.is_string(values.type),
    )
