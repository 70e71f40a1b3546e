"""Batches of one statement with many parameters tell of each what it would tell by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bunflare
from bunflare import D1Database, D1Error, D1Result, State

SCHEMAS = {
    "plain": "CREATE TABLE t (a, b)",
    "indexed": (
        "CREATE TABLE t (a, b); CREATE INDEX i ON t (b); CREATE INDEX j ON t (a) WHERE a > 3"
    ),
    "unique": "CREATE TABLE t (a UNIQUE, b)",
    "own ids": "CREATE TABLE t (a INTEGER PRIMARY KEY, b)",
    "sequence": "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)",
    "without ids": "CREATE TABLE t (a PRIMARY KEY, b) WITHOUT ROWID",
    "generated": "CREATE TABLE t (a, b, c AS (a + 1) STORED)",
    "no nulls": "CREATE TABLE t (a NOT NULL ON CONFLICT IGNORE, b)",
    "defaults": "CREATE TABLE t (a, b, c NOT NULL ON CONFLICT REPLACE DEFAULT 7)",
    "passed over": "CREATE TABLE t (a UNIQUE ON CONFLICT IGNORE, b)",
    "replaced": "CREATE TABLE t (a UNIQUE ON CONFLICT REPLACE, b)",
    "trigger": (
        "CREATE TABLE t (a, b); CREATE TABLE u (a); "
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO u VALUES (NEW.a), (NEW.b); END"
    ),
    "ids at their end": "CREATE TABLE t (a, b); INSERT INTO t (rowid) VALUES (9223372036854775807)",
    "referring": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3); "
        "CREATE TABLE t (a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b)"
    ),
    "searched": "CREATE VIRTUAL TABLE t USING fts5 (a, b)",
    "typed": "CREATE TABLE t (a INTEGER, b TEXT COLLATE NOCASE)",
    "numbers": "CREATE TABLE t (a REAL, b NUMERIC NOT NULL)",
    "strict": "CREATE TABLE t (a ANY, b INTEGER) STRICT",
    "checked": "CREATE TABLE t (a CHECK (a < 90), b)",
    "referring to itself": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a REFERENCES t, b); "
        "INSERT INTO t (id) VALUES (1), (2), (3)"
    ),
}
STATEMENTS = [
    "INSERT INTO t (a, b) VALUES (?, ?)",
    "INSERT OR IGNORE INTO t (a, b) VALUES (?, ?)",
    "REPLACE INTO t (a, b) VALUES (?, ?)",
    "INSERT INTO t (a, b) SELECT ?, ?",
    "INSERT INTO t (a, b) VALUES (?1, ?2), (?2, ?1)",
    "INSERT INTO t (a, b) VALUES (?, ?) RETURNING a",
    "UPDATE t SET b = ?2 WHERE a = ?1",
]
MANY: list[list[tuple[Any, ...]]] = [
    [(1, 10), (2, 20), (3, 30)],
    [(3, 31), (None, 41), (1, 11), (3, 32)],
]
LONG: list[list[tuple[Any, ...]]] = [
    [(number, str(number)) for number in range(4, 31)],
    [*[(1.5, number) for number in range(12)], ("7", 2.0), (b"x", 1), (None, 5), *[("a", 1)] * 12],
    [*[(number, number) for number in range(26)], (90, 1), (90, None)],
]


def told(result: D1Result) -> tuple[Any, ...]:
    meta = result.meta
    assert meta.duration >= 0
    return (
        result.results,
        *(meta.changes, meta.last_row_id, meta.changed_db, meta.rows_read, meta.rows_written),
    )


async def one_by_one(db: D1Database, sql: str, many: list[tuple[Any, ...]]) -> list[Any]:
    """What the statements do each by itself, in a batch that is told apart by its texts."""
    try:
        texts = [f"{sql}{' ' * number}" for number in range(len(many))]
        batch = [db.prepare(text).bind(*one) for text, one in zip(texts, many, strict=True)]
        return [told(result) for result in await db.batch(batch)]
    except D1Error as error:
        return [str(error)]


async def together(db: D1Database, sql: str, many: list[tuple[Any, ...]]) -> list[Any]:
    statement = db.prepare(sql)
    try:
        return [told(result) for result in await db.batch([statement.bind(*one) for one in many])]
    except D1Error as error:
        return [str(error)]


async def rows(db: D1Database) -> list[Any]:
    return await db.prepare("SELECT a, b, typeof(a), typeof(b) FROM t ORDER BY a, b, 4").raw()


@pytest.mark.parametrize("sql", STATEMENTS)
@pytest.mark.parametrize("kind", SCHEMAS)
async def test_each_statement_of_a_batch_is_told_of(state: State, kind: str, sql: str) -> None:
    left, right = state.d1("left"), state.d1("right")
    for db in (left, right):
        await db.exec(SCHEMAS[kind])
    # The first time it is not known yet what the statement does.
    for many in (*MANY, *LONG, *LONG):
        expected = await one_by_one(left, sql, many)
        found = await together(right, sql, many)
        if kind == "ids at their end":
            # SQLite chooses them by chance.
            expected = [one[:2] + one[3:] for one in expected]
            found = [one[:2] + one[3:] for one in found]
        assert found == expected
        assert await rows(left) == await rows(right)


async def test_ids_that_sqlite_chooses_by_chance_are_told(state: State) -> None:
    db = state.d1("db")
    await db.exec(SCHEMAS["ids at their end"])
    for _ in range(3):
        statement = db.prepare("INSERT INTO t (a, b) VALUES (?, 2)")
        results = await db.batch([statement.bind(number) for number in range(20)])
        for number, result in enumerate(results):
            where = db.prepare("SELECT a FROM t WHERE rowid = ?").bind(result.meta.last_row_id)
            assert await where.first("a") == number


async def test_a_batch_that_fails_half_way_leaves_nothing(state: State) -> None:
    db = state.d1("db")
    await db.exec("CREATE TABLE t (a CHECK (a < 100), b)")
    statement = db.prepare("INSERT INTO t (a, b) VALUES (?, ?)")
    for _ in range(2):
        await db.batch([statement.bind(1, 1), statement.bind(2, 2)])
    before = await rows(db)
    with pytest.raises(D1Error, match="CHECK constraint failed"):
        await db.batch([statement.bind(3, 3), statement.bind(100, 3), statement.bind(4, 3)])
    for wrong in ([statement.bind(3)], [statement.bind(3), statement.bind(3, 3, 3)]):
        for count in (1, 50):
            with pytest.raises(D1Error, match="Wrong number of parameter bindings"):
                await db.batch([*[statement.bind(3, 3)] * count, *wrong])
    assert await rows(db) == before
    # And the next one is as good as any.
    results = await db.batch([statement.bind(5, 5), statement.bind(6, 6)])
    assert [result.meta.last_row_id for result in results] == [5, 6]


async def test_no_row_is_left_of_a_statement_one_of_whose_rows_has_a_wrong_type(
    state: State,
) -> None:
    db = state.d1("db")
    await db.exec("CREATE TABLE t (a INTEGER) STRICT")
    several = db.prepare("INSERT INTO t VALUES (?), (?)")
    await several.bind(1, 2).run()
    for _ in range(3):
        found = await asyncio.gather(
            several.bind(3, 4).run(),
            *[several.bind(5, "x").run() for _ in range(3)],
            db.prepare("INSERT INTO t SELECT column1 FROM (VALUES (6), (?))").bind("y").run(),
            return_exceptions=True,
        )
        assert [isinstance(one, D1Error) for one in found] == [False, True, True, True, True]
    assert await db.prepare("SELECT group_concat(a) AS a FROM t").first("a") == "1,2,3,4,3,4,3,4"


async def test_each_row_of_a_long_batch_has_its_own_defaults(state: State) -> None:
    db = state.d1("db")
    await db.exec("CREATE TABLE t (a, b DEFAULT (random()), c DEFAULT (hex(randomblob(8))))")
    statement = db.prepare("INSERT INTO t (a) VALUES (?)")
    for _ in range(3):
        await db.batch([statement.bind(number) for number in range(50)])
    counts = await db.prepare("SELECT count(a), count(DISTINCT b), count(DISTINCT c) FROM t").raw()
    assert counts == [[150, 150, 150]]


async def test_a_schema_that_changes_changes_what_is_told(state: State, directory: Any) -> None:
    db = state.d1("db")
    await db.exec("CREATE TABLE t (a, b)")
    statement = db.prepare("INSERT INTO t (a, b) VALUES (?, ?)")

    async def written() -> list[int]:
        results = await db.batch([statement.bind(number, 1) for number in range(3)])
        return [result.meta.rows_written for result in results]

    assert [await written() for _ in range(3)] == [[1] * 3] * 3
    await db.exec("CREATE INDEX i ON t (a)")
    assert [await written() for _ in range(3)] == [[2] * 3] * 3
    async with bunflare.open(directory) as other:
        await other.d1("db").exec("DROP INDEX i")
    assert [await written() for _ in range(3)][1:] == [[1] * 3] * 2


async def outcome(db: D1Database, sql: str, one: tuple[Any, ...]) -> Any:
    try:
        return told(await db.prepare(sql).bind(*one).run())
    except D1Error as error:
        return str(error)


@pytest.mark.parametrize("sql", STATEMENTS)
@pytest.mark.parametrize("kind", SCHEMAS)
async def test_statements_of_one_turn_are_told_of_as_if_they_were_alone(
    state: State, kind: str, sql: str
) -> None:
    left, right = state.d1("left"), state.d1("right")
    for db in (left, right):
        await db.exec(SCHEMAS[kind])
    for many in (*MANY, *MANY, LONG[1]):
        expected = [await outcome(left, sql, one) for one in many]
        found = await asyncio.gather(*[outcome(right, sql, one) for one in many])
        if kind == "ids at their end":
            expected = [one[:2] + one[3:] for one in expected]
            found = [one[:2] + one[3:] for one in found]
        assert found == expected
        assert await rows(left) == await rows(right)


async def test_a_batch_is_of_several_prepared_statements(state: bunflare.State) -> None:
    db = state.d1("shop")
    for wrong in (None, db.prepare("SELECT 1"), "ab", [db], ["SELECT 1"]):
        with pytest.raises(bunflare.D1TypeError, match="^D1_TYPE_ERROR: batch takes "):
            await db.batch(wrong)  # type: ignore[arg-type]
