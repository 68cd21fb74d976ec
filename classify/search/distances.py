"""Distances of candidates, settled from the stored vectors: exact for whole numbers, one code path a row for floats."""

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.metric import Metric

_CHUNK_VALUES = 1 << 19  # pixels of candidates gathered at a time: they stay in the processor's cache


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
