"""An inverted file with vectors more or fewer: a block at a time, without coding again what is stored."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .inverted_file import InvertedFile
from .projection import Coded
from .steps import nearest
from .table import TILE, Table, as_records, in_tiles

_BLOCK = 65_536  # stored vectors at a time

Records = NDArray[np.void]  # of `record_type`


class Changed(NamedTuple):
    """What is other than before of an inverted file, of whose axes and centroids nothing is.

    Attributes:
        n: vectors.
        tiles: of its table, block after block, to be taken once.
        ends: (nlist,) int64, where each list ends in it.
    """

    n: int
    tiles: Iterator[NDArray[np.void]]
    ends: NDArray[np.int64]


def with_added(by_codes: InvertedFile, coded: Coded) -> Changed:
    """An inverted file with more vectors, each at the end of the list of its nearest centroid.

    Args:
        by_codes: of n vectors.
        coded: codes of m others by its projection, that get the rows from n.
    """
    n, ends = by_codes.table.n, by_codes.ends
    list_of = nearest(by_codes.centroids, coded.codes, 1)[:, 0]
    order = np.argsort(list_of, kind="stable")
    added = as_records(coded.take(order), n + order)
    blocks = _merged(by_codes.table, added, ends[list_of[order]])
    more = np.cumsum(np.bincount(list_of, minlength=len(ends)))
    return Changed(n + len(order), _tiled(blocks), ends + more)


def without(by_codes: InvertedFile, kept: NDArray[np.bool_]) -> Changed:
    """An inverted file with fewer vectors.

    Args:
        by_codes: of n vectors.
        kept: (n,) whether a row stays; those that do are numbered anew.
    """
    table = by_codes.table
    ends = np.append(0, np.cumsum(kept[table.field("row")], dtype=np.int32))[by_codes.ends].astype(np.int64)
    return Changed(int(ends[-1]), _tiled(_filtered(table, kept)), ends)


def _merged(table: Table, added: Records, places: NDArray[np.int64]) -> Iterator[Records]:
    """What a table holds of its vectors and of others, each of which goes before a place, in ascending order."""
    for start in range(0, table.n, _BLOCK):
        stop = min(table.n, start + _BLOCK)
        first, last = np.searchsorted(places, [start, stop])
        within = np.s_[first : len(places) if stop == table.n else last]
        yield np.insert(table.records(start, stop), places[within] - start, added[within])


def _filtered(table: Table, kept: NDArray[np.bool_]) -> Iterator[Records]:
    """What a table holds of those of its vectors that stay, by their new rows."""
    rows = np.cumsum(kept, dtype=np.int32) - 1
    for start in range(0, table.n, _BLOCK):
        records = table.records(start, min(table.n, start + _BLOCK))
        records = records[kept[records["row"]]]
        records["row"] = rows[records["row"]]
        yield records


def _tiled(blocks: Iterable[Records]) -> Iterator[NDArray[np.void]]:
    """Blocks of records as tiles, of which the last alone may not be full."""
    left: Records | None = None
    for block in blocks:
        records = block if left is None else np.concatenate([left, block])
        whole = len(records) // TILE * TILE
        yield in_tiles(records[:whole])
        left = records[whole:]
    if left is not None and len(left):
        yield in_tiles(left)
