"""Every committed state can be gone back to, until it is forgotten."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bunflare.store.connection import BusyWait, connect, enter_wal
from bunflare.store.history import History
from bunflare.store.history_files import RETENTION_MS, Position, Settings
from bunflare.store.past import materialize, position_at, reachable, trim
from bunflare.store.turnstile import Turnstile
from bunflare.store.walindex import SUPPORTED, WalIndex


class Kept:
    """A database with a history, and what was committed to it."""

    def __init__(self, folder: Path, *, indexed: bool = SUPPORTED, late: bool = False) -> None:
        self.folder = folder
        self.indexed = indexed
        self.path = folder / "x.sqlite"
        self.time = 1000
        self.states: list[tuple[Position, int, str]] = []
        self.open(late)

    def open(self, late: bool = False) -> None:
        self.connection = connect(self.path, "off", BusyWait(1))
        enter_wal(self.connection, self.path, 1)
        self.connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
        index = WalIndex(self.path) if self.indexed else None
        self.index = index
        self.history = History(self.path, self.folder / "history", index, lambda: self.time)
        if not late:
            self.history.make_base()

    def commit(self, *statements: str) -> Position:
        """One transaction, a second later."""
        self.time += 1000
        with self.connection:
            for statement in statements:
                self.connection.execute(statement)
        self.history.note()
        position = self.history.position()
        self.states.append((position, self.time, content(self.connection)))
        return position

    def checkpoint(self) -> None:
        with self.history.kept():
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def keep(self) -> None:
        with self.history.kept():
            pass

    def at(self, position: Position) -> str | None:
        """The content of a state; None if it is not kept."""
        target = self.folder / "materialized.sqlite"
        try:
            if not materialize(self.history.files, position, target):
                return None
            found = apsw.Connection(str(target))
            try:
                assert found.pragma("integrity_check") == "ok"
                return content(found)
            finally:
                found.close()
        finally:
            target.unlink(missing_ok=True)

    def close(self) -> None:
        turnstile = Turnstile(self.folder / "turnstile")
        self.history.close(self.connection, turnstile)
        turnstile.close()
        if self.index is not None:
            self.index.close()


def content(connection: apsw.Connection) -> str:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
    text = repr(rows)
    for kind, name, sql in rows:
        if kind == "table" and sql is not None:
            text += repr(connection.execute(f'SELECT * FROM "{name}"').fetchall())
    return text


@pytest.fixture(params=[True, False] if SUPPORTED else [False])
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    kept = Kept(tmp_path, indexed=request.param)
    yield kept
    kept.close()


def test_every_state_comes_back_whatever_was_changed(kept: Kept) -> None:
    rng = random.Random(7)
    kept.commit("CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE INDEX i ON t (a)")
    kept.commit("CREATE VIRTUAL TABLE f USING fts5 (body)")
    kept.commit("CREATE VIRTUAL TABLE r USING rtree (id, a, b)")
    for number in range(60):
        match rng.randrange(7):
            case 0 | 1:
                kept.commit(f"INSERT INTO t (a) VALUES (randomblob({rng.randrange(9000)}))")
            case 2:
                kept.commit("UPDATE t SET a = hex(a) WHERE id % 3 = 0")
            case 3:
                kept.commit(f"INSERT INTO f VALUES ('word{number} and more')")
            case 4:
                kept.commit(f"INSERT INTO r VALUES ({number}, 1, {number + 2})")
            case 5:
                kept.commit(f"CREATE TABLE extra{number} (x)", "DELETE FROM t WHERE id % 5 = 0")
            case _:
                kept.checkpoint()
        if number == 30:
            kept.close()
            kept.open()
    kept.keep()
    assert len({position.generation for position, _, _ in kept.states}) > 3
    for position, time, state in kept.states:
        assert kept.at(position) == state
        for moment in (time, time + 999):
            found = position_at(kept.history.files, moment)
            assert found is not None
            assert found == position or kept.at(found) == state


def test_there_is_nothing_before_the_beginning_and_no_state_between_commits(kept: Kept) -> None:
    kept.commit("CREATE TABLE t (a)", "CREATE TABLE u (a)", "INSERT INTO t VALUES (1)")
    kept.keep()
    last = kept.states[-1][0]
    assert last.frame > 1
    assert kept.at(Position(1, 0)) is not None
    assert kept.at(Position(last.generation, 1)) is None
    assert kept.at(Position(last.generation, 10_000)) is None
    assert kept.at(Position(99, 1)) is None
    assert position_at(kept.history.files, 1) is None


def test_a_foreign_checkpoint_is_noticed_and_history_goes_on_from_a_new_base(kept: Kept) -> None:
    kept.commit("CREATE TABLE t (a)")
    kept.commit("INSERT INTO t VALUES (1)")
    kept.keep()
    kept.commit("INSERT INTO t VALUES ('never kept')")
    other = apsw.Connection(str(kept.path))
    other.execute("SELECT 1 FROM sqlite_schema").fetchall()
    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    other.close()
    kept.commit("INSERT INTO t VALUES (3)")
    assert kept.history.wanting
    kept.history.make_base()
    kept.commit("INSERT INTO t VALUES (4)")
    kept.keep()
    found = [kept.at(position) for position, _, _ in kept.states]
    wanted = [state for _, _, state in kept.states]
    assert found == [*wanted[:2], None, *wanted[3:]]


def test_what_others_write_while_nobody_looks_is_noticed(kept: Kept) -> None:
    first = kept.commit("CREATE TABLE t (a)")
    kept.close()
    with apsw.Connection(str(kept.path)) as other:
        other.execute("INSERT INTO t VALUES ('theirs')")
    other.close()
    kept.open()
    assert kept.at(kept.history.position()) == content(kept.connection)
    second = kept.commit("INSERT INTO t VALUES (2)")
    kept.keep()
    assert kept.at(second) == kept.states[1][2]
    assert kept.at(first) == kept.states[0][2]
    assert second.generation == first.generation + 2


def test_a_file_that_is_there_already_has_its_first_state_kept(tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "x.sqlite")) as other:
        other.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        before = content(other)
    other.close()
    kept = Kept(tmp_path, late=True)
    start = kept.history.position()
    kept.commit("DELETE FROM t")
    # As it is made on a thread, which may come to it late.
    kept.history.make_base()
    kept.keep()
    assert kept.at(start) == before
    kept.close()


def test_a_log_that_was_left_by_a_killed_process_is_gone_on_with(kept: Kept) -> None:
    kept.commit("CREATE TABLE t (a)")
    kept.keep()
    kept.commit("INSERT INTO t VALUES (1)")
    # As a killed process leaves it: nothing kept, nothing copied, and a copy that was half done.
    frames = kept.history.files.frames(1)
    with frames.open("r+b") as file:
        file.truncate(frames.stat().st_size - 100)
    index = WalIndex(kept.path) if kept.indexed else None
    kept.history = History(kept.path, kept.folder / "history", index, lambda: kept.time)
    kept.commit("INSERT INTO t VALUES (2)")
    kept.keep()
    for position, _, state in kept.states:
        assert kept.at(position) == state


def test_what_is_too_much_is_taken_up_by_the_base(kept: Kept) -> None:
    kept.commit("CREATE TABLE t (a)")
    for _ in range(12):
        kept.commit("INSERT INTO t VALUES (randomblob(20000))")
        kept.checkpoint()
    files = kept.history.files
    assert len(files.generations()) > 10
    trim(files, Settings(RETENTION_MS, 100_000), kept.time)
    assert 1 < len(files.generations()) < 8
    assert len(files.bases()) == 1
    found = [kept.at(position) for position, _, _ in kept.states]
    assert found[0] is None
    assert found[-1] is not None
    for (_, _, wanted), state in zip(kept.states, found, strict=True):
        assert state in (None, wanted)
    first = next(index for index, state in enumerate(found) if state is not None)
    assert all(found[first:])
    assert position_at(files, kept.states[0][1]) is None


def test_what_a_killed_process_had_begun_is_swept(kept: Kept) -> None:
    folder = kept.history.files.folder
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = folder / f"{gone.pid}-1-1.part"
    ours = folder / f"{os.getpid()}-1-1.part"
    for path in (left, ours):
        path.touch()
    trim(kept.history.files, Settings(), kept.time)
    assert not left.exists()
    assert ours.exists()


def test_what_is_too_old_is_forgotten_and_what_was_true_since_is_not(kept: Kept) -> None:
    kept.commit("CREATE TABLE t (a)")
    kept.checkpoint()
    kept.commit("INSERT INTO t VALUES (1)")
    kept.checkpoint()
    kept.time += 2 * RETENTION_MS
    kept.commit("INSERT INTO t VALUES (2)")
    kept.keep()
    trim(kept.history.files, Settings(), kept.time)
    old, true_for_long, new = kept.states
    assert kept.at(old[0]) is None
    assert position_at(kept.history.files, kept.time - RETENTION_MS) is not None
    since = position_at(kept.history.files, kept.time - 1)
    assert since is not None
    assert kept.at(since) == true_for_long[2]
    assert kept.at(new[0]) == new[2]


@pytest.mark.parametrize("step", ["renamed", "absorbed"])
def test_a_crash_while_the_oldest_is_forgotten_is_made_good(kept: Kept, step: str) -> None:
    kept.commit("CREATE TABLE t (a)")
    kept.checkpoint()
    kept.commit("INSERT INTO t VALUES (1)")
    kept.checkpoint()
    kept.commit("INSERT INTO t VALUES (2)")
    kept.keep()
    files = kept.history.files
    base = files.base(Position(1, 0))
    files.frames(1).replace(f"{base}-wal")
    if step == "absorbed":
        absorbed = apsw.Connection(str(base))
        absorbed.execute("SELECT 1 FROM sqlite_schema").fetchall()
        absorbed.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        absorbed.close()
    assert kept.at(kept.states[0][0]) is None
    assert [kept.at(position) for position, _, _ in kept.states[1:]] == [
        state for _, _, state in kept.states[1:]
    ]
    assert reachable(files, kept.states[-1][0]) == Position(2, 0)


def test_a_history_that_is_switched_off_keeps_nothing_and_may_be_switched_on(kept: Kept) -> None:
    history = kept.history
    history.settings = Settings(0, 0)
    off = kept.commit("CREATE TABLE t (a)")
    kept.checkpoint()
    later = kept.commit("INSERT INTO t VALUES (1)")
    assert off < later
    history.settings = Settings()
    history.wanting = True
    kept.keep()
    history.make_base()
    on = kept.commit("INSERT INTO t VALUES (2)")
    kept.keep()
    assert kept.at(off) is None
    assert kept.at(on) == kept.states[-1][2]
