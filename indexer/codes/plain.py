"""The hot steps in NumPy, with the answers of the compiled ones to the bit."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.metric import Euclidean, Metric

from .projection import Coded
from .table import Table

Neighbors = tuple[NDArray[np.float64], NDArray[np.int64]]  # D and I (nq, k), nearest first

_CHUNK_VALUES = 1 << 19  # pixels of candidates gathered at a time: they stay in the processor's cache
_ALIKE = 32  # queries settled together, of about as many candidates
_ROWS = 512  # of a table in one matrix product: with a thousand queries it stays in the cache
_KEYS = 1 << 22  # at a time
_FAR = 2.0**62  # no key is
_NONE = np.iinfo(np.int64).max  # in place of a row, so that others come first


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
    if lists is None or ends is None:
        lists, ends = np.zeros((len(codes), 1), dtype=np.int64), np.array([table.n])
    sizes = np.diff(ends, prepend=0)[lists]
    width = max(m, int(sizes.sum(axis=1).max(initial=0)))
    step = max(1, _KEYS // width)
    blocks = (np.s_[start : start + step] for start in range(0, max(1, len(codes)), step))
    return np.concatenate([_nearest(table, codes[b], m, lists[b], sizes[b], ends=ends, width=width) for b in blocks])


def _nearest(
    table: Table,
    codes: NDArray[np.int8],
    m: int,
    lists: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    ends: NDArray[np.int64],
    width: int,
) -> NDArray[np.int64]:
    """List by list, for all queries that look through it; what a query finds in its lists lies side by side."""
    keys, rows = np.full((len(codes), width), _FAR), np.full((len(codes), width), -1, dtype=np.int64)
    first = np.cumsum(sizes, axis=1) - sizes
    by_list = np.argsort(lists, axis=None, kind="stable")
    numbers, starts = np.unique(lists.ravel()[by_list], return_index=True)
    norm, row = table.field("norm").astype(np.float64), table.field("row")
    for number, start, stop in zip(numbers.tolist(), starts, np.append(starts, len(by_list))[1:], strict=True):
        asked = by_list[start:stop]
        part = np.s_[ends[number - 1] if number else 0 : ends[number]]
        query = asked // lists.shape[1]
        places = first.ravel()[asked, None] + np.arange(part.stop - part.start)
        keys[query[:, None], places] = norm[part] - 2 * _products(codes[query], table.codes[part])
        rows[query[:, None], places] = row[part]
    return least(keys, rows, m)[1]


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
    """As `steps.scan`.

    The bound and its limit are one matrix product a block, which float32 rounds by Higham's bound (see
    `FaissMetric.rounding`): norm and rounding are lessened by as much.
    """
    D, I = np.full((len(xq), k), np.inf), np.full((len(xq), k), _NONE)
    t = np.full(len(xq), np.inf) if first.shape[1] < k else least(distances(xq, x, first, metric), first, k)[0][:, -1]
    delta = (table.p + 16) * 2.0**-22
    for start in range(0, table.n, _ROWS):
        part = np.s_[start : start + _ROWS]
        norm, rest, rounding = (table.field(name)[part].astype(np.float64) for name in ("norm", "rest", "rounding"))
        lessened = norm * (1 - delta) - rounding**2 * (1 + delta)
        stored = np.column_stack([table.codes[part], rest, rounding * (1 + delta), lessened]).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinitely far out is not ruled out
            tau = np.sqrt(metric.squared(t, x.shape[1])) * unit * (1 + 1e-9) + coded.rounding
            limit = (tau**2 - coded.norm + (tau**2 + coded.norm) * delta + 1).astype(np.float32)
            queries = np.column_stack([-2.0 * coded.codes, -2 * coded.rest, -2 * tau, np.ones(len(xq))])
            is_out = queries.astype(np.float32) @ stored.T > np.nextafter(limit, np.float32(np.inf))[:, None]
        query, place = np.divmod(np.flatnonzero(~is_out), len(stored))
        counts = np.bincount(query, minlength=len(xq))
        rows = table.field("row")[part][place].astype(np.int64)
        for alike, candidates in in_groups(rows, counts, np.flatnonzero(counts)):
            found = distances(xq[alike], x, candidates, metric)
            found[found > t[alike, None]] = np.inf
            others = np.where(found < np.inf, candidates, _NONE)
            D[alike], I[alike] = least(np.hstack([D[alike], found]), np.hstack([I[alike], others]), k)
        t = np.minimum(t, D[:, -1])
    return D, np.where(I == _NONE, -1, I)


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
