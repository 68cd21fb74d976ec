"""Exact search over all stored vectors: float32 proposes, the stored vectors settle, what is in doubt is widened."""

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget
from knnvote.indexer.metric import FaissMetric, Metric

from .distances import Neighbors, settle

_SPARE = 16  # candidates beyond k of the first scan: room for ties and for float32's rounding
_WIDEN = 8
_SCAN_BLOCK = 16_384  # stored vectors converted to float32 at a time, at most
_CANDIDATES = 1 << 22  # settled at a time


def exact(xq: NDArray[np.generic], x: NDArray[np.generic], k: int, metric: Metric) -> Neighbors:
    """Brute force by result: float32 proposes, stored vectors settle, and what float32 leaves in doubt is widened.

    A query is done when its k-th settled distance is smaller than any distance that a vector outside the candidates
    can have: that of the last candidate, less the most that float32 can have rounded it by. Of a metric that FAISS does
    not know, every stored vector is settled.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    n = len(x)
    D = np.empty((len(xq), k))
    I = np.empty((len(xq), k), dtype=np.int64)
    open_rows = np.arange(len(xq))
    m = k + _SPARE
    while isinstance(metric, FaissMetric) and len(open_rows) and m < n:
        doubtful = []
        for rows in _split(open_rows, m):
            outside, proposed = _scan(xq[rows], x, m, metric)
            D[rows], I[rows] = settle(xq[rows], x, proposed, k, metric)
            doubtful.append(rows[~(D[rows, -1] < outside)])
        open_rows = np.concatenate(doubtful)
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
        A lower bound (nq,) of the distance, as `candidate_distances` gives it, to any vector not proposed; and I
        (nq, m).
    """
    to_floats = _Float32Space(xq, x, metric)
    queries = to_floats(xq)
    D = np.empty((len(xq), 0), dtype=np.float32)
    I = np.empty((len(xq), 0), dtype=np.int64)
    reach = 0.0
    step = rows_within_budget(x.shape[1], _SCAN_BLOCK)
    for start in range(0, len(x), step):
        block = to_floats(x[start : start + step])
        reach = max(reach, float(metric.lengths(block).max()))
        found_D, found_I = faiss.knn(queries, block, min(m, len(block)), metric=metric.faiss_type)
        D, I = np.hstack([D, found_D]), np.hstack([I, found_I + start])
        if D.shape[1] > m:
            nearest = np.argpartition(D, m - 1, axis=1)[:, :m]
            D, I = np.take_along_axis(D, nearest, axis=1), np.take_along_axis(I, nearest, axis=1)
    farthest = D.max(axis=1).astype(np.float64)
    outside = farthest - metric.rounding(metric.lengths(queries), reach, x.shape[1])
    underflow = x.shape[1] * np.finfo(np.float64).tiny  # squares of settled distances that float64 loses
    return outside * to_floats.unit - underflow, I


class _Float32Space:
    """Float32 for a scan: centred, so that an offset costs no precision, scaled by a power of two, against overflow.

    `unit` turns a scan's distances into those of `candidate_distances`.
    """

    def __init__(self, xq: NDArray[np.generic], x: NDArray[np.generic], metric: FaissMetric) -> None:
        self._metric = metric
        self._is_whole = metric.keeps_values and xq.dtype == x.dtype and x.dtype in (np.uint8, np.uint16)
        self._centre = metric.space(x[: rows_within_budget(x.shape[1], _SCAN_BLOCK)]).mean(axis=0)
        self._scale = 1.0
        if self._is_whole:
            self._centre = np.rint(self._centre)
        elif metric.keeps_values:
            low, high = min(float(xq.min()), float(x.min())), max(float(xq.max()), float(x.max()))
            self._scale = 2.0 ** -np.frexp(max(high - low, np.finfo(np.float64).tiny))[1]
            self._centre = self._centre.clip(low, high)  # a mean of equal values need not equal them
        self.unit = metric.unit(self._scale)

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        if self._is_whole:
            floats: NDArray[np.float32] = x.astype(np.float32) - self._centre.astype(np.float32)
        else:
            floats = ((self._metric.space(x) - self._centre) * self._scale).astype(np.float32)
        return floats
