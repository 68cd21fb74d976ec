"""Final distances, settled from the stored vectors: exact for whole numbers, one code path a row for floats."""

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.metric import Metric, metric_space

_CHUNK_VALUES = 1 << 19  # pixels of candidates gathered at a time: they stay in the processor's cache
_FLOAT32_WHOLE = 2.0**24


def candidate_distances(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Distances between queries and their own candidates.

    Args:
        xq: (nq, d) queries.
        x: (n, d) stored vectors.
        I: (nq, m) rows of x; -1 for none.
        metric: what to compute; for l2 the squared distance, from which `final_distances` takes the root.

    Returns:
        (nq, m) float64, infinite for none. Exact for l2 and l1 between whole numbers while sums stay below 2^53;
        else the same bits for a pair of vectors whatever else is computed beside it.
    """
    D = np.empty(I.shape)
    columns = max(1, _CHUNK_VALUES // max(1, x.shape[1]))
    step = max(1, columns // max(1, I.shape[1]))
    compute = _bytes_l2 if metric == "l2" and xq.dtype == x.dtype == np.uint8 else _floats
    for start in range(0, len(I), step):
        for first in range(0, I.shape[1], columns):
            part = np.s_[start : start + step, first : first + columns]
            D[part] = compute(xq[start : start + step], x, I[part], metric)
    D[I < 0] = np.inf
    return D


def final_distances(D: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """What `candidate_distances` gives -> the index's metric."""
    return np.sqrt(D) if metric == "l2" else D


def _bytes_l2(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """FAISS's float32 kernel, which adds whole numbers without rounding as long as the sum stays below 2^24.

    Sums of squares only grow, so a result below 2^24 shows that no partial sum was rounded; others are computed again.
    """
    nq, m = I.shape
    d = x.shape[1]
    queries = xq.astype(np.float32)
    stored = x[I.ravel()].astype(np.float32)
    query_rows, stored_rows = np.repeat(np.arange(nq), m), np.arange(nq * m)  # named: a pointer keeps nothing alive
    D = np.empty((nq, m), dtype=np.float32)
    faiss.pairwise_indexed_L2sqr(
        d,
        nq * m,
        faiss.swig_ptr(queries),
        faiss.swig_ptr(query_rows),
        faiss.swig_ptr(stored),
        faiss.swig_ptr(stored_rows),
        faiss.swig_ptr(D),
    )
    exact = D.astype(np.float64)
    rounded = (exact >= _FLOAT32_WHOLE).any(axis=1)
    if rounded.any():
        exact[rounded] = _floats(xq[rounded], x, I[rounded], metric)
    return exact


def _floats(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    stored = x[I.ravel()].reshape(*I.shape, -1)
    if metric == "cosine" and x.dtype.kind == "u":
        return _whole_cosine(xq.astype(np.float64), stored.astype(np.float64))
    difference = metric_space(stored, metric)
    difference -= metric_space(xq, metric)[:, None, :]
    if metric == "l1":
        total: NDArray[np.float64] = np.abs(difference, out=difference).sum(axis=2)
        return total
    squared: NDArray[np.float64] = np.square(difference, out=difference).sum(axis=2)
    return squared / 2 if metric == "cosine" else squared


def _whole_cosine(xq: NDArray[np.float64], stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - cos of queries (nq, d) and candidates (nq, m, d) of whole numbers, whose sums are exact while below 2^53."""
    dot = (stored * xq[:, None, :]).sum(axis=2)
    squares = np.square(xq).sum(axis=1)[:, None] * np.square(stored).sum(axis=2)
    cosine: NDArray[np.float64] = np.maximum(1 - dot / np.sqrt(squares), 0)
    return cosine
