"""Distances of candidates, settled from the stored vectors: exact for whole numbers, one code path a row for floats."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.metric import Metric

Neighbors = tuple[NDArray[np.float64], NDArray[np.int64]]  # D and I (nq, k), nearest first

_CHUNK_VALUES = 1 << 19  # pixels of candidates gathered at a time: they stay in the processor's cache

_ALIKE = 32  # queries settled together, of about as many candidates


def candidate_distances(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Distances between queries and their own candidates.

    Args:
        xq: (nq, d) queries.
        x: (n, d) stored vectors.
        I: (nq, m) rows of x; -1 for none.
        metric: what to compute, as its `reduced` gives it; `final` is for what is left of them.

    Returns:
        (nq, m) float64, infinite for none. Exact for l2 and l1 between whole numbers while sums stay below 2^53;
        else the same bits for a pair of vectors whatever else is computed beside it.
    """
    D = np.empty(I.shape)
    columns = max(1, _CHUNK_VALUES // max(1, x.shape[1]))
    step = max(1, columns // max(1, I.shape[1]))
    for start in range(0, len(I), step):
        for first in range(0, I.shape[1], columns):
            part = np.s_[start : start + step, first : first + columns]
            stored = x[I[part].ravel()].reshape(*I[part].shape, -1)
            D[part] = metric.reduced(xq[start : start + step], stored)
    D[I < 0] = np.inf
    return D


def settle(xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], k: int, metric: Metric) -> Neighbors:
    """The k nearest of each query's candidates I (nq, m), by distance, then by row."""
    return nearest(candidate_distances(xq, x, I, metric), I, k)


def nearest(D: NDArray[np.float64], I: NDArray[np.int64], k: int) -> Neighbors:
    """The k nearest of candidates D, I (nq, m), by distance, then by row."""
    if I.shape[1] > 8 * k:  # what is farther than the k-th need not be sorted
        near = np.partition(D, k - 1, axis=1)[:, k - 1, None] >= D
        width = int(near.sum(axis=1).max(initial=k))
        places = np.argsort(~near, axis=1, kind="stable")[:, :width]
        D, I = np.take_along_axis(D, places, axis=1), np.take_along_axis(I, places, axis=1)
    order = np.lexsort((I, D), axis=1)[:, :k]
    return np.take_along_axis(D, order, axis=1), np.take_along_axis(I, order, axis=1)


def in_groups(
    columns: NDArray[np.int64], counts: NDArray[np.int64], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Candidates of which each query has another number, as matrices of queries that have about as many.

    Args:
        columns: (counts.sum(),) rows of stored vectors, query after query.
        counts: (nq,) how many each has.
        rows: the queries that are wanted.

    Yields:
        Some of those (s,), and their candidates (s, m), which -1 fills up.
    """
    first = np.cumsum(counts) - counts
    rows = rows[np.argsort(counts[rows], kind="stable")]
    for start in range(0, len(rows), _ALIKE):
        alike = rows[start : start + _ALIKE]
        places = np.arange(counts[alike].max())
        I = columns.take(first[alike, None] + places, mode="clip")
        yield alike, np.where(places < counts[alike, None], I, -1)
