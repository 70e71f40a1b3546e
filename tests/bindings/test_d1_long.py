"""Statements of D1 that take long, and texts that would: the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

import bunflare
from bunflare.bindings.d1 import D1Database

from ..support import PATIENCE

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
async def db(state: bunflare.State) -> D1Database:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    return db


async def give_up(work: Awaitable[object]) -> None:
    """Cancel what is under way, and see that it ends."""
    task = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)


async def test_a_write_that_runs_for_ever_neither_holds_up_nor_takes_others_with_it(
    db: D1Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest, turns = 0.3, 0
    while turns <= 20:  # on a busy machine they take their time
        assert longest < 100, "the event loop was not free"
        monkeypatch.setattr("bunflare.store.d1_executor.LONGEST", longest)
        endless = asyncio.ensure_future(db.prepare(f"INSERT INTO t {ENDLESS}").run())
        other = asyncio.ensure_future(db.prepare("INSERT INTO t DEFAULT VALUES").run())
        turns = 0
        while not endless.done():
            await asyncio.sleep(0.001)
            turns += 1
        with pytest.raises(bunflare.D1Error, match="exceeded timeout"):
            await endless
        assert (await other).meta.changes == 1
        longest *= 10


async def test_a_query_that_nobody_waits_for_any_more_ends(
    db: D1Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.store.d1.LONGEST", 10 * PATIENCE)
    # More than may take long at once; the end of the state waits for all of them.
    for _ in range(40):
        await give_up(db.prepare(ENDLESS).all())
    assert await asyncio.wait_for(db.export_sql(), PATIENCE)


async def test_a_long_write_that_nobody_waits_for_any_more_ends_and_leaves_nothing(
    db: D1Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.store.d1_executor.LONGEST", 10 * PATIENCE)
    one = db.prepare("INSERT INTO t DEFAULT VALUES")
    await give_up(db.batch([one, db.prepare(f"INSERT INTO t {ENDLESS}")]))
    await asyncio.wait_for(one.run(), PATIENCE)
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 1


async def test_closing_waits_for_a_long_query_and_lets_the_event_loop_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000)"
    async with bunflare.open(":memory:") as state:
        query = asyncio.ensure_future(
            state.d1("shop").prepare(f"{many} SELECT count(*) AS n FROM n").first("n")
        )
        await asyncio.sleep(0)
    assert await asyncio.wait_for(query, PATIENCE) == 1_000_000


@pytest.mark.parametrize(
    "text", [";", "[", "'", '"', "`", "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1;"]
)
async def test_a_text_that_is_none_takes_no_longer_than_it_is_long(
    db: D1Database, text: str
) -> None:
    # Where each character is looked at from each, this takes minutes.
    with pytest.raises(bunflare.D1Error, match="^D1_EXEC_ERROR"):
        await db.exec((text * 200_000)[:200_001])
