"""Leaving one out: stored images asked one at a time as if they were new, with the others to answer for them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, check, is_whole, param
from knnvote.data.progress import stage
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.index import Index

from .ladder import Promise
from .search import finds_equal, search

# Rows searched at a time. No number of threads enters here: float sums would differ in their last bits.
BLOCK = 8192
_BLOCK_NEIGHBORS = 1 << 22


class LeftOut(NamedTuple):
    """Some stored images, and their neighbours among the others.

    Attributes:
        rows: (m,) of the index.
        D: (m, k) float64 distances, ascending.
        I: (m, k) int64 rows of the neighbours.
    """

    rows: NDArray[np.int64]
    D: NDArray[np.float64]
    I: NDArray[np.int64]

    def count_copies(self, index: Index) -> int:
        """How many have an exact copy among their neighbours."""
        return int(finds_equal(index, index.vectors[self.rows], self.D, self.I).sum())


def leave_out(
    index: Index,
    k: int,
    *,
    rows: NDArray[np.int64] | None = None,
    block: int | None = None,
    promise: Promise = "careful",
    progress: Callable[[int], None] = lambda _rows: None,
) -> Iterator[LeftOut]:
    """Leave out stored images one at a time, and find the k nearest of the others to each.

    Args:
        index: an opened index.
        k: neighbours, at most n - 1.
        rows: which images; by default all.
        block: how many are searched at a time, at most; by default `BLOCK`.
        promise: of the search, as `find` has it.
        progress: called with the number of images after each block.

    Yields:
        Block by block what was found.
    """
    rows = np.arange(index.n) if rows is None else rows
    step = max(1, min(block or BLOCK, _BLOCK_NEIGHBORS // (k + 1)))
    with stage("leaving one out", len(rows), "images", progress) as advance:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield LeftOut(part, *neighbors_left_out(index, part, k, promise))
            advance(len(part))


def neighbors_left_out(index: Index, rows: NDArray[np.int64], k: int, promise: Promise = "careful") -> Neighbors:
    """The k nearest stored vectors of some stored vectors, each without itself; its copies stay.

    Args:
        index: an opened index.
        rows: (nq,) which stored vectors.
        k: neighbours, at most n - 1.
        promise: of the search, as `find` has it.

    Returns:
        D (nq, k) float64 and I (nq, k) int64, as of `search`.
    """
    D, I = search(index, index.vectors[rows], k + 1, promise)
    dropped = rows[:, None] == I
    # A vector with more than k copies of lower rows is not found itself, nor need it be by an approximate index.
    dropped[~dropped.any(axis=1), -1] = True
    return D[~dropped].reshape(-1, k), I[~dropped].reshape(-1, k)


def check_left_out(index: Index, name: str, k: int | None, default: int) -> int:
    """How many neighbours to find with one image left out.

    Args:
        index: of any kind.
        name: of the parameter.
        k: what it was given; None for the default, or n - 1 where that is less.
        default: number of neighbours.

    Raises:
        KnnvoteError: the index holds one image.
        OptionError: k is not from 1 to n - 1.
    """
    most = index.n - 1
    if most < 1:
        raise KnnvoteError(f"{index.path} holds one image, and leaving it out leaves no neighbour: index more images")
    if k is None:
        return min(default, most)
    check(name, k, is_whole(k), f"give a whole number from 1 to {most}")
    if not 1 <= k <= most:
        raise OptionError(
            f"{param(name)} is {k:,}, and with one of the {index.n:,} images of {index.path} left out there are "
            f"{most:,} neighbours: give {param(name)} from 1 to {most}"
        )
    return k
