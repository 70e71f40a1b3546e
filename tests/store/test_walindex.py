"""The header of SQLite's shared memory: it changes with each commit of anybody, and only then."""

from __future__ import annotations

import threading
from contextlib import suppress
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


def opened(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(entry.readlink()).startswith(str(path))
    return found


def test_a_file_that_cannot_be_mapped_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "data.sqlite-shm").touch()
    with pytest.raises(ValueError):
        WalIndex(tmp_path / "data.sqlite")
    assert opened(tmp_path / "data.sqlite-shm") == 0


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
for line in sys.stdin:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))
    except OSError:
        print("locked", flush=True)
    else:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, int(sys.argv[2]))
        print("free", flush=True)
"""


# Whoever gets the one takes itself for the first to open the database; the other, for the last to
# close it.
@pytest.mark.parametrize(("file", "byte"), [("data.sqlite-shm", 128), ("data.sqlite", 0x40000002)])
async def test_a_closed_state_leaves_their_locks_to_other_connections_of_the_process(
    directory: Path, file: str, byte: int
) -> None:
    path = directory / "data.sqlite"
    async with bunflare.open(directory):
        other = apsw.Connection(str(path))
        other.execute("SELECT * FROM kv").fetchall()
    with child(LOCK, directory / file, byte) as process:
        for _ in range(2):
            process.tell("try")
            assert process.line() == "locked"
            async with bunflare.open(directory) as state:
                await state.database.write(insert, "a")
                await state.database.write(lambda tx: tx.run("DELETE FROM kv"))
        other.close()
        process.tell("try")
        assert process.line() == "free"


async def test_a_file_is_kept_open_once_until_it_is_gone(directory: Path) -> None:
    def descriptors() -> int:
        return opened(directory / "data.sqlite-shm")

    async with bunflare.open(directory):
        pass
    with other_program(directory) as run:
        run("SELECT * FROM kv")
        async with bunflare.open(directory):
            pass
        kept = descriptors()
        for _ in range(3):
            async with bunflare.open(directory):
                pass
            assert descriptors() == kept
    async with bunflare.open(directory):
        pass
    assert descriptors() == 0


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
