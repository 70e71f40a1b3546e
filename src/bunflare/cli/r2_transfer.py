"""Many transfers at once between a bucket and a folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError, ValueCorrupt
from .place import reason
from .progress import progress_bar

if TYPE_CHECKING:
    from ..bindings.r2 import R2Bucket
    from ..bindings.r2_objects import R2Object

#: Transfers under way at once.
AT_ONCE = 8


def files_of(folder: Path) -> dict[str, Path]:
    """Every file in a folder by its path there, which is to be its key."""
    if not folder.is_dir():
        raise BunflareError(f"{folder} is not a directory")
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def objects_of(bucket: R2Bucket, prefix: str) -> AsyncIterator[R2Object]:
    """All objects whose keys begin so."""
    cursor: str | None = None
    while True:
        page = await bucket.list(prefix=prefix, cursor=cursor)
        for found in page.objects:
            yield found
        cursor = page.cursor
        if cursor is None:
            return


def is_path(key: str) -> bool:
    """Whether a key can be the path of a file within a folder."""
    return "\0" not in key and not {"", ".", ".."} & set(key.split("/"))


async def download(bucket: R2Bucket, key: str, target: Path) -> None:
    """Write an object to a file, whose folder is made."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        await bucket.download_file(key, target)
    except ValueCorrupt as error:
        raise BunflareError(f"{key}: {error}") from error
    except OSError as error:
        raise BunflareError(f"{target}: {error.strerror or error}") from error


async def do_all(
    label: str,
    work: Callable[[Any], Coroutine[Any, Any, None]],
    items: list[Any],
    at_once: int = AT_ONCE,
) -> list[str]:
    """Do the work on each; why some failed, which does not keep the others back."""
    waiting = iter(items)
    failures: list[str] = []
    done = 0
    with progress_bar(label, "items") as progress:

        async def worker() -> None:
            nonlocal done
            for item in waiting:
                try:
                    await work(item)
                except BunflareError as error:
                    failures.append(str(error))
                except OSError as error:
                    failures.append(reason(error))
                done += 1
                progress(done, len(items))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    return failures


def refuse(failures: list[str]) -> None:
    """End with what went wrong, if anything did: a line each."""
    if failures:
        *others, last = failures
        for failure in others:
            click.echo(f"error: {failure}", err=True)
        raise BunflareError(last)
