"""Class folders: columns that the names of the folders in which images lie tell."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from urllib.parse import unquote

from .splits import is_split

Told = tuple[tuple[str, int | str], ...]

_LABEL = "label"
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
    is_whole = all(_WHOLE.fullmatch(value) for value in values.values())
    return {folder: ((key or _LABEL, int(value) if is_whole else value),) for folder, value in values.items()}
