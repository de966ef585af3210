"""The server of the page: its addresses, and how it starts and ends."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from secrets import token_urlsafe
from typing import TypeVar

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from genfast import __version__
from genfast.errors import GenfastError, UsageError, first_fault
from genfast.ui.guard import Guard
from genfast.ui.line import Job, Line, explained, in_thread
from genfast.ui.store import Kept, Store
from genfast.ui.studio import Order, RepaintOrder, Studio

_Result = TypeVar("_Result")
_MOST = 64 * 2**20  # bytes of an upload
_PATIENCE = 60  # seconds that a request may take to come in
_CONNECTIONS = 100
_FILES = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css", "example.webp": "image/webp"}


class Page:
    """What the page asks for."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._line = studio, Line()
        self._opening = asyncio.Semaphore(2)  # pictures at a time, each of up to some hundred megabytes

    @property
    def routes(self) -> list[Route]:
        own = [Route(f"/{name.removeprefix('page.html')}", _file(name)) for name in _FILES]
        return [
            *own,
            Route("/models", self.models),
            Route("/pictures", self.upload, methods=["POST"]),
            Route("/pictures/{id}", self.picture),
            Route("/pictures/{id}/shown", self.shown),
            Route("/pictures/{id}/mask", self.mask, methods=["POST"]),
            Route("/repaint", self.repaint, methods=["POST"]),
            Route("/draw", self.draw, methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        models = [each.json() for each in self._studio.models.values()]
        return JSONResponse({"version": __version__, "chosen": self._studio.chosen, "models": models})

    async def upload(self, request: Request) -> Response:
        content, name = await _body(request), request.query_params.get("name", "")
        return JSONResponse(await self._soon(lambda: self._studio.open(content, name)))

    async def picture(self, request: Request) -> Response:
        kept = self._kept(request.path_params["id"])
        return FileResponse(kept.path, media_type="image/png", filename=kept.name, content_disposition_type="inline")

    async def shown(self, request: Request) -> Response:
        kept = self._kept(request.path_params["id"])
        return Response(await self._soon(lambda: self._studio.shown(kept)), media_type="image/webp")

    async def mask(self, request: Request) -> Response:
        kept = self._kept(request.path_params["id"])
        content, name = await _body(request), request.query_params.get("name", "")
        return JSONResponse(await self._soon(lambda: self._studio.mask(kept, content, name)))

    async def repaint(self, request: Request) -> Response:
        order = RepaintOrder.model_validate_json(await _body(request))
        self._studio.check("repaint", order)
        kept = self._kept(order.picture)
        return self._stream(lambda job: self._studio.repaint(job, order, kept))

    async def draw(self, request: Request) -> Response:
        order = Order.model_validate_json(await _body(request))
        self._studio.check("draw", order)
        return self._stream(lambda job: self._studio.draw(job, order))

    def _kept(self, id: str) -> Kept:
        if kept := self._studio.store.get(id):
            return kept
        raise HTTPException(404, "there is no such picture here any more: open it again")

    async def _soon(self, work: Callable[[], _Result]) -> _Result:
        async with self._opening:
            return await in_thread(work)

    def _stream(self, work: Callable[[Job], None]) -> Response:
        """What a work says, as server-sent events. Who hangs up cancels it."""

        async def lines() -> AsyncIterator[str]:
            async with aclosing(self._line.run(work)) as events:
                async for event in events:
                    yield f"data: {json.dumps(event, allow_nan=False)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    """One of the files that the page is made of."""

    async def file(request: Request) -> Response:
        return FileResponse(Path(__file__).with_name(name), media_type=_FILES[name])

    return file


async def _body(request: Request) -> bytes:
    """What is sent with a request. Raises HTTPException where that is too much, or takes too long."""
    too_large = HTTPException(413, f"that is too large: at most {_MOST >> 20} MB are taken")
    if int(request.headers.get("content-length", "0")) > _MOST:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                content += chunk
                if len(content) > _MOST:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, "that took too long to come in") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "that did not come in whole") from error
    return bytes(content)


async def _refused(request: Request, error: Exception) -> Response:
    """An error as one line."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
    if isinstance(error, ValidationError):
        return JSONResponse({"error": first_fault(error)}, 422)
    return JSONResponse({"error": explained(error)}, 422 if isinstance(error, GenfastError) else 500)


class _Server(uvicorn.Server):
    """Leaves Ctrl-C and SIGTERM to the command line, which ends at once, whatever is under way."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    *, model: str | None, host: str, port: int, device: str, threads: int | None, ready: Callable[[str], None]
) -> None:
    """Serve the page until the process is ended; `ready` is called with its address.

    `model` is chosen at first, and may be a folder. Port 0 is any that is free. Raises UsageError for a host or a port
    that cannot be had, and ModelError for the model.
    """
    token = token_urlsafe(24)
    try:
        with _listening(host, port) as listener, Store() as store:
            app = Guard(application(Studio(store, model, device, threads)), token, host)
            ready(f"http://{_shown(host)}:{listener.getsockname()[1]}/{token}/")
            _Server(_config(app)).run(sockets=[listener])
    except SystemExit as end:
        # A thread may be within a network, and would crash an orderly end of Python.
        os._exit(int(end.code or 0))


def application(studio: Studio) -> Starlette:
    """The page without its guard."""
    handlers = dict.fromkeys((HTTPException, ValidationError, GenfastError, Exception), _refused)
    return Starlette(routes=Page(studio).routes, exception_handlers=handlers)


def _config(app: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="critical",
        limit_concurrency=_CONNECTIONS,
    )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use; give another --port, or omit it for one that is free") from error
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error


def _shown(host: str) -> str:
    """A host as it stands in an address. What listens everywhere has this machine's name."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
