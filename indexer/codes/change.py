"""An inverted file with vectors more or fewer: a block at a time, without coding again what is stored."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.building.work import slices_of
from knnvote.indexer.metric import Metric

from .inverted_file import InvertedFile
from .steps import nearest
from .table import TILE, Table, pack, records

_BLOCK = 65_536  # stored vectors at a time

Records = tuple[NDArray[np.void], NDArray[np.int64]]  # of `record_type`, and the row of each


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


def with_added(by_codes: InvertedFile, x: NDArray[np.generic], metric: Metric) -> Changed:
    """An inverted file with more vectors, each at the end of the list of its nearest centroid.

    Args:
        by_codes: of n vectors.
        x: (m, d) the others, which get the rows from n.
        metric: their space.
    """
    n, ends, parts = by_codes.table.n, by_codes.ends, []
    for block in slices_of(x):
        coded = by_codes.projection.encode(metric.projectable(block))
        parts.append((records(coded), nearest(by_codes.centroids, coded.codes, 1)[:, 0]))
    stored, list_of = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(list_of, kind="stable")
    blocks = _merged(by_codes.table, (stored[order], n + order), ends[list_of[order]])
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
        stored, rows = table.part(start, stop)
        at = places[within] - start
        yield np.insert(stored, at, added[0][within]), np.insert(rows, at, added[1][within])


def _filtered(table: Table, kept: NDArray[np.bool_]) -> Iterator[Records]:
    """What a table holds of those of its vectors that stay, by their new rows."""
    new_rows = np.cumsum(kept, dtype=np.int32) - 1
    for start in range(0, table.n, _BLOCK):
        stored, rows = table.part(start, min(table.n, start + _BLOCK))
        stays = kept[rows]
        yield stored[stays], new_rows[rows[stays]].astype(np.int64)


def _tiled(blocks: Iterable[Records]) -> Iterator[NDArray[np.void]]:
    """Blocks of records as tiles, of which the last alone may not be full."""
    left: list[Records] = []
    for block in blocks:
        stored, rows = _joined([*left, block])
        whole = len(rows) // TILE * TILE
        yield pack(stored[:whole], rows[:whole]).tiles
        left = [(stored[whole:], rows[whole:])]
    stored, rows = _joined(left)
    if len(rows):
        yield pack(stored, rows).tiles


def _joined(blocks: Iterable[Records]) -> Records:
    stored, rows = zip(*blocks, strict=True)
    return np.concatenate(stored), np.concatenate(rows)
