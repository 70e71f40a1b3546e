"""Calls begin when they are made, and are as good as coroutines for whoever runs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.background import BackgroundTasks

import bunflare
from bunflare import DurableObject
from bunflare.store.pending import Pending
from tests.support import PATIENCE

Call = Callable[[object], Coroutine[Any, Any, Any]]


class Log(DurableObject):
    async def add(self, value: object) -> None:
        if not isinstance(value, int):
            raise TypeError("no number")
        await self.ctx.storage.put(f"{value:03}", value)

    async def all(self) -> list[object]:
        return list((await self.ctx.storage.list()).values())


@dataclass
class Kind:
    """One kind of call: it writes a number down, and refuses what is none."""

    call: Call
    written: Callable[[], Coroutine[Any, Any, list[object]]]


@pytest.fixture(params=["kv", "d1", "queue", "object"])
async def kind(request: pytest.FixtureRequest, state: bunflare.State) -> AsyncIterator[Kind]:
    if request.param == "kv":
        kv = state.kv("log")
        await kv.put("the first", "")

        async def keys() -> list[object]:
            names = [one.name for one in (await kv.list()).keys]
            return [int(name) for name in names if name.isdigit()]

        def put(value: object) -> Coroutine[Any, Any, Any]:
            return kv.put(str(value) if isinstance(value, int) else "", b"")

        yield Kind(put, keys)
    elif request.param == "d1":
        db = state.d1("log")
        await db.exec("CREATE TABLE log (value INT CHECK (typeof(value) = 'integer'))")
        insert = db.prepare("INSERT INTO log VALUES (?)")
        await insert.bind(0).run()

        async def rows() -> list[object]:
            found = await db.prepare("SELECT value FROM log WHERE value > 0").raw()
            return [row[0] for row in found]

        yield Kind(lambda value: insert.bind(value).run(), rows)
    elif request.param == "queue":
        queue = state.queue("log")
        await queue.send("the first")

        async def bodies() -> list[object]:
            return [one.body for one in await queue.peek(100) if one.body != "the first"]

        def send(value: object) -> Coroutine[Any, Any, Any]:
            return queue.send(value, delay_seconds=None if isinstance(value, int) else -1)

        yield Kind(send, bodies)
    else:
        stub = state.durable_objects(Log).get_by_name("log")
        yield Kind(stub.add, stub.all)


async def busy(kind: Kind) -> None:
    """Let several write at once, after which nobody counts as one who writes alone."""
    await asyncio.gather(kind.call(101), kind.call(102))


async def test_a_call_begins_when_it_is_made(kind: Kind) -> None:
    await busy(kind)
    begun = kind.call(1)
    assert isinstance(begun, Pending)
    # Nobody awaits it.
    deadline = time.monotonic() + PATIENCE
    while not begun.done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    assert set(await kind.written()) == {1, 101, 102}


async def test_many_are_gathered(kind: Kind) -> None:
    for start in (1, 31, 61):
        await asyncio.gather(*[kind.call(value) for value in range(start, start + 30)])
    assert set(await kind.written()) == set(range(1, 91))


async def test_tasks_are_made_of_them(kind: Kind) -> None:
    await kind.call(1)
    for values in ((2, 3), (4, 5)):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kind.call(value)) for value in values]
        assert all(task.done() for task in tasks)
    assert len(await kind.written()) == 5


async def test_an_error_is_raised_where_one_awaits_and_harms_no_other(kind: Kind) -> None:
    for _ in range(2):
        found = await asyncio.gather(
            *[kind.call(value) for value in (1, "no", 2)], return_exceptions=True
        )
        assert [isinstance(one, Exception) for one in found] == [False, True, False]
    begun = kind.call("no")
    with pytest.raises((bunflare.BunflareError, TypeError)):
        await begun


@pytest.mark.parametrize("kind", ["kv", "d1", "queue"], indirect=True)
async def test_who_gives_up_in_time_has_nothing_written(kind: Kind) -> None:
    await busy(kind)
    begun, other = kind.call(1), kind.call(2)
    assert isinstance(begun, Pending)
    begun.cancel()
    await other
    assert set(await kind.written()) == {2, 101, 102}


async def test_frameworks_take_them_for_coroutine_functions(state: bunflare.State) -> None:
    queue, db = state.queue("background"), state.d1("background")
    await db.exec("CREATE TABLE t (a)")
    insert = db.prepare("INSERT INTO t VALUES (1)")
    for count in (1, 2):
        await asyncio.gather(queue.send("now"), insert.run(), insert.run())
        tasks = BackgroundTasks()
        tasks.add_task(queue.send, "later")
        tasks.add_task(insert.run)
        await tasks()
        assert len(await queue.peek()) == 2 * count
        assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 3 * count


def test_a_call_that_is_made_before_an_event_loop_runs_begins_in_it(tmp_path: Path) -> None:
    state = bunflare.open(tmp_path / "state")
    queue, db = state.queue("log"), state.d1("log")

    async def both() -> None:
        await db.exec("CREATE TABLE IF NOT EXISTS t (a)")
        await asyncio.gather(queue.send(1), queue.send(2), db.prepare("SELECT 1").run())

    asyncio.run(both())
    asyncio.run(queue.send(3))
    asyncio.run(db.prepare("INSERT INTO t VALUES (1)").run())

    async def end() -> None:
        assert {one.body for one in await queue.peek()} == {1, 2, 3}
        assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 1
        await state.close()

    asyncio.run(end())
