"""D1 as a library, beside bare APSW on a file of the same tables."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

import apsw

import bunflare
from bunflare.bindings.d1 import D1Database

from .measure import Rates
from .report import Report, tell

_ROWS = 10_000
_MANY = 1_000
_AT_ONCE = 256
_BATCH = 100
_DUMPED = 200_000
_ROUNDS = 3

_SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL); CREATE TABLE w (a, b)"
_FILL = """
WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?)
INSERT INTO t SELECT x, 'name ' || x, x / 8.0 FROM n
"""
_ONE = "SELECT id, name, score FROM t WHERE id = ?"
_PAGE = "SELECT id, name, score FROM t WHERE id > ? ORDER BY id LIMIT 1000"
_INSERT = "INSERT INTO w (a, b) VALUES (?, ?)"


class _Floor:
    """One bare connection in autocommit, its cursor reused."""

    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path))
        assert self.connection.pragma("journal_mode", "wal") == "wal"
        self.connection.pragma("synchronous", "full")
        self.connection.execute(_SCHEMA)
        self.connection.execute(_FILL, (_ROWS,))
        self._execute = self.connection.cursor().execute

    def one(self, ids: Sequence[int]) -> int:
        for number in ids:
            rows = self._execute(_ONE, (number,)).fetchall()
            assert rows[0][0] == number
        return len(ids)

    def page(self, ids: Sequence[int]) -> int:
        for number in ids:
            cursor = self._execute(_PAGE, (number,))
            names = [column[0] for column in cursor.get_description()]
            rows = [dict(zip(names, row)) for row in cursor]  # noqa: B905
            assert len(rows) == _MANY
        return len(ids)

    def insert(self, ids: Sequence[int]) -> int:
        for number in ids:
            self._execute(_INSERT, (number, "b"))
        return len(ids)

    def batch(self, ids: Sequence[int]) -> int:
        with self.connection:
            self.insert(ids)
        return len(ids)


async def _first(db: D1Database, ids: Sequence[int]) -> int:
    statement = db.prepare(_ONE)
    for number in ids:
        row = await statement.bind(number).first()
        assert row["id"] == number
    return len(ids)


async def _all(db: D1Database, ids: Sequence[int], sql: str, rows: int) -> int:
    statement = db.prepare(sql)
    for number in ids:
        assert len((await statement.bind(number).all()).results) == rows
    return len(ids)


async def _insert(db: D1Database, ids: Sequence[int]) -> int:
    statement = db.prepare(_INSERT)
    for number in ids:
        await statement.bind(number, "b").run()
    return len(ids)


async def _insert_at_once(db: D1Database, ids: Sequence[int]) -> int:
    statement = db.prepare(_INSERT)
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        await asyncio.gather(*(statement.bind(number, "b").run() for number in part))
    return len(ids)


async def _batch(db: D1Database, ids: Sequence[int]) -> int:
    statement = db.prepare(_INSERT)
    await db.batch([statement.bind(number, "b") for number in ids])
    return len(ids)


async def _scattered(db: D1Database, ids: Sequence[int]) -> int:
    statement = db.prepare("UPDATE t SET score = score + 1 WHERE id = ?")
    await db.batch([statement.bind(random.randrange(1, _ROWS)) for _ in ids])
    return len(ids)


async def measure(scratch: Path) -> Report:
    report = Report()
    async with bunflare.open(scratch / "ours") as state:
        db = state.d1("bench")
        await db.exec(_SCHEMA)
        await db.prepare(_FILL).bind(_ROWS).run()
        floor = _Floor(scratch / "floor.sqlite")
        with closing(floor.connection):
            ids = list(range(1, 1001))
            await report.compare(
                "D1 first by primary key", 0.6, lambda: ids, floor.one, lambda b: _first(db, b)
            )
            await report.compare(
                "D1 all, one row", 0.4, lambda: ids, floor.one, lambda b: _all(db, b, _ONE, 1)
            )
            await report.compare(
                "D1 all, 1,000 rows as dicts",
                0.8,
                lambda: ids[:20],
                floor.page,
                lambda b: _all(db, b, _PAGE, _MANY),
            )
            await report.compare(
                "D1 insert, durable, one at a time",
                0.7,
                lambda: ids[:200],
                floor.insert,
                lambda b: _insert(db, b),
                seconds=0.5,
            )
            await report.compare(
                f"D1 insert, durable, {_AT_ONCE} at once",
                15.0,
                lambda: list(range(_AT_ONCE * 8)),
                lambda b: floor.insert(b[:_AT_ONCE]),
                lambda b: _insert_at_once(db, b),
                seconds=0.5,
            )
            await report.compare(
                f"D1 batch of {_BATCH} inserts",
                0.7,
                lambda: ids[:_BATCH],
                floor.batch,
                lambda b: _batch(db, b),
                seconds=0.5,
            )
    await _history(report, scratch)
    await _files(report, scratch)
    return report


async def _history(report: Report, scratch: Path) -> None:
    """What it costs writes that every state is kept: beside the same with that switched off."""
    async with bunflare.open(scratch / "history") as state:
        kept, none = state.d1("kept"), state.d1("none")
        for db in (kept, none):
            await db.exec(_SCHEMA)
            await db.prepare(_FILL).bind(_ROWS).run()
        await none.keep_history(0, 0)
        ids = list(range(_AT_ONCE * 8))
        works: tuple[
            tuple[str, Callable[[D1Database, Sequence[int]], Awaitable[int]], int], ...
        ] = (
            ("insert, one at a time", _insert, 200),
            (f"insert, {_AT_ONCE} at once", _insert_at_once, _AT_ONCE * 8),
            ("update of rows all over the table, in batches", _scattered, _BATCH),
        )
        for name, work, size in works:
            await report.compare(
                f"D1 {name}: history kept, beside not kept",
                0.8,
                partial(list, ids[:size]),
                partial(work, none),
                partial(work, kept),
                seconds=0.5,
            )


async def _files(report: Report, scratch: Path) -> None:
    """Export and import beside the shell's ``.dump`` and ``.read``; both read the same text."""
    shell = shutil.which("sqlite3")
    if shell is None:
        tell("there is no sqlite3 shell on this machine: export and import are not measured")
        return
    works = ("export", "import of the shell's dump", "import of our export")
    rates: dict[str, dict[str, list[float]]] = {name: {"ours": [], "floor": []} for name in works}

    def note(work: str, who: str, started: float) -> None:
        rates[work][who].append(_DUMPED / (perf_counter() - started))

    async with bunflare.open(scratch / "files") as state:
        db = state.d1("big")
        await db.exec(_SCHEMA)
        await db.prepare(_FILL).bind(_DUMPED).run()
        ours, theirs, framed = (scratch / f"{name}.sql" for name in ("ours", "theirs", "framed"))
        for number in range(_ROUNDS):
            started = perf_counter()
            await db.export_sql(ours)
            note("export", "ours", started)
            started = perf_counter()
            _run(shell, db.file.path, f".output {theirs}", ".dump")
            note("export", "floor", started)
            # The shell would commit each statement.
            framed.write_text(f"BEGIN;\n{ours.read_text()}COMMIT;\n")
            for work, text in (
                ("import of the shell's dump", theirs),
                ("import of our export", framed),
            ):
                copy = state.d1(f"{text.stem}{number}")
                started = perf_counter()
                await copy.import_sql(text)
                note(work, "ours", started)
                started = perf_counter()
                _run(shell, scratch / f"{text.stem}{number}.sqlite", f".read {text}")
                note(work, "floor", started)
    for work, found in rates.items():
        report.at_least(f"D1 {work}, {_DUMPED:,} rows", 0.5, Rates(found))


def _run(shell: str, path: Path, *commands: str) -> None:
    subprocess.run([shell, path, *commands], check=True, stdout=subprocess.DEVNULL)
