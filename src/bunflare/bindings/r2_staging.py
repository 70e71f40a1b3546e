"""Writing the bytes of an object, or of a part of one, to a staged file as they come.

Blocks are written on one thread and hashed on another, and the last one is flushed while it is
hashed. Memory holds two blocks, however large the object.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import R2TypeError
from ..store.blobs import Draft
from ..store.threads import on_thread
from ..web import Blob
from ..web.body import BodyStream
from ..web.text import encode
from .r2_options import refuse
from .r2_ssec import Keystream

BLOCK = 1024 * 1024
# Beyond this, whole values are hashed on a thread.
_HASH_INLINE = 256 * 1024


class Staged:
    """What became of a value that was written to a staged file."""

    __slots__ = ("digests", "draft", "mtime", "size")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.size = 0
        self.mtime = 0
        self.digests: dict[str, bytes] = {}

    async def close(self) -> None:
        """Let go of the file; it is removed if no committed row names it."""
        if self.draft.kept:
            self.draft.close()
        else:
            await on_thread(self.draft.close)


def known(value: object, action: str) -> bytes | AsyncIterator[Any]:
    """The bytes of a value, or what they can be had from one after another."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return encode(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Blob):
        return value.known()
    if isinstance(value, BodyStream):
        value = value.detach()
        return value if isinstance(value, bytes) else aiter(value)
    if isinstance(value, AsyncIterable):
        return aiter(value)
    if isinstance(value, io.IOBase) and value.readable() and not isinstance(value, io.TextIOBase):
        return read_file(value)
    raise R2TypeError(
        f"{action}() takes a str, bytes, a Blob, an async iterable of bytes, a file opened for "
        f"reading bytes, or None, not {type(value).__name__}"
    )


async def read_file(file: Any) -> AsyncIterator[bytes]:
    """A file in blocks, read on a thread."""
    while block := await on_thread(file.read, BLOCK):
        yield block


def digests(data: bytes, algorithms: Sequence[str]) -> dict[str, bytes]:
    return {name: hashlib.new(name, data, usedforsecurity=False).digest() for name in algorithms}


async def stage(
    staging: Path,
    chunks: bytes | AsyncIterator[Any],
    algorithms: Sequence[str],
    keystream: Keystream | None,
    limit: int,
    action: str,
    now: Callable[[], int],
    progress: Callable[[int], None] | None = None,
) -> Staged:
    """Write a value to a staged file, which is on disk when this returns. Close what comes back.

    ``now`` tells epoch milliseconds, of which the file's time of modification is made.
    """
    staged = Staged(await on_thread(Draft, staging))
    try:
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}

        def write(block: bytes | memoryview, last: bool) -> None:
            if keystream is not None:
                block = keystream.apply(block)
            staged.draft.write(block)
            if last:
                staged.mtime = now() * 1_000_000 + secrets.randbelow(1_000_000)
                staged.draft.stamp(staged.mtime)
                staged.draft.sync()

        def digest(block: bytes | memoryview) -> None:
            for one in hashes.values():
                one.update(block)

        before: bytes | memoryview = b""
        async for block in _blocks(chunks):
            staged.size += len(block)
            if staged.size > limit:
                refuse(
                    action,
                    100100,
                    "Your proposed upload exceeds the maximum allowed object size.",
                )
            if before:
                await _both(write, digest, before, False)
                if progress is not None:
                    progress(staged.size - len(block))
            before = block
        await _both(write, digest, before, True)
        if progress is not None:
            progress(staged.size)
        staged.digests = {name: one.digest() for name, one in hashes.items()}
    except BaseException:
        await staged.close()
        raise
    finally:
        aclose = getattr(chunks, "aclose", None)
        if aclose is not None:
            await aclose()
    return staged


async def _both(
    write: Callable[[bytes | memoryview, bool], None],
    digest: Callable[[bytes | memoryview], None],
    block: bytes | memoryview,
    last: bool,
) -> None:
    work = [on_thread(write, block, last)]
    if len(block) > _HASH_INLINE:
        work.append(on_thread(digest, block))
    else:
        digest(block)
    try:
        await asyncio.wait(work)
    except asyncio.CancelledError:
        # What has begun goes on, and uses the file that we are about to close.
        await asyncio.wait(work)
        raise
    for one in work:
        one.result()


async def finished(work: Callable[..., None], *args: object) -> None:
    """Run ``work`` on a thread, to its end even if nobody waits for it any more."""
    running = on_thread(work, *args)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _blocks(chunks: bytes | AsyncIterator[Any]) -> AsyncIterator[bytes | memoryview]:
    """What comes, in blocks of about one size."""
    if isinstance(chunks, bytes):
        whole = memoryview(chunks)
        for start in range(0, len(whole), BLOCK):
            yield whole[start : start + BLOCK]
        return
    gathered = bytearray()
    async for chunk in chunks:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise R2TypeError(f"a stream must give bytes, not {type(chunk).__name__}")
        if not gathered and len(chunk) >= BLOCK:
            yield bytes(chunk)
            continue
        gathered += chunk
        if len(gathered) >= BLOCK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def gathered(
    chunks: AsyncIterator[Any], most: int
) -> tuple[bytes, AsyncIterator[Any] | None]:
    """The beginning of a stream, and what follows if it has more than ``most`` bytes."""
    start = bytearray()
    async for chunk in chunks:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise R2TypeError(f"a stream must give bytes, not {type(chunk).__name__}")
        start += chunk
        if len(start) > most:
            return bytes(start), chunks
    return bytes(start), None


async def joined(start: bytes, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """A stream that was begun, from its beginning."""
    try:
        yield start
        async for chunk in rest:
            yield chunk
    finally:
        aclose = getattr(rest, "aclose", None)
        if aclose is not None:
            await aclose()
