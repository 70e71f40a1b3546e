"""A thread's reader: what it answers, what it holds, and what it remembers."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import uvloop

import bunflare
from bunflare.store import reader as module
from bunflare.store.database import Database, open_database
from bunflare.store.reader import Reader
from bunflare.store.transaction import Transaction
from bunflare.store.walindex import SUPPORTED
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="reads ask SQLite every time here")

COUNT = "SELECT count(*) FROM kv"
GET = "SELECT value FROM kv WHERE namespace = 'T' AND key = ?"


def put(tx: Transaction, key: str, value: bytes = b"") -> None:
    tx.run("INSERT INTO kv (namespace, key, value) VALUES ('T', ?, ?)", (key, value))


def reader_of(database: Database) -> Reader:
    view = database.view
    assert isinstance(view, Reader)
    return view


@pytest.fixture
def reader(state: bunflare.State) -> Reader:
    return reader_of(state.database)


@pytest.fixture
def other(state: bunflare.State) -> Iterator[apsw.Connection]:
    """Another program's connection."""
    connection = apsw.Connection(str(state.directory / "data.sqlite"))
    connection.set_busy_timeout(5000)
    yield connection
    connection.close()


def statements(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the reader asks of SQLite from now on."""
    asked: list[str] = []
    execute = reader._execute

    def noted(sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        asked.append(sql)
        return execute(sql, parameters)

    monkeypatch.setattr(reader, "_execute", noted)
    return asked


# -- answers -----------------------------------------------------------------------------------


async def test_it_gives_the_first_row_all_rows_or_none(
    state: bunflare.State, reader: Reader
) -> None:
    for key in "abc":
        await state.database.write(put, key)
    sql = "SELECT key FROM kv WHERE key > ? ORDER BY key"
    assert reader.one(sql, ("a",)) == ("b",)
    assert reader.all(sql, ("a",)) == [("b",), ("c",)]
    assert reader.hot(sql, ("a",)) == ("b",)
    assert reader.one(sql, ("z",)) is None
    assert reader.all(sql, ("z",)) == []
    assert reader.hot(sql, ("z",)) is None


async def test_an_error_is_ours_and_the_next_read_is_none_the_worse(
    state: bunflare.State, reader: Reader
) -> None:
    await state.database.write(put, "a")
    for read in (reader.one, reader.all):
        with pytest.raises(bunflare.DatabaseError, match="no such column"):
            read("SELECT nonsense FROM kv")
        assert not reader._held
        assert reader.one(COUNT) == (1,)


async def test_each_thread_has_a_reader_of_its_own_and_takes_it_along(
    state: bunflare.State, reader: Reader
) -> None:
    readers: list[int] = []

    def read() -> None:
        readers.append(id(state.database.view))
        assert state.database.view.one(COUNT) == (0,)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert readers != [id(reader)]
    gc.collect()
    assert list(state.database._start()._readers.values()) == [reader]


# -- the held snapshot -------------------------------------------------------------------------


async def test_reads_that_follow_each_other_share_one_transaction(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.database.write(put, "a")
    asked = statements(reader, monkeypatch)
    for _ in range(5):
        assert reader.one(COUNT) == (1,)
    assert asked == ["BEGIN", *[COUNT] * 5]
    await state.database.write(put, "b")
    assert reader.one(COUNT) == (2,)
    assert asked[6:] == ["COMMIT", "BEGIN", COUNT]


async def test_a_commit_of_others_ends_the_snapshot(reader: Reader, other: apsw.Connection) -> None:
    assert reader.one(COUNT) == (0,)
    for number in range(1, 50):
        other.execute("INSERT INTO kv VALUES ('T', ?, '', NULL, NULL)", (str(number),))
        assert reader.one(COUNT) == (number,)
        assert reader.all(COUNT) == [(number,)]
        assert reader.hot(COUNT, ()) == (number,)


async def test_a_snapshot_is_given_up_after_a_while(
    reader: Reader, other: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HOLD_SECONDS", 0.001)
    other.execute("INSERT INTO kv VALUES ('T', 'a', '', NULL, NULL)")
    reader.one(COUNT)
    assert reader._held
    await eventually(lambda: not reader._held)
    # Nobody stands in the way of a log that begins anew.
    assert other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0)
    assert reader.one(COUNT) == (1,)


def test_without_an_event_loop_nothing_is_held(directory: Path) -> None:
    database = open_database(directory, "normal")
    reader = reader_of(database)
    asyncio.run(database.write(put, "a"))
    assert reader.one(COUNT) == (1,)
    assert not reader._held
    asyncio.run(database.write(put, "b"))
    assert reader.all(COUNT) == [(2,)]
    assert not reader._held
    asyncio.run(database.release())


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_event_loop_that_ends_leaves_no_snapshot_behind(
    directory: Path, make: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whoever calls `asyncio.run` now and then must not hold up other processes in between."""
    database = open_database(directory, "normal")
    reader = reader_of(database)

    async def read() -> None:
        assert reader.one(COUNT) == (0,)
        assert reader._held

    for _ in range(3):
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(read())
        assert not reader._held
    asyncio.run(database.release())


def test_an_event_loop_that_another_thread_closes_is_noticed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HOLD_SECONDS", 10 * PATIENCE)
    database = open_database(directory, "normal")
    reader = reader_of(database)
    loop = asyncio.new_event_loop()

    async def read() -> None:
        reader.one(COUNT)

    loop.run_until_complete(read())
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    # The reader's connection is this thread's, so nobody else has touched it.
    assert reader._held
    assert reader.abandoned
    assert reader.one(COUNT) == (0,)
    asyncio.run(database.write(put, "a"))
    assert not reader._held
    asyncio.run(database.release())


# -- what is remembered ------------------------------------------------------------------------


async def test_what_is_read_again_is_not_asked_again(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.database.write(put, "a", b"1")
    asked = statements(reader, monkeypatch)
    for _ in range(5):
        assert reader.hot(GET, ("a",)) == (b"1",)
        assert reader.hot(GET, ("missing",)) is None
    assert asked == ["BEGIN", GET, GET]


async def test_own_commits_forget_what_they_name_and_keep_the_rest(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = state.database
    await database.write(put, "a", b"1")
    await database.write(put, "b", b"1")
    reader.hot(GET, ("a",))
    reader.hot(GET, ("b",))

    def change(tx: Transaction) -> None:
        tx.run("UPDATE kv SET value = '2' WHERE key = 'a'")
        tx.forget(GET, ("a",))

    await database.write(change)
    asked = statements(reader, monkeypatch)
    assert reader.hot(GET, ("b",)) == (b"1",)
    assert asked == []
    assert reader.hot(GET, ("a",)) == ("2",)
    assert asked == ["BEGIN", GET]


async def test_an_answer_that_a_commit_tells_is_not_asked_for(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = state.database
    await database.write(put, "a", b"1")
    reader.hot(GET, ("a",))

    def change(tx: Transaction) -> None:
        tx.run("UPDATE kv SET value = '2' WHERE key = 'a'")
        tx.forget(GET, ("a",), ("2",))

    await database.write(change)
    asked = statements(reader, monkeypatch)
    assert reader.hot(GET, ("a",)) == ("2",)
    assert asked == []


async def test_a_write_that_failed_forgets_nothing(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.hot(GET, ("a",))
    reader.hot(GET, ("a",))

    def fail(tx: Transaction) -> None:
        tx.forget(GET, ("a",))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await state.database.write(fail)
    asked = statements(reader, monkeypatch)
    assert reader.hot(GET, ("a",)) is None
    assert asked == []


async def test_a_commit_of_others_forgets_everything(
    reader: Reader, other: apsw.Connection
) -> None:
    for number in range(10):
        reader.hot(GET, (str(number),))
    other.execute("INSERT INTO kv VALUES ('T', '5', x'31', NULL, NULL)")
    assert reader.hot(GET, ("5",)) == (b"1",)
    assert len(reader._hot) + len(reader._warm) == 1


async def test_a_large_row_is_not_remembered(state: bunflare.State, reader: Reader) -> None:
    await state.database.write(put, "large", bytes(module._HOT_LARGEST))
    await state.database.write(put, "small", bytes(module._HOT_LARGEST // 2))
    reader.hot(GET, ("small",))
    reader.hot(GET, ("large",))
    reader.hot(GET, ("k" * module._HOT_LARGEST,))
    assert list(reader._hot) == [(GET, ("small",))]


async def test_what_is_read_often_outlives_what_is_read_once(
    state: bunflare.State, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HOT_BYTES", 100_000)
    await state.database.write(put, "often", b"1")
    asked = statements(reader, monkeypatch)
    for number in range(2000):
        reader.hot(GET, ("often",))
        reader.hot(GET, (f"once {number}",))
    assert len(reader._hot) + len(reader._warm) < 300
    # A thousand and more rows have come and gone, and this one has stayed.
    assert asked.count(GET) == 2001


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("é" * 250, 60_000),  # as long as a key of Workers KV
        ("http://host/" + "x" * 8000, 10_000),  # as long as a URL
        ("\U0001f642" + "x" * 1000, 10_000),  # one character that makes all others large
    ],
)
async def test_the_memory_for_what_is_absent_is_bounded(
    reader: Reader, key: str, rows: int
) -> None:
    reader.hot(GET, ("first",))
    tracemalloc.start()
    try:
        for number in range(rows):
            reader.hot(GET, (f"{key}{number}",))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 1.25 * module._HOT_BYTES


async def test_the_memory_for_what_is_there_is_bounded(
    state: bunflare.State, reader: Reader
) -> None:
    def fill(tx: Transaction) -> None:
        for number in range(15_000):
            put(tx, f"k{number:05}", bytes(2000))

    await state.database.write(fill, heavy=True)
    reader.hot(GET, ("first",))
    tracemalloc.start()
    try:
        for number in range(15_000):
            reader.hot(GET, (f"k{number:05}",))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert module._HOT_BYTES / 4 < used < 1.25 * module._HOT_BYTES
