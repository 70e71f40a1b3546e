"""WebSockets over the network: connections as wires, those that clients open and our own.

The protocol itself is that of the ``websockets`` library, whose core does no input or output. An
upgrade reaches the application as the HTTP request that it is; `ServerConnection.accept` answers it
with a socket, and any other answer goes out as over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import socket as sockets
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from websockets.datastructures import Headers
from websockets.exceptions import InvalidState, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from ..bindings.websocket import WebSocket
from ..bindings.wire import Mailbox, Wire
from ..web import Response
from .exchange import HttpExchange, full_url

if TYPE_CHECKING:
    from .serving import Serving

_log = logging.getLogger("bunflare")
quiet = logging.getLogger("bunflare.websockets")
quiet.setLevel(logging.CRITICAL)

#: Bytes of a message that comes in.
MAX_MESSAGE = 32 * 1024 * 1024
#: Bytes that may wait for a client that does not read; then it is cut off.
MAX_BUFFERED = 64 * 1024 * 1024
# How long the other side may take to answer a close frame, in seconds.
_CLOSE_SECONDS = 10.0
# Ours to say in the answer to a handshake.
_OWN_HEADERS = frozenset(
    {
        *(b"connection", b"content-length", b"sec-websocket-accept", b"sec-websocket-extensions"),
        *(b"transfer-encoding", b"upgrade"),
    }
)


class Connection(asyncio.Protocol):
    """One end of a connection: a wire, and what `asyncio` tells of it."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._sink: Wire = Mailbox()
        self._parts: list[bytes | bytearray] = []
        self._text = False
        self._over = False
        self._paused = False
        self._closing: asyncio.TimerHandle | None = None

    # -- the wire --------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def send(self, message: str | bytes) -> None:
        if self.protocol.state is not State.OPEN:
            return
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        self.flush()
        if self.transport.get_write_buffer_size() > MAX_BUFFERED:
            _log.warning("a WebSocket's client does not read what it is sent, and was cut off")
            self.transport.abort()

    def close(self, code: int, reason: str) -> None:
        try:
            if code == 1005:
                self.protocol.send_close()
            else:
                self.protocol.send_close(code, reason)
        except InvalidState:
            return
        except ProtocolError:
            # The platform takes codes that the protocol has no use for.
            self.protocol.send_close()
        self.flush()
        self._close_late()

    def abort(self, error: str | None = None) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connect(self, other: Wire) -> None:
        before, self._sink = self._sink, other
        if isinstance(before, Mailbox):
            before.empty_into(other)

    def pause(self, on: bool) -> None:
        if self.transport is None or self.transport.is_closing() or on is self._paused:
            return
        self._paused = on
        if on:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # -- from the network ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (sockets.AF_INET, sockets.AF_INET6):
            # Whoever vanishes without a word is noticed by the system.
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self._take_events()
        self.flush()

    def _take_events(self) -> None:
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._take_frame(event)
            else:
                self.shaken(event)
        error = self.protocol.parser_exc
        if error is not None and not isinstance(error, EOFError):
            self._fail(str(error))

    def shaken(self, event: Any) -> None:
        """Take the server's part of the handshake."""

    def _take_frame(self, frame: Frame) -> None:
        kind = frame.opcode
        if kind is Opcode.CLOSE:
            closed = self.protocol.close_rcvd
            assert closed is not None
            if not self._over:
                self._over = True
                self._sink.close(int(closed.code), closed.reason)
            return
        if kind is Opcode.TEXT:
            self._text = True
        elif kind is Opcode.BINARY:
            self._text = False
        elif kind is not Opcode.CONT:
            return  # the protocol has answered it
        data = bytes(frame.data)
        if not frame.fin or self._parts:
            self._parts.append(data)
            if not frame.fin:
                return
            data = b"".join(self._parts)
            self._parts = []
        if self._over:
            return
        if not self._text:
            self._sink.send(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.protocol.fail(1007, "invalid UTF-8")
            self._fail("a text message was not valid UTF-8")
            return
        self._sink.send(text)

    def _fail(self, error: str | None) -> None:
        if not self._over:
            self._over = True
            self._sink.abort(error)

    def flush(self) -> None:
        """Put what the protocol has to say on the network."""
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            elif self.protocol.parser_exc is None:
                self.transport.close()
            else:
                # What it is still sending would reset the connection before it has read why.
                self.transport.write_eof()
                self._close_late()

    def _close_late(self) -> None:
        if self._closing is None:
            self._closing = self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        self._sink.pause(True)

    def resume_writing(self) -> None:
        self._sink.pause(False)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self.protocol.receive_eof()
        self._fail(None)
        self._sink.pause(False)
        self._sink = Mailbox()


class ServerConnection(Connection):
    """A client's connection, from its request for a WebSocket on.

    It is the exchange of that request as well, so that a Worker may answer it in any way.
    """

    method = "GET"
    body = None

    def __init__(self, serving: Serving) -> None:
        # This one agrees on the handshake; another reads what follows it.
        super().__init__(ServerProtocol(logger=quiet))
        self._serving = serving
        self.path = self.query = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self._agreed: Any = None
        self._stopping = False
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._serving.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._serving.lost(self)
        self._gone.set()
        self._writable.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # What comes before the answer waits in the network.
        if self.protocol.state is State.OPEN:
            super().data_received(data)

    def shutdown(self) -> None:
        """The server ends."""
        self._stopping = True
        if self.protocol.state is State.OPEN:
            self.close(1012, "Service Restart")
            if not self._over:
                self._over = True
                self._sink.close(1012, "Service Restart")
            self.transport.close()

    # -- the request -----------------------------------------------------------------------

    def ask(self, exchange: HttpExchange) -> None:
        """Have a request answered that asks for a WebSocket."""
        self.path, self.query, self.headers = exchange.path, exchange.query, exchange.headers
        target = self.path + (b"?" + self.query if self.query else b"")
        request = Handshake(
            target.decode("latin-1"),
            Headers(
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
            ),
        )
        self._agreed = cast("ServerProtocol", self.protocol).accept(request)
        if self._agreed.status_code != 101:
            self.transport.write(self._agreed.serialize())
            self.transport.close()
            return
        task = self.loop.create_task(self._run())
        self._serving.tasks.add(task)
        task.add_done_callback(self._serving.tasks.discard)
        # Nothing may be said before the answer.
        self.pause(True)

    def url(self) -> str:
        secure = self.transport.get_extra_info("sslcontext") is not None
        server = self.transport.get_extra_info("sockname")
        scheme = "https" if secure else "http"
        where = tuple(server[:2]) if isinstance(server, tuple) else None
        return full_url(scheme, self.headers, where, self.path, self.query)

    async def _run(self) -> None:
        try:
            await self._serving.app.http(self)
        except Exception:
            _log.exception("a request for a WebSocket failed")
        finally:
            if self.protocol.state is State.CONNECTING and not self.transport.is_closing():
                self.transport.close()

    # -- an answer that is no WebSocket; the connection ends with it -----------------------------

    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        known = [pair for pair in headers if pair[0] != b"content-length"]
        self._begin(status, [*known, (b"content-length", b"%d" % len(body))])
        self.transport.write(body)

    async def stream(
        self, status: int, headers: list[tuple[bytes, bytes]], body: AsyncIterator[bytes]
    ) -> None:
        self._begin(status, headers)
        try:
            async for chunk in body:
                if self._gone.is_set():
                    return
                self.transport.write(chunk)
                await self._writable.wait()
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else ""
        lines = [f"HTTP/1.1 {status} {phrase}\r\n".encode("latin-1")]
        for name, value in headers:
            if name not in (b"connection", b"transfer-encoding"):
                lines += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join([*lines, b"connection: close\r\n\r\n"]))

    def pause_writing(self) -> None:
        self._writable.clear()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._writable.set()
        super().resume_writing()

    def accept(self, response: Response) -> None:
        """Answer with a socket. Raises what the platform says of one that cannot be used."""
        socket = response.web_socket
        if not isinstance(socket, WebSocket):
            raise TypeError(f"web_socket must be a WebSocket, not {type(socket).__name__}")
        socket.check_coupling()
        if not self._gone.is_set():
            for name, value in response.headers.raw:
                if name not in _OWN_HEADERS:
                    self._agreed.headers[name.decode("latin-1")] = value.decode("latin-1")
            self.transport.write(self._agreed.serialize())
            self.protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE, logger=quiet)
        self.status = 101
        socket.couple(self)
        if self._gone.is_set():
            self._fail(None)
            return
        self.pause(False)
        if self._stopping:
            self.shutdown()
