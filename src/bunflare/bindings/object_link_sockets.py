"""WebSockets of objects that run in another process: what is said is a frame of the link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .websocket import WebSocket
from .wire import Mailbox, Wire, say

if TYPE_CHECKING:
    from ..web import Response

#: What writes a frame to the other process.
Write = Callable[[list[Any]], object]


class LinkSockets:
    """The WebSockets of one connection between two processes, by the number of their call."""

    def __init__(self, write: Write, buffered: Callable[[], int]) -> None:
        self.write = write
        self.buffered = buffered
        self._wires: dict[int, _LinkWire] = {}

    def offer(self, number: int, response: Response) -> None:
        """Send a response with a WebSocket. Raises where that cannot be used."""
        socket = response.web_socket
        socket.check_coupling()
        headers = [
            [name.decode("latin-1"), text.decode("latin-1")] for name, text in response.headers.raw
        ]
        self.write(["socket", number, headers])
        socket.couple(self._open(number))

    def receive(self, number: int, headers: list[list[str]]) -> Response:
        """The response with a WebSocket that the other process has sent."""
        from ..web import Response

        pairs = [(name, text) for name, text in headers]
        socket = WebSocket.over(self._open(number))
        return Response(None, status=101, headers=pairs, web_socket=socket)

    def _open(self, number: int) -> _LinkWire:
        wire = self._wires[number] = _LinkWire(self, number)
        return wire

    def take(self, number: int, kind: str, first: Any, second: Any) -> None:
        """Hear what was said in the other process."""
        wire = self._wires.get(number)
        if wire is not None:
            wire.take(kind, first, second)

    def drop(self, number: int) -> None:
        self._wires.pop(number, None)

    def close(self) -> None:
        """The other process is gone."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.take("abort", None, None)


class _LinkWire:
    def __init__(self, sockets: LinkSockets, number: int) -> None:
        self._sockets = sockets
        self._number = number
        self._sink: Wire = Mailbox()
        self._closed = {"in": False, "out": False}

    @property
    def buffered(self) -> int:
        return self._sockets.buffered()

    def send(self, message: str | bytes) -> None:
        self._write("send", message)

    def close(self, code: int, reason: str) -> None:
        self._write("close", code, reason)
        self._over("out")

    def abort(self, error: str | None = None) -> None:
        self._write("abort", error)
        self._sockets.drop(self._number)

    def pause(self, on: bool) -> None:
        self._write("pause", on)

    def connect(self, other: Wire) -> None:
        before, self._sink = self._sink, other
        if isinstance(before, Mailbox):
            before.empty_into(other)

    def _write(self, kind: str, first: Any = None, second: Any = None) -> None:
        self._sockets.write(["said", self._number, kind, first, second])

    def take(self, kind: str, first: Any, second: Any) -> None:
        if kind == "pause":
            self._sink.pause(first)
            return
        say(self._sink, (kind, first, second))
        if kind == "close":
            self._over("in")
        elif kind == "abort":
            self._sockets.drop(self._number)

    def _over(self, direction: str) -> None:
        self._closed[direction] = True
        if all(self._closed.values()):
            self._sockets.drop(self._number)
