"""SQL commits on a slow disk: on a thread, while their object stands still."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import DurableObject
from bunflare.bindings import object_commits
from bunflare.errors import DatabaseError
from bunflare.store import alone as quick
from bunflare.store.object_sql import ObjectFile
from tests.store.test_writer import commits, fill_up, make_room
from tests.support import PATIENCE


class Table(DurableObject):
    def __init__(self, ctx: bunflare.DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (a)")

    async def add(self, value: int) -> int:
        self.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", value)
        await self.ctx.storage.put("last", value)
        return value

    async def later(self, value: int) -> None:
        """Write on, in a task of its own, after the commit has begun."""

        async def more() -> None:
            await asyncio.sleep(0)
            self.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", value + 1)
            await self.ctx.storage.put("more", value + 1)

        self.ctx.wait_until(more())
        await self.add(value)

    async def wipe(self, value: int) -> None:
        await self.add(value)
        await self.ctx.storage.sync()
        await self.add(value + 1)
        await self.ctx.storage.delete_all()

    async def found(self) -> list[Any]:
        rows = self.ctx.storage.sql.exec("SELECT a FROM t ORDER BY a").raw().to_array()
        return [[row[0] for row in rows], await self.ctx.storage.list()]

    async def die(self) -> None:
        self.ctx.storage.sql.exec("INSERT INTO t VALUES (7)")
        await self.ctx.storage.put("last", 7)
        await asyncio.sleep(0)
        self.ctx.abort("enough")


class Plain(DurableObject):
    async def add(self) -> int:
        value = (await self.ctx.storage.get("value") or 0) + 1
        await self.ctx.storage.put("value", value)
        return value

    async def grow(self, size: int) -> None:
        await self.ctx.storage.put("large", bytes(size))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_commits, "SLOW_SECONDS", -1.0)


class Disk:
    """Holds commits up until it is told to let them pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.threads: set[str] = set()
        commit = ObjectFile._commit

        def held(file: ObjectFile) -> DatabaseError | None:
            self.threads.add(threading.current_thread().name)
            assert self.free.wait(PATIENCE)
            return commit(file)

        monkeypatch.setattr(ObjectFile, "_commit", held)


async def test_others_go_on_and_the_object_stands_still(
    slow: None, state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = state.durable_objects(Table)
    stub, other = tables.get_by_name("a"), state.durable_objects(Plain).get_by_name("b")
    assert await stub.add(1) == 1
    disk = Disk(monkeypatch)
    call = stub.add(2)
    # Each of these is a commit of its own, and a turn of the event loop.
    assert [await other.add() for _ in range(5)] == [1, 2, 3, 4, 5]
    second = stub.found()
    assert [await other.add() for _ in range(5)] == [6, 7, 8, 9, 10]
    assert not call.done()
    assert not second.done()
    disk.free.set()
    assert await call == 2
    assert await second == [[1, 2], {"last": 2}]
    assert all(name.startswith("bunflare-object-commits") for name in disk.threads)


async def test_what_a_task_writes_meanwhile_and_what_is_cleared_come_in_order(
    slow: None, directory: Path
) -> None:
    async with bunflare.open(directory) as state:
        stub = state.durable_objects(Table).get_by_name("a")
        for value in range(0, 20, 2):
            await stub.later(value)
        assert await stub.found() == [list(range(20)), {"last": 18, "more": 19}]
    async with bunflare.open(directory) as state:
        stub = state.durable_objects(Table).get_by_name("a")
        assert await stub.found() == [list(range(20)), {"last": 18, "more": 19}]
        await stub.wipe(1)
    async with bunflare.open(directory) as state:
        assert await state.durable_objects(Table).get_by_name("a").found() == [[], {}]


async def test_an_object_that_is_reset_meanwhile_keeps_keys_and_tables_together(
    slow: None, state: bunflare.State
) -> None:
    stub = state.durable_objects(Table).get_by_name("a")
    await stub.add(1)
    with pytest.raises(bunflare.DurableObjectReset):
        await stub.die()
    assert await stub.found() == [[1, 7], {"last": 7}]


async def test_a_commit_that_fails_on_its_thread_resets_the_object(
    slow: None, state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = state.durable_objects(Table).get_by_name("a")
    await stub.add(1)

    def full(file: ObjectFile) -> DatabaseError:
        file._connection.execute("ROLLBACK")
        return DatabaseError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectFile, "_commit", full)
        with pytest.raises(DatabaseError, match="the disk is full"):
            await stub.add(2)
    assert await stub.found() == [[1], {"last": 1}]


# -- keys, on a disk that is quick -------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes alone may do so for as long as they like."""
    monkeypatch.setattr(quick, "_SLOW_COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(quick, "_TURN_SECONDS", 1e9)


@pytest.mark.usefixtures("alone")
async def test_an_object_that_is_called_alone_is_on_disk_when_it_answers(
    state: bunflare.State, directory: Path
) -> None:
    stub = state.durable_objects(Plain).get_by_name("one")
    with closing(apsw.Connection(str(directory / "data.sqlite"))) as other:
        assert await stub.add() == 1
        for number in range(2, 30):
            before = commits(state.database)
            assert await stub.add() == number
            assert commits(state.database) == before + 1
            found = other.execute("SELECT value FROM do_storage").fetchall()
            assert found == [(str(number),)]


@pytest.mark.usefixtures("alone")
async def test_calls_of_one_turn_share_their_commits_whoever_wrote_alone_before(
    state: bunflare.State,
) -> None:
    namespace = state.durable_objects(Plain)
    one, others = namespace.get_by_name("one"), [namespace.get_by_name(f"o{i}") for i in range(50)]
    for _ in range(5):
        await one.add()
    for stubs in ([one] * 50, [one, *others], [one] * 50):
        before = commits(state.database)
        await asyncio.gather(*[stub.add() for stub in stubs])
        # The first may be written on the spot; the rest goes together.
        assert commits(state.database) <= before + 2
    assert await one.add() == 107
    assert await asyncio.gather(*[stub.add() for stub in others]) == [2] * 50


@pytest.mark.usefixtures("alone")
async def test_an_object_that_writes_alone_hears_of_a_full_disk(state: bunflare.State) -> None:
    stub = state.durable_objects(Plain).get_by_name("one")
    for number in range(1, 4):
        assert await stub.add() == number
    fill_up(state.database)
    with pytest.raises(bunflare.DatabaseFull):
        await stub.grow(200_000)
    make_room(state.database)
    # Its next instance has what was on disk.
    assert await stub.add() == 4
