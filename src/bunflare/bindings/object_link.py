"""Calls of objects that run in another process: a local socket, frames of the codec's text.

A frame is its length in four bytes and a list: what it is, the number of the call, and the rest.
Values pass as they would within a process; what is passed by reference there (streams as
arguments, functions) cannot go further, and is refused. Bodies of requests and responses do, in
chunks; of a request's no more are under way than its reader has asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import BunflareError, DurableObjectReset, DurableObjectTypeError
from ..values import dumps, loads
from .object_ids import DurableObjectId
from .object_link_sockets import LinkSockets
from .rpc import carried

if TYPE_CHECKING:
    from ..web import Request, Response
    from .object_host import ObjectHost

# The longest path that a socket's address takes, with its end.
_LONGEST_ADDRESS = 100
_LARGEST_FRAME = 256 * 1024 * 1024
_CHUNK = 256 * 1024
_TEMPORARY = "bunflare-socket-"
# How many chunks of a request's body are under way before its reader has asked for more.
_AHEAD = 4
#: What arrives of a body: chunks, the error that ended it, or None for its end.
_Chunks = asyncio.Queue[bytes | BaseException | None]
#: The frames that belong to one.
_PARTS = frozenset({"chunk", "end", "broken"})
_numbers = itertools.count(1)


class LinkServer:
    """Takes calls of other processes for the objects that run here."""

    def __init__(self, host: ObjectHost, address: str) -> None:
        self._host = host
        self.address = address
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._sockets: dict[asyncio.StreamWriter, LinkSockets] = {}

    @classmethod
    async def start(cls, host: ObjectHost) -> LinkServer:
        """Listen on a socket of one's own."""
        server = cls(host, _address(host))
        server._server = await asyncio.start_unix_server(server._connected, server.address)
        os.chmod(server.address, 0o600)  # noqa: PTH101 - also where there is no path to it
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        own = asyncio.current_task()
        assert own is not None
        self._tasks.add(own)
        uploads: dict[int, _Chunks] = {}
        try:
            while (frame := await _read(reader)) is not None:
                self._take(writer, uploads, frame)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for upload in uploads.values():
                upload.put_nowait(DurableObjectReset("Network connection lost."))
            self._tasks.discard(own)
            self._writers.discard(writer)
            if (sockets := self._sockets.pop(writer, None)) is not None:
                sockets.close()
            writer.close()

    def _take(
        self, writer: asyncio.StreamWriter, uploads: dict[int, _Chunks], frame: list[Any]
    ) -> None:
        if frame[0] == "said":
            self._sockets_of(writer).take(*frame[1:])
            return
        if frame[0] in _PARTS:
            _take_part(uploads, *frame)
            return
        kind, number, digits, name, *rest = frame
        target = DurableObjectId(digits, name)
        if kind == "fire":
            future = self._host.alarms.fire(digits)
        elif kind == "call":
            method, args, kwargs = rest
            future = self._host.call(target, method, None if args is None else tuple(args), kwargs)
        else:
            method, url, headers, body, streams = rest
            if streams:
                chunks: _Chunks = asyncio.Queue()
                uploads[number] = chunks
                body = _read_upload(writer, number, chunks)
            future = self._host.fetch(target, _request(method, url, headers, body))
        task = asyncio.get_running_loop().create_task(self._answer(writer, number, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sockets_of(self, writer: asyncio.StreamWriter) -> LinkSockets:
        found = self._sockets.get(writer)
        if found is None:
            found = self._sockets[writer] = _sockets(writer)
        return found

    async def _answer(
        self, writer: asyncio.StreamWriter, number: int, future: asyncio.Future[Any]
    ) -> None:
        from ..web import Response

        try:
            result = await future
            if isinstance(result, Response) and result.web_socket is not None:
                self._sockets_of(writer).offer(number, result)
            elif isinstance(result, Response):
                await _send_response(writer, number, result)
            else:
                _write(writer, ["ok", number, result])
                await writer.drain()
        except ConnectionError:
            return
        except Exception as error:
            with contextlib.suppress(ConnectionError):
                _write(writer, ["error", number, _packed(error)])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        _remove(self.address)


class LinkClient:
    """Calls the objects that run in another process."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        lost: Callable[[], object],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lost = lost
        self._sockets = _sockets(writer)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._bodies: dict[int, _Chunks] = {}
        self._uploads: dict[int, _Upload] = {}
        self._task = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def connect(cls, address: str, lost: Callable[[], object]) -> LinkClient | None:
        """A connection to the owner; None if nobody listens there."""
        try:
            reader, writer = await asyncio.open_unix_connection(address)
        except (ConnectionError, FileNotFoundError):
            return None
        return cls(reader, writer, lost)

    def call(
        self,
        id: DurableObjectId,
        method: str,
        args: tuple[Any, ...] | None,
        kwargs: dict[str, Any],
        reply: asyncio.Future[Any],
    ) -> None:
        given = None if args is None else list(args)
        self._send("call", id, [method, given, kwargs], reply)

    def fire(self, id: DurableObjectId, reply: asyncio.Future[Any]) -> None:
        """Have an alarm's handler called."""
        self._send("fire", id, [], reply)

    def fetch(self, id: DurableObjectId, request: Request, reply: asyncio.Future[Any]) -> None:
        headers = [
            [name.decode("latin-1"), text.decode("latin-1")] for name, text in request.headers.raw
        ]
        body = None if request.body is None else request.take()
        whole = body is None or isinstance(body, bytes)
        what = [request.method, request.url, headers, body if whole else None, not whole]
        number = self._send("fetch", id, what, reply)
        if number is not None and body is not None and not isinstance(body, bytes):
            self._uploads[number] = _Upload(self._writer, number, body)

    def _send(
        self, kind: str, id: DurableObjectId, rest: list[Any], reply: asyncio.Future[Any]
    ) -> int | None:
        """Send a call; its number, if it could be sent."""
        number = next(_numbers)
        try:
            _write(self._writer, [kind, number, str(id), id.name, *rest])
        except Exception as error:
            if not reply.done():
                reply.set_exception(error)
            return None
        self._replies[number] = reply
        return number

    async def _listen(self) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while (frame := await _read(self._reader)) is not None:
                    self._take(frame)
        finally:
            self._writer.close()
            error = DurableObjectReset("Network connection lost.")
            replies, self._replies = self._replies, {}
            for reply in replies.values():
                if not reply.done():
                    reply.set_exception(error)
            for body in self._bodies.values():
                body.put_nowait(error)
            for upload in self._uploads.values():
                upload.stop()
            self._sockets.close()
            self._lost()

    def _take(self, frame: list[Any]) -> None:
        kind, number, *rest = frame
        if kind == "said":
            self._sockets.take(number, *rest)
            return
        if kind == "more":
            if number in self._uploads:
                self._uploads[number].more()
            return
        if kind != "response" and kind != "chunk" and number in self._uploads:
            # Whoever has answered reads no further.
            self._uploads.pop(number).stop()
        if kind in _PARTS:
            _take_part(self._bodies, kind, number, *rest)
            return
        reply = self._replies.pop(number, None)
        if kind == "response":
            body = self._bodies[number] = asyncio.Queue()
            result: Any = _response(body, *rest)
        elif kind == "socket":
            # Where nobody waits for it any more, it is closed with this object's end.
            result = self._sockets.receive(number, *rest)
        else:
            result = rest[0]
        if reply is None or reply.done():
            return
        if kind == "error":
            reply.set_exception(_unpacked(result))
        else:
            reply.set_result(result)

    async def close(self) -> None:
        self._lost = lambda: None
        self._task.cancel()
        await asyncio.wait([self._task])


class _Upload:
    """Sends the body of a request, as far as its reader wants it."""

    def __init__(
        self, writer: asyncio.StreamWriter, number: int, body: AsyncIterator[bytes]
    ) -> None:
        self._writer = writer
        self._number = number
        self._wanted = asyncio.Semaphore(_AHEAD)
        self._task = asyncio.get_running_loop().create_task(self._run(body))

    async def _run(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in body:
                for start in range(0, len(chunk), _CHUNK):
                    await self._wanted.acquire()
                    part = bytes(chunk[start : start + _CHUNK])
                    _write(self._writer, ["chunk", self._number, part])
                    await self._writer.drain()
        except ConnectionError:
            return
        except Exception as error:
            with contextlib.suppress(ConnectionError):
                _write(self._writer, ["broken", self._number, _packed(error)])
            return
        _write(self._writer, ["end", self._number])

    def more(self) -> None:
        self._wanted.release()

    def stop(self) -> None:
        """Send no more of it, unless all was sent."""
        if self._task.done() or not self._task.cancel() or self._writer.is_closing():
            return
        error = DurableObjectReset("The request was answered before its body was read.")
        _write(self._writer, ["broken", self._number, _packed(error)])


async def _read_upload(
    writer: asyncio.StreamWriter, number: int, chunks: _Chunks
) -> AsyncIterator[bytes]:
    """The body of a request that another process sends."""
    while (chunk := await chunks.get()) is not None:
        if isinstance(chunk, BaseException):
            raise chunk
        if not writer.is_closing():
            _write(writer, ["more", number])
        yield chunk


def _take_part(bodies: dict[int, _Chunks], kind: str, number: int, *rest: Any) -> None:
    """A frame that belongs to a body."""
    body = bodies.get(number)
    if body is not None and kind == "broken":
        body.put_nowait(_unpacked(rest[0]))
    elif body is not None:
        body.put_nowait(rest[0] if rest else None)
    if kind != "chunk":
        bodies.pop(number, None)


async def fire_alarm(address: str, digits: str) -> None:
    """Have the owner of a namespace call the handler of an object's alarm."""
    client = await LinkClient.connect(address, lambda: None)
    if client is None:
        raise DurableObjectReset("Network connection lost.")
    try:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client.fire(DurableObjectId(digits), reply)
        await reply
    finally:
        await client.close()


def _packed(error: BaseException) -> Any:
    """An exception for a frame: one of ours by its name, which the codec would not know."""
    if isinstance(error, BunflareError) and type(error).__module__ == errors.__name__:
        return [type(error).__name__, str(error)]
    return carried(error)


def _unpacked(packed: Any) -> BaseException:
    if isinstance(packed, BaseException):
        return packed
    name, message = packed
    kind = getattr(errors, name, BunflareError)
    error: BaseException = kind.__new__(kind, message)
    # Some take more than their words, which do not come along.
    Exception.__init__(error, message)
    return error


def _remove(address: str) -> None:
    """Remove a socket, with the directory if that was made for it."""
    path = Path(address)
    path.unlink(missing_ok=True)
    if path.parent.name.startswith(_TEMPORARY):
        path.parent.rmdir()


def _address(host: ObjectHost) -> str:
    directory = host.database.directory.path / "sockets"
    name = f"{host.database.presence.id}-{next(_numbers)}"
    if len(os.fsencode(directory / name)) > _LONGEST_ADDRESS:
        return str(Path(tempfile.mkdtemp(prefix=_TEMPORARY)) / name)
    directory.mkdir(mode=0o700, exist_ok=True)
    for left in directory.iterdir():
        if not host.database.presence.alive(left.name.partition("-")[0]):
            left.unlink(missing_ok=True)
    return str(directory / name)


async def _read(reader: asyncio.StreamReader) -> list[Any] | None:
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        frame: list[Any] = loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None
    return frame


def _write(writer: asyncio.StreamWriter, frame: list[Any]) -> None:
    data = dumps(frame).encode()
    if len(data) > _LARGEST_FRAME:
        raise DurableObjectTypeError("this is too large to be sent to another process")
    writer.write(len(data).to_bytes(4, "big") + data)


def _sockets(writer: asyncio.StreamWriter) -> LinkSockets:
    def write(frame: list[Any]) -> None:
        if not writer.is_closing():
            _write(writer, frame)

    return LinkSockets(write, writer.transport.get_write_buffer_size)


async def _send_response(writer: asyncio.StreamWriter, number: int, response: Response) -> None:
    headers = [
        [name.decode("latin-1"), text.decode("latin-1")] for name, text in response.headers.raw
    ]
    empty = response.body is None
    body = response.take()
    _write(writer, ["response", number, response.status, headers, empty])
    try:
        if isinstance(body, bytes):
            for start in range(0, len(body), _CHUNK):
                _write(writer, ["chunk", number, body[start : start + _CHUNK]])
                await writer.drain()
        else:
            async for chunk in body:
                _write(writer, ["chunk", number, bytes(chunk)])
                await writer.drain()
    except ConnectionError:
        raise
    except Exception as error:
        _write(writer, ["broken", number, _packed(error)])
        return
    _write(writer, ["end", number])


def _request(
    method: str, url: str, headers: list[list[str]], body: bytes | AsyncIterator[bytes] | None
) -> Request:
    from ..web import Request

    return Request(url, method=method, headers=[(name, text) for name, text in headers], body=body)


def _response(
    body: _Chunks,
    status: int,
    headers: list[list[str]],
    empty: bool,
) -> Response:
    from ..web import Response

    async def chunks() -> AsyncIterator[bytes]:
        while (chunk := await body.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    pairs = [(name, text) for name, text in headers]
    return Response(None if empty else chunks(), status=status, headers=pairs)
