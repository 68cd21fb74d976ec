"""Distances of candidates, settled from the stored vectors: exact for whole numbers, one order of sums for floats."""

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.codes.plain import Neighbors, least
from knnvote.indexer.codes.steps import distances
from knnvote.indexer.metric import Metric


def settle(xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], k: int, metric: Metric) -> Neighbors:
    """The k nearest of each query's candidates I (nq, m), by distance, then by row."""
    return least(distances(xq, x, I, metric), I, k)
