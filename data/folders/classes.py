"""Class folders: columns that the names of the folders in which images lie tell."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from urllib.parse import unquote

from knnvote.data.columns import is_usual_label

from .splits import is_split

Told = tuple[tuple[str, int | str], ...]

LABEL = "label"
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # what int64 holds whatever the digits; 07 and 7 are two names


def class_columns(folders: Collection[str]) -> dict[str, Told]:
    """What the name of each folder says of the images in it, as torchvision's ImageFolder has it: their label.

    Folders are those of classes where all lie equally deep below the one that was named, and are not all splits.
    Where all their names are whole numbers so are the labels, as they are in a column. Of folders ``key=value`` the
    value is in a column of that key.

    Args:
        folders: in which images lie, relative to the folder that was named.

    Returns:
        By folder its columns; none where its name is no label.
    """
    names = {folder: PurePosixPath(folder).name for folder in folders}
    depths = {len(PurePosixPath(folder).parts) for folder in folders}
    if len(depths) != 1 or 0 in depths or all(map(is_split, names.values())):
        return {}
    keys = {name.partition("=")[0] if "=" in name else None for name in names.values()}
    key = next(iter(keys)) if len(keys) == 1 else None
    values = {folder: name if key is None else unquote(name.partition("=")[2]) for folder, name in names.items()}
    return _columns(key or LABEL, values)


def partition_label(files: Collection[str]) -> dict[str, Told]:
    """The label of files that all lie in a folder ``key=value`` whose key is one that labels usually have, one alone.

    Args:
        files: relative to the folder that was named.

    Returns:
        By file its column; none where folders tell no label of all.
    """
    parts = {file: [part.partition("=") for part in PurePosixPath(file).parts[:-1] if "=" in part] for file in files}
    found = {file: [(key, value) for key, _, value in of if is_usual_label(key)] for file, of in parts.items()}
    keys = {tuple(key for key, _ in of) for of in found.values()}
    if len(keys) != 1 or len(key := next(iter(keys))) != 1 or any(of[0][1] == _HIVE_NULL for of in found.values()):
        return {}
    return _columns(key[0], {file: unquote(of[0][1]) for file, of in found.items()})


def _columns(key: str, values: dict[str, str]) -> dict[str, Told]:
    """A column of values, as whole numbers where all are."""
    is_whole = all(_WHOLE.fullmatch(value) for value in values.values())
    return {name: ((key, int(value) if is_whole else value),) for name, value in values.items()}
