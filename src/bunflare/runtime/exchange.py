"""A request over HTTP/1.1 and its answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

from ..web.streams import Counted

# Bytes of a body that are read ahead.
_AHEAD = 256 * 1024
# Chunks of a body that are copied into one write with what frames them.
_SMALL = 16 * 1024

RawHeaders = list[tuple[bytes, bytes]]

_STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Connection(Protocol):
    """What an exchange needs of the connection that it is on."""

    transport: asyncio.Transport
    scheme: str
    server: tuple[str, int] | None
    writable: asyncio.Future[None] | None

    def look(self) -> None: ...

    def answered(self, exchange: HttpExchange) -> None: ...


@lru_cache(maxsize=2)
def _date(seconds: int) -> bytes:
    return b"date: " + formatdate(seconds, usegmt=True).encode() + b"\r\n"


class HttpExchange:
    """One request and its answer; iterating gives the request's body."""

    __slots__ = (
        "_ahead",
        "_chunks",
        "_complete",
        "_connection",
        "_failed",
        "_waiter",
        "continues",
        "gone",
        "has_body",
        "headers",
        "keep_alive",
        "length",
        "method",
        "over",
        "path",
        "query",
        "started",
        "status",
        "task",
        "version",
    )

    def __init__(
        self,
        connection: Connection,
        method: str,
        path: bytes,
        query: bytes,
        headers: RawHeaders,
        version: str,
    ) -> None:
        self._connection = connection
        self.method = method
        #: As they came, still quoted.
        self.path = path
        self.query = query
        self.headers = headers
        self.version = version
        self.keep_alive = True
        self.has_body = False
        #: Bytes of the body, where the client has said so.
        self.length: int | None = None
        #: Whether the client waits for a word before it sends the body.
        self.continues = False
        #: What was answered, for the log.
        self.status = 0
        #: Whether the answer has begun, and whether it has ended.
        self.started = False
        self.over = False
        #: Whether the client went away.
        self.gone = False
        #: What streams the answer.
        self.task: asyncio.Task[Any] | None = None
        self._complete = False
        self._failed: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] | None = None
        self._ahead = 0

    # -- the request -----------------------------------------------------------------------

    def url(self) -> str:
        """The whole URL, as the client sees it."""
        connection = self._connection
        return full_url(connection.scheme, self.headers, connection.server, self.path, self.query)

    @property
    def body(self) -> AsyncIterator[bytes] | None:
        """The request's body as it comes; None if there is none."""
        if self.length is not None:
            return Counted(self, self.length)
        return self if self.has_body else None

    def __aiter__(self) -> HttpExchange:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._chunks:
                chunk = self._chunks.popleft()
                self._ahead -= len(chunk)
                if self._ahead < _AHEAD:
                    self._connection.look()
                return chunk
            if self._complete:
                raise StopAsyncIteration
            if self._failed is not None:
                raise ConnectionResetError(self._failed)
            if self.continues:
                self.continues = False
                if not self.started:
                    self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def feed(self, data: bytes) -> None:
        """Take a part of the body."""
        if self.over:
            return  # nobody will ask for it
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.append(data)
        self._ahead += len(data)
        self._wake()

    @property
    def full(self) -> bool:
        """Whether enough of the body has been read ahead."""
        return self._ahead >= _AHEAD

    def complete(self) -> None:
        """There is no more of the request."""
        self._complete = True
        self._wake()

    def fail(self, reason: str) -> None:
        """The rest of the request will not come."""
        if not self._complete:
            self._failed = reason
            self._wake()

    def leave(self) -> None:
        """The client went away."""
        self.gone = True
        self.keep_alive = False
        self.fail("the client went away before its request was complete")
        if self.task is not None and not self.over:
            self.task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the answer ------------------------------------------------------------------------

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Answer with a body that is known."""
        if self.gone or self.started:
            return
        head = self._head(status, headers, len(body))
        if body and self.method != "HEAD":
            head.append(body)
        self._connection.transport.write(b"".join(head))
        self._end()

    async def stream(self, status: int, headers: RawHeaders, body: AsyncIterator[bytes]) -> None:
        """Answer with a body as it comes, until the client goes away."""
        announced = _announced(headers)
        chunked = announced is None and self.version != "1.0"
        try:
            if self.gone or self.started:
                return
            head = self._head(status, headers, announced, chunked=chunked, streamed=True)
            self._connection.transport.write(b"".join(head))
            if self.method != "HEAD" and status not in (204, 304):
                self.task = asyncio.current_task()
                await self._write(body, announced, chunked)
            if not self.gone:
                self._end()
        except BaseException as error:
            if self.gone and isinstance(error, asyncio.CancelledError):
                _uncancel()
                return
            # What was begun cannot be taken back: the client must see that it is not whole.
            if chunked or announced is not None:
                self._connection.transport.close()
            else:
                self._connection.transport.abort()
            raise
        finally:
            self.task = None
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _write(
        self, body: AsyncIterator[bytes], announced: int | None, chunked: bool
    ) -> None:
        connection = self._connection
        transport = connection.transport
        left = announced
        async for chunk in body:
            if self.gone:
                return
            if not chunk:
                continue
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    raise RuntimeError("the body is longer than its Content-Length")
            if not chunked:
                transport.write(chunk)
            elif len(chunk) <= _SMALL:
                transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            else:
                transport.write(b"%x\r\n" % len(chunk))
                transport.write(chunk)
                transport.write(b"\r\n")
            if connection.writable is not None:
                await connection.writable
        if left:
            raise RuntimeError("the body is shorter than its Content-Length")
        if chunked and not self.gone:
            transport.write(b"0\r\n\r\n")

    def _head(
        self,
        status: int,
        headers: RawHeaders,
        length: int | None,
        *,
        chunked: bool = False,
        streamed: bool = False,
    ) -> list[bytes]:
        self.started = True
        self.status = status
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        dated = sized = False
        for name, value in headers:
            if name == b"content-length":
                if not streamed and self.method != "HEAD":
                    continue
                sized = True
            elif name == b"date":
                dated = True
            elif name == b"connection":
                if b"close" in value.lower():
                    self.keep_alive = False
                continue
            elif name == b"transfer-encoding":
                continue
            lines += (name, b": ", value, b"\r\n")
        if not dated:
            lines.append(_date(int(time.time())))
        if status >= 200 and status not in (204, 304):
            if chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            elif length is None:
                self.keep_alive = False
            elif not sized:
                lines.append(b"content-length: %d\r\n" % length)
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return lines

    def _end(self) -> None:
        self.over = True
        self._chunks = None
        self._ahead = 0
        self._connection.answered(self)


def full_url(
    scheme: str,
    headers: RawHeaders,
    server: tuple[str, int] | None,
    path: bytes,
    query: bytes,
) -> str:
    """A URL of what a request says, and of the server's address where it names no host."""
    for name, value in headers:
        if name == b"host":
            host = value.decode("latin-1")
            break
    else:
        host = "localhost" if server is None else f"{server[0]}:{server[1]}"
    url = f"{scheme}://{host}{path.decode('latin-1')}"
    return f"{url}?{query.decode('latin-1')}" if query else url


def _announced(headers: RawHeaders) -> int | None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
