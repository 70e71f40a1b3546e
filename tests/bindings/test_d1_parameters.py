"""What may be bound to a statement of D1, where it is unusual."""

from __future__ import annotations

import asyncio
import enum

import pytest

import bunflare
from bunflare.bindings.d1 import D1Database


class Colour(str, enum.Enum):  # noqa: UP042 - `str` of this one is another text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.fixture
async def db(state: bunflare.State) -> D1Database:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a)")
    return db


async def test_a_value_of_a_subclass_is_stored_as_what_it_is(db: D1Database) -> None:
    await db.prepare("INSERT INTO t VALUES (?), (?)").bind(Colour.RED, Level.HIGH).run()
    assert await db.prepare("SELECT a FROM t").raw() == [["red"], [3]]


async def test_a_lone_surrogate_is_replaced_as_javascript_does_and_harms_no_other_write(
    db: D1Database,
) -> None:
    insert = db.prepare("INSERT INTO t VALUES (?)")
    await insert.bind("known").run()
    await asyncio.gather(*[insert.bind(text).run() for text in ("b", "c\ud800", "dé")])
    await db.batch([insert.bind("\udfff"), insert.bind("😀")])
    await db.exec("INSERT INTO t VALUES ('\ud800')")
    found = [row[0] for row in await db.prepare("SELECT a FROM t").raw()]
    assert found == ["known", "b", "c\ufffd", "dé", "\ufffd", "😀", "\ufffd"]
    assert await db.prepare("SELECT '\ud800' AS x").first("x") == "\ufffd"


def test_an_integer_of_too_many_digits_to_be_written_is_refused_like_others(
    db: D1Database,
) -> None:
    with pytest.raises(bunflare.D1TypeError, match="Type 'bigint' not supported"):
        db.prepare("SELECT ?").bind(10**5000)


async def test_a_statement_with_a_nul_is_an_error_of_its_own(db: D1Database) -> None:
    statements = [db.prepare("INSERT INTO t VALUES (1)"), db.prepare("SELECT 1\0")]
    with pytest.raises(bunflare.D1Error, match="NUL"):
        await db.batch(statements)
    for call in (db.prepare("SELECT 'a\0b'").all(), db.exec("SELECT 1\0")):
        with pytest.raises(bunflare.D1Error):
            await call
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 0
