"""The header of SQLite's shared memory: it changes with each commit of anybody, and only then."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.store.database import Database, open_database
from bunflare.store.transaction import Transaction
from bunflare.store.walindex import SUPPORTED, WalIndex, counter
from tests.support import child, other_program

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="tested on Linux on x86-64 alone")

INSERT = "INSERT INTO kv (namespace, key, value) VALUES ('T', '{}', '')"


@pytest.fixture
def database(state: bunflare.State) -> Database:
    return state.database


def header(database: Database) -> bytes:
    found = database.header()
    assert isinstance(found, bytes)
    return found


def nothing(_: Transaction) -> None:
    pass


def insert(tx: Transaction, key: str) -> None:
    tx.run(INSERT.format(key))


async def test_each_commit_of_anybody_counts_one(database: Database, directory: Path) -> None:
    before = counter(header(database))
    with other_program(directory) as run:
        for number in range(1, 20, 2):
            await database.write(insert, f"a{number}")
            assert counter(header(database)) == before + number
            run(INSERT.format(f"b{number}"))
            assert counter(header(database)) == before + number + 1


async def test_what_writes_nothing_changes_nothing(database: Database, directory: Path) -> None:
    await database.write(insert, "a")
    before = header(database)
    await database.write(nothing)
    await database.write(nothing, heavy=True)
    async with database.transaction() as tx:
        tx.one("SELECT 1")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            insert(tx, "b")
            raise ZeroDivisionError
    with other_program(directory) as run:
        for statement in ("BEGIN IMMEDIATE", INSERT.format("c"), "ROLLBACK", "SELECT * FROM kv"):
            run(statement)
    assert header(database) == before


async def test_the_count_goes_on_when_the_log_begins_anew(
    database: Database, directory: Path
) -> None:
    other = apsw.Connection(str(directory / "data.sqlite"))
    await database.write(insert, "a")
    before = header(database)
    for mode in (apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_TRUNCATE):
        other.wal_checkpoint(mode=mode)
    await database.write(insert, "b")
    assert counter(header(database)) == counter(before) + 1
    assert header(database) != before
    other.close()


def test_the_count_is_a_number_of_four_bytes() -> None:
    assert counter(bytes(8) + b"\xff\xff\xff\xff" + bytes(36)) == 2**32 - 1
    assert counter(bytes(8) + (7).to_bytes(4, "little") + b"\xff" * 36) == 7


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="data.sqlite-shm"):
        WalIndex(tmp_path / "data.sqlite")


def test_a_file_that_cannot_be_mapped_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "data.sqlite-shm").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ValueError):
        WalIndex(tmp_path / "data.sqlite")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_nothing_that_a_process_does_drops_the_locks_that_it_holds(
    state: bunflare.State, directory: Path
) -> None:
    """Closing any descriptor of a file drops all POSIX locks of the process on it."""
    source = """
    import apsw, sys
    connection = apsw.Connection(sys.argv[1])
    for line in sys.stdin:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            print("locked", flush=True)
        else:
            connection.execute("ROLLBACK")
            print("free", flush=True)
    """

    def read_in_a_thread() -> None:
        assert state.database.view.one("SELECT 1") == (1,)

    with child(source, directory / "data.sqlite") as other:

        def lock() -> str:
            other.tell("try")
            return other.line()

        async with state.transaction() as tx:
            await tx.kv("A").put("key", "value")
            assert lock() == "locked"
            # A reader is opened and closed.
            thread = threading.Thread(target=read_in_a_thread)
            thread.start()
            thread.join()
            assert lock() == "locked"
            # The directory is opened and closed.
            again = open_database(directory)
            assert lock() == "locked"
            again.leave()
            assert lock() == "locked"
        assert lock() == "free"
