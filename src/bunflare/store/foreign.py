"""SQLite files of other programs, which are only read.

A file is opened as it lies there, its log beside it included. Where that cannot be (the directory
is read-only, and SQLite wants to write beside the file), a copy is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from .connection import BusyWait, Parameters, Row, translate

_PATIENCE = 5.0


class ForeignFile:
    """One open file, at one moment."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    def rows(self, sql: str, parameters: Parameters = ()) -> Iterator[Row]:
        """The rows of a query, as they are read."""
        try:
            yield from self._connection.cursor().execute(sql, parameters)
        except apsw.Error as error:
            raise translate(error, self.path) from error

    def tables(self) -> set[str]:
        """Names of its tables, without those of SQLite itself."""
        found = self.rows(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
            " ESCAPE '\\'"
        )
        return {row[0] for row in found}

    def columns(self, table: str) -> set[str]:
        return {row[0] for row in self.rows("SELECT name FROM pragma_table_info(?)", (table,))}

    def records(self, table: str, order: str | None = None) -> Iterator[dict[str, Any]]:
        """Whole rows by their columns' names; none if there is no such table."""
        columns = sorted(self.columns(table))
        if not columns:
            return
        listed = ", ".join(f'"{name}"' for name in columns)
        ordered = f" ORDER BY {order}" if order is not None else ""
        for row in self.rows(f'SELECT {listed} FROM "{table}"{ordered}'):
            yield dict(zip(columns, row, strict=True))

    def count(self, table: str) -> int:
        return int(next(self.rows(f'SELECT COUNT(*) FROM "{table}"'))[0])

    def copy(self, target: Path) -> None:
        """Write the whole database to a new file."""
        try:
            copy = apsw.Connection(str(target))
            try:
                copy.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
                with copy.backup("main", self._connection, "main") as backup:
                    backup.step(-1)
            finally:
                copy.close()
        except apsw.Error as error:
            raise translate(error, target) from error


@contextmanager
def foreign_file(path: Path) -> Iterator[ForeignFile]:
    """A file for reading. SQLite's errors become ours: `DatabaseBusy`, `DatabaseCorrupt`, …"""
    connection, remove = _opened(path)
    try:
        yield ForeignFile(connection, path)
    except apsw.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()
        if remove is not None:
            shutil.rmtree(remove, ignore_errors=True)


def _opened(path: Path) -> tuple[apsw.Connection, Path | None]:
    try:
        return _begun(path), None
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        pass
    except apsw.Error as error:
        raise translate(error, path) from error
    import tempfile

    copies = Path(tempfile.mkdtemp(prefix="bunflare-"))
    try:
        for name in (path.name, f"{path.name}-wal"):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, copies / name)
        return _begun(copies / path.name), copies
    except BaseException as error:
        shutil.rmtree(copies, ignore_errors=True)
        if isinstance(error, apsw.Error):
            raise translate(error, path) from error
        raise


def _begun(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_handler(BusyWait(_PATIENCE))
        # One moment for all that is read.
        connection.execute("BEGIN; SELECT COUNT(*) FROM sqlite_schema").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
