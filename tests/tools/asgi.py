"""An ASGI application asked in this process, as a server would: pieces of a body come when they are given."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks an application whose lifespan has begun."""

    app: Any

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes | asyncio.Event | None] = b"",
        *,
        headers: Iterable[tuple[str, str]] = (),
        host: str | None = "127.0.0.1:8000",
        **named: str,
    ) -> Reply:
        """Ask for something.

        Args:
            method: of HTTP.
            path: with its query.
            body: as a whole; or in pieces, of which an event is waited for, and None closes the connection.
            headers: some; those in `named` have dashes for underscores.
            host: of the service; None to say none.
        """
        pieces = iter([body] if isinstance(body, bytes) else body)
        head = [*headers, *((name.replace("_", "-"), value) for name, value in named.items())]
        head += [] if host is None else [("host", host)]
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw,
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in head],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000),
        }
        sent: list[Any] = []
        coming = next(pieces, b"")

        async def receive() -> dict[str, Any]:
            nonlocal coming
            if isinstance(coming, asyncio.Event):
                await coming.wait()
                coming = next(pieces, b"")
            if coming is None:
                return {"type": "http.disconnect"}
            piece, coming = coming, next(pieces, b"")
            return {"type": "http.request", "body": piece, "more_body": coming != b""}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], told, b"".join(message["body"] for message in rest))

    async def get(self, path: str, **more: Any) -> Reply:
        """Ask for a path."""
        return await self.ask("GET", path, **more)

    async def post(self, path: str, body: Any, kind: str, **more: Any) -> Reply:
        """Send a body of a kind to a path."""
        return await self.ask("POST", path, body, content_type=kind, **more)


@asynccontextmanager
async def started(app: Any) -> AsyncIterator[Client]:
    """An application from its start to its end."""
    begun, over, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        kind = next(messages)
        if kind == "lifespan.shutdown":
            await over.wait()
        return {"type": kind}

    async def send(message: Any) -> None:
        assert message["type"].endswith(".complete"), message
        (begun if message["type"].startswith("lifespan.startup") else ended).set()

    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    await begun.wait()
    try:
        yield Client(app)
    finally:
        over.set()
        await ended.wait()
        await lifespan


def with_client(app: Any, use: Any) -> Any:
    """What a coroutine function gives of a client of an application, in an event loop of its own."""

    async def run() -> Any:
        async with started(app) as client:
            return await use(client)

    return asyncio.run(run())
