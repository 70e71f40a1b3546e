"""Connections beside those of the bindings, for whoever looks at a whole file for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from .connection import DRIVER_ERRORS, BusyWait, translate
from .layout import has_history

_PATIENCE = 10.0


def open_beside(path: Path, patience: float = _PATIENCE) -> apsw.Connection:
    """A connection of its own to a file, which must be there."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_handler(BusyWait(patience))
    if has_history(path):
        # Whoever closes a file last copies its log back, and would leave a gap in the history.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY")
    return connection


def open_still(path: Path) -> apsw.Connection:
    """A connection to a file that nobody writes to; nothing comes to lie beside it."""
    return apsw.Connection(
        f"file:{quote(str(path.absolute()))}?immutable=1",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
    )


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """A connection that sees one moment of a file; SQLite's errors become ours."""
    try:
        connection = open_beside(path)
    except apsw.Error as error:
        raise translate(error, path) from error
    try:
        connection.execute("PRAGMA query_only=1")
        connection.execute(f"PRAGMA mmap_size={1 << 40}")
        connection.execute("BEGIN")
        yield connection
    except DRIVER_ERRORS as error:
        raise translate(error, path) from error
    finally:
        connection.close()
