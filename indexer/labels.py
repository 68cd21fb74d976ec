"""Labels: which column holds them, what types they may have, and how they are stored."""

import difflib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from knnvote.data.columns import is_binary, is_number, is_string, is_usual_label, without_blanks
from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.folders.endings import ARROW_ENDINGS, is_arrow, python_table
from knnvote.data.folders.partitions import partition_keys
from knnvote.data.input_file import InputFile
from knnvote.data.text import python_command, whole_characters
from knnvote.data.vectors import Reasons

_NEAR = 0.85  # of two names, by which one may be mistyped for the other
_ALIKE = 3  # sets of labels that are shown
UNLABELLED = "no label"  # the reason of a row
NO_LABEL = -1  # of classes that have names, by the convention of Hugging Face data sets


def recognise_label(
    schema: pa.Schema, image_columns: Sequence[str], label_column: str | None, id_column: str | None
) -> str:
    """The label column: the one named, one with a usual name, or the only one left that could be.

    Raises:
        ImageFileError: there is none, or several could be.
    """
    if label_column is not None:
        if label_column not in schema.names:
            raise ImageFileError(
                f"no column {label_column!r} for {param('label_column')}; there are {_shown(schema, schema.names)}"
            )
        if schema.names.count(label_column) > 1:
            raise ImageFileError(f"several columns are named {label_column!r}: rename all but the label")
        return label_column
    types = dict(zip(schema.names, schema.types, strict=True))
    others_than = {*image_columns, id_column}
    others = [name for name in schema.names if name not in others_than and not name.startswith("__index_level_")]
    usual = [name for name in others if is_usual_name(name)]
    possible: list[str] = usual or [name for name in others if _may_be_label(types[name])]
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise ImageFileError(
            f"several columns could be the label: {_shown(schema, possible)}; name one with {param('label_column')}"
        )
    found, named = _shown(schema, others) or "no other columns", f"name one with {param('label_column')}, or "
    raise ImageFileError(
        f"no label column beside the images{' and the ids' if id_column else ''}; there are {found}; "
        f"{named if others or len(image_columns) > 1 else ''}give labels in a file of their own with {param('labels')}"
    )


def refuse_beside_folders(found: str, relative: str) -> None:
    """Refuse a guessed column of another name than a folder of the file has, which is one that labels usually have.

    Raises:
        ImageFileError: it is one.
    """
    keys = [key for key in partition_keys(relative) if is_usual_name(key)]
    if keys and found not in keys:
        raise ImageFileError(
            f"no column {keys[0]!r}, which its folder names, and the only other one is {found!r}: "
            f"give that with {param('label_column')} if it is the label's"
        )


def is_usual_name(column: str | None) -> bool:
    """Whether a column's name is one that labels usually have."""
    return column is not None and is_usual_label(column)


def like_known(label: Any, known: Sequence[Any]) -> str:
    """Which class one may be mistyped for that an index has not, to stand behind it; nothing where none is like it."""
    if not isinstance(label, str):
        return ""
    texts = [text for text in known if isinstance(text, str)]
    digits = re.findall(r"\d", label)  # names that differ in numbers are counted, not mistyped
    by_case = {text.casefold(): text for text in texts if re.findall(r"\d", text) == digits}
    near = difflib.get_close_matches(label.casefold(), by_case, n=1, cutoff=_NEAR)
    once = re.sub(r"(\D)\1", r"\1", label.casefold())  # a key pressed twice
    number = _number(label)  # as spreadsheets write it
    same = [text for text in texts if number is not None and _number(text) == number]
    meant = by_case[near[0]] if near else by_case.get(once, *same[:1])
    return "" if meant is None else f" (like {meant!r})"


def _number(text: str) -> float | None:
    """The number that a text of ASCII digits is; None of any other."""
    return float(text) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text) else None


def told_alike(labels: Iterable[Any]) -> str | None:
    """Which texts differ in blanks or in characters that are not seen alone; None where none do.

    Whether letters are large is seen, and tells classes of letters apart.
    """
    by_look: dict[str, list[str]] = {}
    for label in labels:
        if isinstance(label, str):
            by_look.setdefault(_as_seen(label), []).append(label)
    alike = [sorted(same) for same in by_look.values() if len(same) > 1]
    if not alike:
        return None
    shown = ", ".join(" and ".join(map(_shown_exactly, same)) for same in alike[:_ALIKE])
    more = ", ..." if alike[_ALIKE:] else ""
    return (
        f"labels differ in blanks or in characters that are not seen, and in nothing else: {shown}{more}; each is a "
        "class of its own: write them alike if they are one"
    )


def _as_seen(text: str) -> str:
    """Text without characters of format, with one blank for all between words."""
    if text.isascii():
        return " ".join(text.split())
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(char for char in composed if unicodedata.category(char) != "Cf").split())


def _shown_exactly(text: str) -> str:
    """Text in quotes, with escapes for what is not seen, or may be composed in several ways."""
    return repr(text) if unicodedata.is_normalized("NFC", text) else ascii(text)


def find_label(schema: pa.Schema, image_columns: Sequence[str], preferred: str | None) -> str | None:
    """The label column of test images, if they have one: the preferred, else the only one with a usual name."""
    of_images = frozenset(image_columns)
    others = [name for name in schema.names if name not in of_images]
    if preferred in others:
        return preferred
    usual = [name for name in others if is_usual_name(name)]
    return usual[0] if len(usual) == 1 else None


def class_names(schema: pa.Schema, label_column: str) -> list[str] | None:
    """The names that Hugging Face metadata gives the integer classes of a column, if any."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][label_column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [whole_characters(str(name)) for name in names] if isinstance(names, list) else None


def same_names(source: str, names: list[str] | None, found: list[str] | None) -> list[str] | None:
    """Names of the classes, of which all files that give any must give the same: their labels are numbers alone.

    Raises:
        ImageFileError: this file gives others than those before it.
    """
    if names is not None and found is not None and names != found:
        raise ImageFileError(
            f"{source}: class names are {', '.join(found)}, and {', '.join(names)} in what comes before it: "
            "give all the same classes in the same order"
        )
    return found if names is None else names


def label_array(labels: pa.Array, *, is_regression: bool) -> pa.Array:
    """Labels as integers, strings or booleans in their own type; as float64 for regression.

    Whole numbers that are held as floats or decimals, as pandas holds integers with gaps and SQL counts, are integers;
    NaN is no label. Bytes are text.

    Raises:
        KnnvoteError: their type cannot be used.
    """
    labels = _plain(labels)
    if is_regression:
        if not (pt.is_integer(labels.type) or pt.is_floating(labels.type)):
            raise KnnvoteError(
                f"labels of type {labels.type} cannot be averaged: {param('is_regression=True')} needs numbers"
            )
        values = labels.cast(pa.float64(), safe=False)
        if not np.isfinite(values.drop_null().to_numpy()).all():
            raise KnnvoteError(f"a label is NaN or infinite: {param('is_regression=True')} needs finite numbers")
        return values
    if pt.is_floating(labels.type):
        return _whole(labels)
    if not (pt.is_integer(labels.type) or is_string(labels.type) or pt.is_boolean(labels.type)):
        raise KnnvoteError(f"labels of type {labels.type} cannot be used: give integers, strings or booleans")
    return labels


def told_as_text(source: InputFile, column: str, kind: pa.DataType) -> str:
    """What writes labels that are dates or times as text, to follow why they cannot be used; nothing of others."""
    if not pt.is_temporal(kind):
        return ""
    found = source.shown if source.labels is None else source.labels.shown
    if not found.lower().endswith((".parquet", *ARROW_ENDINGS)):
        return ""
    if source.labels is None and source.found_by and Path(source.found_by).is_dir() and not is_arrow(found):
        found = source.found_by
    code = (
        f"import pyarrow as pa, pyarrow.parquet as pq; t = {python_table(found)}; "
        f"i = t.column_names.index({column!r}); "
        f"pq.write_table(t.set_column(i, {column!r}, t[i].cast(pa.string())), 'rows.parquet')"
    )
    return f"; {python_command(code)} makes rows.parquet, where they are text"


def unusable_labels(labels: pa.Array, names: Sequence[str] | None) -> Reasons:
    """Why labels (n,) cannot be stored, by row: it is blank, infinite, or no number of a named class."""
    empty = without_blanks(labels).is_null().to_numpy(zero_copy_only=False)
    bad = dict.fromkeys(np.flatnonzero(empty).tolist(), UNLABELLED)
    if pt.is_floating(labels.type):
        infinite = ~np.isfinite(labels.to_numpy(zero_copy_only=False)) & ~empty
        bad |= dict.fromkeys(np.flatnonzero(infinite).tolist(), "infinite label")
    if names is not None and pt.is_integer(labels.type):
        numbers = labels.fill_null(0).to_numpy()
        for row in np.flatnonzero((numbers < 0) | (numbers >= len(names))).tolist():
            none = numbers[row] == NO_LABEL
            bad[row] = "no label (-1)" if none else f"label {numbers[row]} has no name: {len(names)} classes have one"
    return bad


def _plain(labels: pa.Array) -> pa.Array:
    """Labels of few types: dictionaries as their values, text of any kind and bytes as strings, decimals as numbers.

    Raises:
        KnnvoteError: bytes are no text.
    """
    if pt.is_dictionary(labels.type):
        labels = labels.dictionary_decode()
    if pt.is_decimal(labels.type):
        try:
            return labels.cast(pa.int64())
        except pa.ArrowInvalid:  # with fractions, or beyond an integer
            return labels.cast(pa.float64())
    if is_binary(labels.type):
        try:
            return labels.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise KnnvoteError(
                f"labels of type {labels.type} are bytes that are not text in UTF-8: give integers, strings or booleans"
            ) from error
    return labels.cast(pa.string()) if is_string(labels.type) else labels


def _whole(labels: pa.Array) -> pa.Array:
    """Floats as int64, if they all are whole."""
    numbers = labels.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    try:
        return numbers.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise KnnvoteError(
            f"labels of type {labels.type} are numbers to be averaged: pass {param('is_regression=True')}, "
            "or give integers, strings or booleans"
        ) from error


def common_label_type(types: Collection[pa.DataType]) -> pa.DataType | None:
    """The type that holds labels of all of these types without loss; None if they are of other kinds."""
    different = set(types)
    if len(different) == 1:
        return different.pop()
    if not all(pt.is_integer(kind) for kind in different):
        return None
    widest: np.dtype[Any] = np.result_type(*(kind.to_pandas_dtype() for kind in different))
    return pa.from_numpy_dtype(widest) if widest.kind in "iu" else None


def check_same_kind(source: InputFile, column: str, before: pa.DataType, found: pa.DataType) -> None:
    """Refuse labels of a file that are of another kind than those before them.

    Raises:
        ImageFileError: they are.
    """
    if common_label_type([before, found]) is None:
        raise ImageFileError(
            f"{source.shown}, column {column!r}: labels are {found}, and {before} in what comes before it: "
            "give all labels one type"
        )


def true_labels(
    column: pa.Array, like: pa.DataType, *, names: list[str] | None = None, known: list[str] | None = None
) -> list[Any]:
    """Labels (n,) of test images as Python values, to be compared with labels of a type; None where there is none.

    Neither NaN nor blank text is a label, and whole numbers may be held as floats: so pandas holds integers that have
    nulls among them.

    Args:
        column: (n,) of the test images.
        like: type of the labels to compare with.
        names: of the column's classes, if they are numbers that have names; -1 is then no label.
        known: names of the classes to compare with, if these are such; then names tell what is equal, and a name that
            is not among them stays a name.

    Raises:
        KnnvoteError: they are of another kind, infinite, or fractions beside classes that are whole numbers.
    """
    if pt.is_null(column.type):
        return [None] * len(column)
    column = without_blanks(_plain(column))
    if known is not None and is_string(column.type):
        return _by_name(column.to_pylist(), known)
    if kind_of_labels(column.type) != kind_of_labels(like):
        raise KnnvoteError(f"{column.type}, and those to compare with are {like}")
    values = _numbers_or_text(column, like)
    if names is not None:
        values = [None if value == NO_LABEL else value for value in values]
    if known is None or names in (None, known):
        return values
    of_column = dict(enumerate(names or []))
    return _by_name([None if value is None else of_column.get(value, f"number {value}") for value in values], known)


def _by_name(names: list[str | None], known: list[str]) -> list[int | str | None]:
    """The number of each name; a name that has none as it is, and so is equal to no class."""
    numbers = {name: number for number, name in enumerate(known)}
    return [None if name is None else numbers.get(name, name) for name in names]


def _numbers_or_text(column: pa.Array, like: pa.DataType) -> list[Any]:
    """Values (n,), null where there is none, as labels of a type have them."""
    if not pt.is_floating(column.type):
        return list(column.to_pylist())
    numbers = column.cast(pa.float64())
    if pc.any(pc.is_inf(numbers)).as_py():
        raise KnnvoteError("infinite")
    values = numbers.to_pylist()
    if pt.is_floating(like):
        return list(values)
    if not all(value is None or value.is_integer() for value in values):
        raise KnnvoteError(f"fractions, and those to compare with are {like}")
    return [None if value is None else int(value) for value in values]


def kind_of_labels(type_: pa.DataType) -> str:
    """Labels of one kind can be equal, whatever their width."""
    if pt.is_integer(type_) or pt.is_floating(type_):
        return "number"
    if is_string(type_):
        return "string"
    return str(type_)


def _may_be_label(kind: pa.DataType) -> bool:
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return is_number(kind) or pt.is_decimal(kind) or is_string(kind)


def _shown(schema: pa.Schema, names: Sequence[str]) -> str:
    shown = [f"{name} ({schema.field(schema.names.index(name)).type})" for name in names[:12]]
    return ", ".join(shown + (["..."] if len(names) > len(shown) else []))


def show_class(label: Any, names: list[str] | None) -> str:
    """A label for people, with its name where integer labels have names; a number of a regression in six digits."""
    if isinstance(label, float):
        return f"{label:.6g}"
    is_named = isinstance(label, int) and 0 <= label < len(names or [])
    name = names[label] if names and is_named else str(label)
    return str(label) if name == str(label) else f"{label} ({name})"
