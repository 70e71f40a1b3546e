"""The one writer: groups, transactions, waiting, giving up, closing, and several event loops."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare.store import alone
from bunflare.store import writer as module
from bunflare.store.database import Database, open_database
from bunflare.store.transaction import Transaction
from bunflare.store.walindex import counter
from bunflare.store.writer import Writer
from tests.support import child, eventually, other_program

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


@pytest.fixture
def writer(database: Database) -> Writer:
    return database._start().writer


def keys(database: Database) -> list[str]:
    return [row[0] for row in database.view.all("SELECT key FROM kv ORDER BY key")]


def commits(database: Database) -> int:
    """How many commits there have been, by anybody."""
    header = database.header()
    assert isinstance(header, bytes)
    return counter(header)


def outside(work: Any) -> asyncio.Future[Any]:
    """Another task, which does not inherit this task's transaction."""
    return contextvars.Context().run(asyncio.ensure_future, work)


def fill_up(database: Database) -> None:
    """Leave only a few pages for the file to grow, as a full disk does."""
    connection = database._start()._connection
    pages: Any = connection.execute("PRAGMA page_count").fetchall()[0][0]
    connection.execute(f"PRAGMA max_page_count={pages + 10}").fetchall()


def make_room(database: Database) -> None:
    database._start()._connection.execute("PRAGMA max_page_count=1000000").fetchall()


@asynccontextmanager
async def occupied(database: Database) -> AsyncIterator[None]:
    """Keep the writer busy with something that writes nothing: what is asked for inside waits."""
    begun, ended = threading.Event(), threading.Event()

    def stand(_: Transaction) -> None:
        begun.set()
        assert ended.wait(30)

    standing = asyncio.ensure_future(database.write(stand, heavy=True))
    await eventually(begun.is_set)
    try:
        yield
        # Whatever was begun inside as a task has its turn, and asks.
        await asyncio.sleep(0)
    finally:
        ended.set()
        await standing


class Gate:
    """Holds up the writer's commits, each on its thread, until it is opened."""

    def __init__(self, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self._reached = threading.Event()
        commit = writer._commit

        def gated() -> BaseException | None:
            self._reached.set()
            assert self._open.wait(30)
            return commit()

        monkeypatch.setattr(writer, "_commit", gated)
        writer._commit_cost = 1.0  # commits are said to be slow, so they are made on a thread

    async def reached(self) -> None:
        await eventually(self._reached.is_set)

    def open(self) -> None:
        self._open.set()


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


# -- groups ------------------------------------------------------------------------------------


async def test_all_that_waits_is_one_commit(database: Database) -> None:
    before = commits(database)
    async with occupied(database):
        work = asyncio.gather(*(database.write(put, f"k{i:03}") for i in range(300)))
    await work
    assert commits(database) == before + 1
    assert len(keys(database)) == 300
    assert await work == [f"k{i:03}" for i in range(300)]


async def test_what_one_turn_asks_of_a_free_writer_is_a_commit_or_two(database: Database) -> None:
    """The first may be written on the spot; the rest goes together."""
    for turn in range(5):
        before = commits(database)
        await asyncio.gather(*(database.write(put, f"k{turn}.{i:03}") for i in range(100)))
        assert commits(database) <= before + 2
    assert len(keys(database)) == 500


async def test_a_lone_writer_pays_one_commit_a_write(database: Database) -> None:
    before = commits(database)
    for number in range(20):
        await database.write(put, f"k{number}")
    assert commits(database) == before + 20


async def test_a_write_is_visible_to_other_programs_once_it_was_awaited(
    database: Database, directory: Path
) -> None:
    other = apsw.Connection(str(directory / "data.sqlite"))
    for number in range(20):
        await database.write(put, f"k{number:02}")
        found = other.execute("SELECT max(key) FROM kv").fetchall()
        assert found == [(f"k{number:02}",)]
    other.close()


async def test_a_group_has_a_largest_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP_LARGEST", 10)
    before = commits(database)
    async with occupied(database):
        work = asyncio.gather(*(database.write(put, f"k{i:03}") for i in range(25)))
    await work
    assert commits(database) == before + 3
    assert len(keys(database)) == 25


async def test_operations_run_in_the_order_in_which_they_were_asked_for(
    database: Database,
) -> None:
    order: list[int] = []
    await asyncio.gather(
        *(
            database.write(lambda _, n=number: order.append(n), heavy=number % 3 == 0)
            for number in range(20)
        )
    )
    assert order == list(range(20))


async def test_an_operation_of_a_group_fails_alone(database: Database) -> None:
    calls: list[str] = []

    def noted(tx: Transaction, key: str) -> None:
        calls.append(key)
        put(tx, key)

    async with occupied(database):
        work = asyncio.gather(
            database.write(noted, "a"),
            database.write(put_then_fail),
            database.write(noted, "b"),
            return_exceptions=True,
        )
    results = await work
    assert isinstance(results[1], ZeroDivisionError)
    assert keys(database) == ["a", "b"]
    assert calls == ["a", "b"]  # nothing had to be run again


async def test_an_operation_that_fails_half_way_is_undone_alone(database: Database) -> None:
    before = commits(database)
    async with occupied(database):
        work = asyncio.gather(
            database.write(put, "a"),
            database.write(put_then_fail, "x", "y"),
            database.write(put, "b"),
            database.write(put_then_fail, "z"),
            database.write(put, "c"),
            return_exceptions=True,
        )
    results = await work
    assert commits(database) == before + 1
    assert [type(result) for result in results] == [
        str,
        ZeroDivisionError,
        str,
        ZeroDivisionError,
        str,
    ]
    assert keys(database) == ["a", "b", "c"]


async def test_what_was_run_twice_has_happened_once(database: Database) -> None:
    runs: list[str] = []
    followed: list[str] = []

    def noted(tx: Transaction, key: str) -> str:
        runs.append(key)
        tx.after(lambda: followed.append(key))
        return put(tx, key)

    async with occupied(database):
        work = asyncio.gather(
            database.write(noted, "a"),
            database.write(put_then_fail, "x"),
            database.write(noted, "b"),
            return_exceptions=True,
        )
    results = await work
    assert runs == ["a", "a", "b"]
    assert followed == ["a", "b"]
    assert (results[0], results[2]) == ("a", "b")
    assert keys(database) == ["a", "b"]


@pytest.mark.parametrize("heavy", [False, True])
async def test_a_lone_operation_that_fails_half_way_leaves_nothing(
    database: Database, heavy: bool
) -> None:
    with pytest.raises(ZeroDivisionError):
        await database.write(put_then_fail, "x", heavy=heavy)
    assert keys(database) == []
    await database.write(put, "a", heavy=heavy)
    assert keys(database) == ["a"]


async def test_others_may_write_before_a_group_is_run_again_and_nothing_stands_still(
    database: Database, writer: Writer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the event loop can give the lock back here, so it must not wait for the lock itself."""
    other = apsw.Connection(str(directory / "data.sqlite"))
    execute = writer._execute

    def stealing(sql: str, *parameters: Any) -> Any:
        result = execute(sql, *parameters)
        if sql == "ROLLBACK":
            other.execute("BEGIN IMMEDIATE")
            other.execute(PUT, ("theirs", b""))
            asyncio.get_running_loop().call_soon(other.execute, "COMMIT")
        return result

    async with occupied(database):
        work = asyncio.gather(
            database.write(put, "a"), database.write(put_then_fail, "x"), return_exceptions=True
        )
        monkeypatch.setattr(writer, "_execute", stealing)
    results = await work
    assert results[0] == "a"
    assert isinstance(results[1], ZeroDivisionError)
    assert keys(database) == ["a", "theirs"]
    other.close()


async def test_a_statement_that_sqlite_refuses_is_a_database_error(database: Database) -> None:
    async with occupied(database):
        work = asyncio.gather(
            database.write(put, "a"), database.write(put, "a"), return_exceptions=True
        )
    results = await work
    assert results[0] == "a"
    assert isinstance(results[1], bunflare.DatabaseError)
    assert keys(database) == ["a"]


async def test_a_full_disk_fails_the_group_and_the_next_one_may_succeed(
    database: Database,
) -> None:
    fill_up(database)
    async with occupied(database):
        work = asyncio.gather(
            database.write(put, "a"),
            database.write(put, "large", bytes(1_000_000)),
            return_exceptions=True,
        )
    results = await work
    assert isinstance(results[1], bunflare.DatabaseFull)
    # The small one may have been undone with it, but then it was told so.
    assert keys(database) == (["a"] if results[0] == "a" else [])
    make_room(database)
    await database.write(put, "b")
    assert "b" in keys(database)


async def test_promises_of_a_failed_operation_are_not_kept(database: Database) -> None:
    done: list[str] = []

    def promising(tx: Transaction, key: str, fail: bool) -> None:
        tx.after(lambda: done.append(key))
        put(tx, key)
        if fail:
            raise ZeroDivisionError

    async with occupied(database):
        work = asyncio.gather(
            database.write(promising, "a", False),
            database.write(promising, "b", True),
            return_exceptions=True,
        )
    await work
    assert done == ["a"]


async def test_what_follows_a_commit_finds_it_on_disk_and_cannot_undo_it(
    database: Database, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = apsw.Connection(str(directory / "data.sqlite"))
    found: list[Any] = []

    def failing(tx: Transaction) -> None:
        put(tx, "a")
        tx.after(lambda: found.extend(other.execute("SELECT key FROM kv").fetchall()))
        tx.after(lambda: 1 / 0)
        tx.after(lambda: found.append("and the rest"))

    await database.write(failing)
    assert keys(database) == ["a"]
    assert found == [("a",), "and the rest"]
    assert "ZeroDivisionError" in caplog.text
    await database.write(put, "b")
    other.close()


def test_an_interrupt_in_the_middle_of_a_group_writes_nothing(directory: Path) -> None:
    database = open_database(directory, "normal")

    def interrupted(tx: Transaction) -> None:
        put(tx, "x")
        raise KeyboardInterrupt

    async def both() -> list[Any]:
        async with occupied(database):
            writes = (database.write(put, "a"), database.write(interrupted))
            work = asyncio.gather(*writes, return_exceptions=True)
        return list(await work)

    with event_loop() as loop:
        task = loop.create_task(both())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        results = loop.run_until_complete(task)
        assert all(isinstance(result, bunflare.StateError) for result in results)
        assert keys(database) == []
        loop.run_until_complete(database.write(put, "b"))
        assert keys(database) == ["b"]
        loop.run_until_complete(database.release())


# -- threads -----------------------------------------------------------------------------------


async def test_a_heavy_write_runs_on_a_thread(database: Database) -> None:
    def where(tx: Transaction) -> int:
        put(tx, "heavy")
        return threading.get_ident()

    light, heavy = await asyncio.gather(
        database.write(lambda _: threading.get_ident()), database.write(where, heavy=True)
    )
    assert light == threading.get_ident() != heavy
    assert keys(database) == ["heavy"]


async def test_slow_commits_leave_the_event_loop_and_quick_ones_come_back(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    commit = writer._commit

    def noted() -> Any:
        threads.append(threading.get_ident())
        return commit()

    monkeypatch.setattr(writer, "_commit", noted)
    monkeypatch.setattr(alone, "_COST_WEIGHT", 0.0)  # whatever this disk really does
    writer._commit_cost = 1.0
    await database.write(put, "a")
    async with database.transaction() as tx:
        put(tx, "b")
    assert keys(database) == ["a", "b"]
    assert threading.get_ident() not in threads
    writer._commit_cost = 0.0
    await database.write(put, "c")
    assert threads[-1] == threading.get_ident()


async def test_the_event_loop_goes_on_during_a_slow_commit_and_later_writes_make_one_group(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(writer, monkeypatch)
    first = asyncio.ensure_future(database.write(put, "first"))
    await gate.reached()  # the event loop is running, so it is not what commits
    assert keys(database) == []  # readers do not wait
    later = asyncio.gather(*(database.write(put, f"k{i}") for i in range(50)))
    await asyncio.sleep(0)

    before = commits(database)
    gate.open()
    await first
    await later
    assert commits(database) == before + 2
    assert len(keys(database)) == 51


async def test_a_commit_that_fails_fails_all_of_its_group(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = bunflare.DatabaseFull("the disk is full")
    followed: list[str] = []

    def failing() -> BaseException:
        writer._rollback()
        return failure

    def promising(tx: Transaction) -> None:
        put(tx, "a")
        tx.after(lambda: followed.append("a"))

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_commit", failing)
        results = await asyncio.gather(
            database.write(promising), database.write(put, "b"), return_exceptions=True
        )
        assert all(result is failure for result in results)
        with pytest.raises(bunflare.DatabaseFull):
            async with database.transaction() as tx:
                put(tx, "c")
    assert (keys(database), followed) == ([], [])
    await database.write(put, "d")
    assert keys(database) == ["d"]


# -- giving up ---------------------------------------------------------------------------------


async def test_a_write_that_was_given_up_in_time_is_not_made(database: Database) -> None:
    async with occupied(database):
        task = asyncio.ensure_future(database.write(put, "a"))
        await asyncio.sleep(0)  # it is waiting now
        task.cancel()
    await database.write(put, "b")
    assert keys(database) == ["b"]


@pytest.mark.parametrize("heavy", [False, True])
async def test_a_write_that_was_given_up_too_late_is_made_and_harms_nobody(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch, heavy: bool
) -> None:
    gate = Gate(writer, monkeypatch)
    task = asyncio.ensure_future(database.write(put, "a", heavy=heavy))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await database.write(put, "b")
    assert keys(database) == ["a", "b"]


# -- transactions ------------------------------------------------------------------------------


async def test_a_transaction_is_one_commit_and_isolated(database: Database) -> None:
    before = commits(database)
    async with database.transaction() as tx:
        put(tx, "a")
        other = outside(database.write(put, "b"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert tx.all("SELECT key FROM kv") == [("a",)]
        assert keys(database) == []
        put(tx, "c")
    assert keys(database) == ["a", "c"]
    assert commits(database) == before + 1
    await other
    assert keys(database) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
async def test_a_transaction_that_is_left_by_an_exception_is_undone(
    database: Database, error: type[BaseException]
) -> None:
    done: list[str] = []
    with pytest.raises(error):
        async with database.transaction() as tx:
            put(tx, "a")
            tx.after(lambda: done.append("a"))
            raise error
    assert (keys(database), done) == ([], [])
    async with database.transaction() as tx:
        put(tx, "b")
        tx.after(lambda: done.append("b"))
        assert done == []
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


@pytest.mark.parametrize("turns", range(5))
async def test_giving_up_before_a_transaction_begins_leaves_the_writer_free(
    database: Database, turns: int
) -> None:
    async def work() -> None:
        async with database.transaction():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(database.write(put, "b"), 30)
    assert keys(database) == ["b"]


async def test_giving_up_while_a_transaction_is_being_committed_leaves_the_writer_free(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []
    gate = Gate(writer, monkeypatch)

    async def work() -> None:
        async with database.transaction() as tx:
            put(tx, "a")
            tx.after(lambda: followed.append("a"))

    task = asyncio.ensure_future(work())
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await asyncio.wait_for(database.write(put, "b"), 30)
    # The commit could not be called back any more, so it stands, and what it promised is done.
    assert keys(database) == ["a", "b"]
    assert followed == ["a"]


async def test_a_transaction_that_sqlite_has_undone_writes_nothing_more(
    database: Database, state: bunflare.State
) -> None:
    fill_up(database)
    with pytest.raises(bunflare.DatabaseError, match="undone"):
        async with state.transaction() as tx:
            await tx.kv("A").put("before", "value")
            with pytest.raises(bunflare.DatabaseFull):
                await tx.kv("A").put("large", bytes(range(256)) * 4000)
            await tx.kv("A").put("after", "value")
    assert keys(database) == []
    with pytest.raises(bunflare.DatabaseError, match="undone"):
        async with state.transaction() as tx:
            with pytest.raises(bunflare.DatabaseFull):
                await tx.kv("A").put("large", bytes(range(256)) * 4000)
    make_room(database)
    await state.kv("A").put("key", "value")
    assert keys(database) == ["key"]


async def test_an_error_of_sqlite_that_leaves_a_transaction_is_one_of_ours(
    database: Database,
) -> None:
    with pytest.raises(bunflare.DatabaseError, match="no such table"):
        async with database.transaction() as tx:
            put(tx, "a")
            tx.run("INSERT INTO no_such VALUES (1)")
    assert keys(database) == []


async def test_a_write_beside_the_own_transaction_says_what_to_do(database: Database) -> None:
    async with database.transaction() as tx:
        with pytest.raises(bunflare.StateError, match="through the transaction"):
            await database.write(put, "a")
        with pytest.raises(bunflare.StateError, match="through the transaction"):
            # A task that was started inside belongs to it.
            await asyncio.ensure_future(database.write(put, "a"))
        with pytest.raises(bunflare.StateError, match="nest"):
            async with database.transaction():
                pass
        put(tx, "b")
    await database.write(put, "c")
    assert keys(database) == ["b", "c"]


async def test_a_transaction_cannot_be_used_after_its_end(database: Database) -> None:
    async with database.transaction() as tx:
        put(tx, "a")
    for use in (
        lambda: put(tx, "b"),
        lambda: tx.one("SELECT 1"),
        lambda: tx.all("SELECT 1"),
    ):
        with pytest.raises(bunflare.StateError, match="ended"):
            use()
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


# -- other processes ---------------------------------------------------------------------------


async def test_waiting_for_another_process_does_not_hold_up_the_event_loop(
    database: Database, directory: Path
) -> None:
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        writes = asyncio.gather(*(database.write(put, f"k{i}") for i in range(10)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writes.done()
        assert keys(database) == []  # reading does not wait
        run("COMMIT")
        await asyncio.wait_for(writes, 30)
    assert len(keys(database)) == 10


async def test_a_writer_that_waits_too_long_says_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.store.running.BUSY_TIMEOUT", 0.05)
    async with bunflare.open(directory, durability="normal") as state:
        database = state.database
        with other_program(directory) as run:
            run("BEGIN IMMEDIATE")
            results = await asyncio.gather(
                *(database.write(put, key) for key in "abc"), return_exceptions=True
            )
            assert [type(result) for result in results] == [bunflare.DatabaseBusy] * 3
            assert all("locked" in str(result) for result in results)
            with pytest.raises(bunflare.DatabaseBusy):
                async with database.transaction():
                    pytest.fail("there is no transaction without the lock")
            run("COMMIT")
        await database.write(put, "d")
        assert keys(database) == ["d"]


async def test_a_busy_neighbour_does_not_starve_anybody(directory: Path) -> None:
    source = """
    import asyncio, sys, bunflare

    async def main():
        async with bunflare.open(sys.argv[1], durability="normal") as state:
            print("ready", flush=True)
            while True:
                await state.kv("A").put("theirs", "value")

    asyncio.run(main())
    """
    async with bunflare.open(directory, durability="normal") as state:
        with child(source, directory) as other:
            assert other.line() == "ready"
            waits: list[float] = []
            loop = asyncio.get_running_loop()
            for number in range(100):
                began = loop.time()
                await state.kv("A").put("ours", str(number))
                waits.append(loop.time() - began)
            assert other.process.poll() is None
    # Fair turns take milliseconds; who sleeps between two tries can wait for ever. Whatever else
    # the machine does may come between now and then.
    assert sorted(waits)[90] < 2
    assert max(waits) < 10


# -- closing -----------------------------------------------------------------------------------


async def test_closing_waits_for_what_is_being_written(directory: Path) -> None:
    state = bunflare.open(directory)
    writes = [asyncio.ensure_future(state.kv("A").put(f"k{i}", "v")) for i in range(100)]
    large = asyncio.ensure_future(state.kv("A").put("large", bytes(1_000_000)))
    await asyncio.sleep(0)
    await state.close()
    await asyncio.gather(*writes, large)
    async with bunflare.open(directory) as state:
        assert len((await state.kv("A").list()).keys) == 101


async def test_closing_at_once_fails_what_still_waits(directory: Path) -> None:
    database = open_database(directory, "normal")
    async with occupied(database):
        writes = [asyncio.ensure_future(database.write(put, key)) for key in "abc"]
        await asyncio.sleep(0)
        closing = threading.Thread(target=database.close)  # which waits for what is under way
        closing.start()
        await eventually(lambda: all(write.done() for write in writes))
    closing.join()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [bunflare.StateError] * 3
    with pytest.raises(bunflare.StateError, match="closed"):
        await database.write(put, "d")


async def test_closing_at_once_tells_whoever_waits_for_another_process(directory: Path) -> None:
    database = open_database(directory, "normal")
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(database.write(put, "a"))
        writer = database._start().writer
        await eventually(lambda: writer._entry.waiting)
        releasing = threading.Thread(target=run, args=("COMMIT",))
        releasing.start()
        database.close()
        releasing.join()
        with pytest.raises(bunflare.StateError, match="closed"):
            await asyncio.wait_for(write, 30)
    async with bunflare.open(directory) as state:
        assert keys(state.database) == []


async def test_a_transaction_whose_database_was_closed_ends_with_a_clear_error(
    directory: Path,
) -> None:
    database = open_database(directory, "normal")
    with pytest.raises(bunflare.StateError, match="closed"):
        async with database.transaction() as tx:
            put(tx, "a")
            database.close()
    async with bunflare.open(directory) as state:
        assert keys(state.database) == []


async def test_closing_while_a_commit_is_under_way_keeps_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(directory, "normal")
    gate = Gate(database._start().writer, monkeypatch)
    write = asyncio.ensure_future(database.write(put, "a"))
    await gate.reached()
    gate.open()
    database.close()
    assert await asyncio.wait_for(write, 30) == "a"
    async with bunflare.open(directory) as state:
        assert keys(state.database) == ["a"]


# -- several event loops -----------------------------------------------------------------------


def test_event_loops_of_several_threads_share_a_database(directory: Path) -> None:
    database = open_database(directory, "normal")
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        for i in range(100):
            await asyncio.gather(*(database.write(put, f"{name}{i}.{j}") for j in range(5)))
            assert database.view.one("SELECT 1 FROM kv WHERE key = ?", (f"{name}{i}.4",))
            if i % 10 == 0:
                async with database.transaction() as tx:
                    put(tx, f"{name}{i}.transaction")
                    await asyncio.sleep(0)

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
    assert len(keys(database)) == 4 * (500 + 10)
    asyncio.run(database.release())


def lost_transaction(database: Database, lose: Callable[[asyncio.Task[None]], None]) -> None:
    """A thread asks for a transaction, is busy while it is handed over, and is gone by then."""
    asked, handed = threading.Event(), threading.Event()

    def run() -> None:
        async def work() -> None:
            async with database.transaction():
                pytest.fail("nobody waits for it any more")

        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        loop.call_soon(loop.stop)
        loop.run_forever()  # it has asked; the writer's turn comes in the next round
        asked.set()
        assert handed.wait(30)
        lose(task)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert asked.wait(30)

    async def other() -> None:
        write = asyncio.ensure_future(database.write(put, "a"))
        for _ in range(10):
            await asyncio.sleep(0)  # this event loop serves the other thread's request
        handed.set()
        await asyncio.to_thread(thread.join)
        await asyncio.wait_for(write, 30)

    asyncio.run(other())


def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        task.get_loop().run_until_complete(task)


def end_abruptly(task: asyncio.Task[None]) -> None:
    # A task that is dropped with its event loop would be complained about.
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("lose", [cancel, end_abruptly])
def test_a_transaction_that_reaches_nobody_is_taken_back(
    directory: Path, lose: Callable[[asyncio.Task[None]], None]
) -> None:
    database = open_database(directory, "normal")
    lost_transaction(database, lose)
    assert keys(database) == ["a"]
    asyncio.run(database.release())


def test_an_event_loop_that_ends_during_a_commit_does_not_take_the_writer_with_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(directory, "normal")
    with monkeypatch.context() as patch:
        gate = Gate(database._start().writer, patch)

        async def begin() -> None:
            _tasks.append(asyncio.ensure_future(database.write(put, "a")))
            await gate.reached()

        with event_loop() as loop:
            loop.run_until_complete(begin())
            gate.open()
            # The thread has told the event loop, which does not turn any more.
            executor = database._start()._threads
            assert executor is not None
            executor.submit(lambda: None).result(30)
            executor.shutdown(wait=True)
            database._start()._threads = None
            end_abruptly(_tasks.pop())
    asyncio.run(asyncio.wait_for(database.write(put, "b"), 30))
    assert keys(database) == ["a", "b"]
    asyncio.run(database.release())


_tasks: list[asyncio.Task[Any]] = []


def test_a_write_whose_event_loop_has_ended_does_not_hold_up_others(directory: Path) -> None:
    database = open_database(directory, "normal")
    with event_loop() as loop:

        async def begin() -> None:
            _tasks.append(asyncio.ensure_future(database.write(put, "a")))

        loop.run_until_complete(begin())
        loop.call_soon(loop.stop)
        loop.run_forever()
        end_abruptly(_tasks.pop())
    asyncio.run(database.write(put, "b"))
    assert "b" in keys(database)
    asyncio.run(database.release())
