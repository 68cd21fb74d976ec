"""How many threads the numeric libraries use."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import faiss
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def limit_threads(threads: int | None) -> Iterator[int]:
    """Let FAISS and BLAS use so many threads when called from this thread; None for as many as there are processors."""
    count = threads or available_processors()
    with _pools(len(sys.modules)).limit(limits=count):
        yield count


def map_single_threaded(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Work on items side by side, each in a thread of its own in which FAISS and BLAS use no others.

    That is faster than to let these split every small step, and wait for each other after it.
    """
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(threads, "", faiss.omp_set_num_threads, (1,))
    with _pools(len(sys.modules)).limit(limits=1, user_api="blas"):
        try:
            return list(pool.map(work, items))
        finally:  # an interrupted command does not wait for what is at work
            pool.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=1)
def _pools(_modules: int) -> ThreadpoolController:
    """The libraries that have threads. To look for them takes milliseconds; only an import brings others."""
    return ThreadpoolController()


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
