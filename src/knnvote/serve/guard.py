"""Who may ask: by the names of this service and from its own page alone, whatever a browser is made to send."""

import asyncio
import ipaddress
import json
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from knnvote.data.errors import as_recorded
from knnvote.data.progress import log

from .metrics import Metrics

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})  # others, which clients can make up, are counted together
_LOGGED = 200  # characters of what was asked


class Guard:
    """Wraps the application: checks each request's head, and counts what became of it.

    A page from elsewhere can have a browser ask a service of this machine, under a name of its own (DNS rebinding) or
    by its address (a form, a script); the first shows in Host, the second in Origin. Names alone can be rebound, so
    that addresses are always taken.
    """

    def __init__(self, app: Any, *, names: frozenset[str], metrics: Metrics, route_of: Callable[[Any], str]) -> None:
        """Wrap it.

        Args:
            app: the application.
            names: hosts by which it may be asked, beside localhost and addresses.
            metrics: told of each request.
            route_of: the route that answered, by its endpoint.
        """
        self._app, self._metrics, self._route_of = app, metrics, route_of
        self._names = names | {"localhost"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, code, is_begun = perf_counter(), 500, False

        async def send_and_see(message: Any) -> None:
            nonlocal code, is_begun
            if message["type"] == "http.response.start":
                code, is_begun = message["status"], True
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        # A path may hold line breaks, once it is decoded.
        told = repr(f"{scope['method']} {scope['path']}"[:_LOGGED])
        refused = self._refused(Headers(scope=scope))
        try:
            if refused:
                await _send_error(send_and_see, *refused)
            else:
                await self._app(scope, receive, send_and_see)
        except asyncio.CancelledError:  # the service stops, and this was slower
            if is_begun:
                raise
            await _send_error(send_and_see, 503, "the service stops: ask again when it is there again")
        except Exception as error:  # noqa: BLE001 - the service goes on, and who asked was told that it failed
            log.error("%s failed: %r", told, error)
        seconds = perf_counter() - start
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.saw_request(self._route_of(scope.get("endpoint")), method, code, seconds)
        log.info("%s: %d, %.1f ms", told, code, 1000 * seconds)

    def _refused(self, headers: Headers) -> tuple[int, str] | None:
        """Status and reason of a request that is not answered."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            told = hosts[0] if len(hosts) == 1 else "no one host"
            option = as_recorded("allow_host")
            return 421, f"{told[:100]!r} is no name of this service: start it with {option} to be asked by it"
        origins = headers.getlist("origin")
        if any(origin not in {f"http://{hosts[0]}", f"https://{hosts[0]}"} for origin in origins):
            return 403, "the request comes from a page of another site"
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        return name in self._names or _is_address(name)


@lru_cache(maxsize=64)  # clients ask by few names, again and again
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _send_error(send: Any, code: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if code == 503 else []),
    ]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
