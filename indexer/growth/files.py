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


def stored_blocks(index: Index, kept: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.generic]]:
    """Stored vectors, those that are kept, as many at a time as may be floats at once."""
    step = rows_within_budget(index.d, _BLOCK)
    for start in range(0, index.n, step):
        block = index.vectors[start : start + step]
        yield block if kept is None else block[kept[start : start + step]]


def grows_in_place(index: Index, dtype: np.dtype[Any]) -> bool:
    """Whether vectors of a type can be appended to the file of an index's vectors."""
    stored = index.manifest.files.get("vectors")
    if stored is None or not is_raw(stored.name) or dtype != index.vectors.dtype:
        return False
    return can_grow(index.path / stored.name)


def append_vectors(index: Index, added: NDArray[np.generic], digest: Any) -> StoredFile:
    """Write vectors (m, d) after those of an index, whose manifest does not name them yet.

    Args:
        index: whose file grows in place.
        added: of its type.
        digest: hashlib's of the file as its manifest names it; it is told of the vectors.

    Returns:
        What a manifest says of the file that has them too.
    """
    stored = index.manifest.files["vectors"]
    data = _bytes(added)
    with (index.path / stored.name).open("r+b") as stream:
        os.ftruncate(stream.fileno(), stored.size)  # what a killed process appended goes
        stream.seek(stored.size)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    digest.update(data)
    return StoredFile(stored.name, stored.size + added.nbytes, digest.hexdigest())


def write_vectors(
    index: Index, generation: int, blocks: Iterable[NDArray[np.generic]], dtype: np.dtype[Any]
) -> StoredFile:
    """Write vectors, which come in blocks (m, d), as a type that holds them; what a manifest says of their file."""
    path = index.path / f"vectors-{generation}.raw"
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
