"""Time travel of a D1 database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import bunflare
from bunflare.bindings.d1 import D1Database


@pytest.fixture
async def db(state: bunflare.State) -> D1Database:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a)")
    return db


async def values(db: D1Database) -> list[object]:
    return [row[0] for row in await db.prepare("SELECT a FROM t").raw()]


async def add(db: D1Database, value: int) -> None:
    await db.prepare("INSERT INTO t VALUES (?)").bind(value).run()


async def test_a_bookmark_can_be_gone_back_to_and_that_undone(db: D1Database) -> None:
    await add(db, 1)
    one = await db.bookmark()
    assert one == await db.bookmark()
    await add(db, 2)
    await db.exec("CREATE TABLE extra (x)")
    before = await db.restore(one)
    assert await values(db) == [1]
    with pytest.raises(bunflare.D1Error, match="no such table: extra"):
        await db.prepare("SELECT * FROM extra").all()
    await add(db, 3)
    assert await values(db) == [1, 3]
    await db.restore(before)
    assert await values(db) == [1, 2]
    assert await db.prepare("SELECT count(*) AS n FROM extra").first("n") == 0


async def test_bookmarks_sort_after_earlier_ones_across_a_restore(db: D1Database) -> None:
    one = await db.bookmark()
    await add(db, 1)
    two = await db.bookmark()
    await db.restore(one)
    assert one < two < await db.bookmark()


async def test_a_time_means_the_newest_state_kept_before_it(
    db: D1Database, clock: bunflare.ManualClock
) -> None:
    await add(db, 1)
    await db.bookmark()
    await clock.advance(hours=1)
    middle = datetime.fromtimestamp(clock.now() / 1000, UTC)
    await clock.advance(hours=1)
    await add(db, 2)
    await db.bookmark()
    await db.restore(middle)
    assert await values(db) == [1]
    with pytest.raises(bunflare.D1Error, match="no state is kept from 1999"):
        await db.restore("1999-01-01T00:00:00Z")
    with pytest.raises(bunflare.D1ValueError, match="neither a bookmark nor"):
        await db.restore("yesterday")


async def test_an_import_can_be_undone(db: D1Database, tmp_path: Path) -> None:
    before = await db.bookmark()
    (tmp_path / "drop.sql").write_text("DROP TABLE t")
    await db.import_sql(tmp_path / "drop.sql")
    await db.restore(before)
    assert await values(db) == []
