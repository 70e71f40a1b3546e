"""Files that are damaged in any way: whatever is asked for ends, if in an error, in one of ours."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import Response
from tests.support import PATIENCE

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
PAGE = 4096
ROUNDS = 300 if LONG else 8
COLUMNS = """
SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
WHERE t.type = 'table' ORDER BY 1, 2
"""
VALUES = ("NULL", "x'ff00'", "CAST(x'ff' AS TEXT)", "5", "1e300", "'text'", "-1")


class Box(bunflare.DurableObject):
    async def fill(self) -> None:
        storage = self.ctx.storage
        await storage.put("count", 1)
        storage.sql.exec("CREATE TABLE IF NOT EXISTS t (a, b UNIQUE)")
        storage.sql.exec("CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(x)")
        storage.sql.exec("INSERT INTO t VALUES (7, random())")
        storage.sql.exec("INSERT INTO f VALUES (?)", "hello world " * 300)

    async def sql(self, query: str) -> list[Any]:
        return self.ctx.storage.sql.exec(query).to_array()

    async def size(self) -> int:
        return self.ctx.storage.sql.database_size

    async def list(self) -> dict[str, Any]:
        return await self.ctx.storage.list()

    async def bookmark(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def clear(self) -> None:
        await self.ctx.storage.delete_all()


class Order(bunflare.WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> None:
        await step.do("one", lambda: 1)
        await step.wait_for_event("approval", type="approve", timeout="1 hour")


async def fill(state: bunflare.State) -> None:
    """Something of everything."""
    await state.kv("A").put_many(
        {"key": f"k{i}", "value": "x" * i * 20, "metadata": {"a": i}} for i in range(60)
    )
    for i in range(10):
        await state.r2("files").put(f"a/{i}", b"y" * i * 10, custom_metadata={"q": "1"})
    db = state.d1("db")
    await db.exec(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, n INT);"
        "CREATE INDEX by_n ON notes(n);"
        "CREATE VIRTUAL TABLE docs USING fts5(body, content='notes', content_rowid='id');"
        "CREATE VIRTUAL TABLE own USING fts5(title, body);"
        "CREATE VIRTUAL TABLE box USING rtree(id, a, b);"
    )
    note = db.prepare("INSERT INTO notes (body, n) VALUES (?, ?)")
    await db.batch([note.bind("word " * (i % 40), i) for i in range(200)])
    for sql in ("INSERT INTO own VALUES (?, ?)", "INSERT INTO box (id, a) VALUES (?, ?)"):
        await db.batch([db.prepare(sql).bind(i, -i) for i in range(60)])
    await db.exec("INSERT INTO docs(docs) VALUES('rebuild')")
    for _ in range(8):
        await state.durable_objects(Box).get_by_name("one").fill()
    await state.queue("jobs").send_batch([{"i": i} for i in range(30)])
    await state.workflow(Order, "order").create("x")
    kept = Response("a" * 3000, headers={"cache-control": "max-age=3600"})
    await state.caches.default.put("https://example.com/a", kept)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / ".bunflare"

    async def make() -> None:
        async with bunflare.open(directory) as state:
            await fill(state)

    asyncio.run(make())
    return directory


def damage(directory: Path, chance: random.Random) -> str:
    """Do something to one of the files; what it was."""
    names = {"data.sqlite", "db.sqlite", "do-sql"}
    files = [one for one in sorted(directory.rglob("*.sqlite")) if names.intersection(one.parts)]
    file = chance.choice(files)
    kind = chance.choice(["page", "bytes", "end", "table", "name", "schema", "value"])
    told = f"{kind} {file.relative_to(directory)}"
    if kind in ("page", "bytes", "end"):
        data = bytearray(file.read_bytes())
        if kind == "page":
            at = chance.randrange(max(len(data) // PAGE, 1)) * PAGE
            data[at : at + PAGE] = chance.randbytes(min(PAGE, len(data) - at))
        elif kind == "bytes":
            for _ in range(chance.randint(1, 60)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            del data[chance.randrange(len(data)) :]
        file.write_bytes(data)
        return told
    connection = apsw.Connection(str(file))
    with suppress(apsw.Error):
        connection.execute("PRAGMA writable_schema=1")
        table, column = chance.choice(connection.execute(COLUMNS).fetchall())
        value = chance.choice(VALUES)
        told += f" {table} {column} {value}"
        connection.execute(
            {
                "table": "DELETE FROM sqlite_schema WHERE name = :table",
                "name": f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "other"',
                "schema": "UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = :table",
                "value": f'UPDATE "{table}" SET "{column}" = {value}',
            }[kind],
            {"table": table},
        )
    connection.close()
    return told


Work = Callable[[], Awaitable[Any]]


def works(state: bunflare.State, directory: Path) -> dict[str, Work]:
    """What is asked for, by name."""
    kv, bucket, queue = state.kv("A"), state.r2("files"), state.queue("jobs")
    box, cache = state.durable_objects(Box).get_by_name("one"), state.caches.default
    found: dict[str, Work] = {
        "kv.get": lambda: kv.get_with_metadata("k5"),
        "kv.list": kv.list,
        "kv.put": lambda: kv.put("new", "v" * 5000),
        "r2.head": lambda: bucket.head("a/3"),
        "r2.list": bucket.list,
        "r2.put": lambda: bucket.put("a/4", b"new"),
        "r2.delete": lambda: bucket.delete(["a/1", "a/2"]),
        "queue.send": lambda: queue.send("x"),
        "queue.pull": queue.pull,
        "queue.peek": queue.peek,
        "queue.metrics": queue.metrics,
        "cache.match": lambda: cache.match("https://example.com/a"),
        "cache.delete": lambda: cache.delete("https://example.com/a"),
        "box.list": box.list,
        "box.size": box.size,
        "box.bookmark": box.bookmark,
        "box.clear": box.clear,
        "info": state.info,
        "check": state.check,
        "repair": state.repair,
        "prune": state.prune,
        "backup": lambda: state.backup(directory.parent / "state.tar.gz"),
        "snapshot": lambda: state.snapshot("one"),
    }
    for sql in ("SELECT * FROM t", "INSERT INTO t VALUES (1, 2)", "SELECT * FROM f('hello')"):
        found[f"box.sql {sql}"] = partial(box.sql, sql)

    async def order(verb: str) -> None:
        instance = await state.workflow(Order, "order").get("x")
        await getattr(instance, verb)()

    for verb in ("status", "pause", "resume", "terminate", "delete"):
        found[f"workflow.{verb}"] = partial(order, verb)

    async def transaction() -> None:
        async with state.transaction() as tx:
            await tx.kv("A").put("t", "1")
            await tx.kv("A").list()
            await tx.queue("jobs").send(1)

    found["transaction"] = transaction
    # A database that cannot be opened says so at once.
    with suppress(bunflare.BunflareError):
        db = state.d1("db")
        for sql in (
            *("SELECT * FROM notes", "SELECT body FROM docs('word')", "SELECT * FROM own('more')"),
            *("INSERT INTO notes (body) VALUES ('a') RETURNING id", "UPDATE notes SET n = n + 1"),
            *("DELETE FROM own", "SELECT * FROM box WHERE a > 3", "CREATE TABLE z (a)", "REINDEX"),
            *("PRAGMA quick_check", "INSERT INTO docs(docs) VALUES('rebuild')", "DROP TABLE docs"),
        ):
            found[f"d1 {sql}"] = partial(db.prepare(sql).raw, column_names=True)
        found["d1.export"] = db.export_sql
        found["d1.bookmark"] = db.bookmark
        found["d1.history"] = lambda: db.keep_history(days=0)
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_every_error_is_one_of_ours(whole: Path, tmp_path: Path, seed: int) -> None:
    directory = tmp_path / ".bunflare"
    shutil.copytree(whole, directory)
    chance = random.Random(seed)
    told = damage(directory, chance)
    with suppress(bunflare.BunflareError):
        async with asyncio.timeout(10 * PATIENCE), bunflare.open(directory) as state:
            todo = list(works(state, directory).items())
            chance.shuffle(todo)
            for name, work in todo:
                try:
                    await work()
                except bunflare.BunflareError:
                    continue
                except Exception as error:
                    error.add_note(f"{name}, after {told}")
                    raise
