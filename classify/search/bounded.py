"""Exact search of an index: only what a lower bound does not rule out gets a distance, where the index has bounds."""

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.codes.steps import scan
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS, Euclidean, FaissMetric

from .candidates import encode
from .distances import settle
from .scan import SPARE, exact

_FIRST_CANDIDATES = 3  # for each neighbour: their k-th distance is nearly the true one
_FIRST_ROOM, _FIRST_LISTS = 4, 3  # stored vectors probed for each of them, and lists at least
_TREE_DIMENSIONS = 8  # in which a tree leaves out most stored vectors, whatever they are
_TREE_FIRST = 3  # in which it does so for less than codes cost
_TREE_FROM = 2048  # stored vectors: a scan of fewer costs less
_TREE_QUERIES = 64  # that are worth building it
_TREE_ROUNDING = 2.0**-40  # of its distances, with room
_LOST = 1e-150  # distances whose squares float64 loses are smaller


def exact_block(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    """D as `distances` gives it and I, both (nq, k), of one block of queries."""
    metric = METRICS[index.metric]
    has_tree = "tree" in vars(index) or (len(xq) >= _TREE_QUERIES and index.n >= _TREE_FROM)
    most = _TREE_DIMENSIONS if index.inverted_file is None else _TREE_FIRST
    if has_tree and index.d <= most and isinstance(metric, FaissMetric):
        return exact_by_tree(index, xq, k, metric)
    if index.inverted_file is not None and isinstance(metric, Euclidean):
        return exact_by_codes(index, xq, k, metric)
    return exact(xq, index.vectors, k, metric)


def exact_by_tree(index: Index, xq: NDArray[np.generic], k: int, metric: FaissMetric) -> Neighbors:
    """Brute force by result: a k-d tree proposes in float64, whose rounding leaves ties in doubt, which are scanned."""
    m = min(index.n, k + SPARE)
    found, proposed = index.tree.query(metric.space(xq), range(1, m + 1), p=metric.power)
    D, I = settle(xq, index.vectors, proposed, k, metric)
    outside = metric.from_sklearn(found[:, -1] * (1 - _TREE_ROUNDING)) - metric.equal_within - _LOST
    doubtful = np.flatnonzero(~(metric.final(D[:, -1]) < outside)) if m < index.n else np.empty(0, np.int64)
    if len(doubtful):
        D[doubtful], I[doubtful] = exact(xq[doubtful], index.vectors, k, metric)
    return D, I


def settle_or_scan(index: Index, xq: NDArray[np.generic], I: NDArray[np.int64], k: int) -> Neighbors:
    """The k nearest of each query's candidates I (nq, m); of all stored vectors where there are fewer than k."""
    D, I = settle(xq, index.vectors, I, k, METRICS[index.metric])
    lacking = (I < 0).any(axis=1)
    if lacking.any():
        D[lacking], I[lacking] = exact_block(index, xq[lacking], k)
    return D, I


def exact_by_codes(index: Index, xq: NDArray[np.generic], k: int, metric: Euclidean) -> Neighbors:
    """Brute force by result: only what a lower bound does not rule out gets a distance.

    The k-th distance among the candidates of an approximate search is at least the true one; every stored vector whose
    bound is not above it is settled.

    Returns:
        D (nq, k) as `distances` gives it, and I (nq, k).

    Raises:
        KnnvoteError: codes rule out what was found already; they are not of these vectors.
    """
    ivf, m = index.ivf, min(index.n, _FIRST_CANDIDATES * k)
    coded = encode(index, xq)
    nprobe = min(ivf.nlist, max(_FIRST_LISTS, -(-_FIRST_ROOM * m * ivf.nlist // index.n)))
    first = ivf.probe(coded.codes, m, nprobe)
    D, I = scan(ivf.table, coded, first, xq, index.vectors, k=k, metric=metric, unit=ivf.projection.unit)
    if (I < 0).any():
        raise KnnvoteError(f"{index.path} is damaged: its codes are not those of its vectors; build it again")
    return D, I
