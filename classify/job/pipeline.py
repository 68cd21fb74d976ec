"""Stages that overlap: each works on the next item while the one after it works on the last."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
