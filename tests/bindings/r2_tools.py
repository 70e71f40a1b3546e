"""What the tests of R2 share: reading an object, and seeing what lies on the disk."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bunflare
from bunflare import R2Bucket, R2Limits, R2Object, R2ObjectBody, R2Objects, State
from tests.support import files

MIB = 1024 * 1024

#: A bucket whose parts may be as short as 50 bytes, and whose objects are 300,000 bytes at most.
SMALL = R2Limits(least_part_size=50, object_size=300_000)

#: Of the data directory itself, and of no bucket.
OURS = {"data.sqlite", "data.sqlite-wal", "data.sqlite-shm", "writer.lock", ".gitignore"}


def bucket_with(state: State, name: str, limits: R2Limits) -> R2Bucket:
    bucket = copy.copy(state.r2(name))
    bucket._limits = limits
    return bucket


async def chunks(*parts: Any) -> AsyncIterator[Any]:
    for part in parts:
        yield part


async def opened(bucket: R2Bucket, key: str, **options: Any) -> R2ObjectBody:
    found = await bucket.get(key, **options)
    assert isinstance(found, R2ObjectBody), found
    return found


async def read(bucket: R2Bucket, key: str, **options: Any) -> bytes | None:
    """The object's bytes; None if there is no such object."""
    found = await bucket.get(key, **options)
    if found is None:
        return None
    assert isinstance(found, R2ObjectBody), found
    return await found.bytes()


async def written(bucket: R2Bucket, key: str, value: Any, **options: Any) -> R2Object:
    """What a put gave that had no condition, or one that held."""
    stored = await bucket.put(key, value, **options)
    assert isinstance(stored, R2Object)
    return stored


async def names(bucket: R2Bucket, **options: Any) -> list[str]:
    """The keys of one page."""
    return [item.key for item in (await bucket.list(**options)).objects]


async def pages(bucket: R2Bucket, **options: Any) -> AsyncIterator[R2Objects]:
    """Every page of a list."""
    cursor = None
    while True:
        page = await bucket.list(cursor=cursor, **options)
        yield page
        assert page.truncated == (page.cursor is not None)
        if not page.truncated:
            return
        cursor = page.cursor


async def contents(bucket: R2Bucket) -> dict[str, bytes | None]:
    """Every object with its bytes."""
    return {
        item.key: await read(bucket, item.key)
        async for page in pages(bucket)
        for item in page.objects
    }


def objects_on_disk(directory: Path, name: str = "bucket") -> dict[str, bytes]:
    """Every file of a bucket's directory."""
    return files(directory / "r2" / name)


def beside(directory: Path, name: str = "bucket") -> dict[str, bytes]:
    """Every file of the data directory that is neither the database's nor in the bucket's."""
    return {
        path: data
        for path, data in files(directory).items()
        if path not in OURS and not path.startswith(f"r2/{name}/")
    }


def code_of(error: BaseException) -> int | None:
    assert isinstance(error, bunflare.R2Error), repr(error)
    return error.code
