"""Exact search of an index: only what a lower bound does not rule out gets a distance, where the index has bounds."""

import itertools

import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget
from knnvote.indexer.bounds import Bounds
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS, Euclidean, FaissMetric

from .candidates import probe, project
from .distances import Neighbors, in_groups, settle
from .scan import SPARE, exact

_FIRST_CANDIDATES = 3  # for each neighbour: their k-th distance is nearly the true one
_FIRST_ROOM = 30  # stored vectors probed for each of them
_BOUND_BLOCK = 1024  # queries of one matrix product with the bounds
_FIRST_BLOCK = 256  # queries that show whether bounds are of use
_MOST_SURVIVORS = 1 << 14  # of one query: memory stays small
_TREE_DIMENSIONS = 8  # in which a tree leaves out most stored vectors, whatever they are
_TREE_FROM = 2048  # stored vectors: a scan of fewer costs less
_TREE_QUERIES = 64  # that are worth building it
_TREE_ROUNDING = 2.0**-40  # of its distances, with room
_LOST = 1e-150  # distances whose squares float64 loses are smaller
_USEFUL = 16  # a distance of its own costs a survivor this many times what a plain scan costs it


def exact_block(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    """D as `candidate_distances` gives it and I, both (nq, k), of one block of queries."""
    metric = METRICS[index.metric]
    if index.bounds is not None and isinstance(metric, Euclidean):
        return exact_by_bounds(index, index.bounds, xq, k, metric)
    has_tree = "tree" in vars(index) or (len(xq) >= _TREE_QUERIES and index.n >= _TREE_FROM)
    if has_tree and index.d <= _TREE_DIMENSIONS and isinstance(metric, FaissMetric):
        return exact_by_tree(index, xq, k, metric)
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


def exact_by_bounds(index: Index, bounds: Bounds, xq: NDArray[np.generic], k: int, metric: Euclidean) -> Neighbors:
    """Brute force by result: only what a lower bound does not rule out gets a distance.

    The k-th distance among an approximate search's candidates is at least the true one; every stored vector whose
    bound is not above it is settled. Queries for which too few are ruled out are searched by `exact`.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    D, I = np.empty((len(xq), k)), np.empty((len(xq), k), dtype=np.int64)
    if not len(xq):
        return D, I
    doubtful = []
    m = min(index.n, _FIRST_CANDIDATES * k)
    for start, end in itertools.pairwise(
        [0, *range(_FIRST_BLOCK, len(xq), rows_within_budget(index.d, _BOUND_BLOCK)), len(xq)]
    ):
        queries = xq[start:end]
        proposed = probe(index, project(index, queries), m, _lists_holding(index, _FIRST_ROOM * m))[1]
        t = settle(queries, index.vectors, proposed, k, metric)[0][:, -1]
        columns, counts, given_up = bounds.survivors(
            metric.space(queries), metric.squared(t), _MOST_SURVIVORS, max(k, index.n // _USEFUL)
        )
        given_up |= counts < k  # no bound rules out so many: the index is not one that knnvote built
        if given_up.all():  # these data leave a bound nothing to work with
            doubtful.append(np.arange(start, len(xq)))
            break
        doubtful.append(start + np.flatnonzero(given_up))
        for rows, survivors in in_groups(columns, counts, np.flatnonzero(~given_up)):
            D[start + rows], I[start + rows] = settle(queries[rows], index.vectors, survivors, k, metric)
    rest = np.concatenate(doubtful)
    if len(rest):
        D[rest], I[rest] = exact(xq[rest], index.vectors, k, metric)
    return D, I


def _lists_holding(index: Index, rows: int) -> int:
    """How many lists of the inverted file hold so many stored vectors, if they are of even length."""
    nlist = index.ivf[0].nlist
    return int(min(nlist, -(-rows * nlist // index.n)))
