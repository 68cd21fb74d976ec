"""Stages of work, told to who watches: nobody, unless a face of knnvote says so.

What each took is logged too (Python's `logging`, logger ``knnvote``, level INFO).
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

log = logging.getLogger("knnvote")
Advance = Callable[[int], None]  # told how many more are done
Total = int | Callable[[], int] | None  # how many there are to do; what asks files is called only by who shows it
Watch = Callable[[str, Total, str], AbstractContextManager[Advance]]  # entered with a stage's name, total and unit


def _nobody(_more: int) -> None:
    """Hear how many more are done, and do nothing."""


@contextmanager
def _unseen(_name: str, _total: Total, _unit: str) -> Iterator[Advance]:
    yield _nobody


_watch: ContextVar[Watch] = ContextVar("watch", default=_unseen)


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Have someone told of the stages of what is called within, in this thread."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def stage(name: str, total: Total = None, unit: str = "rows", progress: Advance = _nobody) -> Iterator[Advance]:
    """A stage of work, which may lie within another one.

    Args:
        name: what is being done, in a few words.
        total: how many units there are to do; None where that cannot be counted.
        unit: what is counted.
        progress: told of the units too, as who called the library asked.

    Yields:
        What is to be told of units that are done.
    """
    start = time.perf_counter()
    with _watch.get()(name, total, unit) as advance:

        def advance_both(more: int) -> None:
            advance(more)
            progress(more)

        yield advance_both
    log.info("%s: %.1f s", name, time.perf_counter() - start)
