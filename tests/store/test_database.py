"""The writer and the transactions of a database."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store.database import Database, get_database, open_database
from bunflare.store.transaction import Transaction

PUT = "INSERT INTO kv (namespace, key, value) VALUES ('T', ?, ?)"


def put(tx: Transaction, key: str, value: bytes = b"") -> str:
    tx.run(PUT, (key, value))
    return key


def put_then_fail(tx: Transaction, *keys: str) -> None:
    for key in keys:
        put(tx, key)
    raise ZeroDivisionError


@pytest.fixture
def database(state: bunflare.State) -> Database:
    return state.database


def keys(database: Database) -> list[str]:
    return [row[0] for row in database.view.all("SELECT key FROM kv ORDER BY key")]


async def count_commits(database: Database, work: Any) -> int:
    """How many commits it takes."""
    header = database.header()
    assert isinstance(header, bytes)
    before = int.from_bytes(header[8:12], "little")
    await work
    header = database.header()
    assert isinstance(header, bytes)
    return int.from_bytes(header[8:12], "little") - before


async def test_concurrent_writes_are_one_commit(database: Database) -> None:
    work = asyncio.gather(*(database.write(put, f"k{i:03}") for i in range(300)))
    assert await count_commits(database, work) == 1
    assert len(keys(database)) == 300
    assert await work == [f"k{i:03}" for i in range(300)]


async def test_an_operation_of_a_group_fails_alone(database: Database) -> None:
    calls: list[str] = []

    def noted(tx: Transaction, key: str) -> None:
        calls.append(key)
        put(tx, key)

    results = await asyncio.gather(
        database.write(noted, "a"),
        database.write(put_then_fail),
        database.write(noted, "b"),
        return_exceptions=True,
    )
    assert isinstance(results[1], ZeroDivisionError)
    assert keys(database) == ["a", "b"]
    assert calls == ["a", "b"]  # nothing had to be run again


async def test_an_operation_that_fails_half_way_is_undone_alone(database: Database) -> None:
    work = asyncio.gather(
        database.write(put, "a"),
        database.write(put_then_fail, "x", "y"),
        database.write(put, "b"),
        database.write(put_then_fail, "z"),
        database.write(put, "c"),
        return_exceptions=True,
    )
    assert await count_commits(database, work) == 1
    results = await work
    assert [type(result) for result in results] == [
        str,
        ZeroDivisionError,
        str,
        ZeroDivisionError,
        str,
    ]
    assert keys(database) == ["a", "b", "c"]


async def test_a_statement_that_sqlite_refuses_is_a_database_error(database: Database) -> None:
    results = await asyncio.gather(
        database.write(put, "a"),
        database.write(put, "a"),
        return_exceptions=True,
    )
    assert results[0] == "a"
    assert isinstance(results[1], bunflare.DatabaseError)
    with pytest.raises(bunflare.DatabaseError):
        database.view.one("SELECT nothing")


async def test_promises_of_a_failed_operation_are_not_kept(database: Database) -> None:
    done: list[str] = []

    def promising(tx: Transaction, key: str, fail: bool) -> None:
        tx.after(lambda: done.append(key))
        put(tx, key)
        if fail:
            raise ZeroDivisionError

    await asyncio.gather(
        database.write(promising, "a", False),
        database.write(promising, "b", True),
        return_exceptions=True,
    )
    assert done == ["a"]


async def test_what_follows_a_commit_cannot_undo_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(tx: Transaction) -> None:
        put(tx, "a")
        tx.after(lambda: 1 / 0)

    await database.write(failing)
    assert keys(database) == ["a"]
    assert "ZeroDivisionError" in caplog.text
    await database.write(put, "b")


async def test_a_write_that_was_given_up_in_time_is_not_made(database: Database) -> None:
    task = asyncio.ensure_future(database.write(put, "a"))
    await asyncio.sleep(0)  # it is waiting now
    task.cancel()
    await database.write(put, "b")
    assert keys(database) == ["b"]


async def test_a_heavy_write_runs_on_a_thread(database: Database) -> None:
    def where(tx: Transaction) -> int:
        put(tx, "heavy")
        return threading.get_ident()

    light, heavy = await asyncio.gather(
        database.write(lambda _: threading.get_ident()), database.write(where, heavy=True)
    )
    assert light == threading.get_ident() != heavy
    assert keys(database) == ["heavy"]


async def test_slow_commits_leave_the_event_loop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = database._start().writer
    threads: set[int] = set()
    commit = writer._commit

    def noted() -> Any:
        threads.add(threading.get_ident())
        return commit()

    monkeypatch.setattr(writer, "_commit", noted)
    writer._commit_cost = 1.0
    await database.write(put, "a")
    assert threading.get_ident() not in threads
    async with database.transaction() as tx:
        put(tx, "b")
    assert keys(database) == ["a", "b"]
    assert threading.get_ident() not in threads
    writer._commit_cost = 0.0
    await database.write(put, "c")
    assert threading.get_ident() in threads


# -- transactions ------------------------------------------------------------------------------


async def test_a_transaction_is_one_commit_and_isolated(database: Database) -> None:
    async with database.transaction() as tx:
        put(tx, "a")
        other = asyncio.ensure_future(database_write_outside(database, "b"))
        await asyncio.sleep(0)
        assert tx.all("SELECT key FROM kv") == [("a",)]
        assert keys(database) == []
        put(tx, "c")
    await other
    assert keys(database) == ["a", "b", "c"]


def database_write_outside(database: Database, key: str) -> Any:
    """A write of another task, which does not inherit this task's transaction."""
    import contextvars

    return contextvars.Context().run(asyncio.ensure_future, database.write(put, key))


async def test_a_transaction_that_raises_is_undone(database: Database) -> None:
    done: list[str] = []
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            put(tx, "a")
            tx.after(lambda: done.append("a"))
            raise ZeroDivisionError
    assert (keys(database), done) == ([], [])
    async with database.transaction() as tx:
        put(tx, "b")
        tx.after(lambda: done.append("b"))
    assert (keys(database), done) == (["b"], ["b"])


async def test_a_transaction_that_is_cancelled_is_undone(database: Database) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as tx:
            put(tx, "a")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(put, "b")
    assert keys(database) == ["b"]


async def test_giving_up_before_a_transaction_begins_leaves_the_writer_free(
    database: Database,
) -> None:
    async def work() -> None:
        async with database.transaction():
            pytest.fail("it was cancelled before")

    for turns in range(4):
        task = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises((asyncio.CancelledError, BaseException)):
                await task
            break
    await database.write(put, "b")
    assert keys(database) == ["b"]


async def test_a_write_beside_the_own_transaction_says_what_to_do(database: Database) -> None:
    async with database.transaction() as tx:
        with pytest.raises(bunflare.StateError, match="through the transaction"):
            await database.write(put, "a")
        with pytest.raises(bunflare.StateError, match="nest"):
            async with database.transaction():
                pass
        put(tx, "b")
    await database.write(put, "c")
    assert keys(database) == ["b", "c"]


async def test_a_transaction_cannot_be_used_after_its_end(database: Database) -> None:
    async with database.transaction() as tx:
        put(tx, "a")
    with pytest.raises(bunflare.StateError, match="ended"):
        put(tx, "b")
    assert keys(database) == ["a"]


async def test_transactions_wait_for_each_other(database: Database) -> None:
    await database.write(put, "n", b"0")

    async def increment() -> None:
        async with database.transaction() as tx:
            row = tx.one("SELECT value FROM kv WHERE key = 'n'")
            assert row is not None
            await asyncio.sleep(0)
            tx.run("UPDATE kv SET value = ? WHERE key = 'n'", (b"%d" % (int(row[0]) + 1),))

    await asyncio.gather(*(increment() for _ in range(50)))
    assert database.view.one("SELECT value FROM kv") == (b"50",)


# -- threads, event loops, closing -------------------------------------------------------------


def test_event_loops_of_several_threads_share_a_database(directory: Path) -> None:
    database = open_database(directory, "normal")
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        for i in range(100):
            await asyncio.gather(*(database.write(put, f"{name}{i}.{j}") for j in range(5)))
            assert database.view.one("SELECT 1 FROM kv WHERE key = ?", (f"{name}{i}.4",))

    def run(name: str) -> None:
        try:
            asyncio.run(work(name))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(keys(database)) == 4 * 500
    asyncio.run(database.release())


def test_reads_work_without_an_event_loop(directory: Path) -> None:
    database = open_database(directory, "normal")
    asyncio.run(database.write(put, "a"))
    assert keys(database) == ["a"]
    asyncio.run(database.write(put, "b"))
    assert keys(database) == ["a", "b"]
    asyncio.run(database.release())


async def test_two_states_of_one_directory_share_a_database(directory: Path) -> None:
    one, two = bunflare.open(directory), bunflare.open(directory)
    assert one.database is two.database
    await one.close()
    await two.kv("A").put("key", "value")
    await two.close()
    with pytest.raises(bunflare.StateError, match="closed"):
        await two.kv("A").get("key")
    with pytest.raises(bunflare.StateError, match="closed"):
        await two.kv("A").put("key", "value")
    await two.close()


async def test_one_directory_has_one_durability(directory: Path) -> None:
    async with bunflare.open(directory, durability="normal"):
        async with bunflare.open(directory):
            pass
        with pytest.raises(bunflare.StateError, match="durability"):
            bunflare.open(directory, durability="full")
    with pytest.raises(bunflare.DatabaseError, match="durability"):
        bunflare.open(directory, durability="none")  # type: ignore[arg-type]


def test_get_database_is_one_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNFLARE_DIR", str(tmp_path / "here"))
    database = get_database()
    assert database is get_database(tmp_path / "here")

    async def use() -> None:
        async with bunflare.open() as state:
            assert state.database is database
            await state.kv("A").put("key", "value")

    asyncio.run(use())
    # It stays open although the state was closed.
    assert database.view.one("SELECT key FROM kv") == ("key",)


async def test_durability_is_what_sqlite_is_told(tmp_path: Path) -> None:
    for name, level in (("full", 2), ("normal", 1)):
        async with bunflare.open(tmp_path / name, durability=name) as state:  # type: ignore[arg-type]
            connection = state.database._start()._connection
            assert connection.execute("PRAGMA synchronous").fetchall() == [(level,)]
            assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


async def test_closing_leaves_no_thread_no_file_and_no_log(directory: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", bytes(1024 * 1024))
        await asyncio.gather(*(state.kv("A").put(f"k{i}", "v") for i in range(10)))
    assert {thread.name for thread in threading.enumerate()} == before
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert sorted(path.name for path in directory.iterdir()) == [
        ".gitignore",
        "data.sqlite",
        "writer.lock",
    ]


async def test_closing_waits_for_what_is_being_written(directory: Path) -> None:
    state = bunflare.open(directory)
    writes = [asyncio.ensure_future(state.kv("A").put(f"k{i}", "v")) for i in range(100)]
    await asyncio.sleep(0)
    await state.close()
    await asyncio.gather(*writes)
    async with bunflare.open(directory) as state:
        assert len((await state.kv("A").list()).keys) == 100


async def test_a_writer_that_waits_too_long_says_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bunflare.store import database as module

    monkeypatch.setattr(module, "BUSY_TIMEOUT", 0.05)
    async with bunflare.open(directory) as state:
        other = state.database._start().open_reader()
        other._connection.execute("PRAGMA query_only=0")
        other._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(bunflare.DatabaseBusy, match="locked"):
            await state.kv("A").put("key", "value")
        other._connection.execute("ROLLBACK")
        await state.kv("A").put("key", "value")
        assert await state.kv("A").get("key") == "value"
        other.close()


async def test_a_memory_state_is_gone_when_closed() -> None:
    async with bunflare.open(":memory:") as one, bunflare.open(":memory:") as two:
        directory = one.directory
        await one.kv("A").put("key", "value")
        assert await two.kv("A").get("key") is None
        assert directory.is_dir()
    assert not directory.exists()
