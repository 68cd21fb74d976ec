"""K-neighbour search: FAISS proposes candidates, the stored vectors settle them.

D (nq, k) float64: distances in the index's metric, ascending. I (nq, k) int64: rows of the stored vectors; equal
distances are ordered by row. Both have the same bits for a query whatever the batch, the number of threads or the
place in the batch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import OptionError, param
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .blocks import in_blocks
from .bounded import exact_block, settle_or_scan
from .candidates import candidates
from .distances import Neighbors

Search = Callable[[Index, NDArray[np.generic], int], Neighbors]


def search(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    """The k nearest stored vectors of each query, as far as the index's kind finds them.

    An adaptive index is searched by its most careful rung; `classify/adaptive` climbs all of them.

    Args:
        index: an opened index.
        xq: (nq, d) queries in the index's type, or in float64 for an index of floats.
        k: neighbours, at most n.

    Returns:
        D (nq, k) float64 and I (nq, k) int64. A query for which an approximate index has fewer than k candidates is
        searched exactly.

    Raises:
        OptionError: k is not from 1 to n.
    """
    check_k(index, k)
    block = exact_block if index.is_exact(k) else _approximate_block
    D, I = in_blocks(lambda queries: block(index, queries, k), xq)
    return METRICS[index.metric].final(D), I


def exact_search(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    """The k nearest stored vectors of each query, of any kind of index; arguments and results as of `search`."""
    D, I = in_blocks(lambda queries: exact_block(index, queries, k), xq)
    return METRICS[index.metric].final(D), I


def _approximate_block(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    return settle_or_scan(index, xq, candidates(index, xq, k), k)


def neighbors_left_out(index: Index, rows: NDArray[np.int64], k: int, search_by: Search = search) -> Neighbors:
    """The k nearest stored vectors of some stored vectors, each without itself; its copies stay.

    Args:
        index: an opened index.
        rows: (nq,) which stored vectors.
        k: neighbours, at most n - 1.
        search_by: `search` or `exact_search`.

    Returns:
        D (nq, k) float64 and I (nq, k) int64, as of `search`.
    """
    D, I = search_by(index, index.vectors[rows], k + 1)
    dropped = rows[:, None] == I
    # A vector with more than k copies of lower rows is not found itself, nor need it be by an approximate index.
    dropped[~dropped.any(axis=1), -1] = True
    return D[~dropped].reshape(-1, k), I[~dropped].reshape(-1, k)


def check_k(index: Index, k: int) -> None:
    """Refuse to look for more neighbours than there are, or for none.

    Raises:
        OptionError: k is not from 1 to n.
    """
    if not 1 <= k <= index.n:
        raise OptionError(f"k is {k}, and {index.path} holds {index.n:,} images: give {param('k')} from 1 to {index.n}")


def finds_equal(
    index: Index, xq: NDArray[np.generic], D: NDArray[np.float64], I: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which queries (nq, d) have an equal stored vector among their neighbours D, I (nq, k)."""
    may_be_equal = METRICS[index.metric].equal_within >= D
    found = np.zeros(len(D), dtype=np.bool_)
    for j in range(D.shape[1]):
        asked = np.flatnonzero(may_be_equal[:, j] & ~found)
        if len(asked):
            found[asked] = (index.vectors[I[asked, j]] == xq[asked]).all(axis=1)
    return found
