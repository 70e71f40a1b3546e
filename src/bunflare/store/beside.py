"""Connections beside those of the bindings, for whoever looks at a whole file for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from .connection import BusyWait, connect, translate

_PATIENCE = 10.0


def open_beside(path: Path, patience: float = _PATIENCE) -> apsw.Connection:
    """A connection of its own, which writes nothing unless it is told to."""
    connection = connect(path, "full", BusyWait(patience))
    # Whoever closes a file last tidies up after it.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    return connection


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
    except apsw.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()


__all__ = ["open_beside", "reading"]
