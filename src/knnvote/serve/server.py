"""The service on a socket, until it is told to stop."""

import asyncio
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.indexer.threads import limit_threads

from .application import Application

_HEAD_SECONDS = 10.0  # in which the head of a request has to come
_TAKE_SECONDS = 120.0  # in which a client has to take what it is answered
_KEEP_SECONDS = 30  # that a connection stays open without a request
_STOP_SECONDS = 1  # that requests at work have when the service stops
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 4096  # connections that wait to be taken
_FILES = 1 << 16  # open at a time, a connection each, if the system lets us


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: who connects waits for `run`.

    Args:
        host: an address of this machine, or a name of one.
        port: 0 for a free one.

    Raises:
        OptionError: there is no such host.
        KnnvoteError: the port is taken, or not for us.
    """
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise OptionError(f"{param('host')} is {host!r}, which is no address of this machine: {error}") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise KnnvoteError(
            f"cannot listen on port {port} of {host}: {error.strerror}; "
            f"give another {param('port')}, or 0 for a free one"
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """The address of the page."""
    host, port, *_ = listening.getsockname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def run(
    application: Application,
    listening: socket.socket,
    threads: int | None,
    begun: Callable[[uvicorn.Server], object] = lambda _server: None,
) -> None:
    """Serve until a signal comes, and end what is at work; a second signal ends at once.

    Args:
        application: what is served.
        listening: where.
        threads: of a search; None for as many as there are processors.
        begun: told the server, which stops where its `should_exit` is set.
    """
    _allow_files()
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # what clients do wrong is told to them
    logging.getLogger("uvicorn").propagate = False
    config = uvicorn.Config(
        application,
        http=_Timed,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config)
    begun(server)
    with limit_threads(threads):
        asyncio.run(server.serve(sockets=[listening]))


class _Server(uvicorn.Server):  # type: ignore[misc]  # it is of the extra `serve`, and need not be installed
    """Stops at a signal as at any other end: it was asked to."""

    _was_told = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: object) -> None:
        self.force_exit, self.should_exit = self._was_told, True
        self._was_told = True


class _Timed(H11Protocol):  # type: ignore[misc]  # likewise
    """A connection whose requests have heads that come in time, whose answers are taken in time, and closed else."""

    _timer: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # so that writing pauses for whatever is not taken
        self._wait()

    def data_received(self, data: bytes) -> None:
        """See whether a head has come; the next one has its own time."""
        if self._timer is None:
            self._wait()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        self._forget_taking()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait until the answer is taken."""
        super().pause_writing()
        self._taking = self.loop.call_later(_TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It is taken."""
        super().resume_writing()
        self._forget_taking()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def _allow_files() -> None:
    """Have as many connections as the system lets us: a thousand is a usual limit, and soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
