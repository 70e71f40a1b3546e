"""One connection: how it is opened, how long it waits, and what its errors are called."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare.store import connection as module
from bunflare.store.connection import BusyWait, connect, enter_wal, translate
from tests.support import child

NEVER = BusyWait(0, patient=False)


def pragma(connection: apsw.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchall()[0][0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.sqlite"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path, "full", NEVER)
    yield connection
    connection.close()


# -- opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1), ("off", 0)])
def test_a_connection_is_as_durable_as_it_is_told(path: Path, durability: Any, level: int) -> None:
    connection = connect(path, durability, NEVER)
    assert pragma(connection, "synchronous") == level
    assert pragma(connection, "wal_autocheckpoint") == 0
    connection.close()


def test_the_log_is_turned_on_once_and_kept_bounded(
    connection: apsw.Connection, path: Path
) -> None:
    assert pragma(connection, "journal_mode") == "delete"
    for _ in range(2):
        enter_wal(connection, path, 1)
        assert pragma(connection, "journal_mode") == "wal"
    assert pragma(connection, "journal_size_limit") == 64 * 1024 * 1024


def test_closing_copies_nothing_back_before_the_owner_says_so(path: Path) -> None:
    connection = connect(path, "full", NEVER)
    enter_wal(connection, path, 1)
    connection.execute("CREATE TABLE t (x)")
    log = (path.parent / "data.sqlite-wal").read_bytes()
    connection.close()
    assert (path.parent / "data.sqlite-wal").read_bytes() == log


def test_what_cannot_have_a_log_is_refused() -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(bunflare.DatabaseError, match="write-ahead log"):
        enter_wal(connection, Path(":memory:"), 1)
    connection.close()


HOLD = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("CREATE TABLE t (x); BEGIN; SELECT * FROM t")
print("holding", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("done", flush=True)
"""


def test_the_log_waits_for_whoever_uses_the_file_without_one(path: Path) -> None:
    with child(HOLD, path) as other:
        assert other.line() == "holding"
        connection = connect(path, "full", NEVER)
        with pytest.raises(apsw.BusyError):
            enter_wal(connection, path, 0.02)
        assert pragma(connection, "journal_mode") == "delete"
        other.tell("go on")
        enter_wal(connection, path, 30)
        assert pragma(connection, "journal_mode") == "wal"
        connection.close()


def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"precious notes\n" * 1000)
    with pytest.raises(bunflare.DatabaseCorrupt, match="not a SQLite database"):
        connect(path, "full", NEVER)
    assert path.read_bytes() == b"precious notes\n" * 1000
    assert [entry.name for entry in path.parent.iterdir()] == ["data.sqlite"]


def test_what_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "data.sqlite"):
        with pytest.raises(bunflare.DatabaseError, match="cannot be opened"):
            connect(path, "full", NEVER)


# -- waiting -----------------------------------------------------------------------------------


class Time:
    """A monotonic clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.naps: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def test_a_busy_wait_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    wait = BusyWait(0.01)
    calls = 0
    while wait(calls):
        calls += 1
        assert calls < 1000
    assert 100.01 <= clock.now < 100.011
    # The naps do not grow: whoever has waited longest asks as often as whoever has just come.
    assert set(clock.naps) == {module._BUSY_SLEEP_SECONDS}
    assert module._BUSY_SLEEP_SECONDS < 0.001


def test_each_wait_has_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    wait = BusyWait(1)
    assert wait(0)
    clock.now += 5
    assert not wait(1)
    assert wait(0)
    clock.now += 0.5
    assert wait(1)


def test_a_busy_wait_can_be_told_not_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time(monkeypatch)
    wait = BusyWait(10, patient=False)
    assert not wait(0)
    wait.patient = True
    assert wait(0)
    wait.patient = False
    assert not wait(1)
    assert len(clock.naps) == 1


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (apsw.BusyError("busy"), bunflare.DatabaseBusy, "is locked: another process"),
        (apsw.LockedError("locked"), bunflare.DatabaseBusy, "is locked: another process"),
        (apsw.CorruptError("malformed"), bunflare.DatabaseCorrupt, "is damaged"),
        (apsw.NotADBError("no"), bunflare.DatabaseCorrupt, "not a SQLite database"),
        (apsw.FullError("full"), bunflare.DatabaseFull, "the disk that holds"),
        (apsw.ReadOnlyError("ro"), bunflare.DatabaseReadOnly, "cannot be written to"),
        (apsw.PermissionsError("no"), bunflare.DatabaseReadOnly, "cannot be written to"),
        (apsw.CantOpenError("no"), bunflare.DatabaseError, "cannot be opened"),
        (apsw.IOError("bad sector"), bunflare.DatabaseError, "the disk reported an error"),
        (apsw.ConstraintError("UNIQUE"), bunflare.DatabaseError, "UNIQUE"),
        (apsw.ConnectionClosedError("closed"), bunflare.DatabaseError, "closed"),
    ],
)
def test_each_error_of_sqlite_says_what_it_means(
    error: apsw.Error, kind: type[Exception], message: str
) -> None:
    ours = translate(error, Path("/somewhere/data.sqlite"))
    assert type(ours) is kind
    assert message in str(ours)
    assert "/somewhere/data.sqlite" in str(ours)
