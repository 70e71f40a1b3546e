"""A program that writes objects without end and tells what it does, until it is killed.

Each line on its standard output is ``begin`` or ``done``, then what is done to which key, and the
number of the step. A key has one writer, so what must be found later is what was done last, or
what was begun after it. Readers look on, and end the program if they see anything but a whole
object.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import bunflare
from bunflare import R2Bucket, R2ObjectBody, R2UploadedPart, State

WRITERS = 3
#: Below each other, escaped, and ordinary; a writer's own are those that begin with its number.
KEYS = ["{0}", "{0}/a", "{0}/a/b", "{0}/../%00", "{0}//", "{0}/plain.txt"]
SIZES = [0, 10, 1000, 60_000, 70_000, 1_500_000]
KINDS = ["put", "put", "stream", "delete", "parts", "file", "copy", "several", "transaction"]


def value_of(number: int, size: int) -> bytes:
    """Bytes that show of which step they are, wherever one looks."""
    word = b"%010d " % number
    return word * (size // len(word) + 1)


def tell(what: str, kind: str, key: str, number: int) -> None:
    """One write, so that a line is whole or absent; the pipe survives this process."""
    os.write(1, f"{what} {kind} {number} {key}\n".encode())


async def pieces(value: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(value), 50_000):
        yield value[place : place + 50_000]
        await asyncio.sleep(0)


async def in_parts(bucket: R2Bucket, key: str, value: bytes, number: int) -> None:
    upload = await bucket.create_multipart_upload(key, custom_metadata={"number": str(number)})
    await upload.upload_part(7, b"never chosen")
    part: R2UploadedPart = await upload.upload_part(1, pieces(value))
    if number % 4 == 0:
        # Somebody else goes on with it, and this one is forgotten.
        other = await bucket.create_multipart_upload(key)
        await other.upload_part(1, b"abandoned" * 10_000)
        upload = bucket.resume_multipart_upload(key, upload.upload_id)
    await upload.complete([part])


async def step(bucket: R2Bucket, kind: str, key: str, number: int, file: Path) -> None:
    value = value_of(number, random.choice(SIZES))
    metadata = {"number": str(number)}
    if kind in ("put", "several"):
        await bucket.put(key, value, custom_metadata=metadata)
    elif kind == "stream":
        await bucket.put(key, pieces(value), custom_metadata=metadata)
    elif kind == "delete":
        await bucket.delete(key)
    elif kind == "parts":
        await in_parts(bucket, key, value, number)
    elif kind == "file":
        file.write_bytes(value)
        await bucket.upload_file(key, file, custom_metadata=metadata)
    else:
        # The source is of no interest later; it is written by this step as well.
        source = f"{key}+source"
        await bucket.put(source, value, custom_metadata=metadata)
        await bucket.copy(source, key)


async def transact(state: State, keys: list[str], number: int) -> None:
    """All of the keys, or none; one in five is given up."""
    try:
        async with state.transaction() as tx:
            bucket = tx.r2("bucket")
            for key in keys:
                value, metadata = value_of(number, random.choice(SIZES)), {"number": str(number)}
                given = pieces(value) if random.random() < 0.5 else value
                await bucket.put(key, given, custom_metadata=metadata)
            if number % 5 == 0:
                raise ZeroDivisionError
    except ZeroDivisionError:
        for key in keys:
            tell("gave-up", "transaction", key, number)


async def write(state: State, writer: int, start: int, scratch: Path) -> None:
    bucket = state.r2("bucket")
    mine = [key.format(writer) for key in KEYS]
    for number in range(start, start + 1_000_000):
        kind = random.choice(KINDS)
        several = kind in ("several", "transaction")
        chosen = random.sample(mine, 3) if several else [random.choice(mine)]
        for key in chosen:
            tell("begin", kind, key, number)
        if kind == "transaction":
            await transact(state, chosen, number)
            if number % 5 == 0:
                continue
        else:
            await asyncio.gather(
                *(step(bucket, kind, key, number, scratch / f"file{writer}") for key in chosen)
            )
        for key in chosen:
            tell("done", kind, key, number)


async def look_on(bucket: R2Bucket) -> None:
    while True:
        await asyncio.sleep(0)
        key = random.choice(KEYS).format(random.randrange(WRITERS))
        found = await bucket.get(key)
        if found is None:
            continue
        assert isinstance(found, R2ObjectBody)
        await asyncio.sleep(0)
        body = await found.bytes()
        number = int((found.custom_metadata or {})["number"])
        assert body == value_of(number, len(body) - 11), key


async def main(directory: str, start: int, durability: str, seed: int) -> None:
    random.seed(seed)
    scratch = Path(directory).with_name("scratch")
    scratch.mkdir(exist_ok=True)
    async with bunflare.open(directory, durability=durability) as state:  # type: ignore[arg-type]
        await asyncio.gather(
            *(write(state, writer, start, scratch) for writer in range(WRITERS)),
            look_on(state.r2("bucket")),
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
