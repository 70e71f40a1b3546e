"""One database for each directory and process: shared, opened, closed, and opened again."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store import running
from bunflare.store.database import Database, get_database, open_database
from bunflare.store.transaction import Transaction
from tests.support import PATIENCE, child, eventually, other_program

PUT = "INSERT INTO kv (namespace, key, value) VALUES ('T', ?, '')"


def put(tx: Transaction, key: str) -> None:
    tx.run(PUT, (key,))


def keys(database: Database) -> list[str]:
    return [row[0] for row in database.view.all("SELECT key FROM kv ORDER BY key")]


def descriptors() -> list[str]:
    """What this process has open."""
    # What earlier tests have left is closed now, and not at some time later.
    gc.collect()
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except FileNotFoundError:
            continue  # the listing's own
    return found


# -- sharing -----------------------------------------------------------------------------------


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


async def test_one_directory_is_one_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUNFLARE_DIR", "real")
    names: list[Any] = [tmp_path / "real", str(tmp_path / "link"), "./link/../real", None]
    databases = {open_database(name) for name in names}
    assert len(databases) == 1
    for _ in names:
        await next(iter(databases)).release()


async def test_one_directory_has_one_durability(directory: Path) -> None:
    async with bunflare.open(directory, durability="normal"):
        async with bunflare.open(directory):
            pass
        async with bunflare.open(directory, durability="normal"):
            pass
        with pytest.raises(bunflare.StateError, match="durability"):
            bunflare.open(directory, durability="full")
    with pytest.raises(bunflare.DatabaseError, match="durability"):
        bunflare.open(directory, durability="none")  # type: ignore[arg-type]
    # What was refused has left nobody behind who keeps it open.
    async with bunflare.open(directory, durability="full"):
        pass


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
    assert keys(database) == ["key"]
    database.close()


def test_many_threads_that_open_a_directory_at_once_get_one_database(directory: Path) -> None:
    barrier = threading.Barrier(8)
    found: list[Database] = []

    def open_it() -> None:
        barrier.wait(30)
        found.append(open_database(directory))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len(set(found)) == 1
    for database in found:
        asyncio.run(database.release())
    with pytest.raises(bunflare.StateError):
        found[0].view.one("SELECT 1")


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "level"), [(None, 2), ("full", 2), ("normal", 1)])
async def test_durability_is_what_sqlite_is_told(
    directory: Path, durability: Any, level: int
) -> None:
    async with bunflare.open(directory, durability=durability) as state:
        connection = state.database._start()._connection
        assert connection.execute("PRAGMA synchronous").fetchall() == [(level,)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


async def test_a_reader_cannot_write(state: bunflare.State) -> None:
    with pytest.raises(bunflare.DatabaseError):
        state.database.view.one(PUT, ("key",))
    assert keys(state.database) == []


async def test_the_header_changes_with_every_commit(state: bunflare.State, directory: Path) -> None:
    seen = [state.database.header()]
    assert state.database.header() == seen[0]
    await state.database.write(put, "a")
    seen.append(state.database.header())
    with other_program(directory) as run:
        run("INSERT INTO kv (namespace, key, value) VALUES ('T', 'theirs', '')")
        seen.append(state.database.header())
    assert len(set(seen)) == 3


async def test_without_shared_memory_the_header_is_sqlites_own_counter(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SUPPORTED", False)
    async with bunflare.open(directory) as state:
        before = state.database.header()
        assert state.database.header() == before
        with other_program(directory) as run:
            run("INSERT INTO kv (namespace, key, value) VALUES ('T', 'theirs', '')")
            assert state.database.header() != before


# -- closing -----------------------------------------------------------------------------------


async def test_closing_leaves_no_thread_no_descriptor_and_no_log(directory: Path) -> None:
    threads = set(threading.enumerate())
    before = sorted(descriptors())
    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", bytes(1024 * 1024))
        await asyncio.gather(*(state.kv("A").put(f"k{i}", "v") for i in range(10)))
        unsubscribe = state.database.watch.subscribe(lambda: None)
        async with state.transaction() as tx:
            await tx.kv("A").get("key")
    # Those of earlier tests may have come to their ends.
    assert set(threading.enumerate()) <= threads
    assert sorted(descriptors()) == before
    assert sorted(path.name for path in directory.iterdir()) == [
        ".gitignore",
        "data.sqlite",
        "writer.lock",
    ]
    unsubscribe()


async def test_whoever_opens_while_the_last_one_closes_can_go_on(directory: Path) -> None:
    one = bunflare.open(directory)
    write = asyncio.ensure_future(one.kv("A").put("key", bytes(1_000_000)))
    closing = asyncio.ensure_future(one.close())
    await asyncio.sleep(0)  # it waits for what is being written
    async with bunflare.open(directory) as two:
        await write
        await closing
        await two.kv("A").put("other", "value")
        assert await two.kv("A").get("other") == "value"
    async with bunflare.open(directory) as three:
        assert len((await three.kv("A").list()).keys) == 2


async def test_closing_does_not_wait_for_the_write_lock_of_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A write would have to wait for so long.
    monkeypatch.setattr(running, "BUSY_TIMEOUT", 10 * PATIENCE)
    state = bunflare.open(directory)
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        await asyncio.wait_for(state.close(), PATIENCE)
        run("COMMIT")
    with pytest.raises(bunflare.StateError, match="closed"):
        await state.kv("A").get("key")


async def test_a_closing_that_is_given_up_closes_all_the_same(directory: Path) -> None:
    before = sorted(descriptors())
    state = bunflare.open(directory)
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(state.kv("A").put("key", "value"))
        closing = asyncio.ensure_future(state.close())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not closing.done()
        run("COMMIT")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.gather(waiting, return_exceptions=True)
    # Shared memory is kept open for as long as there is its file, which the other program, ended in
    # the middle, has left.
    async with bunflare.open(directory):
        pass
    assert sorted(descriptors()) == before
    with pytest.raises(bunflare.StateError, match="closed"):
        await state.kv("A").get("key")


async def test_closing_ends_what_another_thread_reads(directory: Path) -> None:
    before = sorted(descriptors())
    found: list[BaseException] = []
    state = bunflare.open(directory)

    reading = threading.Event()

    def read() -> None:
        view: Any = state.database.view
        view._connection.create_scalar_function("begun", reading.set, 0)
        try:
            view.one(
                "WITH RECURSIVE n (x) AS (SELECT begun() IS NULL UNION ALL SELECT 1 FROM n) "
                "SELECT sum(x) FROM n"
            )
        except bunflare.DatabaseError as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    await eventually(reading.is_set)
    await state.close()
    thread.join()
    assert "interrupted" in str(found[0])
    assert sorted(descriptors()) == before


def test_nobody_opens_a_directory_whose_files_are_just_being_closed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening looks at the file beside SQLite, which would drop all locks of this process."""
    database = open_database(directory)
    close = running.Running.close
    opened = threading.Event()

    def open_again() -> None:
        again = open_database(directory)
        opened.set()
        asyncio.run(again.release())

    thread = threading.Thread(target=open_again)

    def closing(self: Any) -> None:
        if not thread.ident:
            thread.start()
        assert not opened.wait(0.05)
        close(self)

    monkeypatch.setattr(running.Running, "close", closing)
    database.close()
    monkeypatch.undo()
    thread.join(30)
    assert opened.is_set()


def test_a_process_that_ends_closes_what_it_had_open(directory: Path) -> None:
    source = """
    import asyncio, sys, bunflare
    state = bunflare.open(sys.argv[1])
    asyncio.run(state.kv("A").put("key", "value"))
    asyncio.run(state.kv("A").list())
    memory = bunflare.open(":memory:")
    print(memory.directory, flush=True)
    """
    with child(source, directory) as process:
        temporary = Path(process.line())
        assert process.process.wait(30) == 0
    assert not temporary.exists()
    assert not (directory / "data.sqlite-wal").exists()


# -- what cannot be opened ---------------------------------------------------------------------


async def test_a_damaged_file_is_refused_and_a_restored_one_opens(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'bunflare_kv_expiring'"
        found = state.database.view.one(sql)
        assert found is not None
        start = (found[0] - 1) * 4096
    path = directory / "data.sqlite"
    good = path.read_bytes()
    bad = good[:start] + b"\x55" * 4096 + good[start + 4096 :]
    path.write_bytes(bad)
    before = sorted(descriptors())
    for _ in range(2):
        with pytest.raises(bunflare.DatabaseCorrupt, match="damaged"):
            bunflare.open(directory)
    assert sorted(descriptors()) == before
    assert path.read_bytes() == bad
    path.unlink()
    path.write_bytes(good)
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("key") == "value"


async def test_a_file_that_is_no_database_is_refused_and_left_alone(directory: Path) -> None:
    directory.mkdir()
    path = directory / "data.sqlite"
    for content in (b"precious notes\n" * 100, b"SQLite format 3\0" + b"\xff" * 2000):
        path.write_bytes(content)
        with pytest.raises(bunflare.BunflareError):
            bunflare.open(directory)
        assert path.read_bytes() == content
        assert not (directory / "data.sqlite-wal").exists()


# -- throw-away states -------------------------------------------------------------------------


async def test_a_memory_state_is_gone_when_closed() -> None:
    async with bunflare.open(":memory:") as one, bunflare.open(":memory:") as two:
        directory = one.directory
        await one.kv("A").put("key", "value")
        assert await two.kv("A").get("key") is None
        assert directory.is_dir()
    assert not directory.exists()
