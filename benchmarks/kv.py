"""Workers KV as a library, on asyncio's own event loop."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import bunflare
from bunflare import KVNamespace

from .floor import NAMESPACE, Floor, Pair, bulk_load, key_name, prefixes
from .peers import disk_cache, miniflare
from .report import Report

_HOT = 1_000
_KEYS = 10_000
_MANY = 1_000_000
_AT_ONCE = 256

_numbers = itertools.count()


async def measure(scratch: Path) -> Report:
    report = Report()
    await _small(report, scratch)
    await _large(report, scratch / "large")
    return report


async def _small(report: Report, scratch: Path) -> None:
    """Ten thousand keys, in a file of their own for each contender."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(bunflare.open(scratch / "ours"))
        assert state.database.durability == "full"
        kv = state.kv(NAMESPACE)
        floor = Floor(scratch / "floor.sqlite")
        stack.callback(floor.close)
        disk = disk_cache.start(scratch / "diskcache", stack)
        mini = miniflare.start(scratch / "miniflare", stack)

        names = [key_name(number) for number in range(_KEYS)]
        pairs = fresh_pairs(names)
        few = fresh_pairs(random.Random(0).sample(names[:_HOT], _HOT))
        many = fresh_pairs(random.Random(0).sample(names, _KEYS))
        for filled in (floor, disk, mini):
            if filled is not None:
                filled.fill(pairs(_KEYS))
        await kv.put_many([{"key": key, "value": value} for key, value in pairs(_KEYS)])

        await report.compare(
            "KV get, 100 B, hot, awaited",
            2.0,
            lambda: names[:_HOT],
            floor.get,
            lambda keys: get(kv, keys),
            {
                disk_cache.NAME: disk.get if disk else None,
                miniflare.NAME: mini.get if mini else None,
            },
        )
        await report.compare(
            "KV put, durable, one at a time",
            0.7,
            lambda: few(200),
            floor.put,
            lambda batch: put(kv, batch),
            {
                disk_cache.NAME: disk.put if disk else None,
                miniflare.NAME: mini.put if mini else None,
            },
            seconds=0.5,
        )
        await report.compare(
            f"KV put, durable, {_AT_ONCE} at once",
            15.0,
            lambda: few(_AT_ONCE * 20),
            lambda batch: floor.put(batch[: _AT_ONCE * 4]),
            lambda batch: put_at_once(kv, batch),
            {
                miniflare.NAME: (lambda batch: mini.put_at_once(batch[: _AT_ONCE * 4]))
                if mini
                else None
            },
            seconds=0.5,
        )
        # The same where every put changes a page of its own: 4 KiB go to the disk for each.
        await report.compare(
            f"KV put, durable, {_AT_ONCE} at once, scattered over 10,000 keys",
            None,
            lambda: many(_AT_ONCE * 20),
            lambda batch: floor.put(batch[: _AT_ONCE * 4]),
            lambda batch: put_at_once(kv, batch),
            seconds=0.5,
        )
        await report.compare(
            "KV list of 1,000",
            0.5,
            lambda: prefixes(_KEYS),
            floor.list,
            lambda batch: list_pages(kv, batch),
            {miniflare.NAME: mini.list if mini else None},
        )


async def _large(report: Report, directory: Path) -> None:
    """A million keys, in one file for both."""
    bulk_load(directory / "data.sqlite", _MANY)
    async with bunflare.open(directory) as state:
        floor = Floor(state.directory / "data.sqlite", mapped=True)
        try:
            await report.compare(
                "KV get, 100 B, 1,000,000 keys, uniformly random",
                0.8,
                random_names(_MANY),
                floor.get,
                lambda keys: get(state.kv(NAMESPACE), keys),
            )
        finally:
            floor.close()


def fresh_pairs(names: Sequence[str]) -> Callable[[int], list[Pair]]:
    """Makes pairs of keys, in turn, and fresh values."""
    keys = itertools.cycle(names)
    return lambda count: list(zip(keys, fresh_values(count), strict=False))


def fresh_values(count: int) -> list[bytes]:
    """Values of 100 B that were never there before.

    SQLite writes nothing where nothing changes, so a value that comes twice would cost nothing.
    """
    return [b"%0100d" % next(_numbers) for _ in range(count)]


def random_names(count: int, batch: int = 10_000) -> Callable[[], list[str]]:
    """Makes batches of keys out of the first ``count``, each as likely as any other."""
    randomness = random.Random(count)
    return lambda: [key_name(randomness.randrange(count)) for _ in range(batch)]


async def get(kv: KVNamespace, keys: Sequence[str]) -> int:
    for key in keys:
        await kv.get(key)
    return len(keys)


async def put(kv: KVNamespace, pairs: Sequence[Pair]) -> int:
    for key, value in pairs:
        await kv.put(key, value)
    return len(pairs)


async def put_at_once(kv: KVNamespace, pairs: Sequence[Pair]) -> int:
    """As many tasks as that, each of which awaits its own puts one after the other."""
    await asyncio.gather(*(put(kv, pairs[task::_AT_ONCE]) for task in range(_AT_ONCE)))
    return len(pairs)


async def list_pages(kv: KVNamespace, prefixes: Sequence[str]) -> int:
    for prefix in prefixes:
        page = await kv.list(prefix=prefix)
        assert len(page.keys) == 1000
    return len(prefixes)
