"""Bodies of requests, counted while they are read: none is longer than was allowed, nor all together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from knnvote.data.text import show_bytes

from .batches import busy
from .metrics import Metrics

_PIECE_SECONDS = 10.0  # from one piece of a body to the next
_BODY_SECONDS = 120.0  # for the whole
_CLOSE = {"Connection": "close"}  # what of the body is still to come is not read


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a service its clients can take.

    Attributes:
        body: bytes of one.
        held: bytes of all bodies that are read or answered at a time.
        waiting: pieces of requests that wait for a search.
    """

    body: int
    held: int
    waiting: int


class Bodies:
    """Reads bodies, and holds them while they are answered."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        """None is held yet."""
        self._limits = limits
        self._held = 0
        metrics.held.set_function(lambda: self._held)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, as long as it is needed.

        Raises:
            HTTPException: it is too long, too slow, or there is no room for it now.
        """
        self._check_told(request)
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    await self._read_into(body, request)
            except TimeoutError:
                raise HTTPException(408, "the body of the request did not come in time", _CLOSE) from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    def _check_told(self, request: Request) -> None:
        """Refuse by what the head says, before anything is read."""
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told[:20]) > self._limits.body:
            raise self._too_long()
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "the body is compressed: send it as it is", _CLOSE)

    async def _read_into(self, body: bytearray, request: Request) -> None:
        pieces = request.stream().__aiter__()
        while True:
            async with asyncio.timeout(_PIECE_SECONDS):
                try:
                    piece = await anext(pieces, None)
                except ClientDisconnect:
                    raise HTTPException(400, "the connection was closed before the end of the body", _CLOSE) from None
            if piece is None:
                return
            if len(body) + len(piece) > self._limits.body:
                raise self._too_long()
            if self._held + len(piece) > self._limits.held:
                refused = busy()
                raise HTTPException(refused.status_code, refused.detail, {**(refused.headers or {}), **_CLOSE})
            body += piece
            self._held += len(piece)

    def _too_long(self) -> HTTPException:
        told = show_bytes(self._limits.body)
        return HTTPException(413, f"the body is longer than {told}: send the images in several requests", _CLOSE)
