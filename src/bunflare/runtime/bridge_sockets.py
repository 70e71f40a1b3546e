"""WebSockets of ASGI applications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..web import Headers, Response
from .context import Background
from .inline import run_inline
from .js_sockets import WorkerWebSocketPair

_log = logging.getLogger("bunflare")
# How many messages wait for the application before the client is asked to stop.
_MOST_WAITING = 16


class Conversation:
    """One WebSocket that an application talks over.

    As on the platform the client is always let in: what the application refuses is closed at once,
    with its code.
    """

    def __init__(self) -> None:
        self._client, self._server = WorkerWebSocketPair()
        self._server.accept()
        self._server.onmessage = self._heard
        self._server.onclose = self._left
        self._server.onerror = self._left
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._waiting.put_nowait({"type": "websocket.connect"})
        self._closed = False
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def _heard(self, event: Any) -> None:
        data = event.data
        kind = "text" if isinstance(data, str) else "bytes"
        self._waiting.put_nowait(
            {"type": "websocket.receive", kind: data if kind == "text" else bytes(data)}
        )
        if self._waiting.qsize() == _MOST_WAITING:
            self._server.pause(True)

    def _left(self, event: Any) -> None:
        self._waiting.put_nowait(
            {
                "type": "websocket.disconnect",
                "code": getattr(event, "code", 1006),
                "reason": getattr(event, "reason", ""),
            }
        )

    async def receive(self) -> dict[str, Any]:
        if self._waiting.qsize() == _MOST_WAITING:
            self._server.pause(False)
        return await self._waiting.get()

    async def send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self._answer(message)
            case "websocket.send":
                data = message.get("bytes")
                self._server.send(message["text"] if data is None else data)
                await self._server.drain()
            case "websocket.close":
                self._answer({})
                self._closed = True
                self._server.close(message.get("code", 1000), message.get("reason") or "")
            case other:
                raise RuntimeError(f"Unexpected WebSocket message {other}")

    def _answer(self, accepted: dict[str, Any]) -> None:
        if self.response.done():
            return
        raw = [(bytes(name).lower(), bytes(value)) for name, value in accepted.get("headers") or ()]
        subprotocol = accepted.get("subprotocol")
        if subprotocol:
            raw.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        response = Response.from_parts(101, Headers.from_raw(raw), None)
        response.web_socket = self._client
        # What is not handed over must not be held, to be missed when nobody takes it.
        del self._client
        self.response.set_result(response)

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        code = 1000
        run_inline()
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            code = 1011
            _log.exception("the application failed in a WebSocket")
        finally:
            self._answer({})
            if not self._closed:
                # Half open, it would leave the client waiting.
                self._server.close(code)

    def begin(
        self, background: Background, app: Callable[..., Awaitable[None]], scope: dict[str, Any]
    ) -> None:
        """Run the application for as long as the conversation goes on."""
        background.keep(self._run(app, scope))
