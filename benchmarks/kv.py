"""Workers KV."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator

import apsw

import bunflare
from bunflare.store.kv import PUT

from . import floor
from .measure import Rates, Result, scratch

_number = itertools.count()


def _value() -> bytes:
    """100 bytes that were never written before: SQLite leaves out what changes nothing."""
    return b"%0100d" % next(_number)


def run() -> Iterator[Result]:
    with asyncio.Runner() as runner, scratch() as directory:

        async def opened() -> bunflare.State:
            return bunflare.open(directory / "ours")

        state = runner.run(opened())
        kv = state.kv("N")
        bare = floor.kv_table(directory / "floor.sqlite")
        keys = floor.keys(10_000)

        def fill() -> None:
            with bare:
                for key in keys:
                    bare.execute(PUT, ("N", key, _value(), None, None))

        fill()
        runner.run(kv.put_many({"key": key, "value": _value()} for key in keys))
        yield from _gets(runner, kv, bare, keys)
        yield from _puts(runner, kv, bare, keys)
        yield from _lists(runner, kv, bare, keys)
        runner.run(state.close())
        bare.close()
    yield from _random()


def _gets(
    runner: asyncio.Runner, kv: bunflare.KVNamespace, bare: apsw.Connection, keys: list[str]
) -> Iterator[Result]:
    hot = keys[:100] * 300
    execute = bare.cursor().execute

    def floor_get() -> int:
        for key in hot:
            execute(floor.GET, ("N", key)).fetchall()
        return len(hot)

    async def ours() -> None:
        for key in hot:
            await kv.get(key)

    def our_get() -> int:
        runner.run(ours())
        return len(hot)

    yield Rates(floor_get, our_get).result("KV get, 100 B, hot, awaited", 2.0)


def _puts(
    runner: asyncio.Runner, kv: bunflare.KVNamespace, bare: apsw.Connection, keys: list[str]
) -> Iterator[Result]:
    some = itertools.cycle(keys)
    execute = bare.cursor().execute
    alone, at_once = 1_000, 256

    def floor_put() -> int:
        for _ in range(alone):
            execute(PUT, ("N", next(some), _value(), None, None))
        return alone

    async def one_at_a_time() -> None:
        for _ in range(alone):
            await kv.put(next(some), _value())

    def our_put() -> int:
        runner.run(one_at_a_time())
        return alone

    async def worker(count: int) -> None:
        for _ in range(count):
            await kv.put(next(some), _value())

    async def many_at_once() -> None:
        await asyncio.gather(*(worker(50) for _ in range(at_once)))

    def our_puts() -> int:
        runner.run(many_at_once())
        return at_once * 50

    rates = Rates(floor_put, our_put, our_puts)
    yield rates.result("KV put, durable, one at a time", 0.7)
    yield rates.result("KV put, durable, 256 at once", 15.0, contender=2)


def _lists(
    runner: asyncio.Runner, kv: bunflare.KVNamespace, bare: apsw.Connection, keys: list[str]
) -> Iterator[Result]:
    execute = bare.cursor().execute
    times = 50

    def floor_list() -> int:
        for number in range(times):
            rows = execute(floor.LIST, ("N", f"key-{number * 100:08}", 1000)).fetchall()
            assert len(rows) == 1000
        return times

    async def ours() -> None:
        for number in range(times):
            page = await kv.list(cursor=cursors[number])
            assert len(page.keys) == 1000

    def our_list() -> int:
        runner.run(ours())
        return times

    async def find_cursors() -> list[str | None]:
        found: list[str | None] = [None]
        while len(found) < times:
            # Where the floor begins too: a hundred keys further on.
            found.append((await kv.list(limit=100, cursor=found[-1])).cursor)
        return found

    cursors = runner.run(find_cursors())
    yield Rates(floor_list, our_list).result("KV list of 1,000", 0.5)


def _random() -> Iterator[Result]:
    """A million keys, and the floor reads the very file."""
    count = 1_000_000
    with asyncio.Runner() as runner, scratch() as directory:

        async def opened() -> bunflare.State:
            state = bunflare.open(directory, durability="normal")
            kv = state.kv("N")
            for start in range(0, count, 20_000):
                await kv.put_many(
                    {"key": f"key-{i:08}", "value": _value()} for i in range(start, start + 20_000)
                )
            return state

        state = runner.run(opened())
        kv = state.kv("N")
        bare = floor.connect(directory / "data.sqlite")
        execute = bare.cursor().execute
        rng = random.Random(1)

        def some() -> list[str]:
            return [f"key-{rng.randrange(count):08}" for _ in range(20_000)]

        batches = itertools.cycle([some() for _ in range(16)])

        def floor_get() -> int:
            for key in (batch := next(batches)):
                execute(floor.GET, ("N", key)).fetchall()
            return len(batch)

        async def ours(batch: list[str]) -> None:
            for key in batch:
                await kv.get(key)

        def our_get() -> int:
            batch = next(batches)
            runner.run(ours(batch))
            return len(batch)

        yield Rates(floor_get, our_get).result(
            "KV get, 100 B, 1,000,000 keys, uniformly random", 0.8
        )
        runner.run(state.close())
        bare.close()
