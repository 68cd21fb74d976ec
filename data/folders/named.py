"""Folders of images that are called as splits or as classes: what is told of them, and what makes them the other."""

import shlex
from collections.abc import Collection
from pathlib import PurePosixPath

from knnvote.data.errors import param, warn
from knnvote.data.locations import Location

from .classes import LABEL
from .endings import may_hold_labels, stem
from .splits import is_split, splits_of

_TABLES = ("metadata.csv", "metadata.jsonl", "labels.csv")


def tell_split_classes(argument: str, folders: Collection[Location]) -> None:
    """Tell of folders that are called as several splits, and are taken for classes as others stand beside them.

    Args:
        argument: that gave them.
        folders: of images, whose names are their labels.
    """
    names = {PurePosixPath(folder.path).name: folder for folder in folders}
    splits, others = (sorted(name for name in names if is_split(name) is wanted) for wanted in (True, False))
    if others and splits and len(splits_of(splits)) > 1:
        warn(
            f"{argument}: {', '.join(splits)} are classes, as {others[0]} is beside them; if they are splits, give the "
            f"folder of one, such as {names[splits[0]]}"
        )


def renamed(folders: Collection[Location]) -> str:
    """How folders of images that are all called as splits become classes, where that is what they are."""
    names = {PurePosixPath(folder.path).name: folder for folder in folders}
    if not names or not all(map(is_split, names)):
        return ""
    name, first = next(iter(names.items()))
    command = shlex.join(["mv", first.shown, str(first.above / f"{LABEL}={name}")])
    return f"where they are classes and no splits, call their folders so: {command}, and likewise the others"


def classes_told(folder: Location, found_by: str | None) -> str:
    """Why the name of a folder of images is no label, and what to do.

    Args:
        folder: of images.
        found_by: the folder or glob that was named.
    """
    if folder.shown == found_by:
        return f"to have the names of folders for labels give the folder above them, such as {folder.above}"
    return renamed([folder]) or (
        f"the names of folders are labels where all that hold images lie equally deep below {found_by}, "
        "and here they do not: give one whose folders do"
    )


def labels_told(file: Location, folder: str | None) -> str:
    """A file beside one of arrays that may hold its labels, by its name, and what takes it.

    Args:
        file: of arrays.
        folder: that gave it; None where it was named itself.
    """
    name = PurePosixPath(file.path).name
    beside = [other for other in file.above.below(recursive=False) if may_hold_labels(other, stem(name))]
    found = [file.above / other for other in beside if other != name]
    if not found:
        return tables_told(file.above)
    taken = shlex.quote(folder or found[0].shown)
    return f"; {found[0]} may hold labels: {param('labels')} {taken} takes them"


def tables_told(folder: Location) -> str:
    """A table in a folder, as Hugging Face's ``imagefolder`` has it, that may hold the labels."""
    found = [folder / name for name in _TABLES if (folder / name).is_file]
    return f"; {found[0]} may hold labels: {param('labels')} {found[0]} takes them" if found else ""
