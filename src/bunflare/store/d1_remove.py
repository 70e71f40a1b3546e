"""Removing a D1 database with all that belongs to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw

from ..errors import D1Error, DatabaseBusy
from .connection import translate
from .d1 import D1Directory


def remove(path: Path) -> None:
    """Remove a database's files. Raises `D1Error` if there is none, and where it is in use."""
    if not path.is_file():
        raise D1Error(f"there is no database at {path}")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            # SQLite leaves this mode only where nobody else has the file open.
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        finally:
            connection.close()
    except apsw.BusyError as error:
        raise DatabaseBusy(f"{path} is in use by another process") from error
    except apsw.NotADBError:
        pass
    except apsw.Error as error:
        raise translate(error, path) from error
    directory = D1Directory(path)
    # The history goes first: a history without its database would be taken for another one's.
    shutil.rmtree(directory.history, ignore_errors=True)
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), directory.turnstile):
        file.unlink(missing_ok=True)
