"""HTTP requests become a Worker's ``fetch`` events."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from ..bindings.rpc import takes
from ..errors import WorkerError
from ..web import Request, Response
from ..web.streams import Sized
from .context import Background, ExecutionContext
from .error_page import failure
from .loader import Entrypoint
from .signals import Interrupted
from .traces import shortened

_log = logging.getLogger("bunflare")


class Exchange(Protocol):
    """A request and its answer, as a connection has them; see `exchange.HttpExchange`."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    status: int

    def url(self) -> str: ...

    @property
    def body(self) -> AsyncIterator[bytes] | None: ...

    def respond(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Awaitable[None] | None: ...

    async def stream(
        self, status: int, headers: list[tuple[bytes, bytes]], body: AsyncIterator[bytes]
    ) -> None: ...


class WorkerApp:
    """Answers each request by a fresh instance of the Worker's entrypoint."""

    def __init__(self, entrypoint: Entrypoint, env: object, background: Background) -> None:
        self._entrypoint = entrypoint
        self._env = env
        self._background = background
        fetch = getattr(entrypoint, "fetch", None)
        if fetch is None:
            raise WorkerError("the Worker has no fetch handler to answer requests")
        # Surplus arguments of a handler are dropped, as the platform does.
        self._takes_request = takes(fetch) > 1

    async def http(self, exchange: Exchange) -> None:
        """Answer an HTTP request."""
        request = Request.from_parts(exchange.method, exchange.url, exchange.headers, exchange.body)
        try:
            response = await self._fetch(request)
            if response.web_socket is not None:
                _switch(exchange, response)
                return
            body = response.take()
        except BaseException as error:
            if ends(error):
                raise
            shortened(error)
            _log.exception("the Worker failed on %s %s", exchange.method, request.url)
            accept = next((value for name, value in exchange.headers if name == b"accept"), b"")
            what = f"{exchange.method} {request.url}"
            response = failure(error, what, page=b"text/html" in accept)
            body = response.take()
        raw = response.headers.raw
        if body.__class__ is bytes and not _encoded(raw):
            told = exchange.respond(response.status, raw, body)
            if told is not None:
                await told
        else:
            await send(exchange, response, body)

    async def _fetch(self, request: Request) -> Response:
        worker = self._entrypoint(ExecutionContext(self._background), self._env)
        fetch: Any = worker.fetch  # type: ignore[attr-defined]
        answer = fetch(request) if self._takes_request else fetch()
        if inspect.iscoroutine(answer):
            answer = await answer
        if not isinstance(answer, Response):
            raise WorkerError(
                f"fetch must return a Response, not {type(answer).__name__} ({answer!r:.100})"
            )
        return answer


def _switch(exchange: Exchange, response: Response) -> None:
    """Answer with a WebSocket."""
    accept = getattr(exchange, "accept", None)
    if accept is None:
        raise WorkerError(
            "Worker tried to return WebSocket in a response to a request which did not contain the "
            'header "Upgrade: websocket".'
        )
    accept(response)


def ends(error: BaseException) -> bool:
    """Whether it ends the task or the process, and is not just something that a Worker raised."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, Interrupted | GeneratorExit)


def _encoded(raw: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-encoding" for name, _ in raw)


async def send(exchange: Exchange, response: Response, body: Any) -> None:
    """Send a response whose body has been taken."""
    raw = response.headers.raw
    if _encoded(raw):
        from .encoding import encode

        raw, body = encode(response, body, raw, exchange.headers)
    if isinstance(body, bytes):
        told = exchange.respond(response.status, raw, body)
        if told is not None:
            await told
        return
    if isinstance(body, Sized) and all(name != b"content-length" for name, _ in raw):
        raw = [*raw, (b"content-length", b"%d" % body.left)]
    try:
        await exchange.stream(response.status, raw, body)
    except BaseException as error:
        if ends(error):
            raise
        shortened(error)
        _log.exception("the body of %s %s broke off", exchange.method, exchange.url())
