"""Calls of objects that run in another process, over a local socket.

Values pass as they would within a process: what is a copy there is one here, what is passed by
reference there is called or read over the same connection (`link_values`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import link_frames as frames
from .link_values import Passing
from .object_ids import DurableObjectId
from .object_link_sockets import LinkSockets

if TYPE_CHECKING:
    from ..web import Request
    from .actor import Actor
    from .object_host import ObjectHost

# The longest path that a socket's address takes, with its end.
_LONGEST_ADDRESS = 100
_TEMPORARY = "bunflare-socket-"
_numbers = itertools.count(1)


class _End:
    """This process's end of a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.passing = Passing(writer, self.write)
        self.sockets = LinkSockets(self._say, writer.transport.get_write_buffer_size)

    def write(self, frame: list[Any]) -> None:
        frames.write(self.writer, frame)

    def _say(self, frame: list[Any]) -> None:
        if not self.writer.is_closing():
            self.write(frame)

    def take(self, frame: list[Any]) -> bool:
        """Hear what is no call of an object, and no answer to one; False for such."""
        kind, *rest = frame
        if kind == "said":
            self.sockets.take(*rest)
            return True
        return self.passing.take(kind, rest)

    def close(self) -> None:
        self.passing.close()
        self.sockets.close()
        self.writer.close()


class LinkServer:
    """Takes calls of other processes for the objects that run here."""

    def __init__(self, host: ObjectHost, address: str) -> None:
        self._host = host
        self.address = address
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[_End] = set()

    @classmethod
    async def start(cls, host: ObjectHost) -> LinkServer:
        """Listen on a socket of one's own."""
        server = cls(host, _address(host))
        server._server = await asyncio.start_unix_server(server._connected, server.address)
        os.chmod(server.address, 0o600)  # noqa: PTH101 - also where there is no path to it
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = _End(writer)
        self._ends.add(end)
        own = asyncio.current_task()
        assert own is not None
        self._tasks.add(own)
        try:
            while (frame := await frames.read(reader)) is not None:
                self._take(end, frame)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(own)
            self._ends.discard(end)
            end.close()

    def _take(self, end: _End, frame: list[Any]) -> None:
        if end.take(frame):
            return
        kind, number, digits, name, *rest = frame
        try:
            future = self._begin(end, kind, DurableObjectId(digits, name), rest)
        except Exception as error:
            end.write(["error", number, frames.packed(error)])
            return
        task = asyncio.get_running_loop().create_task(self._answer(end, number, digits, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(
        self, end: _End, kind: str, target: DurableObjectId, rest: list[Any]
    ) -> asyncio.Future[Any]:
        if kind == "fire":
            return self._host.alarms.fire(target.digits)
        if kind == "fetch":
            return self._host.fetch(target, end.passing.unpack(*rest))
        method, *given = rest
        args, kwargs = end.passing.unpack(*given)
        return self._host.call(target, method, None if args is None else tuple(args), kwargs)

    async def _answer(
        self, end: _End, number: int, digits: str, future: asyncio.Future[Any]
    ) -> None:
        from ..web import Response

        try:
            result = await future
            if isinstance(result, Response) and result.web_socket is not None:
                end.sockets.offer(number, result)
            else:
                end.passing.send(["ok", number], result, self._host.actors.get(digits))
            await end.writer.drain()
        except ConnectionError:
            return
        except Exception as error:
            with contextlib.suppress(ConnectionError):
                end.write(["error", number, frames.packed(error)])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.writer.close()
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
        self._end = _End(writer)
        self._lost = lost
        self._replies: dict[int, asyncio.Future[Any]] = {}
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
        actor: Actor | None,
    ) -> None:
        """Have a method called; ``actor`` is the object that calls, if it is one."""
        given = [None if args is None else list(args), kwargs]
        self._send("call", id, [method], given, reply, actor)

    def fire(self, id: DurableObjectId, reply: asyncio.Future[Any]) -> None:
        """Have an alarm's handler called."""
        self._send("fire", id, [], None, reply)

    def fetch(self, id: DurableObjectId, request: Request, reply: asyncio.Future[Any]) -> None:
        """Have a request answered."""
        self._send("fetch", id, [], request, reply)

    def _send(
        self,
        kind: str,
        id: DurableObjectId,
        what: list[Any],
        value: Any,
        reply: asyncio.Future[Any],
        actor: Actor | None = None,
    ) -> None:
        number = next(_numbers)
        try:
            self._end.passing.send([kind, number, str(id), id.name, *what], value, actor)
        except Exception as error:
            if not reply.done():
                reply.set_exception(error)
        else:
            self._replies[number] = reply

    async def _listen(self) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while (frame := await frames.read(self._reader)) is not None:
                    if not self._end.take(frame):
                        self._take(*frame)
        finally:
            replies, self._replies = self._replies, {}
            for reply in replies.values():
                if not reply.done():
                    reply.set_exception(frames.lost())
            self._end.close()
            self._lost()

    def _take(self, kind: str, number: int, *rest: Any) -> None:
        error: BaseException | None = None
        result = None
        try:
            if kind == "socket":
                # Where nobody waits for it any more, it is closed with this object's end.
                result = self._end.sockets.receive(number, *rest)
            elif kind == "ok":
                result = self._end.passing.unpack(*rest)
            else:
                error = frames.unpacked(*rest)
        except Exception as failure:
            error = failure
        reply = self._replies.pop(number, None)
        if reply is None or reply.done():
            return
        if error is None:
            reply.set_result(result)
        else:
            reply.set_exception(error)

    async def close(self) -> None:
        self._lost = lambda: None
        self._task.cancel()
        await asyncio.wait([self._task])


async def fire_alarm(address: str, digits: str) -> None:
    """Have the owner of a namespace call the handler of an object's alarm."""
    client = await LinkClient.connect(address, lambda: None)
    if client is None:
        raise frames.lost()
    try:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client.fire(DurableObjectId(digits), reply)
        await reply
    finally:
        await client.close()


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
