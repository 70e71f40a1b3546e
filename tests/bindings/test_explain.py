"""EXPLAIN, the user's and our own.

SQLite prepares a statement anew where the schema has changed, but never an EXPLAIN: one that was
kept tells of the old schema, and reads memory that is freed. These tests end the interpreter, or
find an old program, wherever one is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import DurableObject
from bunflare.bindings.d1 import D1Database

EXPLAIN = "EXPLAIN INSERT INTO t VALUES (1)"


@pytest.fixture
async def db(state: bunflare.State) -> D1Database:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a)")
    return db


def entries(rows: list[Any]) -> int:
    """How many entries of indexes a program writes."""
    return sum(row["opcode"] == "IdxInsert" for row in rows)


async def test_an_explain_tells_of_the_present_schema(db: D1Database) -> None:
    explain = db.prepare(EXPLAIN)
    assert entries((await explain.all()).results) == 0
    await db.exec("CREATE INDEX i ON t (a)")
    assert entries((await explain.all()).results) == 1
    await db.exec("DROP INDEX i")
    assert [row[1] for row in await explain.raw()].count("IdxInsert") == 0


@pytest.mark.parametrize("before", ["", "SELECT 1; ", "\ufeff "])
async def test_an_explain_in_a_batch_tells_of_the_present_schema(
    db: D1Database, directory: Path, before: str
) -> None:
    explain = db.prepare(before + EXPLAIN)
    other = apsw.Connection(str(directory / "d1/shop.sqlite"))
    assert entries((await db.batch([explain]))[0].results) == 0
    other.execute("CREATE INDEX i ON t (a)")
    assert entries((await db.batch([explain]))[0].results) == 1
    other.execute("DROP INDEX i")
    assert entries((await db.batch([explain]))[0].results) == 0
    other.close()


async def test_the_numbers_of_a_known_text_follow_the_schema_there_and_back(
    db: D1Database,
) -> None:
    insert = db.prepare("INSERT INTO t VALUES (?)")
    assert (await insert.bind(1).run()).meta.rows_written == 1
    before = await db.bookmark()
    await db.exec("CREATE INDEX i ON t (a)")
    assert (await insert.bind(2).run()).meta.rows_written == 2
    await db.restore(before)
    assert (await insert.bind(3).run()).meta.rows_written == 1


async def test_a_text_that_is_new_is_learned_with_the_schema_of_another_program(
    db: D1Database, directory: Path
) -> None:
    await db.prepare("INSERT INTO t VALUES (1)").run()
    other = apsw.Connection(str(directory / "d1/shop.sqlite"))
    other.execute("CREATE INDEX i ON t (a)")
    other.close()
    assert (await db.prepare("INSERT INTO t VALUES (2)").run()).meta.rows_written == 2


class Box(DurableObject):
    async def run(self, statement: str) -> list[Any]:
        return self.ctx.storage.sql.exec(statement).to_array()


@pytest.mark.parametrize("before", ["", "SELECT 1; "])
async def test_an_explain_in_an_object_tells_of_the_present_schema(
    state: bunflare.State, directory: Path, before: str
) -> None:
    box = state.durable_objects(Box).get_by_name("box")
    await box.run("CREATE TABLE t (a)")
    (path,) = directory.glob("do-sql/*/*.sqlite")
    other = apsw.Connection(str(path))
    assert entries(await box.run(before + EXPLAIN)) == 0
    other.execute("CREATE INDEX i ON t (a)")
    assert entries(await box.run(before + EXPLAIN)) == 1
    other.execute("DROP INDEX i")
    assert entries(await box.run(before + EXPLAIN)) == 0
    other.close()


CRASH = """
import asyncio, sys
import bunflare

TABLES = range(100)

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("shop")
        await db.exec("CREATE TABLE keep (a)")
        small = await db.bookmark()
        await db.exec(";".join(f"CREATE TABLE t{number} (a)" for number in TABLES))
        for number in TABLES:
            await db.prepare(f"INSERT INTO t{number} VALUES (1)").run()
        large = await db.bookmark()
        for mark in (small, large):
            await db.restore(mark)
            await db.prepare("SELECT * FROM keep").all()
            for number in TABLES:
                try:
                    await db.prepare(f"INSERT INTO t{number} VALUES (1)").run()
                except bunflare.D1Error as error:
                    assert "no such table" in str(error), error

asyncio.run(main())
print("alive")
"""


def test_going_back_to_fewer_tables_does_not_end_the_interpreter(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(CRASH), str(tmp_path / "it")],
        # Where memory is freed, it is filled with what is no address.
        env={**os.environ, "MALLOC_PERTURB_": "165"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr
