"""One who writes alone: commits on the spot, and what ends that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store import alone as module
from bunflare.store import entry
from bunflare.store.database import Database
from bunflare.store.operation import LATER
from bunflare.store.transaction import Transaction
from bunflare.store.turnstile import Turnstile
from bunflare.store.writer import Writer
from tests.store.test_writer import commits, fill_up, keys, make_room, put, put_then_fail
from tests.support import other_program


@pytest.fixture
def database(state: bunflare.State, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database on a disk that is never slow, whose writers may keep the event loop for long."""
    monkeypatch.setattr(module, "_SLOW_COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(module, "_TURN_SECONDS", 1e9)
    return state.database


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self._next()

    def _next(self) -> None:
        self.count += 1
        if not self.over:
            asyncio.get_running_loop().call_soon(self._next)


@contextmanager
def turns() -> Iterator[Turns]:
    counted = Turns()
    try:
        yield counted
    finally:
        counted.over = True


async def test_the_event_loop_does_not_turn_for_who_writes_alone(database: Database) -> None:
    await database.write(put, "first")
    before = commits(database)
    with turns() as counted:
        for number in range(50):
            await database.write(put, f"k{number:02}")
            assert commits(database) == before + number + 1
        assert counted.count == 1
    assert len(keys(database)) == 51


async def test_it_turns_all_the_same_where_that_goes_on_for_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TURN_SECONDS", -1.0)
    with turns() as counted:
        for number in range(50):
            await database.write(put, f"k{number:02}")
        assert counted.count >= 50


async def test_what_others_ask_for_is_gathered(database: Database) -> None:
    await database.write(put, "first")
    before = commits(database)
    await asyncio.gather(*(database.write(put, f"k{i}") for i in range(100)))
    assert commits(database) == before + 1


async def test_those_who_write_side_by_side_share_their_commits(database: Database) -> None:
    async def several(name: str) -> None:
        for number in range(20):
            await database.write(put, f"{name}{number}")

    before = commits(database)
    await asyncio.gather(*map(several, "abcdefgh"))
    assert commits(database) <= before + 21
    assert len(keys(database)) == 160


async def test_what_was_asked_for_before_comes_before(database: Database) -> None:
    order: list[str] = []
    await database.write(put, "first")
    earlier = database.submit(lambda _tx: order.append("earlier"))
    await database.write(lambda _tx: order.append("later"))
    await earlier
    assert order == ["earlier", "later"]


async def test_a_failure_leaves_nothing_and_ends_nothing(database: Database) -> None:
    await database.write(put, "a")
    before = commits(database)
    with turns() as counted:
        with pytest.raises(ZeroDivisionError):
            await database.write(put_then_fail, "x", "y")
        with pytest.raises(bunflare.DatabaseError, match="UNIQUE") as caught:
            await database.write(put, "a")
        assert caught.value.__cause__ is not None
        await database.write(put, "b")
        assert counted.count == 1
    assert commits(database) == before + 1
    assert keys(database) == ["a", "b"]


async def test_an_interrupt_leaves_nothing(database: Database) -> None:
    def interrupted(tx: Transaction) -> None:
        put(tx, "x")
        raise KeyboardInterrupt

    await database.write(put, "a")
    with pytest.raises(KeyboardInterrupt):
        await database.write(interrupted)
    await database.write(put, "b")
    assert keys(database) == ["a", "b"]


async def test_a_full_disk_is_told_and_the_next_one_may_succeed(database: Database) -> None:
    await database.write(put, "a")
    fill_up(database)
    with pytest.raises(bunflare.DatabaseFull):
        await database.write(put, "large", bytes(1_000_000))
    make_room(database)
    await database.write(put, "b")
    assert keys(database) == ["a", "b"]


async def test_what_follows_a_commit_follows_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def followed(tx: Transaction, key: str) -> None:
        put(tx, key)
        tx.after(lambda: seen.append(commits(database)))

    def wrong(tx: Transaction) -> None:
        tx.after(lambda: 1 / 0)

    await database.write(put, "first")
    before = commits(database)
    await database.write(followed, "a")
    await database.write(wrong)
    await database.write(followed, "b")
    assert seen == [before + 1, before + 2]
    assert "an action that follows a commit failed" in caplog.text


async def test_a_failure_takes_its_promises_with_it(database: Database) -> None:
    seen: list[str] = []

    def promising(tx: Transaction) -> None:
        tx.after(lambda: seen.append("kept"))
        raise ZeroDivisionError

    await database.write(put, "first")
    with pytest.raises(ZeroDivisionError):
        await database.write(promising)
    await database.write(put, "a")
    assert seen == []


async def test_a_commit_that_fails_takes_its_promises_with_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def promising(tx: Transaction, key: str) -> None:
        put(tx, key)
        tx.after(lambda: seen.append(key))

    await database.write(put, "first")
    writer = database._start().writer
    commit = writer._commit

    def fail() -> BaseException | None:
        writer._rollback()
        return bunflare.DatabaseFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_commit", fail)
        with pytest.raises(bunflare.DatabaseFull):
            await database.write(promising, "a")
    assert writer._commit == commit
    await database.write(promising, "b")
    assert seen == ["b"]
    assert keys(database) == ["b", "first"]


async def test_waiting_for_another_program_does_not_hold_up_the_event_loop(
    database: Database, directory: Path
) -> None:
    await database.write(put, "a")
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(_two(database))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writing.done()
        run("COMMIT")
        await asyncio.wait_for(writing, 30)
    assert keys(database) == ["a", "b", "c"]


async def _two(database: Database) -> None:
    await database.write(put, "b")
    await database.write(put, "c")


async def test_another_program_that_comes_between_is_waited_for(
    database: Database, directory: Path
) -> None:
    """The task that has written on the spot goes on when the lock is free again."""
    await database.write(put, "a")
    await database.write(put, "b")
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(run, "COMMIT"))
        await asyncio.wait_for(database.write(put, "c"), 30)
    assert keys(database) == ["a", "b", "c"]


async def test_own_writes_are_read_and_so_are_those_of_others(
    state: bunflare.State, database: Database, directory: Path
) -> None:
    kv = state.kv("A")
    await kv.put("key", "0")
    for number in range(1, 20):
        assert await kv.get("key") == str(number - 1)
        await kv.put("key", str(number))
        assert await kv.get("key") == str(number)
    with other_program(directory) as run:
        run("UPDATE kv SET value = CAST('theirs' AS BLOB)")
    assert await kv.get("key") == "theirs"
    await kv.put("other", "1")
    assert await kv.get("key") == "theirs"


async def test_a_transaction_in_between(database: Database) -> None:
    await database.write(put, "a")
    async with database.transaction() as tx:
        put(tx, "b")
        with pytest.raises(bunflare.StateError, match="would wait for itself"):
            await database.write(put, "c")
    await database.write(put, "d")
    assert keys(database) == ["a", "b", "d"]


async def test_a_write_within_a_write_waits_for_it(database: Database) -> None:
    started: list[asyncio.Future[Any]] = []

    def within(tx: Transaction) -> None:
        tx.after(lambda: started.append(database.submit(put, "b")))
        put(tx, "a")

    await database.write(put, "first")
    await database.write(within)
    assert await started[0] == "b"


async def test_a_closed_database_refuses(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOW_COMMIT_SECONDS", 1e9)
    state = bunflare.open(directory)
    writer = state.database._start().writer
    await state.database.write(put, "a")
    await state.database.write(put, "b")
    await state.close()
    with pytest.raises(bunflare.StateError, match="closed"):
        await _ask(writer)


async def _ask(writer: Writer) -> Any:
    done = writer.now(asyncio.current_task(), put, ("c",), False)
    assert done is LATER
    return await writer.submit(put, ("c",))


def single(database: Database, key: str) -> Any:
    """One statement, by whoever writes alone."""
    return database._start().writer.now(asyncio.current_task(), put, (key,), True)


async def test_a_single_statement_is_a_commit_of_its_own(database: Database) -> None:
    await database.write(put, "a")
    before = commits(database)
    assert single(database, "b") is not LATER
    assert commits(database) == before + 1
    with pytest.raises(bunflare.DatabaseError, match="UNIQUE"):
        single(database, "b")
    assert not database._start().writer._connection.in_transaction
    assert single(database, "c") is not LATER
    assert commits(database) == before + 2
    assert keys(database) == ["a", "b", "c"]


async def test_a_single_statement_waits_for_no_other_process(database: Database) -> None:
    await database.write(put, "a")
    with other_program(database.directory.path) as run:
        run("BEGIN IMMEDIATE")
        assert single(database, "b") is LATER
        assert database.write_now(asyncio.current_task(), put, "b") is LATER
        assert not database._start().writer._connection.in_transaction
        run("ROLLBACK")
    await database.write(put, "b")
    assert keys(database) == ["a", "b"]


async def test_who_waits_in_line_goes_before_one_who_writes_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(put, "a")
    monkeypatch.setattr(entry, "_LOOK_SECONDS", -1.0)
    line = Turnstile(database.directory.turnstile)
    assert line.try_enter()
    assert single(database, "b") is LATER
    assert database.write_now(asyncio.current_task(), put, "b") is LATER
    line.leave()
    assert single(database, "b") is not LATER
    line.close()
    assert keys(database) == ["a", "b"]
