"""Durable Objects where something goes wrong at an inconvenient moment."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectSqlError
from bunflare.bindings import object_commits
from bunflare.bindings.object_flush import Batch
from bunflare.bindings.object_link import LinkServer
from bunflare.store.operation import LATER, Operation, deliver
from bunflare.store.told import Outcome
from tests.support import PATIENCE, eventually

Work = Callable[[bunflare.DurableObjectState], Any]


class Box(DurableObject):
    async def do(self, work: Work) -> Any:
        result = work(self.ctx)
        return await result if asyncio.iscoroutine(result) else result

    async def add(self, amount: int) -> int:
        storage = self.ctx.storage
        storage.sql.exec("CREATE TABLE IF NOT EXISTS log (amount)")
        storage.sql.exec("INSERT INTO log VALUES (?)", amount)
        balance = (await storage.get("balance") or 0) + amount
        await storage.put("balance", balance)
        return int(balance)

    async def only_put(self, key: str, value: Any) -> None:
        await self.ctx.storage.put(key, value)

    async def only_sql(self, amount: int) -> None:
        self.ctx.storage.sql.exec("INSERT INTO log VALUES (?)", amount)

    async def look(self) -> list[Any]:
        rows = self.ctx.storage.sql.exec("SELECT amount FROM log").raw().to_array()
        return [await self.ctx.storage.list(), sorted(amount for (amount,) in rows)]

    async def leave(self) -> None:
        self.ctx.abort("enough")

    def future(self) -> Awaitable[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "later")
        return future


def stub_of(state: bunflare.State) -> Any:
    return state.durable_objects(Box).get_by_name("box")


# -- the two files of an object ---------------------------------------------------------------


async def test_what_a_crash_finds_under_way_is_whole_whatever_came_after_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SQL file has three commits when the machine stops, data.sqlite none of their keys."""
    state = bunflare.open(directory)
    stub = stub_of(state)
    assert await stub.add(1) == 1
    with monkeypatch.context() as patch:
        never: list[Operation] = []
        _hold(patch, state, never)
        # On a slow disk the object would stand still for each.
        patch.setattr(object_commits, "SLOW_SECONDS", 1000.0)
        calls = [stub.add(2), stub.only_put("key", "value"), stub.add(3), stub.only_sql(4)]
        await asyncio.sleep(0)
        await eventually(lambda: len(never) >= 1 and not _busy(state))
        assert not any(call.done() for call in calls)
        ours = shutil.ignore_patterns("sockets", "processes")
        shutil.copytree(directory, tmp_path / "copy", ignore=ours)
        for operation in never:
            operation.error = asyncio.CancelledError()
            deliver(operation)
        await asyncio.gather(*calls, return_exceptions=True)
    await state.close()
    async with bunflare.open(tmp_path / "copy") as copy:
        assert await stub_of(copy).look() == [{"balance": 6, "key": "value"}, [1, 2, 3, 4]]
        # What was recovered is not recovered once more over what follows.
        await stub_of(copy).only_put("balance", 100)
    async with bunflare.open(tmp_path / "copy") as copy:
        assert (await stub_of(copy).look())[0]["balance"] == 100


def _hold(patch: pytest.MonkeyPatch, state: bunflare.State, into: list[Operation]) -> None:
    """Keep what is to be written from the writer."""
    patch.setattr(state.database, "write_now", lambda *_, **_more: LATER)
    patch.setattr(state.database, "enqueue", into.append)


def _busy(state: bunflare.State) -> bool:
    return any(
        event._coroutine is None
        for actor in state._objects["Box"].actors.values()
        for event in actor.running
    )


async def test_an_object_that_is_reset_with_writes_under_way_loses_none_and_repeats_none(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = stub_of(state)
    await stub.add(1)
    late: list[Operation] = []
    with monkeypatch.context() as patch:
        _hold(patch, state, late)
        calls = [stub.add(2), stub.only_put("balance", 50), stub.leave()]
        with pytest.raises(bunflare.DurableObjectReset, match="enough"):
            await calls[2]
        # The next instance sees what is under way, and writes over it.
        again = asyncio.ensure_future(_both(stub))
        await eventually(lambda: not _busy(state))
    for operation in late:
        state.database.enqueue(operation)
    assert await again == [{"balance": 50, "after": True}, [1, 2]]
    await asyncio.gather(*calls, return_exceptions=True)
    state._objects["Box"].evict(str(stub.id))
    assert await stub.look() == [{"balance": 50, "after": True}, [1, 2]]


async def _both(stub: Any) -> Any:
    await stub.only_put("after", True)
    return await stub.look()


async def test_the_next_instance_fails_with_the_writes_that_it_has_seen(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = stub_of(state)
    await stub.add(1)
    with monkeypatch.context() as patch:
        held: list[Operation] = []
        _hold(patch, state, held)
        calls = [stub.add(2), stub.leave()]
        await asyncio.gather(calls[1], return_exceptions=True)
        seen = stub.look()
        await eventually(lambda: not _busy(state))
        held[0].error = bunflare.DatabaseFull("full")
        deliver(held[0])
        await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(bunflare.DatabaseFull):
            await seen
    # The SQL file has the second one, with the record of what belongs to it.
    assert await stub.look() == [{"balance": 3}, [1, 2]]


# -- sections ---------------------------------------------------------------------------------


async def test_transactions_beside_each_other_inside_of_a_critical_section(
    state: bunflare.State,
) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> Any:
        async def add(txn: bunflare.DurableObjectTransaction) -> None:
            value = await txn.get("n") or 0
            await asyncio.sleep(0)
            await txn.put("n", value + 1)

        async def section() -> None:
            await asyncio.gather(*[ctx.storage.transaction(add) for _ in range(5)])

        await ctx.block_concurrency_while(section)
        return await ctx.storage.get("n")

    assert await asyncio.wait_for(stub_of(state).do(work), PATIENCE) == 5


async def test_what_a_critical_section_has_started_outlives_it(state: bunflare.State) -> None:
    stub = stub_of(state)
    ended = asyncio.Event()

    async def work(ctx: bunflare.DurableObjectState) -> None:
        async def later() -> None:
            await ended.wait()

            async def change(txn: bunflare.DurableObjectTransaction) -> None:
                await txn.put("late", True)

            await ctx.storage.transaction(change)

        async def section() -> None:
            ctx.wait_until(later())

        await ctx.block_concurrency_while(section)

    await stub.do(work)
    ended.set()
    host = state._objects["Box"]
    await eventually(lambda: not host.actors[str(stub.id)].background)
    found = await asyncio.wait_for(stub.do(lambda ctx: ctx.storage.get("late")), PATIENCE)
    assert found is True


async def test_nothing_leaves_a_transaction_before_what_came_before_it_is_on_disk(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Batch.settle
    landed: list[str] = []

    def noted(batch: Batch, told: list[Outcome]) -> None:
        landed.append("landed")
        settle(batch, told)

    monkeypatch.setattr(Batch, "settle", noted)

    async def work(ctx: bunflare.DurableObjectState) -> list[str]:
        await ctx.storage.put("before", 1)

        async def change(txn: bunflare.DurableObjectTransaction) -> list[str]:
            await state.kv("OUTSIDE").put("told", "x")
            return list(landed)

        return await ctx.storage.transaction(change)

    assert await stub_of(state).do(work) == ["landed"]


# -- calls ------------------------------------------------------------------------------------


async def test_calls_fail_where_the_objects_cannot_be_reached(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise OSError("no sockets today")

    with monkeypatch.context() as patch:
        patch.setattr(LinkServer, "start", broken)
        stub = stub_of(state)
        with pytest.raises(OSError, match="no sockets today"):
            await asyncio.wait_for(stub.add(1), PATIENCE)
    assert await stub.add(1) == 1


async def test_a_state_that_is_closed_fails_the_calls_that_wait(directory: Path) -> None:
    state = bunflare.open(directory)
    call = stub_of(state).add(1)
    await state.close()
    with pytest.raises(bunflare.StateError):
        await asyncio.wait_for(call, PATIENCE)


async def test_a_method_that_returns_an_awaitable_is_awaited(state: bunflare.State) -> None:
    assert await stub_of(state).future() == "later"


async def test_values_nested_too_deeply_are_refused(state: bunflare.State) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(bunflare.ValueNotSerializable, match="nested too deeply"):
        await stub_of(state).do(deep)


async def test_a_directory_with_a_long_path(tmp_path: Path) -> None:
    """A socket's address has room for some 100 bytes only."""
    deep = tmp_path / ("long" * 40) / "state"
    async with bunflare.open(deep) as state:
        assert await stub_of(state).add(1) == 1
        address = Path(state._objects["Box"]._server.address)  # type: ignore[union-attr]
        assert address.exists()
    assert not address.parent.exists()


# -- SQL --------------------------------------------------------------------------------------


async def test_signs_of_parameters_in_strings_are_none(state: bunflare.State) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> Any:
        sql = ctx.storage.sql
        one = sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES ('a:b?'); SELECT ? AS v", 1).one()
        with pytest.raises(DurableObjectSqlError, match="only the last statement can have param"):
            sql.exec("SELECT ?; SELECT ?", 1)
        return one

    assert await stub_of(state).do(work) == {"v": 1}


async def test_rows_written_follow_an_index_that_is_made_later(state: bunflare.State) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> list[int]:
        sql = ctx.storage.sql
        sql.exec("CREATE TABLE t (a)")
        before = [sql.exec("INSERT INTO t VALUES (1)").rows_written for _ in "12"]
        sql.exec("CREATE INDEX i ON t (a)")
        return [*before, sql.exec("INSERT INTO t VALUES (1)").rows_written]

    assert await stub_of(state).do(work) == [1, 1, 2]


async def test_rows_written_follow_an_index_whose_making_is_undone(state: bunflare.State) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> list[int]:
        sql = ctx.storage.sql
        insert = "INSERT INTO t VALUES (1)"
        sql.exec("CREATE TABLE t (a)")

        def undone() -> None:
            sql.exec("CREATE INDEX i ON t (a)")
            written.extend(sql.exec(insert).rows_written for _ in "12")
            raise ValueError

        written = [sql.exec(insert).rows_written]
        with pytest.raises(ValueError):
            ctx.storage.transaction_sync(undone)
        return [*written, *(sql.exec(insert).rows_written for _ in "12")]

    assert await stub_of(state).do(work) == [1, 2, 2, 1, 1]


@pytest.mark.parametrize("last", ["PRAGMA ignore_check_constraints = 0", "SELECT 1; {}; SELECT 2"])
async def test_rows_written_follow_what_a_pragma_switches(state: bunflare.State, last: str) -> None:
    off = "PRAGMA ignore_check_constraints(0)"

    async def work(ctx: bunflare.DurableObjectState) -> list[int]:
        sql = ctx.storage.sql
        insert = "INSERT OR IGNORE INTO t VALUES (?)"
        sql.exec("CREATE TABLE t (a CHECK (a > 0))")
        sql.exec("PRAGMA ignore_check_constraints = 1")
        written = [sql.exec(insert, -1).rows_written for _ in "12"]
        sql.exec(last.format(off))
        return [*written, *(sql.exec(insert, number).rows_written for number in (-1, -1, 1))]

    assert await stub_of(state).do(work) == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("table", "written"),
    [
        ("a, b", [1, 1, 1]),
        ("a NOT NULL, b DEFAULT 'one'", [1, 1, None]),
        ("a NOT NULL ON CONFLICT IGNORE, b", [1, 1, 0]),
        ("a, b, CHECK (a < 9)", [1, 1, 1]),
        ("a UNIQUE ON CONFLICT IGNORE, b", [2, 0, 2]),
        ("a PRIMARY KEY ON CONFLICT REPLACE, b", [2, 2, 2]),
        ("a INTEGER PRIMARY KEY ON CONFLICT IGNORE, b", [1, 0, 1]),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE ON CONFLICT IGNORE", [3, 0, 3]),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT, a CHECK (a < 9)", [2, 2, 2]),
    ],
)
async def test_rows_written_are_those_of_each_run_of_a_statement(
    state: bunflare.State, table: str, written: list[int | None]
) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> list[int | None]:
        sql = ctx.storage.sql
        sql.exec(f"CREATE TABLE t ({table})")
        cursors: list[bunflare.SqlCursor | None] = []
        for number in (1, 1, None):
            try:
                cursors.append(sql.exec("INSERT INTO t (a) VALUES (?)", number))
            except DurableObjectSqlError:
                cursors.append(None)
        return [None if one is None else one.rows_written for one in cursors]

    assert await stub_of(state).do(work) == written


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (3), ('x')",
        "INSERT INTO t SELECT column1 FROM (VALUES (3), ('x'))",
        "UPDATE t SET a = CASE a WHEN 1 THEN 3 ELSE 'x' END",
        "INSERT INTO t VALUES (3), ('x') RETURNING a",
        "INSERT INTO t VALUES (3), ('x'); SELECT 1",
        "SELECT 1; UPDATE OR FAIL t SET a = CASE a WHEN 1 THEN 3 ELSE 'x' END; SELECT 1",
        "WITH n (x) AS (VALUES (3), ('x')) INSERT INTO t SELECT x FROM n; SELECT 1",
    ],
)
async def test_nothing_is_left_of_a_statement_one_of_whose_rows_has_a_wrong_type(
    state: bunflare.State, statement: str
) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> list[Any]:
        sql = ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS t (a INTEGER) STRICT")
        sql.exec("INSERT INTO t VALUES (1), (2)")
        for _ in "123":
            with pytest.raises(DurableObjectSqlError, match="cannot store TEXT value"):
                sql.exec(statement)
        sql.exec("INSERT INTO t VALUES (4)")
        return [one for (one,) in sql.exec("SELECT a FROM t").raw()]

    assert await stub_of(state).do(work) == [1, 2, 4]
    assert await stub_of(state).do(work) == [1, 2, 4] * 2


@pytest.mark.parametrize("after", ["", "; SELECT 1"])
async def test_what_comes_before_a_failure_is_kept_where_that_is_asked_for(
    state: bunflare.State, after: str
) -> None:
    async def work(ctx: bunflare.DurableObjectState) -> list[Any]:
        sql = ctx.storage.sql
        sql.exec("CREATE TABLE t (a INTEGER UNIQUE) STRICT")
        for number in (3, 5):
            with pytest.raises(DurableObjectSqlError, match="UNIQUE constraint failed"):
                sql.exec(f"INSERT OR FAIL INTO t VALUES ({number}), ({number}), (9){after}")
        return [one for (one,) in sql.exec("SELECT a FROM t").raw()]

    assert await stub_of(state).do(work) == [3, 5]


async def test_delete_all_that_cannot_be_written_resets_the_object_and_deletes_nothing(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bunflare.store.object_sql import ObjectFile

    stub = stub_of(state)
    await stub.add(1)

    async def work(ctx: bunflare.DurableObjectState) -> str:
        await ctx.storage.put("pending", True)
        with pytest.raises(bunflare.DatabaseFull):
            await ctx.storage.delete_all()
        return "all is well"

    def full(*_: object) -> None:
        raise bunflare.DatabaseFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectFile, "clear", full)
        with pytest.raises(bunflare.DatabaseFull):
            await stub.do(work)
    assert await stub.look() == [{"balance": 1}, [1]]


# -- alarms -----------------------------------------------------------------------------------


class Bell(DurableObject):
    async def set(self, time: int) -> None:
        await self.ctx.storage.set_alarm(time)

    async def alarm(self) -> None:
        self.env.append("rung")


async def test_an_alarm_that_cannot_be_put_off_waits_before_it_is_tried_again(
    state: bunflare.State, clock: bunflare.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    class Fragile(Bell):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            if self.env.count("broken") > len(tries):
                tries.append("tried")
                raise ValueError("broken")

    env: list[str] = []
    stub = state.durable_objects(Fragile, env=env).get_by_name("a")
    await stub.set(clock.now() + 1000)
    host = state._objects["Fragile"]
    host.evict(str(stub.id))
    env += ["broken"] * 1000

    async def full(*_: object, **__: object) -> None:
        raise bunflare.DatabaseFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(state.database, "write", full)
        await clock.advance(seconds=30)
        await eventually(lambda: bool(tries))
        assert len(tries) == 1
    env.clear()
    await clock.advance(minutes=2)
    await eventually(lambda: env == ["rung"])


@pytest.mark.usefixtures("impatient")
async def test_an_alarm_that_is_set_anew_while_it_is_about_to_ring_waits_for_its_new_time(
    state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    env: list[str] = []

    class Slow(Bell):
        async def hold(self, until: asyncio.Event, time: int) -> None:
            async def section() -> None:
                await until.wait()
                await self.ctx.storage.set_alarm(time)
                await self.ctx.storage.sync()

            await self.ctx.block_concurrency_while(section)

    objects = state.durable_objects(Slow, env=env)
    stub = objects.get_by_name("a")
    await stub.set(clock.now() + 1000)
    host = state._objects["Slow"]
    until = asyncio.Event()
    held = host.call(stub.id, "hold", (until, clock.now() + 60_000), {})
    await clock.advance(seconds=2)
    until.set()
    await held
    await clock.advance(seconds=10)
    assert env == []
    await clock.advance(seconds=60)
    await eventually(lambda: env == ["rung"])


class Trouble(DurableObject):
    """Fails in every way it can, or counts."""

    async def fail(self, way: str) -> None:
        await self.ctx.storage.put("half", way)
        if way == "hang":
            await asyncio.Event().wait()
        elif way == "section":
            await self.ctx.block_concurrency_while(asyncio.Event().wait)
        elif way == "memory":
            raise MemoryError("there is no more")
        elif way == "size":
            bytearray(1 << 62)
        elif way == "depth":
            await self.fail_deeply()
        elif way == "sql":
            self.ctx.storage.sql.exec(
                "WITH RECURSIVE n AS (SELECT randomblob(2000000) AS b) SELECT b || b FROM n"
            ).to_array()
        else:
            raise ValueError(way)

    async def fail_deeply(self) -> None:
        await self.fail_deeply()

    async def count(self) -> int:
        value = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", value)
        return int(value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["raise", "hang", "section", "memory", "size", "depth", "sql"])
async def test_an_object_that_fails_harms_no_other(state: bunflare.State, way: str) -> None:
    objects = state.durable_objects(Trouble)
    others = [objects.get_by_name(str(number)) for number in range(5)]
    failing = objects.get_by_name("failing")
    asked = [failing.fail(way) for _ in range(3)]
    for turn in range(3):
        counting = asyncio.gather(*[one.count() for one in others])
        counts = await asyncio.wait_for(counting, PATIENCE)
        assert counts == [turn + 1] * 5
    if way in ("hang", "section"):
        assert not any(future.done() for future in asked)
        for future in asked:
            future.cancel()
    else:
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(result, Exception)
        # Neither has it harmed itself.
        assert await failing.count() == 1
