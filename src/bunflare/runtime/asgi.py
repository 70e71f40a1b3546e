"""The ASGI application that turns HTTP requests into a Worker's ``fetch`` events."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from ..bindings.rpc import takes
from ..errors import WorkerError
from ..web import Request, Response
from .context import Background, ExecutionContext
from .loader import Entrypoint
from .traces import shortened

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("bunflare")

#: Where a scope keeps what its request was answered with, for the log.
STATUS = "bunflare.status"
#: Where a scope has the connection of a request that asks for a WebSocket.
UPGRADE = "bunflare.upgrade"


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        else:
            raise WorkerError(f"{scope['type']} connections are not supported")

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request."""
        request = Request.from_parts(
            scope["method"], lambda: _url(scope), scope["headers"], _body(scope, receive)
        )
        try:
            response = await self._fetch(request)
            if response.web_socket is not None:
                _switch(scope, response)
                return
        except (Exception, SystemExit) as error:
            shortened(error)
            _log.exception("the Worker failed on %s %s", scope["method"], request.url)
            response = _failure(error)
        scope[STATUS] = response.status
        body = response.take()
        if not isinstance(body, bytes):
            await _stream(response, body, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": _headers(response, len(body)),
            }
        )
        await send({"type": "http.response.body", "body": body})

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


def _switch(scope: Scope, response: Response) -> None:
    """Answer with a WebSocket."""
    connection = scope.get(UPGRADE)
    if connection is None:
        raise WorkerError(
            "Worker tried to return WebSocket in a response to a request which did not contain the "
            'header "Upgrade: websocket".'
        )
    connection.accept(response)
    scope[STATUS] = 101


def _url(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host is None:
        server = scope.get("server") or ("localhost", 80)
        host = f"{server[0]}:{server[1]}".encode()
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    url = f"{scope['scheme']}://{host.decode('latin-1')}{path.decode('latin-1')}"
    return f"{url}?{query.decode('latin-1')}" if query else url


def _body(scope: Scope, receive: Receive) -> AsyncIterator[bytes] | None:
    for name, _ in scope["headers"]:
        if name in (b"content-length", b"transfer-encoding"):
            return _received(receive)
    return None


async def _received(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away before its request was complete")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


def _headers(response: Response, length: int | None) -> list[tuple[bytes, bytes]]:
    """The response's headers with what every HTTP message has."""
    headers = response.headers.raw
    sized = dated = False
    for name, _ in headers:
        if name == b"content-length":
            sized = True
        elif name == b"date":
            dated = True
    added = []
    if length is not None and not sized and response.status not in (204, 304):
        added.append((b"content-length", b"%d" % length))
    if not dated:
        added.append((b"date", _date(int(time.time()))))
    return headers + added


@lru_cache(maxsize=2)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()


async def _stream(
    response: Response, body: AsyncIterator[bytes], receive: Receive, send: Send
) -> None:
    """Send a body as it comes, until the client goes away."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": _headers(response, None),
            }
        )
        async for chunk in body:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _failure(error: BaseException) -> Response:
    """What the developer sees in the browser: the traceback."""
    text = "".join(traceback.format_exception(error))
    return Response(f"The Worker raised an exception.\n\n{text}", status=500)
