"""Generations of the files in an index folder, and the removal of those that interrupted writers left."""

import itertools
import os
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location, locate
from knnvote.indexer.fields import is_number, is_raw
from knnvote.indexer.index import Timing
from knnvote.indexer.leftovers import GENERATION_NAME, LOCK, WORK, is_leftover
from knnvote.indexer.manifest import is_index_folder, read_manifest
from knnvote.indexer.sealed import read_sealed

_ABSURD = 1 << 62  # no build has counted so far: such a file is a stray, and the manifest has no room for twice as much


def next_generation(folder: Path) -> int:
    """A generation of which no file here is, committed or not: one above the highest, but for absurd ones."""
    matches = [GENERATION_NAME.fullmatch(file.name) for file in folder.iterdir()]
    taken = {int(match[2]) for match in matches if match}
    first = max((number for number in taken if number < _ABSURD), default=0) + 1
    return next(number for number in itertools.count(first) if number not in taken)


def timing_name(generation: int) -> str:
    """The file that tells what a build took: not among those that the manifest names, whose bytes the input settles."""
    return f"timing-{generation}.json"


def read_timing(path: Path | Location, generation: int) -> Timing:
    """Seconds that each step of a build took.

    Raises:
        KnnvoteError: the file is not there, was changed, or holds anything else.
    """
    file = locate(path) / timing_name(generation)
    record = read_sealed(file)
    seconds = {name: value for name, value in record.items() if name != "checksum"}
    if seconds.keys() != {field.name for field in fields(Timing)} or not all(map(is_number, seconds.values())):
        raise KnnvoteError(f"{file} is not one that knnvote writes: it does not hold seconds; build the index again")
    return Timing(**seconds)


def remove_leftovers(folder: Path) -> None:
    """Remove what a writer that failed or was killed left, and keep what the manifest names, if there is one."""
    with suppress(KnnvoteError, OSError):
        kept: set[str] = set()
        if is_index_folder(folder):
            manifest = read_manifest(folder)
            kept = {file.name for file in manifest.files.values()} | {timing_name(manifest.generation)}
            for file in manifest.files.values():
                path = folder / file.name
                if is_raw(file.name) and path.stat().st_size > file.size and can_grow(path):
                    os.truncate(path, file.size)
        remove_others(folder, kept)


def can_grow(path: Path) -> bool:
    """Whether no other folder has a file by a link, where its manifest may name more of it, or other bytes."""
    return path.stat().st_nlink == 1


def remove_others(folder: Path, kept: set[str]) -> None:
    """Remove files of other generations: replaced ones, and what interrupted writers left but for their work."""
    for file in folder.iterdir():
        if is_leftover(file.name) and file.name not in {*kept, LOCK, WORK}:
            file.unlink(missing_ok=True)
