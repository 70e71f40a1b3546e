"""HTTP/1.1 connections, on httptools' parser.

Everything that a client controls has a bound: the size of a head and the time for it, what is read
ahead of a body, what waits to be written, requests that are sent before the last one was answered.
What nobody takes stays in the network.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from .exchange import HttpExchange, RawHeaders

if TYPE_CHECKING:
    from .serving import Serving

_log = logging.getLogger("bunflare")

#: Bytes of a URL, and of all headers, as the platform has them.
MAX_URL = 16 * 1024
MAX_HEAD = 128 * 1024
#: Seconds in which the head of a request must come, and until the next one.
HEAD_SECONDS = 30.0
IDLE_SECONDS = 75.0
#: Seconds for which a client that was answered before it had said all may go on.
LINGER_SECONDS = 2.0
# Seconds for which a connection without a request is left open when the server ends.
_FRESH_SECONDS = 0.1
# How often a connection looks at these times.
_TICK_SECONDS = 5.0
_TOO_LARGE = "the head of the request is too large"
_EAGER = sys.version_info >= (3, 12)


class HttpConnection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        #: What to wait for before more is written; None if nothing is in the way.
        self.writable: asyncio.Future[None] | None = None
        self.server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self.scheme = "http"
        self._url = b""
        self._headers: RawHeaders = []
        self._head_size = 0
        # The request that is read, and those that are to be answered, in their order.
        self._reading: HttpExchange | None = None
        self._upgrading: HttpExchange | None = None
        self._waiting: deque[HttpExchange] = deque()
        self._at_work: HttpExchange | None = None
        self._paused = False
        self._ended = False
        self._in_head = False
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # -- what the loop tells ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._serving.connections.add(self)
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.server = tuple(server[:2]) if isinstance(server, tuple) else None
        self._client = tuple(client[:2]) if isinstance(client, tuple) else None
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self._timer = self._loop.call_later(_TICK_SECONDS, self.tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        for exchange in self._waiting:
            exchange.leave()
        self._waiting.clear()
        self.resume_writing()

    def _let_go(self) -> None:
        self._serving.lost(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tick(self) -> None:
        """Look whether the client takes too long."""
        waited = self._loop.time() - self._since
        if self._in_head and waited > HEAD_SECONDS:
            self._refuse(408, "the head of the request did not come in time")
        elif not self._in_head and not self._waiting and waited > IDLE_SECONDS:
            self.transport.close()
        else:
            self._timer = self._loop.call_later(_TICK_SECONDS, self.tick)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        headers = self._headers if self._in_head else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError as error:
            # What our own callbacks raise comes wrapped.
            refusal = error.__context__
            if isinstance(refusal, _Refused):
                self._refuse(*refusal.args)
            else:
                self._refuse(400, f"the request is not HTTP: {error}")
            return
        if self._in_head and self._headers is headers:
            # All of it belongs to a head that began before.
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._refuse(431, _TOO_LARGE)
                return
        self.look()

    def eof_received(self) -> bool:
        """The client sends nothing more; what it asked for completely, it still gets."""
        if self._reading is not None:
            self._reading.fail("the client went away before its request was complete")
        streaming = any(exchange.task is not None for exchange in self._waiting)
        self._ended = True
        for exchange in self._waiting:
            exchange.keep_alive = False
        if not self._waiting or streaming:
            self.transport.close()
            return False
        return True

    def pause_writing(self) -> None:
        if self.writable is None:
            self.writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None:
            # Who waited for it may have been cancelled.
            if not writable.done():
                writable.set_result(None)
            self._next()

    def shutdown(self) -> None:
        """The server ends: after what is being answered."""
        if self._at_work is None and not self._ended:
            # It was made a moment ago, and its request is perhaps on the way.
            self._loop.call_later(_FRESH_SECONDS, self._close_idle)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        if not self._waiting:
            self.transport.close()
        for exchange in self._waiting:
            exchange.keep_alive = False

    # -- what the parser tells -------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._head_size = 0
        self._in_head = True
        self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        url, headers, parser = self._url, self._headers, self._parser
        if len(url) > MAX_URL:
            raise _Refused(414, "the URL is too long")
        path, _, query = url.partition(b"?")
        if path[:1] != b"/" or b"#" in url:
            path, query = _absolute(url)
        exchange = HttpExchange(
            self, parser.get_method().decode(), path, query, headers, parser.get_http_version()
        )
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"content-length":
                exchange.has_body = True
                exchange.length = int(value)
            elif name == b"transfer-encoding":
                exchange.has_body = True
            elif name == b"expect" and value.lower() == b"100-continue":
                exchange.continues = True
        if size > MAX_HEAD:
            raise _Refused(431, _TOO_LARGE)
        if parser.should_upgrade():
            if self._upgrades():
                self._upgrading = exchange
                return
            # Answered as if it had not asked; the parser is of no use after that.
            exchange.keep_alive = False
        else:
            exchange.keep_alive = parser.should_keep_alive()
        self._reading = exchange
        self._waiting.append(exchange)
        if len(self._waiting) == 1 and self.writable is None:
            self._start(exchange)

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(body)

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.complete()
            self._reading = None

    # -- requests one after the other --------------------------------------------------------

    def _start(self, exchange: HttpExchange, *, eager: bool = _EAGER) -> None:
        self._at_work = exchange
        work = self._run(exchange)
        loop = self._loop
        if eager and loop.get_task_factory() is None:
            try:
                task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, eager_start=True)  # type: ignore[call-arg]
            except (KeyboardInterrupt, SystemExit) as error:
                # Neither the parser nor the transport would let it pass, as the loop does.
                loop.call_soon(_raise, error)
                return
            if task.done():
                return
        else:
            task = loop.create_task(work)
        self._serving.tasks.add(task)
        task.add_done_callback(self._serving.tasks.discard)

    async def _run(self, exchange: HttpExchange) -> None:
        try:
            await self._serving.app.http(exchange)
        except Exception:
            _log.exception("a request failed")
        finally:
            # Also where a Worker has cancelled its own task: the client is not to wait for ever.
            if not exchange.started:
                exchange.keep_alive = False
                exchange.respond(500, [], b"Internal Server Error")

    def answered(self, exchange: HttpExchange) -> None:
        """Go on to the next request."""
        self._waiting.popleft()
        self._since = self._loop.time()
        if not exchange.keep_alive:
            for other in self._waiting:
                other.leave()
            self._waiting.clear()
            self._close(linger=exchange is self._reading)
            return
        self._next()
        if self._paused:
            self.look()

    def _next(self) -> None:
        if self._waiting and self.writable is None and self._waiting[0] is not self._at_work:
            # Not at once: a client may have sent thousands.
            self._start(self._waiting[0], eager=False)

    def _close(self, *, linger: bool) -> None:
        """End the connection once all is written.

        With ``linger``, what the client still sends is thrown away for a while: to close at once
        would make its system forget the answer.
        """
        self._ended = True
        if self.transport.is_closing():
            return
        if not linger:
            self.transport.close()
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.transport.abort)

    def look(self) -> None:
        """Read on, or leave what comes in the network."""
        reading = self._reading
        stop = len(self._waiting) > 1 or (reading is not None and reading.full)
        if stop is not self._paused and not self.transport.is_closing():
            self._paused = stop
            if stop:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer what cannot be taken, and end the connection."""
        self._ended = True
        client = "a client" if self._client is None else self._client[0]
        _log.warning("%d for a request of %s: %s", status, client, reason)
        if self._reading is not None:
            self._reading.fail(reason)
        if self._waiting:
            for exchange in self._waiting:
                exchange.keep_alive = False
            self.transport.pause_reading()
            return
        exchange = HttpExchange(self, "GET", b"", b"", [], "1.1")
        exchange.keep_alive = False
        self._reading = exchange
        self._waiting.append(exchange)
        text = (b"content-type", b"text/plain;charset=UTF-8")
        exchange.respond(status, [text], reason.encode())

    def _upgrades(self) -> bool:
        if self._serving.socket_class is None:
            return False
        return any(
            name == b"upgrade" and value.lower() == b"websocket" for name, value in self._headers
        )

    def _upgrade(self) -> None:
        """Hand the connection over to the class for WebSockets, with the request as it came."""
        exchange = self._upgrading
        if exchange is None:
            self._ended = True
            return
        self._let_go()
        protocol = self._serving.socket_class(self._serving)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.ask(exchange)


class _Refused(Exception):
    """A status, and why."""


def _absolute(url: bytes) -> tuple[bytes, bytes]:
    """The path and the query of a target with a host, or of ``*``."""
    if url == b"*":
        return b"/", b""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserError as error:
        raise _Refused(400, "the request's target is not a URL") from error
    return parsed.path or b"/", parsed.query or b""


def _raise(error: BaseException) -> None:
    raise error
