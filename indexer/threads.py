"""How many threads the numeric libraries use."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import faiss
from threadpoolctl import ThreadpoolController

from knnvote.data.errors import check, is_whole

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_threads(threads: int | None) -> None:
    """Refuse what is no number of threads.

    Raises:
        OptionError: naming it.
    """
    is_count = threads is None or (is_whole(threads) and threads >= 1)
    check(
        "threads", threads, is_count, "give a whole number of at least 1, or None for as many as there are processors"
    )


@contextmanager
def limit_threads(threads: int | None) -> Iterator[int]:
    """Let FAISS and BLAS use so many threads when called from this thread; None for as many as there are processors.

    In a forked process they use one, whatever is asked: OpenMP's threads do not outlive a fork, and to wait for them
    would be for ever.
    """
    check_threads(threads)
    count = available_processors() if threads is None else int(threads)
    used = 1 if _forked else count
    with _blas.limit(used), _pools(len(sys.modules)).limit(limits=used, user_api="openmp"):
        yield count


def map_single_threaded(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Work on items side by side, each in a thread of its own in which FAISS and BLAS use no others.

    That is faster than to let these split every small step, and wait for each other after it.
    """
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(threads, "", faiss.omp_set_num_threads, (1,))
    with _blas.limit(1):
        try:
            return list(pool.map(work, items))
        finally:  # an interrupted command does not wait for what is at work
            pool.shutdown(wait=False, cancel_futures=True)


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Blas:
    """BLAS has one number of threads for the whole process: of several that set it, the last to end gives it back."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._first: Any = None

    @contextmanager
    def limit(self, threads: int) -> Iterator[None]:
        here = faiss.omp_get_max_threads()  # of this thread; a BLAS that is built on OpenMP sets it too
        with self._lock:
            before = _pools(len(sys.modules)).limit(limits=threads, user_api="blas")
            self._holders += 1
            if self._holders == 1:
                self._first = before
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                (before if self._holders else self._first).restore_original_limits()
            faiss.omp_set_num_threads(here)


@lru_cache(maxsize=1)
def _pools(_modules: int) -> ThreadpoolController:
    """The libraries that have threads. To look for them takes milliseconds; only an import brings others."""
    return ThreadpoolController()


_blas = _Blas()
_forked: list[bool] = []  # holds something in a forked process


def _after_fork() -> None:
    _forked.append(True)
    _blas.begin_anew()  # another thread may have held its lock
    _pools(len(sys.modules)).limit(limits=1)  # for good


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
