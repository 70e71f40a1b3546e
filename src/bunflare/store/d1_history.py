"""Time travel: kept states of a D1 database, and going back to one.

A kept state is a copy of the file, made by SQLite's backup under a reader's snapshot, so it costs
writers nothing. One is kept whenever a bookmark is asked for, and before each migration, import and
restore. Going back copies one over the database in a single transaction of SQLite's: a crash leaves
the one or the other, and other processes see it like any commit. The state before is kept too, so
going back can be undone.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple, cast

import apsw

from ..errors import D1Error, DatabaseBusy
from .connection import Row, translate
from .d1 import D1Directory, D1File, D1Running, connect_beside
from .d1_connection import METADATA
from .d1_reader import START, Position, count
from .transaction import Transaction
from .turnstile import Turnstile

#: For how long states are kept, and how many bytes of them at most.
RETENTION_MS = 30 * 24 * 3600 * 1000
LARGEST = 4 * 1024 * 1024 * 1024
_PATIENCE = 60.0
_PAUSE_SECONDS = 0.001


class Kept(NamedTuple):
    """A kept state: how often the database had been written to, and when it was kept."""

    commits: int
    at: int
    path: Path


def kept(directory: D1Directory) -> list[Kept]:
    """All kept states, the oldest first."""
    found = []
    for path in directory.history.glob("*-*.sqlite"):
        commits, _, at = path.stem.partition("-")
        if commits.isdecimal() and at.isdecimal():
            found.append(Kept(int(commits), int(at), path))
    return sorted(found)


def keep(file: D1File, now: int) -> Position:
    """Keep the present state, unless it is kept. Its position. To be called on a thread."""
    directory = cast("D1Directory", file.directory)
    directory.history.mkdir(mode=0o700, exist_ok=True)
    partial = directory.history / f"{os.getpid()}-{time.monotonic_ns()}.part"
    source = connect_beside(file.path, "normal")
    try:
        source.execute("BEGIN")
        position = _position(source)
        if any(one.commits == position[0] for one in kept(directory)):
            return position
        copy = apsw.Connection(str(partial))
        try:
            with copy.backup("main", source, "main") as backup:
                backup.step()
        finally:
            copy.close()
        partial.replace(directory.history / f"{position[0]}-{now}.sqlite")
    finally:
        source.close()
        partial.unlink(missing_ok=True)
    _forget(directory, now)
    return position


def _forget(directory: D1Directory, now: int) -> None:
    """Drop what is too old or too much; the newest stays."""
    room = LARGEST
    for index, one in enumerate(reversed(kept(directory))):
        room -= one.path.stat().st_size
        if index and (one.at < now - RETENTION_MS or room < 0):
            one.path.unlink(missing_ok=True)


def go_back(file: D1File, target: Kept, now: int) -> Position:
    """Put a kept state in the place of the present one, while our writer stands still."""
    directory = cast("D1Directory", file.directory)
    partial = directory.history / f"{os.getpid()}-{time.monotonic_ns()}.part"
    turnstile = Turnstile(directory.turnstile)
    here = connect_beside(file.path, file.durability)
    try:
        if not turnstile.enter(_PATIENCE):
            raise DatabaseBusy(f"{file.path} has been written to by others for too long")
        # From here on no process that knows the turnstile begins a write.
        here.execute("BEGIN IMMEDIATE")
        present = _position(here)
        here.execute("ROLLBACK")
        shutil.copyfile(target.path, partial)
        position = _renumber(partial, present, now)
        source = apsw.Connection(str(partial))
        try:
            _copy(here, source)
        finally:
            source.close()
    except apsw.Error as error:
        raise translate(error, file.path) from error
    finally:
        here.close()
        turnstile.leave()
        turnstile.close()
        for path in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm")):
            path.unlink(missing_ok=True)
    return position


def _renumber(path: Path, present: Position, now: int) -> Position:
    """Going back is one more write: its state comes after the present one."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(connection)
        count(tx, now)
        tx.run(f"UPDATE {METADATA} SET commits = ?, lineage = ?", (present[0] + 1, present[1]))
        connection.execute("COMMIT")
    finally:
        connection.close()
    return present[0] + 1, present[1]


def _copy(target: apsw.Connection, source: apsw.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE
    with target.backup("main", source, "main") as backup:
        while not backup.done:
            try:
                backup.step()
            except (apsw.BusyError, apsw.LockedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)


def _position(connection: apsw.Connection) -> Position:
    rows: list[Row] = []
    try:
        rows = connection.execute(f"SELECT commits, lineage FROM {METADATA}").fetchall()
    except apsw.SQLError:
        # Nothing of ours was ever written to it.
        return START
    return (rows[0][0], rows[0][1]) if rows else START


async def restore(file: D1File, target: Kept, now: int) -> Position:
    """Go back to a kept state, with the present one kept."""
    await file.on_thread(lambda: keep(file, now))
    outcome: list[Position | BaseException] = []

    def work() -> None:
        try:
            outcome.append(go_back(file, target, now))
        except Exception as error:
            outcome.append(error)

    running = cast("D1Running", file._start())
    await running.writer.aside(work)
    if not outcome:
        raise D1Error("D1_ERROR: the database was closed before it was restored")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
