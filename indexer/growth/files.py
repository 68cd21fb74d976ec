"""Files of a generation with vectors more or fewer, written in slices from those of the one before."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.files import atomic_write
from knnvote.data.reading import rows_within_budget
from knnvote.indexer.building.work import npy_header
from knnvote.indexer.codes.change import Changed
from knnvote.indexer.codes.table import TILE, tile_type
from knnvote.indexer.fields import CODES, FITTED, is_raw
from knnvote.indexer.folder.generations import can_grow
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import StoredFile

_BLOCK = 16_384  # vectors at a time, at most


def stored_blocks(x: NDArray[np.generic], kept: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.generic]]:
    """Stored vectors or images x (n, d), those that are kept, as many at a time as may be floats at once."""
    step = rows_within_budget(x.shape[1], _BLOCK)
    for start in range(0, len(x), step):
        block = x[start : start + step]
        yield block if kept is None else block[kept[start : start + step]]


def write_more(
    index: Index,
    generation: int,
    role: str,
    before: NDArray[np.generic],
    added: NDArray[np.generic],
    *,
    digest: Any,
) -> StoredFile:
    """Write what an index stores with more rows: in place, where that is possible.

    Args:
        index: whose manifest names the file of those before.
        generation: of a new file.
        role: of the file.
        before: (n, d) what it holds.
        added: (m, d) rows, of a type that holds those before too.
        digest: hashlib's of the file as its manifest names it, which is told of the rows; None where there is none.

    Returns:
        What a manifest says of the file that has them all.
    """
    stored = index.manifest.files.get(role)
    is_alike = stored is not None and is_raw(stored.name) and added.dtype == before.dtype
    if stored is not None and is_alike and digest is not None and can_grow(index.path / stored.name):
        return _append(index, stored, added, digest)
    return write_rows(index, generation, role, chain(stored_blocks(before), [added]), added.dtype)


def _append(index: Index, stored: StoredFile, added: NDArray[np.generic], digest: Any) -> StoredFile:
    """Write rows (m, d) after those of a file, whose manifest does not name them yet."""
    data = _bytes(added)
    with (index.path / stored.name).open("r+b") as stream:
        os.ftruncate(stream.fileno(), stored.size)  # what a killed process appended goes
        stream.seek(stored.size)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    digest.update(data)
    return StoredFile(stored.name, stored.size + added.nbytes, digest.hexdigest())


def write_rows(
    index: Index, generation: int, role: str, blocks: Iterable[NDArray[np.generic]], dtype: np.dtype[Any]
) -> StoredFile:
    """Write rows, which come in blocks (m, d), as a type that holds them; what a manifest says of their file."""
    path = index.path / f"{role}-{generation}.raw"
    return _write(path, (block.astype(dtype, copy=False) for block in blocks))


def write_codes(
    index: Index, generation: int, changed: Changed, fitted: NDArray[np.int64] | None
) -> dict[str, StoredFile]:
    """Write what is other than before of an inverted file, and the rows that it was fitted to if anyone asks for them.

    Returns:
        What a manifest says of all files of the inverted file, by their roles.
    """
    tiles = chain([np.empty(0, tile_type(index.ivf.p))], changed.tiles)
    arrays = {
        "codes": (tiles, -(-changed.n // TILE)),
        "ends": ([changed.ends], len(changed.ends)),
        **({} if fitted is None else {FITTED: ([fitted], len(fitted))}),
    }
    written = {
        role: _write_npy(index.path / f"{role}-{generation}.npy", blocks, length)
        for role, (blocks, length) in arrays.items()
    }
    return {role: index.manifest.files[role] for role in CODES} | written


def _write_npy(path: Path, blocks: Iterable[NDArray[Any]], length: int) -> StoredFile:
    """As `numpy.save` writes one array (length,), which comes in blocks."""
    blocks = iter(blocks)
    first = next(blocks)
    return _write(path, chain([np.frombuffer(npy_header(first.dtype, length), np.uint8), first], blocks))


def _write(path: Path, blocks: Iterable[NDArray[Any]]) -> StoredFile:
    """Write arrays one after the other, and hash them meanwhile."""
    digest, size = hashlib.sha256(), 0
    with atomic_write(path) as stream:
        for block in blocks:
            data = _bytes(block)
            stream.write(data)
            digest.update(data)
            size += len(data)
    return StoredFile(path.name, size, digest.hexdigest())


def _bytes(block: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
