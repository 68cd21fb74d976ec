"""Stages that overlap: each works on the next item while the one after it works on the last."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import faiss

from knnvote.indexer.threads import available_processors, limit_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stages:
    """The threads of a job beside its own, which writes.

    Attributes:
        reading: one thread that reads and decodes.
        searching: threads that search and vote, each a batch of its own: that needs no waiting for each other.
        searches: how many these are.
    """

    reading: Executor
    searching: Executor
    searches: int

    def drain(self) -> None:
        """Wait until nothing is being read, so that files can be closed."""
        self.reading.submit(lambda: None).result()


@contextmanager
def open_stages(threads: int | None) -> Iterator[Stages]:
    """Threads of a job, so many of them searching; None for as many as there are processors."""
    count = threads or available_processors()
    reading = ThreadPoolExecutor(1, thread_name_prefix="reading")
    # FAISS takes its number of threads from the thread that calls it, BLAS from the process.
    searching = ThreadPoolExecutor(count, "searching", faiss.omp_set_num_threads, (1,))
    with limit_threads(1):
        try:
            yield Stages(reading, searching, count)
        finally:  # an interrupted job does not wait for the batch at work
            for stage in (reading, searching):
                stage.shutdown(wait=False, cancel_futures=True)


def prefetch(items: Iterable[Item], stage: Executor) -> Iterator[Item]:
    """The same items, each computed in a stage's thread while the caller works on the one before it.

    Memory holds one item a stage beside the one at work. An exception in a stage is raised at the item that it
    stands for.
    """
    end = object()
    iterator = iter(items)
    pending = stage.submit(next, iterator, end)
    while (item := pending.result()) is not end:
        pending = stage.submit(next, iterator, end)
        yield item  # type: ignore[misc]  # only the sentinel is not an Item


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], stage: Executor, ahead: int) -> Iterator[Result]:
    """The result of each item in order, so many of them worked on in a stage's threads while the caller has another.

    An exception is raised at the item that it stands for.
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(stage.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
