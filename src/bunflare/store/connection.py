"""One SQLite connection: how it is opened, and what its errors are called.

The only module beside :mod:`bunflare.store.database` that names the driver.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw

from ..errors import (
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
)

Durability = Literal["full", "normal", "off"]
Row = tuple[Any, ...]
Parameters = tuple[Any, ...]
#: A statement with its parameters.
Query = tuple[str, Parameters]

# SQLite's own busy_timeout backs off to 100 ms and starves whoever waits longest; a short, even
# sleep proved fair among many processes and costs no throughput.
_BUSY_SLEEP_SECONDS = 0.0002
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE

SqliteError = apsw.Error
#: What reading and writing may fail with: SQLite's errors, and texts that others have spoilt.
DRIVER_ERRORS = (apsw.Error, UnicodeDecodeError)
ConstraintError = apsw.ConstraintError


class BusyWait:
    """A busy handler with a deadline, which can be told not to wait at all."""

    __slots__ = ("_deadline", "patient", "timeout")

    def __init__(self, timeout: float, *, patient: bool = True) -> None:
        self.timeout = timeout
        self.patient = patient
        self._deadline = 0.0

    def __call__(self, calls: int) -> bool:
        if not self.patient:
            return False
        now = time.monotonic()
        if calls == 0:
            self._deadline = now + self.timeout
        elif now > self._deadline:
            return False
        time.sleep(_BUSY_SLEEP_SECONDS)
        return True


def connect(path: Path, durability: Durability, busy: Callable[[int], bool]) -> apsw.Connection:
    """Open ``path`` in WAL mode. A fresh file becomes a database; anything else must be one."""
    try:
        connection = apsw.Connection(str(path), flags=_FLAGS, statementcachesize=256)
    except apsw.Error as error:
        raise translate(error, path) from error
    try:
        connection.set_busy_handler(busy)
        # Looking at a directory from the future must not write to it, and closing the last
        # connection would copy its WAL back; the owner turns this off once the version is known.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute(f"PRAGMA synchronous={durability.upper()}")
        # Checkpoints are made on a thread of their own, so that no commit pays for one.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-16384")
        connection.execute("PRAGMA temp_store=MEMORY")
    except apsw.Error as error:
        connection.close()
        raise translate(error, path) from error
    return connection


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file, as far as it can be read.

    Through SQLite: closing any descriptor of a file drops all locks that the process holds on it,
    so SQLite keeps the descriptors of a file that it has locks on, and only it knows.
    """
    try:
        file = apsw.VFSFile(
            "", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0]
        )
        try:
            return file.xRead(size, 0)
        finally:
            file.xClose()
    except apsw.Error:
        return b""


def keep_plans(connection: apsw.Connection) -> None:
    """Have statements planned once, whatever is bound to them.

    Else SQLite plans each ORDER BY anew with each value, which takes longer than a look-up.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def enter_wal(connection: apsw.Connection, path: Path, timeout: float) -> None:
    """Turn the write-ahead log on, which stays on for the file, and keep it bounded."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchall()[0][0]
            break
        except apsw.BusyError:
            # SQLite does not ask the busy handler here, for fear of a deadlock.
            if time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_SLEEP_SECONDS)
    if mode != "wal":
        raise DatabaseError(f"{path}: this file system does not support SQLite's write-ahead log")
    connection.execute("PRAGMA journal_size_limit=67108864")


def copy_whole(source: apsw.Connection, target: apsw.Connection) -> None:
    """Put what one database has in the place of what another has, in one step."""
    with target.backup("main", source, "main") as backup:
        backup.step()


def translate(error: apsw.Error | UnicodeDecodeError, path: Path) -> DatabaseError:
    """The error of ours that says what SQLite's means for the user."""
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return DatabaseBusy(
                f"{path} is locked: another process has been writing to it for too long "
                "(a long transaction, or another program that holds the lock)"
            )
        case apsw.CorruptError() | apsw.NotADBError():
            return DatabaseCorrupt(
                f"{path} is damaged or not a SQLite database ({error}); move it away, or restore "
                "it from a backup. Nothing was written to it"
            )
        case UnicodeDecodeError():
            return DatabaseCorrupt(
                f"{path} has a text that is not UTF-8 ({error}), which another program has written"
            )
        case apsw.FullError():
            return DatabaseFull(f"the disk that holds {path} is full; nothing was written")
        case apsw.IOError() | apsw.CantOpenError() if _has_no_room(path):
            # Not even for what SQLite keeps beside the file.
            return DatabaseFull(f"the disk that holds {path} is full; nothing was written")
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return DatabaseReadOnly(f"{path} cannot be written to ({error})")
        case apsw.CantOpenError():
            return DatabaseError(f"{path} cannot be opened ({error})")
        case apsw.IOError():
            return DatabaseError(f"{path}: the disk reported an error ({error})")
        case _:
            return DatabaseError(f"{path}: {error}")


def as_ours(error: Exception, path: Path) -> Exception:
    """An error as those hear of it who have asked for what failed."""
    if isinstance(error, DRIVER_ERRORS):
        ours = translate(error, path)
        ours.__cause__ = error
        return ours
    return error


def _has_no_room(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    # SQLite makes its shared index in pieces of 32 KiB.
    return found.f_bavail * found.f_frsize < 64 * 1024
