"""A D1 database as a text of SQL, and its migrations.

What is written can be read by SQLite's shell, by wrangler and by us: no transaction statements,
tables before their rows, indexes, triggers and views after them. A full-text or R-Tree table is
written as itself, with its rows, and not as the tables that SQLite keeps it in.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from ..errors import D1Error
from .connection import Parameters, Row, translate
from .d1 import D1File, connect_beside
from .d1_executor import D1Executor
from .d1_load import Progress, run_blocks
from .transaction import Transaction

# Rows and characters in one INSERT; a statement may have 100,000 bytes, of four a character.
_CHUNK = 100
_LARGEST_CHUNK = 20_000
_FULL_TEXT = re.compile(r"CREATE\s+VIRTUAL\s.*\bUSING\s+fts5\b", re.IGNORECASE | re.DOTALL)
_TABLES = """
SELECT s.name, s.sql, t.type
FROM sqlite_schema AS s JOIN pragma_table_list AS t ON t.name = s.name AND t.schema = 'main'
WHERE s.type = 'table' AND s.sql IS NOT NULL AND s.name NOT LIKE 'sqlite@_%' ESCAPE '@'
  AND s.name NOT LIKE '@_cf@_%' ESCAPE '@' AND t.type IN ('table', 'virtual')
ORDER BY s.rowid
"""
_REST = """
SELECT sql, tbl_name FROM sqlite_schema
WHERE sql IS NOT NULL AND type IN ('index', 'trigger', 'view')
  AND tbl_name NOT LIKE '@_cf@_%' ESCAPE '@'
  AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow')
ORDER BY CASE type WHEN 'index' THEN 0 WHEN 'view' THEN 1 ELSE 2 END, rowid
"""
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid"
_MIGRATIONS = """CREATE TABLE IF NOT EXISTS {table} (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT UNIQUE,
  applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)"""


def apply_migration(
    tx: Transaction, executor: D1Executor, text: str, source: str, name: str, table: str
) -> bool:
    """Run a migration together with its record, unless that is there: a write function."""
    tx.run(_MIGRATIONS.format(table=quoted(table)))
    if tx.one(f"SELECT 1 FROM {quoted(table)} WHERE name = ?", (name,)) is not None:
        return False
    run_blocks(tx, executor, [(text, len(text))], source)
    tx.run(f"INSERT INTO {quoted(table)} (name) VALUES (?)", (name,))
    return True


def applied(file: D1File, table: str) -> set[str]:
    """The names of the migrations that were applied."""
    view = file.view
    if view.one("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)) is None:
        return set()
    return {row[0] for row in view.all(f"SELECT name FROM {quoted(table)}")}


def dump(
    path: Path,
    schema: bool = True,
    data: bool = True,
    tables: Collection[str] = (),
    progress: Progress | None = None,
) -> Iterator[str]:
    """The text of a database, in pieces, all of one moment.

    Raises `D1Error` for what cannot be exported, `DatabaseError` for a file that cannot be read.
    """
    connection = connect_beside(path, "normal")
    try:
        connection.execute("PRAGMA query_only=1; BEGIN")
        yield from _dump(connection, schema, data, set(tables), progress)
    except apsw.Error as error:
        raise translate(error, path) from error
    finally:
        with suppress(apsw.Error):
            connection.execute("COMMIT")
        connection.close()


def _dump(
    connection: apsw.Connection,
    schema: bool,
    data: bool,
    wanted: set[str],
    progress: Progress | None,
) -> Iterator[str]:
    yield "PRAGMA defer_foreign_keys=TRUE;\n"
    found = _all(connection, _TABLES)
    if missing := wanted - {row[0] for row in found}:
        raise D1Error(f"D1_ERROR: no such table: {sorted(missing)[0]}: SQLITE_ERROR")
    chosen = [row for row in found if not wanted or row[0] in wanted]
    written = 0
    # Full-text tables may take their text from others, so they come after them.
    chosen.sort(key=lambda row: bool(row[2] == "virtual"))
    if schema:
        # All before the first row: a row may refer to one of a later table.
        yield from (f"{sql};\n" for _name, sql, _kind in chosen)
    if data:
        for name, sql, _kind in chosen:
            for piece in _rows(connection, name, sql):
                yield piece
                written += piece.count("\n")
                if progress is not None:
                    progress(written)
    if data and (schema or not wanted):
        yield from _sequences(connection, wanted)
    if schema:
        for sql, table in _all(connection, _REST):
            if not wanted or table in wanted:
                yield f"{sql};\n"


def _rows(connection: apsw.Connection, name: str, sql: str) -> Iterator[str]:
    try:
        if _FULL_TEXT.match(sql):
            yield from _full_text(connection, name)
        else:
            columns = [row[0] for row in _all(connection, _COLUMNS, (name,))]
            yield from _inserts(connection, name, columns)
    except apsw.Error as error:
        # A full-text table whose text was in another one that is gone, or what is damaged.
        raise D1Error(
            f"D1_ERROR: the rows of the table {name} cannot be read ({error}); name the other "
            "tables, export without data, or drop it before"
        ) from error


def _full_text(connection: apsw.Connection, name: str) -> Iterator[str]:
    columns = [row[0] for row in _all(connection, _COLUMNS, (name,))]
    shadow = _all(
        connection,
        "SELECT name FROM sqlite_schema WHERE name IN (?, ?)",
        (f"{name}_content", f"{name}_data"),
    )
    if (f"{name}_content",) in shadow:
        yield from _inserts(connection, name, ["rowid", *columns])
        return
    try:
        # Its text is in another table, written before it.
        _all(connection, f"SELECT {quoted(columns[0])} FROM {quoted(name)} LIMIT 1")
        external = _all(
            connection,
            f"SELECT count(*) FROM {quoted(name)} WHERE {quoted(columns[0])} IS NOT NULL",
        )[0][0]
    except apsw.Error:
        external = 0
    if external:
        yield f"INSERT INTO {quoted(name)} ({quoted(name)}) VALUES ('rebuild');\n"
        return
    rows = _all(connection, f"SELECT count(*) FROM {quoted(name)}")[0][0]
    if rows:
        raise D1Error(
            f"D1_ERROR: the full-text table {name} keeps no text (content=''), so its rows cannot "
            "be exported; name the other tables, or drop it before"
        )


def _inserts(connection: apsw.Connection, name: str, columns: list[str]) -> Iterator[str]:
    if not columns:
        return
    names = ", ".join("rowid" if one == "rowid" else quoted(one) for one in columns)
    head = f"INSERT INTO {quoted(name)} ({names}) VALUES "
    write = apsw.format_sql_value
    rows: list[str] = []
    size = 0
    try:
        for row in connection.execute(f"SELECT {names} FROM {quoted(name)}"):
            text = f"({','.join(map(write, row))})"
            if "\r" in text:
                text = f"({','.join(map(_without_returns, row))})"
            if rows and (len(rows) == _CHUNK or size + len(text) > _LARGEST_CHUNK):
                yield head + ",\n".join(rows) + ";\n"
                rows.clear()
                size = 0
            rows.append(text)
            size += len(text)
    except UnicodeDecodeError as error:
        raise D1Error(f"D1_ERROR: the table {name} has a text that is not UTF-8") from error
    if rows:
        yield head + ",\n".join(rows) + ";\n"


def _without_returns(value: Any) -> str:
    """A value without carriage returns, which SQLite's shell drops from the ends of lines."""
    if not isinstance(value, str) or "\r" not in value:
        return str(apsw.format_sql_value(value))
    mark = "\\r"
    while mark in value:
        mark += "r"
    text = apsw.format_sql_value(value.replace("\r", mark))
    return f"replace({text},'{mark}',char(13))"


def _sequences(connection: apsw.Connection, wanted: set[str]) -> Iterator[str]:
    if not _all(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'"):
        return
    for name, value in _all(connection, "SELECT name, seq FROM sqlite_sequence"):
        if name is None or (wanted and name not in wanted):
            continue
        table = apsw.format_sql_value(name)
        yield f"DELETE FROM sqlite_sequence WHERE name = {table};\n"
        yield f"INSERT INTO sqlite_sequence (name, seq) VALUES ({table},{value});\n"


def _all(connection: apsw.Connection, sql: str, parameters: Parameters = ()) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


def quoted(name: str) -> str:
    """An identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def write_file(path: Path, pieces: Iterator[str]) -> int:
    """Write pieces of text to a file, whole or not at all. How many bytes."""
    if path.is_dir():
        # Before all of it is written beside that.
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            for piece in pieces:
                file.write(piece)
            size = file.tell()
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size
