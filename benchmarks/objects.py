"""Durable Objects as a library, beside bare APSW on the table that keeps their values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import apsw

import bunflare
from bunflare import DurableObject
from bunflare.store.objects import DO_STORAGE

from .measure import Rates
from .report import Report, tell

_AT_ONCE = 256
_PUTS = 1_000
_CREATED = 100_000
_ID = "0" * 64

_GET = "SELECT value FROM do_storage WHERE namespace = ? AND id = ? AND key = ?"
_PUT = """
INSERT INTO do_storage (namespace, id, key, value) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, id, key) DO UPDATE SET value = excluded.value
"""
_TABLE = "CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)"
_INSERT = "INSERT INTO t (b) VALUES (?)"


class Bench(DurableObject):
    written = 0

    async def increment(self) -> int:
        value = (await self.ctx.storage.get("n") or 0) + 1
        await self.ctx.storage.put("n", value)
        return int(value)

    async def nothing(self) -> int:
        return 1

    async def reads(self, keys: list[str]) -> int:
        get = self.ctx.storage.get
        for key in keys:
            assert await get(key) is not None
        return len(keys)

    async def writes(self, keys: list[str]) -> int:
        put = self.ctx.storage.put
        for number, key in enumerate(keys):
            await put(key, number)
        return len(keys)

    async def changes(self, keys: list[str]) -> int:
        put = self.ctx.storage.put
        # What does not change is not written, nor kept.
        self.written += 1
        for number, key in enumerate(keys, self.written):
            await put(key, number)
        return len(keys)

    async def inserts(self, keys: list[str]) -> int:
        execute = self.ctx.storage.sql.exec
        execute(_TABLE)
        for key in keys:
            execute(_INSERT, key)
        return len(keys)


class _Floor:
    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path))
        assert self.connection.pragma("journal_mode", "wal") == "wal"
        self.connection.pragma("synchronous", "full")
        self.connection.execute(DO_STORAGE)
        self.connection.execute(_TABLE)
        self._execute = self.connection.cursor().execute
        self._written = 0

    def get(self, keys: Sequence[str]) -> int:
        for key in keys:
            assert self._execute(_GET, ("Bench", _ID, key)).fetchall()
        return len(keys)

    def put(self, keys: Sequence[str]) -> int:
        for key in keys:
            # What does not change is not written.
            self._written += 1
            self._execute(_PUT, ("Bench", _ID, key, str(self._written)))
        return len(keys)

    def insert(self, keys: Sequence[str]) -> int:
        with self.connection:
            for key in keys:
                self._execute(_INSERT, (key,))
        return len(keys)


async def _one_at_a_time(method: Any, keys: Sequence[str]) -> int:
    for _ in keys:
        await method()
    return len(keys)


async def _at_once(stubs: list[Any], rounds: int) -> int:
    for _ in range(rounds):
        await asyncio.gather(*[stub.increment() for stub in stubs])
    return rounds * len(stubs)


async def _nothing() -> int:
    return 1


async def _bare(keys: Sequence[str]) -> int:
    for _ in keys:
        await _nothing()
    return len(keys)


async def measure(scratch: Path) -> Report:
    report = Report()
    async with bunflare.open(scratch / "ours") as state:
        objects = state.durable_objects(Bench)
        stub = objects.get_by_name("a")
        stubs = [objects.get_by_name(str(number)) for number in range(_AT_ONCE)]
        floor = _Floor(scratch / "floor.sqlite")
        with closing(floor.connection):
            keys = [f"key{number}" for number in range(_PUTS)]
            floor.put(keys[:50])
            await stub.writes(keys)
            few = keys[:50]
            await report.compare("object storage get", 2, lambda: few * 20, floor.get, stub.reads)
            await report.compare(
                "object storage put, 1,000 in one event",
                15,
                lambda: keys,
                lambda keys: floor.put(keys[:100]),
                stub.writes,
            )
            await report.compare(
                "RPC increment, one caller",
                0.6,
                lambda: keys[:200],
                floor.put,
                lambda keys: _one_at_a_time(stub.increment, keys),
            )
            await report.compare(
                "RPC increment, 256 objects at once",
                12,
                lambda: keys[:200],
                floor.put,
                lambda _: _at_once(stubs, 4),
            )
            await report.compare(
                "RPC without storage, beside a bare await",
                1 / 150,
                lambda: keys,
                _bare,
                lambda keys: _one_at_a_time(stub.nothing, keys),
            )
            await report.compare(
                "sql.exec insert, 1,000 in one event",
                0.5,
                lambda: keys,
                floor.insert,
                stub.inserts,
            )
    await _with_history(report, scratch / "history")
    await _many(report, scratch / "many")
    return report


async def _with_history(report: Report, path: Path) -> None:
    """What it costs to keep every state: the same work beside itself without a history."""
    async with bunflare.open(path) as state:
        kept = state.durable_objects(Bench, "Kept")
        await kept.keep_history()
        with_, without = (
            objects.get_by_name("a") for objects in (kept, state.durable_objects(Bench))
        )
        keys = [f"key{number}" for number in range(_PUTS)]

        async def side(work: str, few: list[str], sides: list[Any]) -> None:
            name = f"{work}, with a history beside without"
            await report.compare(name, None, lambda: few, *sides, seconds=0.1)

        increments = [partial(_one_at_a_time, stub.increment) for stub in (without, with_)]
        await side("RPC increment, one caller", keys[:100], increments)
        await side("object storage put, 1,000 in one event", keys, [without.changes, with_.changes])
        await side("sql.exec insert, 1,000 in one event", keys, [without.inserts, with_.inserts])


async def _many(report: Report, path: Path) -> None:
    """Objects created with one row each: the second half takes as long as the first."""
    clock = bunflare.ManualClock()
    async with bunflare.open(path, clock=clock) as state:
        objects = state.durable_objects(Bench)
        await objects.get_by_name("first").increment()
        before = _resident()
        halves = []
        for half in range(2):
            started = time.perf_counter()
            for start in range(0, _CREATED // 2, _AT_ONCE):
                names = [f"{half}-{start + number}" for number in range(_AT_ONCE)]
                await asyncio.gather(*[objects.get_by_name(name).increment() for name in names])
            halves.append(_CREATED / 2 / (time.perf_counter() - started))
            await clock.advance(seconds=20)
        rates = Rates({"first": [halves[0]], "second": [halves[1]]})
        report.at_least(
            "100,000 objects, the second half beside the first", 0.7, rates, "second", "first"
        )
        grown = (_resident() - before) / 2**20
        tell(f"memory after all were evicted: {grown:+.0f} MiB")
        report.at_most(
            "100,000 objects, MiB kept after eviction",
            50,
            50,
            max(grown, 0.01),
            "50 MiB",
            lambda mib: f"{mib:.0f} MiB",
        )


def _resident() -> int:
    """Bytes of the process' own; what is mapped of the database is the system's cache of it."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        own = next(line for line in file if line.startswith("RssAnon"))
    return int(own.split()[1]) * 1024
