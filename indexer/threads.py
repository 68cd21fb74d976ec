"""How many threads the numeric libraries use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limit_threads(threads: int | None) -> Iterator[int]:
    """Let FAISS and BLAS use so many threads when called from this thread; None for as many as there are processors."""
    count = threads or available_processors()
    with threadpool_limits(limits=count):
        yield count


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
