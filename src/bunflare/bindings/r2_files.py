"""Objects to and from files of the user, and to other objects, without a detour through Python."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from ..store.blobs import Draft, OpenFile, copied_range
from ..store.threads import on_thread
from .r2_objects import FileStream, R2ObjectBody
from .r2_staging import Staged, finished

Progress = Callable[[int, int | None], None]


async def download(found: R2ObjectBody, path: Path, progress: Progress | None) -> None:
    """Write an object's bytes to a file beside ``path``, which then takes its place."""
    assert found.range is not None
    size = found.range.length or 0
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    loop = asyncio.get_running_loop()
    content = found.take()

    def report(done: int) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, size)

    def write(data: bytes) -> None:
        partial.write_bytes(data)
        report(len(data))

    def copy(file: OpenFile, offset: int, length: int) -> None:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            done = 0
            for copied in copied_range(file.descriptor, descriptor, offset, length):
                done += copied
                report(done)
        finally:
            os.close(descriptor)

    try:
        if isinstance(content, bytes):
            await finished(write, content)
        elif isinstance(content, FileStream) and (plain := content.plain()) is not None:
            await finished(copy, *plain)
        else:
            with await on_thread(partial.open, "xb") as target:
                done = 0
                async for chunk in content:
                    await on_thread(target.write, chunk)
                    done += len(chunk)
                    report(done)
        await on_thread(partial.replace, path)
    finally:
        if isinstance(content, FileStream):
            await content.aclose()
        await on_thread(partial.unlink, missing_ok=True)


async def stage_copy(staging: Path, file: OpenFile, size: int, now: Callable[[], int]) -> Staged:
    """A staged copy of a file, on disk when this returns. Close what comes back."""
    staged = Staged(await on_thread(Draft, staging))

    def copy() -> None:
        staged.draft.append(file.descriptor, 0, size)
        staged.size = size
        staged.mtime = now() * 1_000_000 + secrets.randbelow(1_000_000)
        staged.draft.stamp(staged.mtime)
        staged.draft.sync()

    try:
        await finished(copy)
    except BaseException:
        await staged.close()
        raise
    finally:
        file.close()
    return staged
