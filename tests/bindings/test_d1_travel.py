"""Time travel of a D1 database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.bindings.d1 import D1Database
from bunflare.store.layout import plain_files, sql_files


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


async def test_every_state_a_session_has_seen_can_be_gone_back_to(db: D1Database) -> None:
    session = db.with_session()
    insert = session.prepare("INSERT INTO t VALUES (?)")
    marks = []
    for number in range(5):
        await insert.bind(number).run()
        marks.append(session.get_bookmark())
    assert len(set(marks)) == 5
    for number in (3, 0, 4):
        mark = marks[number]
        assert mark is not None
        await db.restore(mark)
        assert await values(db) == list(range(number + 1))


async def test_a_times_bookmark_is_given_and_is_that_states(
    db: D1Database, clock: bunflare.ManualClock
) -> None:
    await add(db, 1)
    await clock.advance(minutes=1)
    moment = datetime.fromtimestamp(clock.now() / 1000, UTC)
    await clock.advance(minutes=1)
    await add(db, 2)
    mark = await db.bookmark(moment)
    assert mark < await db.bookmark()
    await db.restore(mark)
    assert await values(db) == [1]


async def test_migrations_are_undone_by_going_back(db: D1Database, tmp_path: Path) -> None:
    (tmp_path / "0001_drop.sql").write_text("DROP TABLE t; CREATE TABLE other (x);")
    await add(db, 1)
    before = await db.bookmark()
    await db.migrate(tmp_path)
    await db.restore(before)
    assert await values(db) == [1]
    assert await db.pending_migrations(tmp_path) == ["0001_drop.sql"]


async def test_a_bookmark_of_another_database_is_refused(
    db: D1Database, state: bunflare.State
) -> None:
    await add(db, 1)
    other = await state.d1("other").bookmark()
    with pytest.raises(bunflare.D1Error, match="another database's"):
        await db.restore(other)
    mark = await db.bookmark()
    ahead = f"{int(mark[:8], 16) + 1:08x}{mark[8:]}"
    with pytest.raises(bunflare.D1Error, match="is not kept"):
        await db.restore(ahead)
    assert await values(db) == [1]


async def test_how_much_is_kept_is_noted_with_the_database(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        await db.exec("CREATE TABLE t (a)")
        await db.keep_history(days=0)
        for wrong in (-1, float("nan"), "1"):
            with pytest.raises(bunflare.D1ValueError, match="must be a number"):
                await db.keep_history(days=wrong)  # type: ignore[arg-type]
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        with pytest.raises(bunflare.D1Error, match="switched off"):
            await db.bookmark()
        session = db.with_session()
        await session.prepare("INSERT INTO t VALUES (1)").run()
        assert session.get_bookmark() is not None
        await db.keep_history(days=1, megabytes=5)
        one = await db.bookmark()
        await add(db, 2)
        await db.restore(one)
        assert await values(db) == [1]


async def test_a_backup_has_the_history_along(directory: Path, tmp_path: Path) -> None:
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        await db.exec("CREATE TABLE t (a)")
        await add(db, 1)
        one = await db.bookmark()
        await add(db, 2)
        await state.backup(tmp_path / "backup.tar")
        await add(db, 3)
        assert await values(db) == [1, 2, 3]
    bunflare.restore(tmp_path / "backup.tar", tmp_path / "other")
    async with bunflare.open(tmp_path / "other") as state:
        db = state.d1("shop")
        assert await values(db) == [1, 2]
        undo = await db.restore(one)
        assert await values(db) == [1]
        await db.restore(undo)
        assert await values(db) == [1, 2]


async def test_a_history_is_no_file_like_others(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.d1("shop").exec("CREATE TABLE t (a)")
        await state.d1("shop").bookmark()
        assert list((directory / "d1" / ".shop.history").iterdir())
        assert not [name for name in plain_files(directory) if "history" in name]
        assert list(sql_files(directory)) == ["data.sqlite", "d1/shop.sqlite"]


async def test_what_another_program_has_written_is_in_the_first_bookmark(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.d1("shop").exec("CREATE TABLE t (a)")
        await add(state.d1("shop"), 1)
        await state.d1("shop").bookmark()
    connection = apsw.Connection(str(directory / "d1/shop.sqlite"))
    connection.execute("INSERT INTO t VALUES (2)")
    connection.close()
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        before = await db.bookmark()
        await add(db, 3)
        await db.restore(before)
        assert await values(db) == [1, 2]
