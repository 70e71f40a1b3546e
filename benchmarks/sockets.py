"""Messages over WebSockets to a Durable Object and back, with 1,000 of them open and with one."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from .measure import Batch, compare
from .report import Report, Row
from .servers import Server
from .serving import dev, uvicorn

_OPEN = 1_000
_AT_ONCE = 100
_TEXT = b"x" * 100

_CONFIGURATION = """
name = "benchmark"
main = "entry.py"
compatibility_date = "2026-11-01"
compatibility_flags = ["python_workers"]

[[durable_objects.bindings]]
name = "ROOM"
class_name = "Room"

[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""
_WORKER = """
from js import WebSocketPair
from workers import DurableObject, Response, WorkerEntrypoint


class Room(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair.new().object_values()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        ws.send(message)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.headers.get("upgrade") != "websocket":
            return Response("ready")
        return await self.env.ROOM.getByName("one").fetch(request)
"""


class _Client(asyncio.Protocol):
    """The least that can send a message and tell that it has come back."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._back: asyncio.Future[None] = loop.create_future()
        self._missing = 0
        # A client's frames are masked, with nothing here.
        self._frame = bytes([0x81, 0x80 | len(_TEXT), 0, 0, 0, 0]) + _TEXT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            assert data.startswith(b"HTTP/1.1 101 "), data
            self.opened.set_result(None)
            return
        self._missing -= len(data)
        if self._missing == 0:
            self._back.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in (self.opened, self._back):
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"the server has closed: {error}"))
                waiting.exception()

    def send(self, count: int) -> asyncio.Future[None]:
        """Send messages; what is given back is done when all have come back."""
        self._back = asyncio.get_running_loop().create_future()
        self._missing = count * (2 + len(_TEXT))
        self.transport.write(self._frame * count)
        return self._back


async def measure(scratch: Path) -> Report:
    report = Report()
    for name, text in (("wrangler.toml", _CONFIGURATION), ("entry.py", _WORKER)):
        await asyncio.to_thread((scratch / name).write_text, text)
    async with AsyncExitStack() as stack:
        one, before, _ = await _open(stack, scratch, "one", 1)
        many, *sizes = await _open(stack, scratch, "many", _OPEN)
        bare, *_ = await _open(stack, scratch, "bare", 1)
        rates = await compare(
            {"one": _in_turn(one), "many": _in_turn(many[:1]), "bare": _in_turn(bare)}
        )
        work = "message to a Durable Object and back"
        report.at_least(f"{work}, {_OPEN:,} sockets open against one", 0.5, rates, "many", "one")
        report.at_least(f"{work}, against an ASGI echo on uvicorn", None, rates, "one", "bare")
        rates = await compare(
            {"one": _at_once(one), "many": _at_once(many), "bare": _at_once(bare)}
        )
        work = f"{_AT_ONCE} messages at once"
        report.at_least(
            f"{work}, each on one of {_OPEN:,} sockets, against all on one",
            0.5,
            rates,
            "many",
            "one",
        )
        report.at_least(
            f"{work} on one, against an ASGI echo on uvicorn", None, rates, "one", "bare"
        )
    before, after = sizes
    each = (after - before) / _OPEN
    report.add(
        Row(
            f"memory of the process for each of {_OPEN:,} open sockets",
            f"{before / 1024:.0f} MiB with none",
            f"{after / 1024:.0f} MiB",
            f"{each:.1f} KiB each",
            "–",
            None,
        )
    )
    return report


async def _open(
    stack: AsyncExitStack, scratch: Path, name: str, count: int
) -> tuple[list[_Client], int, int]:
    """A server of its own with so many sockets; its memory before and after, in KiB."""
    command = dev if name != "bare" else uvicorn

    def with_state(port: int) -> list[str]:
        line = command(port, scratch)
        if name != "bare":
            line += ["--persist-to", str(scratch / name), "--no-live-reload"]
        return line

    server = Server(name, with_state, scratch)
    stack.callback(server.stop)
    await asyncio.to_thread(server.wait, None)
    before = server.resident()
    clients = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        transport, client = await loop.create_connection(_Client, "127.0.0.1", server.port)
        stack.callback(transport.close)
        await client.opened
        clients.append(client)
    await asyncio.gather(*[client.send(1) for client in clients])
    return clients, before, server.resident()


def _in_turn(clients: list[_Client]) -> Callable[[], Batch]:
    async def work() -> int:
        for client in clients * _AT_ONCE:
            await client.send(1)
        return len(clients) * _AT_ONCE

    return lambda: work


def _at_once(clients: list[_Client]) -> Callable[[], Batch]:
    turn = 0

    async def work() -> int:
        nonlocal turn
        if len(clients) == 1:
            await clients[0].send(_AT_ONCE)
        else:
            some = [clients[(turn + n) % len(clients)] for n in range(_AT_ONCE)]
            turn += _AT_ONCE
            await asyncio.gather(*[client.send(1) for client in some])
        return _AT_ONCE

    return lambda: work
