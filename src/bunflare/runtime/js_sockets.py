"""WebSockets as a Worker sees them: binary messages are buffers of JavaScript's."""

from __future__ import annotations

from typing import Any

from ..bindings.websocket import WebSocket, WebSocketPair
from .js_values import Uint8Array


class WorkerWebSocket(WebSocket):
    """A WebSocket whose messages have what an ArrayBuffer has in Python Workers."""

    __slots__ = ()

    @staticmethod
    def buffer(data: bytes) -> Any:
        return Uint8Array(data)

    @property
    def js_object(self) -> WorkerWebSocket:
        return self

    def to_py(self) -> WorkerWebSocket:
        return self


class WorkerWebSocketPair(WebSocketPair):
    """``WebSocketPair.new()``."""

    __slots__ = ()

    kind = WorkerWebSocket
