"""Exact search over all stored vectors: float32 proposes, the stored vectors settle, also what it leaves in doubt."""

from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget
from knnvote.data.vectors import ends
from knnvote.indexer.codes.plain import Neighbors, in_groups
from knnvote.indexer.metric import Euclidean, FaissMetric, Metric

from .distances import settle

SPARE = 4  # candidates beyond k of the first scan: room for ties and for float32's rounding
_WIDEN = 8
_SCAN_BLOCK = 16_384  # stored vectors converted to float32 at a time, at most
_CENTRE_FROM = 1024  # stored vectors: near their middle is near enough
_CANDIDATES = 1 << 22  # settled at a time
_LARGEST_SCALE = 2.0**100  # in float32
_GROUP = 8  # stored vectors of which the least distance stands for all
_PRODUCTS = 1 << 17  # at a time: they stay in the cache
_LEAST_WITHIN = 8  # queries that all stored vectors are made floats for, however many may be as near


def exact(xq: NDArray[np.generic], x: NDArray[np.generic], k: int, metric: Metric) -> Neighbors:
    """Brute force by result: float32 proposes, stored vectors settle, and what float32 leaves in doubt is settled too.

    A query is done when its k-th settled distance is smaller than any distance that a vector outside the candidates
    can have: that of the last candidate, less the most that float32 can have rounded it by. For others, and of few
    stored vectors from the start, all are settled that may be as near as the k-th; of a metric without a product to
    tell these by, more and more. Of a metric that FAISS does not know, every stored vector is settled.

    Returns:
        D (nq, k) as `distances` gives it, and I (nq, k).
    """
    n = len(x)
    D = np.empty((len(xq), k))
    I = np.empty((len(xq), k), dtype=np.int64)
    open_rows = np.arange(len(xq))
    if isinstance(metric, Euclidean) and _GROUP * k <= n <= rows_within_budget(x.shape[1], _SCAN_BLOCK):
        for rows in _split(open_rows, n):
            D[rows], I[rows] = _settle_by_products(xq[rows], x, k, metric)
        return D, I
    m = k + SPARE
    while isinstance(metric, FaissMetric) and len(open_rows) and m < n:
        doubtful = []
        for rows in _split(open_rows, m):
            outside, proposed = _scan(xq[rows], x, m, metric)
            D[rows], I[rows] = settle(xq[rows], x, proposed, k, metric)
            doubtful.append(rows[~(D[rows, -1] < outside)])
        open_rows = np.concatenate(doubtful)
        if isinstance(metric, Euclidean):
            for rows in _split(open_rows, min(n, _CANDIDATES // _LEAST_WITHIN)):
                D[rows], I[rows] = _settle_all_within(xq[rows], x, D[rows, -1], k, metric)
            return D, I
        m *= _WIDEN
    for rows in _split(open_rows, n):
        D[rows], I[rows] = settle(xq[rows], x, np.broadcast_to(np.arange(n), (len(rows), n)), k, metric)
    return D, I


def _split(rows: NDArray[np.int64], m: int) -> list[NDArray[np.int64]]:
    """Rows in parts that keep m candidates each within memory."""
    step = max(1, _CANDIDATES // m)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _scan(
    xq: NDArray[np.generic], x: NDArray[np.generic], m: int, metric: FaissMetric
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The m nearest by float32, block by block.

    Returns:
        A lower bound (nq,) of the distance, as `distances` gives it, to any vector not proposed; and I
        (nq, m).
    """
    to_floats = _Float32Space(xq, x, metric)
    queries = to_floats(xq)
    D = np.empty((len(xq), 0), dtype=np.float32)
    I = np.empty((len(xq), 0), dtype=np.int64)
    reach = 0.0
    for start, block in to_floats.blocks(x):
        reach = max(reach, float(metric.lengths(block).max()))
        found_D, found_I = faiss.knn(queries, block, min(m, len(block)), metric=metric.faiss_type)
        D, I = np.hstack([D, found_D]), np.hstack([I, found_I + start])
        if D.shape[1] > m:
            nearest = np.argpartition(D, m - 1, axis=1)[:, :m]
            D, I = np.take_along_axis(D, nearest, axis=1), np.take_along_axis(I, nearest, axis=1)
    farthest = D.max(axis=1).astype(np.float64)
    outside = farthest - metric.rounding(metric.lengths(queries), reach, x.shape[1])
    return outside * to_floats.unit - _underflow(x), I


def _settle_all_within(
    xq: NDArray[np.generic], x: NDArray[np.generic], t: NDArray[np.float64], k: int, metric: Euclidean
) -> Neighbors:
    """The k nearest of all stored vectors that float32 does not put beyond t (nq,), as `distances` has it.

    |q - x|^2 <= t where |x|^2 / 2 - qx <= (t - |q|^2) / 2, which is one matrix product a block.
    """
    to_floats = _Float32Space(xq, x, metric)
    queries = to_floats(xq)
    lengths = metric.lengths(queries)
    squares = np.square(queries.astype(np.float64)).sum(axis=1)
    found = []
    for start, block in to_floats.blocks(x):
        half = np.einsum("ij,ij->i", block, block) / 2
        rounding = metric.rounding(lengths, float(metric.lengths(block).max()), x.shape[1])
        with np.errstate(divide="ignore", over="ignore"):  # infinitely far, nothing is beyond
            limit = (((t + _underflow(x)) / to_floats.unit + rounding - squares) / 2).astype(np.float32)
        beyond = half - queries @ block.T > np.nextafter(limit, np.float32(np.inf))[:, None]
        row, column = np.divmod(np.flatnonzero(~beyond), len(block))  # what is no number is not beyond
        found.append(np.vstack([row, column + start]))
    return _settle_found(xq, x, found, k, metric)


def _settle_by_products(xq: NDArray[np.generic], x: NDArray[np.generic], k: int, metric: Euclidean) -> Neighbors:
    """The k nearest of few stored vectors: those are settled that float32 does not put beyond k others.

    The k-th of the least in groups is not less than the k-th of all, and takes less to find. Each of the two may be
    rounded, so that all are kept that are farther by twice as much at most.
    """
    to_floats = _Float32Space(xq, x, metric)
    queries, block = to_floats(xq), to_floats(x)
    half = np.einsum("ij,ij->i", block, block) / 2
    slack = metric.rounding(metric.lengths(queries), float(metric.lengths(block).max()), x.shape[1])
    slack += _underflow(x) / max(to_floats.unit, np.finfo(np.float64).tiny)
    found = []
    step = max(1, _PRODUCTS // len(x))
    for start in range(0, len(xq), step):
        halves = half - queries[start : start + step] @ block.T
        least = halves[:, : len(x) // _GROUP * _GROUP].reshape(len(halves), _GROUP, -1).min(axis=1)
        with np.errstate(over="ignore"):
            limit = (np.partition(least, k - 1, axis=1)[:, k - 1] + slack[start : start + step]).astype(np.float32)
        beyond = halves > np.nextafter(limit, np.float32(np.inf))[:, None]
        row, column = np.divmod(np.flatnonzero(~beyond), len(x))  # what is no number is not beyond
        found.append(np.vstack([row + start, column]))
    return _settle_found(xq, x, found, k, metric)


def _settle_found(
    xq: NDArray[np.generic], x: NDArray[np.generic], found: list[NDArray[np.int64]], k: int, metric: Metric
) -> Neighbors:
    """The k nearest of each query's candidates.

    Args:
        xq: (nq, d) queries.
        x: (n, d) stored vectors.
        found: (2, m) each: queries, and a stored vector that is a candidate of each.
        k: at most the candidates of any query.
        metric: by which they are settled.
    """
    row, column = np.hstack(found)
    column = column[np.argsort(row, kind="stable")]
    counts = np.bincount(row, minlength=len(xq))
    D, I = np.empty((len(xq), k)), np.empty((len(xq), k), dtype=np.int64)
    for alike, candidates in in_groups(column, counts, np.arange(len(xq))):
        D[alike], I[alike] = settle(xq[alike], x, candidates, k, metric)
    return D, I


def _underflow(x: NDArray[np.generic]) -> float:
    """Squares of settled distances that float64 loses."""
    return float(x.shape[1] * np.finfo(np.float64).tiny)


class _Float32Space:
    """Float32 for a scan: centred, so that an offset costs no precision, scaled by a power of two, against overflow.

    `unit` turns a scan's distances into those of `distances`.
    """

    def __init__(self, xq: NDArray[np.generic], x: NDArray[np.generic], metric: FaissMetric) -> None:
        self._metric = metric
        self._step = rows_within_budget(x.shape[1], _SCAN_BLOCK)
        self._centre = metric.space(x[:_CENTRE_FROM]).mean(axis=0)
        self._scale = 1.0
        self._narrow: np.dtype[np.generic] | None = None  # of vectors whose differences float32 rounds but once
        if metric.keeps_values and xq.dtype == x.dtype and x.dtype in (np.uint8, np.uint16):
            self._centre, self._narrow = np.rint(self._centre), x.dtype
        elif metric.keeps_values:
            (low_q, high_q), (low_x, high_x) = ends(xq), ends(x)
            low, high = min(low_q, low_x), max(high_q, high_x)
            self._scale = 2.0 ** -np.frexp(max(high - low, np.finfo(np.float64).tiny))[1]
            self._centre = self._centre.clip(low, high)  # a mean of equal values need not equal them
            if x.dtype == np.float16 and self._scale < _LARGEST_SCALE:
                self._centre, self._narrow = self._centre.astype(np.float32).astype(np.float64), x.dtype
        self.unit = metric.unit(self._scale)

    def blocks(self, x: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Stored vectors (m, d) block by block, each with the number of its first."""
        for start in range(0, len(x), self._step):
            yield start, self(x[start : start + self._step])

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        floats: NDArray[np.float32]
        if self._narrow is None or x.dtype != self._narrow:
            floats = ((self._metric.space(x) - self._centre) * self._scale).astype(np.float32)
            return floats
        floats = x.astype(np.float32) - self._centre.astype(np.float32)
        if self._scale != 1:
            floats *= np.float32(self._scale)
        return floats
