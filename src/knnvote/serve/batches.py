"""One search at a time with all threads: what waits meanwhile is gathered into the next batch."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import faiss
from starlette.exceptions import HTTPException

from knnvote.indexer.threads import available_processors

from .metrics import Metrics
from .pieces import MOST_ROWS, Answered, Piece, answer


def busy() -> HTTPException:
    """There is no room for a request now."""
    return HTTPException(503, "too many requests wait: ask again in a second", {"Retry-After": "1"})


@dataclass(frozen=True, eq=False)
class _Waiting:
    piece: Piece
    answered: "asyncio.Future[Answered]"


class Batches:
    """Pieces that wait for an answer, in the order in which they came.

    Nobody waits for a batch to fill: the first piece is searched at once, and those that come meanwhile are the next
    batch. So a lone request is answered as soon as can be, and many small ones share the cost of a search.
    """

    def __init__(self, metrics: Metrics, *, most_waiting: int, threads: int | None, most_rows: int = MOST_ROWS) -> None:
        """Begin with nothing.

        Args:
            metrics: told of each batch.
            most_waiting: pieces that may wait.
            threads: of a search; None for as many as there are processors.
            most_rows: of a batch, but for one piece of more.
        """
        self._metrics, self._most_waiting, self._most_rows = metrics, most_waiting, most_rows
        self._threads = threads or available_processors()
        self._waiting: deque[_Waiting] = deque()
        metrics.waiting.set_function(lambda: len(self._waiting))

    async def answer(self, piece: Piece) -> Answered:
        """The answers to a piece.

        Raises:
            HTTPException: too many wait.
        """
        if len(self._waiting) >= self._most_waiting:
            raise busy()
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(piece, answered))
        self._some.set()
        return await answered

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer what waits, for as long as this is open."""
        self._some = asyncio.Event()
        # FAISS takes its number of threads from the thread that calls it.
        self._searching = ThreadPoolExecutor(1, "searching", faiss.omp_set_num_threads, (self._threads,))
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            self._searching.shutdown(wait=False, cancel_futures=True)
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            batch = self._take()
            if batch:
                await self._answer(batch)
            else:
                self._some.clear()

    def _take(self) -> list[_Waiting]:
        """The first that waits, and those behind it that can be searched with it; who has gone is left out."""
        batch: list[_Waiting] = []
        others: deque[_Waiting] = deque()
        rows = 0
        for waiting in self._waiting:
            if waiting.answered.done():
                continue
            piece = waiting.piece
            if not batch or (rows + piece.rows <= self._most_rows and piece.is_answered_with(batch[0].piece)):
                batch.append(waiting)
                rows += piece.rows
            else:
                others.append(waiting)
        self._waiting = others
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        work = partial(answer, [waiting.piece for waiting in batch])
        start = perf_counter()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._searching, work)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told
            if len(batch) > 1:  # one of them alone may be the cause
                for waiting in batch:
                    await self._answer([waiting])
            elif not batch[0].answered.done():
                batch[0].answered.set_exception(error)
            return
        self._metrics.saw_batch(sum(waiting.piece.rows for waiting in batch), perf_counter() - start)
        for waiting, one in zip(batch, found, strict=True):
            if not waiting.answered.done():
                waiting.answered.set_result(one)
