"""Inputs and their labels in files of their own: one for all, or one of the same name for each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from pyarrow import fs as pafs

from knnvote.data.containers.label_table import Labels
from knnvote.data.errors import KnnvoteError
from knnvote.data.folders.endings import labelled_stem, may_hold_labels, stem
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.locations import Location, locate

from .read import read_label_file


def join_labels(
    inputs: Inputs,
    labels: str | Path,
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    weight_column: str | None = None,
    keep: Sequence[str] = (),
) -> list[InputFile]:
    """Inputs whose labels are in files of their own: a row's is that of its id, path or name, or of its place.

    Args:
        inputs: files of images, folders of them, globs or URIs: one or several.
        labels: a file of CSV, JSON lines, Parquet, Arrow or NumPy, with a column of ids or paths and one of labels;
            without ids it has a label for each row of the one input. Or a folder of such files: an input ``a.npy`` has
            its labels in the one there that is called ``a`` or ``a-labels``, whatever its ending.
        label_column: that of the labels, where not one of its two columns, or one with a usual name, must be it.
        id_column: likewise that of the ids, or that of the files of images whose values these are; where both have a
            column of this name, it is both.
        group_column: that of groups, where the files of labels have them and not the files of images.
        weight_column: that of weights, which `TrainingOptions` names too, likewise.
        keep: columns that `TrainingOptions` names too, likewise.

    Raises:
        KnnvoteError: no such column, an id that is missing or has two labels, groups or weights, labels in the order of
            rows that are not as many, several files that could hold those of an input, or no input.

    Example:
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> from knnvote import index_files, join_labels
        >>> ids = [f"train.parquet#{row}" for row in range(1347)]
        >>> pq.write_table(pa.table({"id": ids, "label": [row % 2 for row in range(1347)]}), "labels.parquet")
        >>> index_files(join_labels("digits/train.parquet", "labels.parquet"), "joined.knn")
    """
    found, folder = find_inputs(inputs), locate(labels)
    columns = tuple(name for name in (group_column, weight_column, *keep) if name is not None)
    read = partial(read_label_file, label_column=label_column, id_column=id_column, columns=columns)
    return _by_name(found, folder, read) if folder.is_folder else _of_one_file(found, labels, read)


def _of_one_file(inputs: Sequence[InputFile], labels: str | Path, read: Callable[..., Labels]) -> list[InputFile]:
    """The same, with labels of one file.

    Raises:
        KnnvoteError: they are in the order of rows, and there are several inputs.
    """
    found = read(
        labels,
        may_be_in_order=not any(source.names_rows for source in inputs),
        are_numbered=all(source.is_numbered for source in inputs),
    )
    if found.is_in_order and len(inputs) > 1:
        raise KnnvoteError(
            f"{labels} has no ids, and so a label for each row of one file, not of {len(inputs):,}: give one, or a "
            "folder with a file of labels for each, of the same name"
        )
    if found.may_begin_with_name:
        found = found.fitted(inputs[0].count_rows())
    return [replace(source, labels=found) for source in inputs]


def _by_name(inputs: Sequence[InputFile], folder: Location, read: Callable[..., Labels]) -> list[InputFile]:
    """Inputs with the labels of the file in a folder that is called as each of them is.

    Raises:
        KnnvoteError: there is none for one, or several.
    """
    files = [(source, _labels_of(source, folder, inputs)) for source in inputs]
    of_others = {labels[0].place for _, labels in files if len(labels) == 1}
    found = []
    for source, labels in files:
        if source.place in of_others:
            continue
        if len(labels) != 1:
            some = " and ".join(map(str, labels[:2]))
            told = f"{some} may both hold the labels of {source}: leave one out" if some else _none_told(source, folder)
            raise KnnvoteError(told)
        found += _of_one_file([source], labels[0].shown, read)
    return found


def _none_told(source: InputFile, folder: Location) -> str:
    name = stem(PurePosixPath(source.relative).name)
    return f"{folder} holds no file of labels for {source}: expected one such as {name}.csv or {name}-labels.npy"


def _labels_of(source: InputFile, folder: Location, inputs: Sequence[InputFile] = ()) -> list[Location]:
    """The files in a folder that are called as those of the labels of an input, and are no inputs by their own names.

    Args:
        source: the input.
        folder: that holds files of labels, at the paths at which inputs lie in theirs.
        inputs: all of them.
    """
    path = PurePosixPath(source.inner or source.relative)
    above = folder / str(path.parent) if len(path.parts) > 1 else folder
    if not above.is_folder:
        return []
    images, places = stem(path.name), {other.place for other in inputs}
    names = [
        name
        for name, entry in above.below(recursive=False).items()
        if entry.type == pafs.FileType.File and may_hold_labels(name, images)
    ]
    files = [(name, above / name) for name in names]
    return [
        file
        for name, file in files
        if file.place != source.place and (labelled_stem(name) == images or file.place not in places)
    ]
