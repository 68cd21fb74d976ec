"""A contender in a process of its own, which waits while others are measured: one thread, its own memory."""

import gc
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.threads import limit_threads

from .contenders import BATCH, CONTENDERS, Contender, Entry
from .problem import Neighbors

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_WARM = 500  # stored images of the index that is built first
_WARM_QUERIES = 20
_CALIBRATION_SECONDS = 0.1


@dataclass(frozen=True)
class Build:
    """What building took.

    Attributes:
        processor_seconds: of all threads.
        wall_seconds: from start to end.
        bytes: of the index as written to a file.
        resident_bytes: by which the process's own memory grew; None where the system does not tell.
    """

    processor_seconds: float
    wall_seconds: float
    bytes: int
    resident_bytes: int | None


class WorkerError(KnnvoteError):
    """A contender's process ended."""


class Worker:
    """The side of the process that asks: each question waits for its answer."""

    def __init__(self, name: str, settings: tuple[float | None, ...], folder: Path, k: int) -> None:
        """Start the process.

        Args:
            name: of the contender.
            settings: that this process measures; it builds for the first.
            folder: that holds the problem.
            k: neighbours that vote.
        """
        self.name, self.settings, self.entry = name, settings, CONTENDERS[name]
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, settings[0], folder, k), daemon=True)
        with _single_thread_environment():
            self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Let the process load what it needs, which would disturb the measuring of others."""
        self._ask("ready")

    def build(self) -> Build:
        """Build the index."""
        build: Build = self._ask("build")
        return build

    def rate(self, setting: float | None) -> float:
        """About how many test images it answers a processor-second."""
        rate: float = self._ask("rate", setting)
        return rate

    def answer(self, setting: float | None, rows: NDArray[np.int64]) -> Neighbors:
        """Its answers to the test images at `rows`."""
        neighbors: Neighbors = self._ask("answer", setting, rows)
        return neighbors

    def time(self, setting: float | None, rows: NDArray[np.int64], seconds: float) -> float:
        """Test images answered a processor-second, measured for at least `seconds`."""
        measured: float = self._ask("time", setting, rows, seconds)
        return measured

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ask(self, question: str, *arguments: Any) -> Any:
        try:
            self._connection.send((question, arguments))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerError(f"{self.name} ended at {question!r}") from error


class _Server:
    """The side of the process that answers."""

    def __init__(self, entry: Entry, setting: float | None, folder: Path, k: int, scratch: Path) -> None:
        self._entry, self._setting, self._k, self._scratch = entry, setting, k, scratch
        self._x, self._codes, xq = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "codes", "xq"))
        dtype = getattr(entry.make, "func", entry.make).dtype
        self._xq: NDArray[Any] = np.array(xq, dtype=dtype)
        self._index: Contender

    def ready(self) -> None:
        """Build and search a small index, for compilers and libraries to load."""
        self._make(max(_WARM, 2 * self._k)).answer(self._xq[:_WARM_QUERIES])

    def build(self) -> Build:
        gc.collect()
        resident, processor, wall = _resident_bytes(), time.process_time(), time.perf_counter()
        self._index = self._make(len(self._x))
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        gc.collect()
        now = _resident_bytes()
        grown = None if resident is None or now is None else now - resident
        return Build(processor, wall, self._index.saved_bytes(), grown)

    def rate(self, setting: float | None) -> float:
        self._index.configure(setting)
        count, seconds = 1, 0.0
        self._answer(np.arange(1))
        while True:
            start = time.process_time()
            self._answer(np.arange(count))
            seconds = time.process_time() - start
            if seconds >= _CALIBRATION_SECONDS or count == len(self._xq):
                return count / max(seconds, 1e-6)
            count = min(len(self._xq), 4 * count)

    def answer(self, setting: float | None, rows: NDArray[np.int64]) -> Neighbors:
        self._index.configure(setting)
        return self._answer(rows)

    def time(self, setting: float | None, rows: NDArray[np.int64], seconds: float) -> float:
        self._index.configure(setting)
        xq, calls, start = self._xq[rows], 0, time.process_time()
        while calls == 0 or time.process_time() - start < seconds:
            for first in range(0, len(xq), BATCH):
                self._index.answer(xq[first : first + BATCH])
            calls += 1
        return calls * len(xq) / (time.process_time() - start)

    def _answer(self, rows: NDArray[np.int64]) -> Neighbors:
        parts = [self._index.answer(self._xq[rows[first : first + BATCH]]) for first in range(0, len(rows), BATCH)]
        return Neighbors(np.concatenate([part.codes for part in parts]), np.concatenate([part.I for part in parts]))

    def _make(self, n: int) -> Contender:
        made: Contender = self._entry.make(self._x[:n], self._codes[:n], self._k, self._setting, self._scratch)
        return made


def _serve(connection: Connection, name: str, setting: float | None, folder: Path, k: int) -> None:
    """Answer questions until the other side ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption ends the other side, which ends this one
    with tempfile.TemporaryDirectory(dir=folder) as scratch, limit_threads(1):
        faiss.omp_set_num_threads(1)
        server = _Server(CONTENDERS[name], setting, folder, k, Path(scratch))
        while True:
            try:
                question, arguments = connection.recv()
            except EOFError:
                return
            connection.send(getattr(server, question)(*arguments))


@contextmanager
def _single_thread_environment() -> Iterator[None]:
    """The environment that a process started meanwhile inherits."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name in _THREAD_VARIABLES:
            os.environ.pop(name)
        os.environ.update(before)


def _resident_bytes() -> int | None:
    """Resident memory of this process without mapped files, where Linux tells it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return 1024 * kilobytes[0] if kilobytes else None
