"""The hot steps in NumPy, with the answers of the compiled ones to the bit."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.metric import Euclidean, Metric

from .projection import Coded
from .table import DELTA, Table

Neighbors = tuple[NDArray[np.float64], NDArray[np.int64]]  # D and I (nq, k), nearest first

_CHUNK_VALUES = 1 << 19  # pixels of candidates gathered at a time: they stay in the processor's cache
_ALIKE = 32  # queries settled together, of about as many candidates
_ROWS = 4096  # of a table at a time
_PRODUCTS = 1 << 24  # at a time
_FAR = 2.0**62


def distances(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """As `steps.distances`."""
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


def least(values: NDArray[np.float64], rows: NDArray[np.int64], m: int) -> Neighbors:
    """The m least of each query's values (nq, more), by value, then by row, with their rows."""
    if rows.shape[1] > 8 * m:  # what is greater than the m-th need not be sorted
        near = np.partition(values, m - 1, axis=1)[:, m - 1, None] >= values
        width = int(near.sum(axis=1).max(initial=m))
        places = np.argsort(~near, axis=1, kind="stable")[:, :width]
        values, rows = np.take_along_axis(values, places, axis=1), np.take_along_axis(rows, places, axis=1)
    order = np.lexsort((rows, values), axis=1)[:, :m]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)


def nearest(
    table: Table, codes: NDArray[np.int8], m: int, lists: NDArray[np.int64] | None, ends: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """As `steps.nearest`."""
    step = max(1, _PRODUCTS // max(1, table.n))
    blocks = (np.s_[start : start + step] for start in range(0, max(1, len(codes)), step))
    return np.concatenate([_nearest(table, codes[b], m, None if lists is None else lists[b], ends) for b in blocks])


def _nearest(
    table: Table, codes: NDArray[np.int8], m: int, lists: NDArray[np.int64] | None, ends: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    keys = table.field("norm").astype(np.float64) - 2.0 * _products(codes, table.codes)
    rows = np.broadcast_to(table.field("row").astype(np.int64), keys.shape)
    if lists is not None and ends is not None:
        list_of = np.searchsorted(ends, np.arange(table.n), side="right")
        is_probed = np.zeros((len(codes), len(ends)), dtype=np.bool_)
        np.put_along_axis(is_probed, lists, True, axis=1)
        keys = np.where(is_probed[:, list_of], keys, _FAR)
        rows = np.where(keys < _FAR, rows, -1)
    missing = ((0, 0), (0, max(0, m - table.n)))
    return least(np.pad(keys, missing, constant_values=_FAR), np.pad(rows, missing, constant_values=-1), m)[1]


def scan(
    table: Table,
    coded: Coded,
    first: NDArray[np.int64],
    xq: NDArray[np.generic],
    x: NDArray[np.generic],
    *,
    k: int,
    metric: Euclidean,
    unit: float,
) -> Neighbors:
    """As `steps.scan`."""
    D, I = np.full((len(xq), k), np.inf), np.full((len(xq), k), -1, dtype=np.int64)
    t = np.full(len(xq), np.inf) if first.shape[1] < k else least(distances(xq, x, first, metric), first, k)[0][:, -1]
    for start in range(0, table.n, _ROWS):
        part = np.s_[start : start + _ROWS]
        norm, rest, rounding = (table.field(name)[part].astype(np.float64) for name in ("norm", "rest", "rounding"))
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinitely far out is not ruled out
            tau = np.sqrt(metric.squared(t, x.shape[1])) * unit * (1 + 1e-9) + coded.rounding
            bound = norm * (1 - DELTA) - 2.0 * _products(coded.codes, table.codes[part])
            bound -= 2 * coded.rest[:, None] * rest + rounding * (rounding + 2 * tau[:, None])
            is_out = bound > (tau**2 - coded.norm + (tau**2 + coded.norm) * DELTA + 1)[:, None]
        query, place = np.nonzero(~is_out)
        counts = np.bincount(query, minlength=len(xq))
        rows = table.field("row")[part][place].astype(np.int64)
        for alike, candidates in in_groups(rows, counts, np.flatnonzero(counts)):
            found = distances(xq[alike], x, candidates, metric)
            found[found > t[alike, None]] = np.inf
            all_D, all_I = np.hstack([D[alike], found]), np.hstack([I[alike], np.where(found < np.inf, candidates, -1)])
            order = np.where(all_I < 0, np.iinfo(np.int64).max, all_I)
            D[alike], order = least(all_D, order, k)
            I[alike] = np.where(D[alike] < np.inf, order, -1)
        t = np.minimum(t, D[:, -1])
    return D, I


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


def _products(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """(nq, n) of codes (nq, p) and (n, p): whole numbers below 2^24, which float32 adds in any order."""
    return (a.astype(np.float32) @ b.astype(np.float32).T).astype(np.float64)
