"""Streams that another process reads: chunks by the frame, as many as it has asked for.

The reader asks for some chunks when it begins and for one more with each that it takes, so there
are never more of them under way, however slow it is. Bytes go in pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Self

from ..web.readable import Readable
from ..web.streams import close
from .link_frames import packed

#: The largest piece of a chunk, in bytes.
PIECE = 256 * 1024
# How many pieces are under way before the reader takes the first.
_AHEAD = 4

#: Sends a frame.
Write = Callable[[list[Any]], object]


class Sender:
    """Sends what an iterator gives, as far as it is wanted."""

    def __init__(
        self,
        number: int,
        source: AsyncIterator[Any],
        write: Write,
        drain: Callable[[], Awaitable[None]],
        forget: Callable[[int], object],
    ) -> None:
        self._number = number
        self._forget = forget
        self._source = source
        self._write = write
        self._drain = drain
        self._wanted = asyncio.Semaphore(0)
        self._task: asyncio.Task[None] | None = None

    def pull(self, count: int) -> None:
        """Send so many pieces more."""
        for _ in range(count):
            self._wanted.release()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self._wanted.acquire()
                try:
                    chunk = await self._source.__anext__()
                except StopAsyncIteration:
                    break
                for place, piece in enumerate(_pieces(chunk)):
                    if place:
                        await self._wanted.acquire()
                    self._write(["item", self._number, piece])
                    await self._drain()
            self._write(["over", self._number])
        except ConnectionError:
            await close(self._source)
        except Exception as error:
            with contextlib.suppress(ConnectionError):
                self._write(["broke", self._number, packed(error)])
            await close(self._source)
        finally:
            self._forget(self._number)

    def stop(self) -> None:
        """Nobody reads any more."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(_close(self._source))
        elif not self._task.done():
            self._task.cancel()
            self._task.add_done_callback(self._stopped)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._task = task.get_loop().create_task(_close(self._source))


async def _close(source: AsyncIterator[Any]) -> None:
    with contextlib.suppress(Exception):
        await close(source)


def _pieces(chunk: Any) -> Iterator[Any]:
    try:
        data = memoryview(chunk).cast("B")
    except TypeError:
        yield chunk
        return
    yield bytes(data[:PIECE])
    for start in range(PIECE, len(data), PIECE):
        yield bytes(data[start : start + PIECE])


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    """Bytes that are too many for one frame."""
    for piece in _pieces(data):
        yield piece


class RemoteStream(Readable):
    """A stream of another process."""

    def __init__(self, number: int, write: Write, forget: Callable[[int], object]) -> None:
        self._number = number
        self._write = write
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._begun = False
        #: What comes after the last piece: an error, or the end.
        self._last: BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not self._begun:
            self._begun = True
            if self._last is None:
                self._write(["pull", self._number, _AHEAD])
        while not self._items:
            if self._last is not None:
                last, self._last = self._last, StopAsyncIteration()
                raise last
            self._waiting = self._loop.create_future()
            await self._waiting
        item = self._items.popleft()
        if self._last is None:
            self._write(["pull", self._number, 1])
        return item

    def give(self, item: Any) -> None:
        """A piece has come."""
        if self._last is None:
            self._items.append(item)
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """There is no more."""
        if self._last is None:
            self._last = error or StopAsyncIteration()
            self._forget(self._number)
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def aclose(self) -> None:
        """Stop reading: the other process stops sending."""
        self._cancel()

    def _cancel(self) -> None:
        if self._last is None:
            self.end()
            self._items.clear()
            self._write(["cancel", self._number])

    def __del__(self) -> None:
        # Nobody reads it any more. That may be found on any thread, at any time.
        if self._last is None:
            write, number = self._write, self._number
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: write(["cancel", number]))
