"""Queries in blocks, side by side on several threads; where a block ends changes no answer."""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget
from knnvote.indexer.threads import map_single_threaded

_QUERY_BLOCK = 4096
LEAST_BLOCK = 64  # queries that are worth a thread


def in_blocks(
    work: Callable[[NDArray[np.generic]], tuple[NDArray[Any], ...]], xq: NDArray[np.generic]
) -> tuple[NDArray[Any], ...]:
    """Search in blocks of queries, side by side where there are threads; `work` gives arrays of a row a query."""
    threads = faiss.omp_get_max_threads()
    rounds = max(1, -(-len(xq) // (threads * rows_within_budget(xq[:1].size, _QUERY_BLOCK))))
    size = max(LEAST_BLOCK, -(-len(xq) // (threads * rounds)))
    starts = range(0, max(1, len(xq)), size)
    blocks = map_single_threaded(lambda start: work(xq[start : start + size]), starts, threads)
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))
