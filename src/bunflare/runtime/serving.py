"""A server: its connections, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol

from .asgi import Exchange
from .http1 import HttpConnection
from .signals import Signals


class Application(Protocol):
    """What answers requests."""

    async def http(self, exchange: Exchange) -> None: ...


class Serving:
    """What the connections of a server share."""

    def __init__(self, app: Application, socket_class: Any = None) -> None:
        self.app = app
        #: The class of connections that were upgraded to a WebSocket; None if there is none.
        self.socket_class = socket_class
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._gone: asyncio.Future[None] | None = None

    def lost(self, connection: Any) -> None:
        """A connection has ended, or is another's from now on."""
        self.connections.discard(connection)
        if not self.connections and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def start(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self), sock=listener, backlog=1024
        )

    async def end(self, grace: float, signals: Signals) -> None:
        """Answer what was asked, for ``grace`` seconds at most, and end all connections."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        for connection in list(self.connections):
            connection.shutdown()
        if self.connections:
            forced = asyncio.ensure_future(signals.force.wait())
            ends: list[asyncio.Future[Any]] = [self._gone, forced]
            await asyncio.wait(ends, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=1)
        for connection in list(self.connections):
            connection.transport.abort()
