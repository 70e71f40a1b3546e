"""What operations cost when there are a hundred times as many keys."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import bunflare
from bunflare.store.kv import PUT

from . import floor
from .measure import Rates, Result, scratch

SMALL, LARGE = 100_000, 10_000_000
_number = itertools.count(10**9)


async def _opened(directory: Path, count: int) -> bunflare.State:
    """A state with that many keys; loaded by SQL, which takes minutes less than the API."""
    async with bunflare.open(directory, durability="normal"):
        pass
    connection = floor.connect(directory / "data.sqlite")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-1000000")
    with connection:
        connection.executemany(
            PUT, (("N", f"key-{i:08}", b"%0100d" % i, None, None) for i in range(count))
        )
    connection.close()
    return bunflare.open(directory, durability="normal")


def run() -> Iterator[Result]:
    with asyncio.Runner() as runner, scratch() as directory:
        small = runner.run(_opened(directory / "small", SMALL))
        large = runner.run(_opened(directory / "large", LARGE))
        rng = random.Random(1)

        def gets(kv: bunflare.KVNamespace, count: int) -> int:
            async def work() -> None:
                for _ in range(5_000):
                    assert await kv.get(f"key-{rng.randrange(count):08}") is not None

            runner.run(work())
            return 5_000

        def puts(kv: bunflare.KVNamespace, count: int) -> int:
            async def put() -> None:
                await kv.put(f"key-{rng.randrange(count):08}", b"%0100d" % next(_number))

            async def work() -> None:
                for _ in range(20):
                    await asyncio.gather(*(put() for _ in range(100)))

            runner.run(work())
            return 2_000

        def lists(kv: bunflare.KVNamespace, count: int) -> int:
            async def work() -> None:
                for _ in range(50):
                    page = await kv.list(prefix=f"key-{rng.randrange(count // 1000):05}")
                    assert len(page.keys) == 1000

            runner.run(work())
            return 50

        for name, work in (("get", gets), ("put", puts), ("list", lists)):
            rates = Rates(partial(work, small.kv("N"), SMALL), partial(work, large.kv("N"), LARGE))
            yield rates.cost(f"KV {name} at 100,000 keys, and at 10,000,000", 2.0)
        for state in (small, large):
            runner.run(state.close())
