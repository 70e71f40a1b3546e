"""A whole state: counted, backed up, restored, checked, and what the change log costs.

The floors are a plain copy of the same files, flushed to the disk as a backup is, and reading every
byte of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from time import perf_counter

import apsw

import bunflare

from .measure import Rates, compare, contender
from .report import Report, tell

_KEYS = 1_000_000
_OBJECTS = 100_000
_ROUNDS = 5
_LARGE = 32
_LARGE_SIZE = 8 * 1024 * 1024
_SMALL = 3_000
_SMALL_SIZE = 16 * 1024
_VALUES = 100_000
_PUTS = 200

_FILL_KV = """
WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
INSERT INTO kv (namespace, key, value)
SELECT 'ns' || (n % 3), printf('key:%09d', n * 2654435761 % ?1), CAST(hex(randomblob(50)) AS BLOB)
FROM n
"""
_FILL_R2 = """
WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
INSERT INTO r2_objects (bucket, key, size, etag, uploaded)
SELECT 'bucket', printf('key:%09d', n), 10, hex(randomblob(16)), '2026-01-01T00:00:00.000Z' FROM n
"""


async def measure(scratch: Path) -> Report:
    report = Report()
    await _info(report, scratch / "counted")
    await _copies(report, scratch)
    await _changes(report, scratch)
    return report


async def _info(report: Report, path: Path) -> None:
    async with bunflare.open(path) as state:
        with closing(apsw.Connection(str(path / "data.sqlite"))) as connection:
            connection.execute(_FILL_KV, (_KEYS,))
            connection.execute(_FILL_R2, (_OBJECTS,))
        rates: dict[str, list[float]] = {"ours": [], "floor": []}
        for _ in range(_ROUNDS):
            # One second is the limit, so that is what it is held against.
            took = await _timed(state.info)
            rates["ours"].append(1 / took)
            rates["floor"].append(1.0)
        report.at_least(
            f"`state info` of {_KEYS:,} keys and {_OBJECTS:,} objects, against one second",
            1.0,
            Rates(rates),
        )
    shutil.rmtree(path)


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return perf_counter() - started


async def _copies(report: Report, scratch: Path) -> None:
    path = scratch / "whole"
    async with bunflare.open(path) as state:
        bucket = state.r2("files")
        for number in range(_LARGE):
            await bucket.put(f"large/{number}", os.urandom(_LARGE_SIZE))
        data = os.urandom(_SMALL_SIZE)
        await asyncio.gather(*(bucket.put(f"small/{number}", data) for number in range(_SMALL)))
        db = state.d1("shop")
        await db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        with closing(apsw.Connection(str(path / "data.sqlite"))) as connection:
            connection.set_busy_timeout(10_000)
            connection.execute(_FILL_KV, (_VALUES,))
    # What is measured is the state at rest, its logs copied back.
    async with bunflare.open(path) as state:
        names = ("copy", "backup", "restore", "reading", "check", "cold reading", "cold check")
        rates: dict[str, list[float]] = {name: [] for name in names}

        async def note(name: str, work: Callable[[], Awaitable[object]]) -> None:
            rates[name].append(size / await _timed(work))

        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        tell(f"{size / 1e6:.0f} MB in {sum(1 for file in path.rglob('*') if file.is_file())} files")
        for number in range(_ROUNDS + 1):
            copy, backup, again = scratch / "copy", scratch / "b.tar", scratch / "again"
            await note("copy", lambda: asyncio.to_thread(_copy, path, copy))  # noqa: B023
            await note("backup", lambda: state.backup(backup))  # noqa: B023
            await note("restore", lambda: asyncio.to_thread(bunflare.restore, backup, again))  # noqa: B023
            await note("reading", lambda: asyncio.to_thread(_read, path))
            await note("check", state.check)
            _forget(path)
            await note("cold reading", lambda: asyncio.to_thread(_read, path))
            _forget(path)
            await note("cold check", state.check)
            shutil.rmtree(copy)
            shutil.rmtree(again)
            backup.unlink()
            if number == 0:
                for found in rates.values():
                    found.clear()
    # A warm file is read faster than anybody computes the MD5 that R2's etags are.
    for ours, floor, least in (
        ("backup", "copy", 0.5),
        ("restore", "copy", 0.5),
        ("check", "reading", None),
        ("cold check", "cold reading", 0.5),
    ):
        report.at_least(
            f"`state {ours}` of {size / 1e6:.0f} MB, against {floor}",
            least,
            Rates({"ours": rates[ours], "floor": rates[floor]}),
        )
    shutil.rmtree(path)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    os.sync()


def _read(source: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            with file.open("rb", buffering=0) as opened:
                while opened.read(1024 * 1024):
                    pass


def _forget(source: Path) -> None:
    """Have the disk read the next time, and not memory."""
    os.sync()
    for file in source.rglob("*"):
        # To close a file that SQLite has open in this process would take its locks away.
        if file.is_file() and ".sqlite" not in file.name:
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


async def _changes(report: Report, scratch: Path) -> None:
    async with (
        bunflare.open(scratch / "off") as off,
        bunflare.open(scratch / "on") as on,
    ):
        await on.changes.enable()

        # A value that is there already would not be written.
        fresh = itertools.count()

        async def one(state: bunflare.State, keys: list[str]) -> int:
            kv = state.kv("K")
            for key in keys:
                await kv.put(key, b"%0100d" % next(fresh))
            return len(keys)

        async def many(state: bunflare.State, keys: list[str]) -> int:
            kv = state.kv("K")
            await asyncio.gather(*(kv.put(key, b"%0100d" % next(fresh)) for key in keys))
            return len(keys)

        keys = [f"key:{number}" for number in range(_PUTS)]
        for name, least, work in (
            ("KV put, durable, one at a time, change log on against off", 0.8, one),
            (f"KV put, durable, {_PUTS} at once, change log on against off", 0.5, many),
        ):
            report.at_least(
                name,
                least,
                await compare(
                    {
                        "ours": contender(lambda: keys, lambda b, w=work: w(on, b)),  # type: ignore[misc]
                        "floor": contender(lambda: keys, lambda b, w=work: w(off, b)),  # type: ignore[misc]
                    }
                ),
            )
