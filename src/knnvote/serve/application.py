"""The routes of the service, and what each answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import pyarrow as pa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from knnvote.classify.answer import BAD_IMAGE
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.work import JobOptions
from knnvote.data.errors import KnnvoteError, as_recorded
from knnvote.data.layout import Layout
from knnvote.data.progress import log

from .asked import as_query, asked_of
from .batches import Batches
from .bodies import Bodies, Limits
from .guard import Guard
from .metrics import CONTENT_TYPE, Metrics
from .page import drawn_answer, drawn_output, drawn_pixels, drawn_table, page, title_of
from .pages import PageFolder
from .pieces import Answered, cut
from .protocol import infer_answer, model_metadata, read_infer, server_metadata
from .served import Current, Served
from .tables import (
    arrow_table,
    as_arrow,
    as_json,
    check_answers,
    check_claimed,
    check_rows,
    encoded_table,
    joined,
    json_table,
    note_of,
    recognise,
)

ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"
_ENCODED = "application/octet-stream"  # an image too, as image/png and all others
_INLINE = 1 << 16  # bytes that are read sooner than handed to a thread
_POLICY = "frame-ancestors 'none'"  # which a page cannot say of itself
# Whatever says that it is a page of knnvote: it asks for nothing, and sends nothing anywhere.
_POLICY_OF_PAGES = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    f"base-uri 'none'; form-action 'none'; {_POLICY}"
)

Result = TypeVar("Result")


class Application:
    """A service of one index, as ASGI has it.

    Attributes:
        name: by which the index is asked for.
        routes: that it answers.
    """

    def __init__(
        self,
        current: Current,
        name: str,
        limits: Limits,
        *,
        names: frozenset[str],
        threads: int | None,
        pages: PageFolder | None = None,
    ) -> None:
        """Make its routes.

        Args:
            current: the index.
            name: by which it is asked for.
            limits: of what clients can take.
            names: hosts by which it may be asked, beside localhost and addresses.
            threads: of a search; None for as many as there are processors.
            pages: that are served too.
        """
        self.name = name
        self._pages = pages
        self._current = current
        self._metrics = Metrics(current)
        self._bodies = Bodies(limits, self._metrics)
        self._batches = Batches(self._metrics, most_waiting=limits.waiting, threads=threads)
        self._ready = False
        self.routes = self._routes()
        paths = {route.endpoint: route.path for route in self.routes}
        handlers: Any = {
            HTTPException: _tell_http,
            KnnvoteError: _tell_unusable,
            MemoryError: _tell_memory,
            Exception: _tell_failure,
        }
        routed = Starlette(routes=self.routes, exception_handlers=handlers, lifespan=self._lifespan)
        self._guard = Guard(
            routed, names=names, metrics=self._metrics, route_of=lambda endpoint: paths.get(endpoint, "none")
        )

    def _routes(self) -> list[Route]:
        model = "/v2/models/{name}"
        return [
            Route("/", self._page, methods=["GET"]),
            Route("/pages/{page}", self._page_of_folder, methods=["GET"]),
            Route("/drawing", self._drawing, methods=["POST"]),
            Route("/classify", self._classify, methods=["POST"]),
            Route("/v2", self._server, methods=["GET"]),
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._is_ready, methods=["GET"]),
            Route(model, self._model, methods=["GET"]),
            Route(f"{model}/ready", self._model_ready, methods=["GET"]),
            Route(f"{model}/infer", self._infer, methods=["POST"]),
            Route("/metrics", self._tell_metrics, methods=["GET"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        await self._guard(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, found: log.error("%s", found["message"]))
        self._reading = ThreadPoolExecutor(1, "reading")
        async with self._batches.running():
            renewing = asyncio.create_task(self._renew())
            self._ready = True
            try:
                yield
            finally:
                self._ready = False
                renewing.cancel()
                self._reading.shutdown(wait=False, cancel_futures=True)
                with suppress(asyncio.CancelledError):
                    await renewing

    async def _renew(self) -> None:
        """Take up newer generations of the index, while the one before answers."""
        while True:
            await asyncio.sleep(self._current.seconds)
            try:
                await asyncio.to_thread(self._current.renew)
            except Exception as error:  # noqa: BLE001 - it is tried again at the next change
                log.error("the index cannot be opened anew: %r", error)

    async def _page(self, _request: Request) -> Response:
        text = await asyncio.to_thread(page, self._current.served, self.name, self._pages)
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})

    async def _page_of_folder(self, request: Request) -> Response:
        name = request.path_params["page"]
        if self._pages is None:
            raise HTTPException(404, f"no pages are served here: start the service with {as_recorded('pages')}")
        text = await self._in_thread(partial(self._pages.read, name, title_of(self._current.served)))
        if text is None:
            raise HTTPException(404, f"there is no page {name[:100]!r} here")
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY_OF_PAGES})

    async def _drawing(self, request: Request) -> Response:
        served = self._current.served
        async with self._bodies.read(request) as body:
            pixels = await self._in_thread(lambda: drawn_pixels(served, body, self.name))
            table, output = drawn_table(pixels), drawn_output(served)
            answers = await self._answered(request, served, table, recognise(served, table, JobOptions()), output)
        return JSONResponse(await self._in_thread(lambda: drawn_answer(served, pixels, answers[0].table)))

    async def _classify(self, request: Request) -> Response:
        kind, served = _kind_of(request), self._current.served
        asked = asked_of(request.query_params.multi_items())
        async with self._bodies.read(request) as body:
            table, layout = await self._soon(len(body), lambda: _read(kind, body, served, asked))
            check_answers(served, len(table), asked.output)
            answers = await self._answered(request, served, table, layout, asked.output)
            found = await self._soon(len(body), lambda: joined(served, table, layout, asked, answers))
            _refuse_all_bad(answers)
            write, media_type = (as_arrow, ARROW) if kind == ARROW else (as_json, JSON)
            note = note_of(served, answers)
            return Response(await self._soon(len(body), lambda: write(found, note)), media_type=media_type)

    async def _answered(
        self, request: Request, served: Served, table: pa.Table, layout: Layout, output: OutputOptions
    ) -> list[Answered]:
        """The answers to the images of a table, piece by piece: others come in between.

        Raises:
            HTTPException: too many wait, or who asked is gone.
        """
        answers: list[Answered] = []
        for piece in cut(served, table, layout, output):
            if answers and await request.is_disconnected():
                raise HTTPException(400, "the connection was closed before the answer")
            answers.append(await self._batches.answer(piece))
            self._metrics.saw_rows(answers[-1].table["status"])
        return answers

    async def _soon(self, size: int, work: Callable[[], Result]) -> Result:
        """Do work on so many bytes, in a thread where others would wait for it."""
        return work() if size <= _INLINE else await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Do work that takes a while, one at a time, for it takes memory too."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    async def _server(self, _request: Request) -> Response:
        return JSONResponse(server_metadata())

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _is_ready(self, _request: Request) -> Response:
        return JSONResponse({"ready": self._ready}, 200 if self._ready else 503)

    async def _model(self, request: Request) -> Response:
        self._check_name(request)
        return JSONResponse(model_metadata(self._current.served, self.name))

    async def _model_ready(self, request: Request) -> Response:
        self._check_name(request)
        return JSONResponse({"name": self.name, "ready": self._ready}, 200 if self._ready else 503)

    async def _infer(self, request: Request) -> Response:
        self._check_name(request)
        served = self._current.served
        async with self._bodies.read(request) as body:
            table, layout, asked = await self._soon(len(body), lambda: read_infer(body, served))
            answers = await self._answered(request, served, table, layout, OutputOptions())
            return JSONResponse(await self._soon(len(body), lambda: infer_answer(answers, served, self.name, asked)))

    def _check_name(self, request: Request) -> None:
        if request.path_params["name"] != self.name:
            raise HTTPException(404, f"there is no model {request.path_params['name']!r}: the one here is {self.name}")

    async def _tell_metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _openapi(self, _request: Request) -> Response:
        return Response((files("knnvote.serve") / "openapi.json").read_bytes(), media_type=JSON)


def _kind_of(request: Request) -> str:
    """What the body of a request is, by its head.

    Raises:
        HTTPException: it is nothing that is taken.
    """
    kind: str = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == _ENCODED:
        return _ENCODED
    if kind not in {ARROW, JSON}:
        told = f"is {kind[:100]!r}" if kind else "is not told"
        raise HTTPException(
            415, f"Content-Type {told}: send one image as image/png or image/jpeg, many as {JSON} or {ARROW}"
        )
    return kind


def _read(kind: str, body: bytes, served: Served, asked: JobOptions) -> tuple[pa.Table, Layout]:
    """The images of a body, and how its table holds them."""
    if kind == _ENCODED and asked.images.image_column is None:
        check_claimed([body])
        return encoded_table([body]), served.encoded(asked.images)
    table = arrow_table(body) if kind == ARROW else json_table(body, served.index.shape)
    check_rows(len(table))
    return table, recognise(served, table, asked)


def _refuse_all_bad(answers: list[Answered]) -> None:
    """Refuse a request none of whose rows is an image, as a job of such rows fails.

    Raises:
        KnnvoteError: with the reason of the first.
    """
    status = [value for one in answers for value in one.table["status"].to_pylist()]
    if status and set(status) == {BAD_IMAGE}:
        reason = answers[0].table["reason"][0].as_py()
        raise KnnvoteError(reason if len(status) == 1 else f"none of {len(status):,} images can be used: {reason}")


async def _tell_http(_request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _tell_unusable(_request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.told(as_query)}, 422)


async def _tell_failure(_request: Request, _error: Any) -> Response:
    return JSONResponse({"error": "the service failed at this request: its log says more"}, 500)


async def _tell_memory(_request: Request, _error: Any) -> Response:
    return JSONResponse({"error": "memory ran out: send fewer images at a time"}, 503, {"Retry-After": "1"})
