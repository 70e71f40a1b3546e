"""WebSockets that a Worker opens: ``WebSocket.new(url)``, and ``fetch`` with an upgrade."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.http11 import Response as Answer
from websockets.uri import parse_uri

from ..bindings.websocket import WebSocket
from ..errors import FetchSyntaxError, FetchTypeError
from ..web import Headers, Request, Response
from .connections import MAX_MESSAGE, Connection, quiet
from .js_sockets import WorkerWebSocket
from .js_values import JsException

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What the handshake itself says.
_OWN_HEADERS = frozenset(
    {
        *("connection", "content-length", "host", "sec-websocket-accept", "transfer-encoding"),
        *("sec-websocket-extensions", "sec-websocket-key", "sec-websocket-version", "upgrade"),
    }
)
# How long a server may take to be connected with, in seconds.
_CONNECT_SECONDS = 30.0
_running: set[asyncio.Future[Any]] = set()


class ClientConnection(Connection):
    """A connection that was opened from here."""

    def __init__(self, protocol: ClientProtocol) -> None:
        super().__init__(protocol)
        self.answer: asyncio.Future[Answer] = self.loop.create_future()

    def shaken(self, event: Any) -> None:
        if isinstance(event, Answer) and not self.answer.done():
            self.answer.set_result(event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.answer.done():
            self.answer.set_exception(
                self.protocol.handshake_exc
                or exc
                or ConnectionResetError("Network connection lost.")
            )


async def connect(
    url: str, headers: Iterable[tuple[str, str]] = ()
) -> tuple[ClientConnection, Answer]:
    """Ask a server for a WebSocket; whether it agrees is for the caller to see.

    Raises OSError where no answer comes.
    """
    loop = asyncio.get_running_loop()
    uri = parse_uri(re.sub(r"^http", "ws", url.partition("#")[0]))
    given = [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
    asked = [value for name, value in given if name.lower() == "sec-websocket-protocol"]
    protocols = [one.strip() for value in asked for one in value.split(",") if one.strip()]
    protocol = ClientProtocol(
        uri,
        subprotocols=protocols or None,  # type: ignore[arg-type]
        max_size=MAX_MESSAGE,
        logger=quiet,
    )
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: ClientConnection(protocol),
                uri.host,
                uri.port,
                ssl=True if uri.secure else None,
            )
    except TimeoutError as error:
        raise ConnectionError(f"Network connection lost: {url}: no answer") from error
    request = protocol.connect()
    for name, value in given:
        if name.lower() != "sec-websocket-protocol":
            request.headers[name] = value
    protocol.send_request(request)
    connection.flush()
    try:
        return connection, await connection.answer
    except asyncio.CancelledError:
        connection.abort()
        raise
    except OSError:
        raise
    except Exception as error:
        raise ConnectionError(f"Network connection lost: {url}: {error}") from error


async def upgrade(request: Request) -> Response:
    """Answer a ``fetch`` that asks for a WebSocket."""
    try:
        connection, answer = await connect(request.url, request.headers.pairs)
    except InvalidURI as error:
        raise FetchTypeError(str(error)) from error
    raw = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "surrogateescape"))
        for name, value in answer.headers.raw_items()
    ]
    headers = Headers.from_raw(raw, "immutable")
    if answer.status_code != 101:
        body = answer.body or b""
        return Response.from_parts(answer.status_code, headers, bytes(body), request.url)
    if connection.protocol.handshake_exc is not None:
        connection.abort()
        raise ConnectionError(f"Network connection lost: {connection.protocol.handshake_exc}")
    response = Response.from_parts(101, headers, None, request.url)
    socket = WorkerWebSocket.over(connection)
    _describe(socket, answer)
    response.web_socket = socket
    return response


def open_socket(url: Any, protocols: Any = None) -> WorkerWebSocket:
    """``new WebSocket(url, protocols)``: the events tell what becomes of it."""
    text = str(url)
    _check_url(text)
    headers = []
    if protocols is not None:
        headers.append(("sec-websocket-protocol", ", ".join(_check_protocols(protocols))))
    socket = WorkerWebSocket(text)
    socket.begin_connecting()
    task = asyncio.ensure_future(_open(socket, text, headers))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return socket


async def _open(socket: WorkerWebSocket, url: str, headers: list[tuple[str, str]]) -> None:
    try:
        connection, answer = await connect(url, headers)
        if answer.status_code != 101:
            raise JsException(
                "TypeError",
                "Failed to establish the WebSocket connection: expected server to reply with HTTP "
                "status code 101 (switching protocols), but received "
                f"{answer.status_code} instead.",
            )
        if connection.protocol.handshake_exc is not None:
            connection.abort()
            raise connection.protocol.handshake_exc
    except Exception as error:
        socket.failed(error)
        return
    _describe(socket, answer)
    socket.connected(connection)


def _describe(socket: WebSocket, answer: Answer) -> None:
    socket.protocol = answer.headers.get("Sec-WebSocket-Protocol")
    socket.extensions = answer.headers.get("Sec-WebSocket-Extensions")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = bool(parts.scheme and parts.hostname) and parts.port is not False
    except ValueError:
        valid = False
    if not valid:
        raise FetchSyntaxError("WebSocket Constructor: The url is invalid.")
    if parts.scheme not in ("ws", "wss"):
        raise FetchSyntaxError("WebSocket Constructor: The url scheme must be ws or wss.")
    if parts.fragment:
        raise FetchSyntaxError("WebSocket Constructor: The url fragment must be empty.")


def _check_protocols(protocols: Any) -> list[str]:
    if isinstance(protocols, str):
        if not _TOKEN.fullmatch(protocols):
            raise FetchSyntaxError("WebSocket Constructor: The protocol header token is invalid.")
        return [protocols]
    names = [str(one) for one in protocols]
    if not names:
        raise FetchSyntaxError("WebSocket Constructor: The protocols array cannot be empty.")
    if not all(_TOKEN.fullmatch(name) for name in names):
        raise FetchSyntaxError(
            "WebSocket Constructor: One of the protocol header tokens is invalid."
        )
    if len(set(names)) != len(names):
        raise FetchSyntaxError(
            "WebSocket Constructor: The protocols header cannot have repeating values."
        )
    return names
