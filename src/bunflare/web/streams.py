"""Streams of bytes: checked as they are read, and read by two.

A body's stream is an asynchronous iterator of ``bytes``. `Checked` holds what a user gave to that;
`tee` makes two of one. The source of a tee is read in a task of its own, so that a reader which
is cancelled takes nothing from the other one, and only when a reader asks. What one has read and
the other has not is held in memory; a reader that was closed or dropped is no longer waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self
from weakref import WeakSet

from ..errors import FetchTypeError


class Sized:
    """A stream of which it is known how many bytes are to come, so that they can be announced."""

    __slots__ = ()

    left: int


class Counted(Sized):
    """Another iterator's chunks, of which it is known how many bytes they are."""

    __slots__ = ("_source", "left")

    def __init__(self, source: AsyncIterator[bytes], left: int) -> None:
        self._source = source
        self.left = left

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._source.__anext__()
        self.left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        await close(self._source)


def checked(source: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The chunks of another iterator, which must be bytes-like, as bytes."""
    chunks = Checked(source)
    return Counted(chunks, source.left) if isinstance(source, Sized) else chunks


class Checked:
    """The chunks of another iterator, which must be bytes-like, as bytes."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._source.__anext__()
        if chunk.__class__ is bytes:
            return chunk
        try:
            return bytes(memoryview(chunk))
        except TypeError:
            raise FetchTypeError(
                f"a body's stream must give bytes, not {type(chunk).__name__}"
            ) from None

    async def aclose(self) -> None:
        await close(self._source)


async def once(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as a stream."""
    if data:
        yield data


async def close(source: object) -> None:
    """Stop reading, so that the source may let go of what it holds."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


def tee(source: AsyncIterator[bytes]) -> tuple[AsyncIterator[bytes], AsyncIterator[bytes]]:
    """Two streams, each of which gives what ``source`` gives."""
    shared = _Shared(source)
    one, other = _Branch(shared), _Branch(shared)
    if isinstance(source, Sized):
        return Counted(one, source.left), Counted(other, source.left)
    return one, other


class _Shared:
    """The source of a tee, and who still reads it."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self.branches: WeakSet[_Branch] = WeakSet()
        self.ended = False
        self.failure: Exception | None = None
        self._source = source
        self._reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Wait for the next chunk, which every branch gets, or the end, or a failure."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        # Unlike an await of the task, this passes no cancellation on, in neither direction.
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            chunk = await self._source.__anext__()
        except StopAsyncIteration:
            self.ended = True
        except Exception as error:
            self.failure = error
        else:
            for branch in self.branches:
                branch.chunks.append(chunk)
        finally:
            self._reading = None

    async def leave(self, branch: _Branch) -> None:
        self.branches.discard(branch)
        if self.branches:
            return
        reading = self._reading
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        await close(self._source)


class _Branch:
    __slots__ = ("__weakref__", "_closed", "_shared", "chunks")

    def __init__(self, shared: _Shared) -> None:
        self.chunks: deque[bytes] = deque()
        self._shared = shared
        self._closed = False
        shared.branches.add(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self.chunks:
            shared = self._shared
            if self._closed or shared.ended:
                raise StopAsyncIteration
            if shared.failure is not None:
                raise shared.failure
            await shared.read()
        return self.chunks.popleft()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self.chunks.clear()
            await self._shared.leave(self)
