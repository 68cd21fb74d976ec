"""What lies in a folder and is not taken: what knnvote made, what is unfinished, and what may be meant and is told."""

import re
import shlex
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from knnvote.data.errors import KnnvoteError, stack_level
from knnvote.data.locations import Location

from .endings import has_rows

_LIKE_PARQUET = re.compile(r"\.(parquet|parq|pq)(\.(gz|bz2|zst|zip|part))?$")
_LABELS = re.compile(r"labels-\d+\.parquet")
_MAGIC = b"PAR1"
_UNFINISHED = "_temporary"


def folders_of_knnvote(paths: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """Index folders, which hold a manifest and labels, and outputs of jobs."""
    with_labels = {path.parent for path in paths if _LABELS.fullmatch(path.name)}
    indexes = {path.parent for path in paths if path.name == "manifest.json"} & with_labels
    at_work = {path.parents[1] for path in paths if path.parts[-2:] == ("_knnvote", "job.json")}
    return indexes | at_work | {path.parent for path in paths if path.name == ".knnvote.parquet"}


def tell_like_parquet(folder: Location, taken: Collection[str], others: Iterable[str]) -> None:
    """Tell of files that may be meant too, but have another ending; a link to one that is taken is known by it."""
    left_out = [name for name in others if _may_be_parquet(folder / name)]
    if left_out:
        real = {_real(folder / name) for name in taken}
        left_out = [name for name in left_out if _real(folder / name) not in real]
    if left_out:
        warnings.warn(
            f"{folder}: {len(left_out):,} file(s) that may be Parquet are left out, as they do not end in .parquet: "
            f"{left_out[0]}{', ...' if left_out[1:] else ''}; rename them, or give each by its name",
            stacklevel=stack_level(),
        )


def tell_beside(folder: Location, taken: Collection[str], others: Sequence[str], kind: str) -> None:
    """Tell of images that lie beside files of a kind, which are what is taken then, and how to have them taken.

    Args:
        folder: that was named.
        taken: the files of the kind.
        others: files of images, of whatever kinds.
        kind: what the files that are taken are called.
    """
    if not others:
        return
    above = PurePosixPath(others[0]).parent
    mixed = {parent for name in taken for parent in PurePosixPath(name).parents}
    free = [part for part in (above, *above.parents) if part not in mixed]
    shown = folder / str(free[-1]) if free else folder / others[0]
    if not free and has_rows(others[0]):  # of which a glob gives each
        shown = folder / str(above / f"*{PurePosixPath(others[0]).suffix}")
    warnings.warn(
        f"{folder}: {len(others):,} file(s) of images are left out beside {kind}: {others[0]}"
        f"{', ...' if others[1:] else ''}; to have them taken give {shlex.quote(str(shown))} and the like",
        stacklevel=stack_level(),
    )


def tell_unfinished(folder: Location, entries: Iterable[str]) -> None:
    """Tell of the folder in which Spark, and all that writes as Hadoop does, keeps files till a job has ended."""
    unfinished = next((name for name in entries if _UNFINISHED in PurePosixPath(name).parts), None)
    if unfinished is not None:
        shown = folder / unfinished[: unfinished.index(_UNFINISHED) + len(_UNFINISHED)]
        warnings.warn(
            f"{shown} tells of a job that is still writing or broke off, so rows may be missing: wait for its end, or "
            "write the files again",
            stacklevel=stack_level(),
        )


def _real(location: Location) -> str:
    return str(Path(location.path).resolve()) if location.is_local else location.path


def _may_be_parquet(location: Location) -> bool:
    """Whether a file's name says so or, on this machine, its first bytes."""
    name = PurePosixPath(location.path).name.lower()
    if _LIKE_PARQUET.search(name):
        return True
    if not location.is_local:
        return False
    try:
        with location.open() as stream:
            return bool(stream.read(len(_MAGIC)) == _MAGIC)
    except KnnvoteError:
        return False
