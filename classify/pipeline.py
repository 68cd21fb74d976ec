"""Stages that overlap: each works on the next item while the one after it works on the last."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")


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
