"""What can be done with a stream beside iterating: the standard's readers and pipes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol, Self

from .buffer import Uint8Array
from .streams import Sized, close, tee

_pipes: set[asyncio.Future[Any]] = set()


class _Iterable(Protocol):
    async def __anext__(self) -> Any: ...

    async def aclose(self) -> None: ...


class ReadResult(dict[str, Any]):
    """``done`` and ``value`` of one read."""

    @property
    def done(self) -> bool:
        return bool(self["done"])

    @property
    def value(self) -> Any:
        return self["value"]


class Reader:
    """Reads a stream chunk by chunk."""

    def __init__(self, stream: _Iterable) -> None:
        self._stream = stream

    async def read(self) -> ReadResult:
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            return ReadResult(done=True, value=None)
        if isinstance(chunk, bytes):
            chunk = Uint8Array(chunk)
        return ReadResult(done=False, value=chunk)

    def releaseLock(self) -> None:
        """The stream can be read by others again; here it always can."""

    async def cancel(self, reason: Any = None) -> None:
        await self._stream.aclose()

    release_lock = releaseLock


class Readable:
    """Methods of the standard's ReadableStream, for what iterates over chunks."""

    __slots__ = ()

    async def __anext__(self) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def getReader(self, options: Any = None) -> Reader:
        """A reader: ``await reader.read()`` gives ``done`` and ``value``."""
        return Reader(self)

    async def cancel(self, reason: Any = None) -> None:
        """Stop reading for good."""
        await self.aclose()

    async def pipeTo(self, target: Any, options: Any = None) -> None:
        """Write everything into a writable stream, and close that.

        A failure of one ends the other, unless ``preventAbort`` or ``preventCancel`` say otherwise.
        """
        asked = options or {}
        writer = target.getWriter()
        try:
            while True:
                try:
                    chunk = await self.__anext__()
                except StopAsyncIteration:
                    break
                await writer.write(chunk)
        except BaseException as error:
            if not asked.get("preventAbort"):
                await writer.abort(error)
            if not asked.get("preventCancel"):
                await self.cancel(error)
            raise
        if not asked.get("preventClose"):
            await writer.close()

    def pipeThrough(self, transform: Any, options: Any = None) -> Any:
        """The readable side of a transform that this is piped into."""
        task = asyncio.ensure_future(self.pipeTo(transform.writable, options))
        _pipes.add(task)
        task.add_done_callback(_piped)
        return transform.readable

    get_reader = getReader
    pipe_to = pipeTo
    pipe_through = pipeThrough


class Stream(Readable):
    """What another iterator gives, as a stream."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._source.__anext__()

    async def aclose(self) -> None:
        await close(self._source)

    def tee(self) -> tuple[Stream, Stream]:
        """Two streams of it. What only one of them has read is held in memory for the other."""
        one, other = tee(self)
        return Stream(one), Stream(other)


class SizedStream(Stream, Sized):
    """One of which it is known how many bytes are to come."""

    __slots__ = ("left",)

    def __init__(self, source: AsyncIterator[Any], left: int) -> None:
        super().__init__(source)
        self.left = left

    async def __anext__(self) -> Any:
        chunk = await super().__anext__()
        self.left -= len(chunk)
        return chunk

    def tee(self) -> tuple[Stream, Stream]:
        left = self.left
        one, other = tee(self)
        return SizedStream(one, left), SizedStream(other, left)


def _piped(task: asyncio.Future[Any]) -> None:
    _pipes.discard(task)
    if not task.cancelled():
        task.exception()  # the readable side raises it
