"""Services of indexes, for tests in this process."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import imagecodecs
import numpy as np
import pyarrow as pa

from knnvote.classify.classifier import Classifier
from knnvote.serve import server
from knnvote.serve.application import Application
from knnvote.serve.bodies import Limits
from knnvote.serve.pages import PageFolder
from knnvote.serve.served import Current

ARROW, JSON, PNG = "application/vnd.apache.arrow.stream", "application/json", "image/png"


def service(
    opened: Path | Callable[[], Classifier],
    *,
    body: int = 10_000_000,
    held: int = 100_000_000,
    waiting: int = 1000,
    names: tuple[str, ...] = (),
    pages: Path | None = None,
) -> Application:
    """A service of an index folder, or of what a function opens, and of the pages of a folder."""
    current = Current(opened if callable(opened) else lambda: Classifier.open(opened))
    limits = Limits(body=body, held=held, waiting=waiting)
    folder = None if pages is None else PageFolder(pages)
    return Application(current, "digits", limits, names=frozenset(names), threads=1, pages=folder)


def png(image: Any) -> bytes:
    """An image as PNG."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(image, np.uint8)))


def stream(table: pa.Table, **options: Any) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read_stream(body: bytes) -> pa.Table:
    """An Arrow stream as a table."""
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


@dataclass(frozen=True)
class Running:
    """A service on a port of the loopback.

    Attributes:
        address: of its page.
        servers: the one that runs, once it does.
    """

    address: str
    servers: list[Any] = field(default_factory=list)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        found = urlsplit(self.address)
        return str(found.hostname), int(found.port or 0)

    def stop(self) -> None:
        """Have it stop."""
        while not self.servers:
            time.sleep(0.01)
        self.servers[0].should_exit = True


@contextmanager
def running(application: Application, port: int = 0) -> Iterator[Running]:
    """A service in a thread of this process, until it has stopped."""
    listening = server.listen("127.0.0.1", port)
    found = Running(server.address_of(listening))
    thread = threading.Thread(target=lambda: server.run(application, listening, 1, found.servers.append))
    thread.start()
    try:
        yield found
    finally:
        found.stop()
        thread.join(20)
        assert not thread.is_alive()
