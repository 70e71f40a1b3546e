"""A program that writes without end and tells what was acknowledged, until it is killed.

Every line on its standard output is one fact that must hold from then on.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator

import bunflare
from bunflare import Response, State

WRITERS = 4
GROUP = 5
KEEP = {"cache-control": "max-age=1000000000"}


def tell(kind: str, name: object, number: int) -> None:
    """One write, so that a line is whole or absent; the pipe survives this process."""
    os.write(1, f"{kind} {name} {number}\n".encode())


async def single(state: State, name: str, number: int) -> None:
    """One key, with its number in its value and in its metadata."""
    padding = "x" * random.choice([0, 10, 1000, 5000])
    await state.kv("single").put(name, f"{number} {padding}", metadata=number)
    tell("single", name, number)


async def removed(state: State, name: str, number: int) -> None:
    """A key that is there for even numbers and gone for odd ones."""
    kv = state.kv("removed")
    if number % 2:
        await kv.delete(name)
    else:
        await kv.put(name, str(number))
    tell("removed", name, number)


async def many(state: State, name: str, number: int) -> None:
    """Keys that always hold the same number, written in one call."""
    entries = [{"key": f"{name}.{i}", "value": str(number)} for i in range(GROUP)]
    await state.kv("group").put_many(entries)
    tell("group", name, number)


async def transaction(state: State, name: str, number: int) -> None:
    """The same in a transaction over two namespaces; one in three is given up."""
    try:
        async with state.transaction() as tx:
            for i in range(GROUP):
                await tx.kv("left").put(f"{name}.{i}", str(number))
                await tx.kv("right").put(f"{name}.{i}", str(number))
            if number % 3 == 0:
                raise ZeroDivisionError
    except ZeroDivisionError:
        return
    tell("transaction", name, number)


async def cached(state: State, name: str, number: int) -> None:
    """A response whose body is in the row or in a file, and consists of its number."""
    size = random.choice([100, 3_000_000])

    async def body() -> AsyncIterator[bytes]:
        word = f"{number} ".encode()
        for _ in range(10):
            yield word * (size // 10 // len(word))

    headers = {**KEEP, "x-number": str(number)}
    await state.caches.default.put(f"http://host/{name}", Response(body(), headers=headers))
    tell("cache", name, number)


async def main(directory: str, start: int, durability: str, seed: int) -> None:
    random.seed(seed)
    async with bunflare.open(directory, durability=durability) as state:  # type: ignore[arg-type]
        kinds = [single, removed, many, transaction, cached]

        async def write(writer: int) -> None:
            for number in range(start, start + 1_000_000):
                kind = kinds[(writer + number) % len(kinds)]
                await kind(state, str(writer), number)

        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
