"""``workers.asgi``: a Worker that is an ASGI application, such as FastAPI, Starlette or Django."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from ..web import Headers, Request, Response
from .bridge_sockets import Conversation
from .bridges import NULL_BODY, Bridge, Options
from .inline import run_inline
from .js_values import Uint8Array

_log = logging.getLogger("bunflare")
_VERSIONS = {"spec_version": "2.0", "version": "3.0"}

# What waits between the application and who reads its answer.
_AHEAD = 2


def request_to_scope(
    request: Request, env: Any, ws: bool = False, state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The scope of a request; ``scope["env"]`` has the Worker's bindings."""
    parts = urlsplit(request.url)
    port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    scope = {
        "type": "websocket" if ws else "http",
        "asgi": _VERSIONS,
        "http_version": "1.1",
        "scheme": {"http": "ws", "https": "wss"}.get(parts.scheme, "ws") if ws else parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": request.headers.raw,
        "server": (parts.hostname or "", port),
        "client": None,
        "env": env,
    }
    if not ws:
        scope["method"] = str(request._method)
    else:
        protocols = request.headers.get("sec-websocket-protocol", "")
        scope["subprotocols"] = [one.strip() for one in protocols.split(",") if one.strip()]
    if state is not None:
        scope["state"] = dict(state)
    return scope


class _Lifespan:
    """An application's startup, once, and its shutdown with the Worker's."""

    def __init__(self, app: Any) -> None:
        loop = asyncio.get_running_loop()
        self.state: dict[str, Any] = {}
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started: asyncio.Future[bool] = loop.create_future()
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._run(app))

    async def ready(self) -> None:
        """Wait for the startup. Raises what the application says of its failure."""
        await asyncio.shield(self._started)

    async def _run(self, app: Any) -> None:
        self._said.put_nowait({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        run_inline()
        try:
            await app(scope, self._said.get, self._send)
        except Exception:
            if self._started.done():
                _log.exception("the application's lifespan failed")
            # An application without a lifespan raises when it is asked for one.
        finally:
            if not self._started.done():
                self._started.set_result(False)
            if not self._stopped.done():
                self._stopped.set_result(None)

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set_result(True)
            case "lifespan.startup.failed":
                text = message.get("message") or "ASGI lifespan startup failed"
                self._started.set_exception(RuntimeError(text))
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                if not self._stopped.done():
                    self._stopped.set_result(None)
            case other:
                raise RuntimeError(f"Unexpected lifespan event {other}")

    async def stop(self) -> None:
        if not self._stopped.done():
            self._said.put_nowait({"type": "lifespan.shutdown"})
            await self._stopped
        await asyncio.wait([self._task])


class _Exchange:
    """One request to an application, and its answer."""

    def __init__(self, request: Request) -> None:
        self._body = request.body
        self._read_all = False
        self._gone = asyncio.Event()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._start: dict[str, Any] | None = None
        self._whole = True
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    async def receive(self) -> dict[str, Any]:
        if self._read_all:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        chunk = await anext(self._body, None) if self._body is not None else None
        if chunk is None:
            self._read_all = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            if self._start is None:
                raise RuntimeError("the response's body came before its start")
            await self._take(bytes(message.get("body", b"")), message.get("more_body", False))

    async def _take(self, body: bytes, more: bool) -> None:
        if not self.response.done():
            self._whole = not more
            self._answer(self._stream() if more else body)
            if not more:
                self._gone.set()
                return
        if self._whole or self._gone.is_set():
            return
        if body:
            await self._put(body)
        if not more:
            await self._put(None)

    async def _put(self, chunk: bytes | None) -> None:
        putting = asyncio.ensure_future(self._chunks.put(chunk))
        gone = asyncio.ensure_future(self._gone.wait())
        await asyncio.wait([putting, gone], return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()
        gone.cancel()

    def _answer(self, body: bytes | AsyncIterator[bytes]) -> None:
        assert self._start is not None
        status = self._start["status"]
        raw = [
            (bytes(name).lower(), bytes(value)) for name, value in self._start.get("headers", ())
        ]
        empty = status in NULL_BODY
        response = Response.from_parts(status, Headers.from_raw(raw), None if empty else body)
        response.__dict__["encode_body"] = "manual"
        self.response.set_result(response)

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            while (chunk := await self._chunks.get()) is not None:
                yield chunk
        finally:
            self._gone.set()

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        run_inline()
        try:
            await app(scope, self.receive, self.send)
            if not self.response.done():
                raise RuntimeError("The application did not generate a response")
        except Exception as error:
            if not self.response.done():
                self.response.set_exception(error)
                return
            _log.exception("the application failed after its response had begun")
            await self._put(None)
        finally:
            self._gone.set()


def _wants_socket(request: Request) -> bool:
    return (request.headers.get("upgrade") or "").lower() == "websocket"


async def close_stream_quietly(writer: Any) -> None:
    """Close a stream whose reader may have gone."""
    try:
        await writer.close()
    except Exception:
        logging.getLogger("asgi").debug("Closing the response stream failed", exc_info=True)


@contextmanager
def acquire_js_buffer(pybuffer: Any) -> Iterator[Any]:
    """A ``Uint8Array`` of the same bytes, for the time of the block."""
    yield Uint8Array(pybuffer)


def names(bridge: Bridge) -> dict[str, Any]:
    """What ``workers.asgi`` has, for one Worker."""
    lifespans: WeakKeyDictionary[Any, _Lifespan] = WeakKeyDictionary()
    background: set[asyncio.Future[Any]] = set()

    async def started(app: Any) -> _Lifespan:
        lifespan = lifespans.get(app)
        if lifespan is None:
            lifespan = lifespans[app] = _Lifespan(app)
            bridge.background.at_end(lifespan.stop)
        try:
            await lifespan.ready()
        except RuntimeError:
            lifespans.pop(app, None)
            raise
        return lifespan

    async def fetch(
        app: Any, req: Request, env: Any, ctx: Any = None, *, options: Options | None = None
    ) -> Response:
        """Answer a request by an ASGI application, whose lifespan begins with the first one."""
        if _wants_socket(req):
            return await websocket(app, req, env)
        lifespan = await started(app)
        response, _ = await process_request(app, req, env, ctx, lifespan.state)
        return response

    async def process_request(
        app: Any,
        req: Request,
        env: Any,
        ctx: Any = None,
        state: dict[str, Any] | None = None,
        options: Options | None = None,
    ) -> tuple[Response, asyncio.Future[None]]:
        """The answer of an application without its lifespan, and what is still done for it."""
        exchange = _Exchange(req)
        running = asyncio.ensure_future(exchange.run(app, request_to_scope(req, env, state=state)))
        bridge.background.add(running)
        return await exchange.response, running

    async def start_application(app: Any) -> tuple[Any, dict[str, Any]]:
        """Begin a lifespan: what ends it, and its state."""
        lifespan = _Lifespan(app)
        await lifespan.ready()
        return lifespan.stop, lifespan.state

    def run_in_background(coro: Any) -> asyncio.Future[Any]:
        """Begin something that outlives the response."""
        running: asyncio.Future[Any] = asyncio.ensure_future(coro)
        bridge.background.add(running)
        background.add(running)
        running.add_done_callback(background.discard)
        return running

    async def websocket(app: Any, req: Request, env: Any = None) -> Response:
        """Run a WebSocket by an ASGI application."""
        lifespan = await started(app)
        scope = request_to_scope(req, {} if env is None else env, True, lifespan.state)
        conversation = Conversation()
        conversation.begin(bridge.background, app, scope)
        return await conversation.response

    def entrypoint(app: Any, *, options: Options | None = None) -> Any:
        """The class ``Default`` of a Worker that is an ASGI application."""

        async def answer(self: Any, request: Request) -> Response:
            return await fetch(app, request, self.env, self.ctx, options=options)

        return type("Default", (bridge.base,), {"fetch": answer})

    def lazily(name: str) -> Any:
        if name != "env":
            raise AttributeError(f"module 'workers.asgi' has no attribute {name!r}")
        from fastapi import Depends
        from fastapi import Request as FastAPIRequest

        async def env(request: Any) -> Any:
            return request.scope["env"]

        env.__annotations__["request"] = FastAPIRequest
        return Depends(env)

    return {
        "ASGI": _VERSIONS,
        "DEFAULT_OPTIONS": Options(),
        "NULL_BODY_STATUSES": NULL_BODY,
        "Options": Options,
        "__getattr__": lazily,
        "acquire_js_buffer": acquire_js_buffer,
        "background_tasks": background,
        "close_stream_quietly": close_stream_quietly,
        "entrypoint": entrypoint,
        "fetch": fetch,
        "logger": logging.getLogger("asgi"),
        "process_request": process_request,
        "process_websocket": websocket,
        "request_to_scope": request_to_scope,
        "run_in_background": run_in_background,
        "start_application": start_application,
        "websocket": websocket,
    }
