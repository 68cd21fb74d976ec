"""Leaving one out: stored images asked one at a time as if they were new, with the others to answer for them.

Where an index has groups, with an image its whole group is left out, as scikit-learn's LeaveOneGroupOut does: images of
one patient or film are much alike, and those of a new one have nothing in store that is as near.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, check, is_whole, param
from knnvote.data.progress import stage
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.groups.record import told_of_lone_classes
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .ladder import Promise
from .search import search

# Rows searched at a time. No number of threads enters here: float sums would differ in their last bits.
BLOCK = 8192
_BLOCK_NEIGHBORS = 1 << 22
_GROUP_ROOM = (
    16  # images of its own group that the first search for an image has room for, beside as many as are wanted
)
_WIDEN = 4


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
        """How many have an exact copy, by the metric, among their neighbours."""
        return int(METRICS[index.metric].are_equal(self.D[:, 0]).sum())


def leave_out(
    index: Index,
    k: int,
    *,
    rows: NDArray[np.int64] | None = None,
    block: int | None = None,
    promise: Promise = "careful",
    by_group: bool = True,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Iterator[LeftOut]:
    """Leave out stored images one at a time, and find the k nearest of the others to each.

    Args:
        index: an opened index.
        k: neighbours, at most as many as `most_left` says; without groups n - 1.
        rows: which images; by default all.
        block: how many are searched at a time, at most; by default `BLOCK`.
        promise: of the search, as `find` has it.
        by_group: leave out the group of each image with it, where the index has groups.
        progress: called with the number of images after each block.

    Yields:
        Block by block what was found.
    """
    rows = np.arange(index.n) if rows is None else rows
    step = max(1, min(block or BLOCK, _BLOCK_NEIGHBORS // (k + 1)))
    with stage("leaving one out", len(rows), "images", progress) as advance:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield LeftOut(part, *neighbors_left_out(index, part, k, promise, by_group=by_group))
            advance(len(part))


def neighbors_left_out(
    index: Index, rows: NDArray[np.int64], k: int, promise: Promise = "careful", *, by_group: bool = True
) -> Neighbors:
    """The k nearest stored vectors of some stored vectors, each without itself and its group; other copies stay.

    More and more are searched for, until k of them are left. Each of them is then nearer than all that were not found.

    Args:
        index: an opened index.
        rows: (nq,) which stored vectors.
        k: neighbours, at most as many as `most_left` says; without groups n - 1.
        promise: of the search, as `find` has it.
        by_group: leave out the group of each vector, where the index has groups.

    Returns:
        D (nq, k) float64 and I (nq, k) int64, as of `search`.
    """
    D, I = np.empty((len(rows), k)), np.empty((len(rows), k), dtype=np.int64)
    groups = index.groups if by_group else None
    enough = index.n - most_left(index) + k if by_group else k + 1  # of which k are others, whichever the vector
    left, m = np.arange(len(rows)), min(enough, 2 * k + _GROUP_ROOM)
    while len(left):
        lacking = []
        step = max(1, _BLOCK_NEIGHBORS // m)
        for start in range(0, len(left), step):
            part = left[start : start + step]
            found_D, found_I = search(index, index.vectors[rows[part]], m, promise)
            is_other = rows[part, None] != found_I if groups is None else groups[rows[part], None] != groups[found_I]
            # A vector with more than k copies of lower rows is not found itself, nor need it be by an approximate
            # index: the last of k + 1 is then one too many.
            places = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
            D[part], I[part] = (np.take_along_axis(found, places, axis=1) for found in (found_D, found_I))
            lacking.append(part[is_other.sum(axis=1) < k])
        left, m = np.concatenate(lacking), min(enough, _WIDEN * m)
    return D, I


def most_left(index: Index) -> int:
    """How many neighbours every stored image has when it is left out, with its group where the index has groups."""
    groups = index.manifest.groups
    return index.n - (1 if groups is None else groups.largest)


def count_groups(index: Index) -> int | None:
    """How many groups are left out, each with its images; None where the index has none."""
    return None if index.manifest.groups is None else index.manifest.groups.count


def told_of_classes(index: Index) -> str | None:
    """What is to be told of classes of which nothing is left where one of their images is left out with its group."""
    if index.groups is None or index.is_regression:
        return None
    return told_of_lone_classes(index.labels, index.groups, index.manifest.class_names)


def check_left_out(index: Index, name: str, k: int | None, default: int) -> int:
    """How many neighbours to find with one image left out.

    Args:
        index: of any kind.
        name: of the parameter.
        k: what it was given; None for the default, or as many as there are where that is less.
        default: number of neighbours.

    Raises:
        KnnvoteError: the index holds one image, or one group.
        OptionError: k is more than there are, or less than 1.
    """
    most, groups = most_left(index), index.manifest.groups
    if most < 1 and groups is not None:
        raise KnnvoteError(
            f"all {index.n:,} images of {index.path} are of one group, and leaving it out leaves no neighbour: index "
            f"images of more groups, or build it again without {param('group_column')}"
        )
    if most < 1:
        raise KnnvoteError(f"{index.path} holds one image, and leaving it out leaves no neighbour: index more images")
    if k is None:
        return min(default, most)
    check(name, k, is_whole(k), f"give a whole number from 1 to {most}")
    if not 1 <= k <= most:
        raise OptionError(f"{param(name)} is {k:,}, and {told_left(index)}: give {param(name)} from 1 to {most}")
    return int(k)


def told_left(index: Index) -> str:
    """How many neighbours there are, in words."""
    groups, of_all = index.manifest.groups, f"of the {index.n:,} images of {index.path}"
    what = f"one {of_all}" if groups is None else f"the largest group, {groups.largest:,} {of_all},"
    return f"with {what} left out there are {most_left(index):,} neighbours"
