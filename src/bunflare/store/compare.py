"""What has changed between two directories: by system, name and key.

SQLite does the comparing, with both files attached to one connection. A column or a table that only
one of them has, because another version of bunflare wrote it, says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import apsw

from .catalog import RECORDS
from .connection import DRIVER_ERRORS, BusyWait, Row, translate
from .d1_files import quoted
from .images import Progress
from .layout import DATABASE, has_history, sql_files
from .records import Records

_PATIENCE = 10.0
_TABLES = r"""
SELECT l.name, s.sql FROM pragma_table_list AS l
JOIN {schema}.sqlite_schema AS s ON s.name = l.name AND s.type = 'table'
WHERE l.schema = '{schema}' AND l.type IN ('table', 'shadow')
  AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND l.name NOT LIKE '\_cf\_%' ESCAPE '\'
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same."""

    change: Literal["added", "changed", "removed"]
    system: str
    #: key, object, message, … and for SQL files: database, table.
    kind: str
    name: str
    key: str


def differences(old: Path, new: Path, progress: Progress | None = None) -> Iterator[Difference]:
    """What has changed from one directory to another, system by system. Blocks.

    ``progress`` is told how many tables and files were compared, and how many there are.
    """
    told = progress or (lambda done, whole: None)
    before = {name for name in sql_files(old) if name != DATABASE}
    after = {name for name in sql_files(new) if name != DATABASE}
    whole = len(RECORDS) + len(before | after)
    with _both(old / DATABASE, new / DATABASE) as connection:
        for done, records in enumerate(RECORDS):
            told(done, whole)
            yield from _records(connection, records)
    for done, name in enumerate(sorted(before | after), len(RECORDS)):
        told(done, whole)
        if name in before and name in after:
            with _both(old / name, new / name) as connection:
                yield from _tables(connection, name)
        else:
            system, named, key = _told(name, "")
            kind = "database" if system == "d1" else "SQL file"
            yield Difference("removed" if name in before else "added", system, kind, named, key)


@contextmanager
def _both(old: Path, new: Path) -> Iterator[apsw.Connection]:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(_uri(new), flags=flags)
    except apsw.Error as error:
        raise translate(error, new) from error
    try:
        connection.set_busy_handler(BusyWait(_PATIENCE))
        if has_history(new):
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("ATTACH ? AS old", (_uri(old),))
        connection.execute("PRAGMA query_only=1; PRAGMA temp_store=MEMORY; BEGIN")
        yield connection
    except DRIVER_ERRORS as error:
        raise translate(error, new) from error
    finally:
        connection.close()


def _uri(path: Path) -> str:
    # Nobody writes to a snapshot, and reading it is to leave nothing beside it.
    still = "snapshots" in path.parts
    return f"file:{quote(str(path.absolute()))}?mode={'ro&immutable=1' if still else 'rw'}"


def _records(connection: apsw.Connection, records: Records) -> Iterator[Difference]:
    there = {schema: _columns(connection, schema, records.table) for schema in ("main", "old")}
    identity = (records.name, *records.key)
    new, old = (set(identity) <= there[schema].keys() for schema in ("main", "old"))
    names = ", ".join(f"n.{column}" for column in identity)
    same = " AND ".join(f"o.{column} = n.{column}" for column in identity)
    table = records.table
    if new:
        missing = f"WHERE NOT EXISTS (SELECT 1 FROM old.{table} AS o WHERE {same})" if old else ""
        query = f"SELECT {names} FROM main.{table} AS n {missing}"
        yield from _found(connection, query, records, "added")
    if new and old:
        others = (there["main"].keys() & there["old"].keys()) - {*identity, *records.volatile}
        if others:
            changed = " OR ".join(f"o.{one} IS NOT n.{one}" for one in sorted(others))
            query = (
                f"SELECT {names} FROM main.{table} AS n JOIN old.{table} AS o ON {same} "
                f"WHERE {changed}"
            )
            yield from _found(connection, query, records, "changed")
    if old:
        missing = f"WHERE NOT EXISTS (SELECT 1 FROM main.{table} AS o WHERE {same})" if new else ""
        query = f"SELECT {names} FROM old.{table} AS n {missing}"
        yield from _found(connection, query, records, "removed")


def _found(
    connection: apsw.Connection,
    query: str,
    records: Records,
    change: Literal["added", "changed", "removed"],
) -> Iterator[Difference]:
    rows: list[Row] = connection.execute(f"{query} ORDER BY 1, 2").fetchall()
    for name, *key in rows:
        text = "/".join(map(str, key))
        yield Difference(change, records.system, records.kind, str(name), text)


def _columns(connection: apsw.Connection, schema: str, table: str) -> dict[str, str]:
    rows: list[Row] = connection.execute(f"PRAGMA {schema}.table_info({table})").fetchall()
    return {row[1]: row[2] for row in rows}


def _tables(connection: apsw.Connection, name: str) -> Iterator[Difference]:
    new = _named(connection, "main")
    old = _named(connection, "old")
    for table in sorted(new.keys() | old.keys()):
        if table not in old:
            change: Literal["added", "changed", "removed"] = "added"
        elif table not in new:
            change = "removed"
        elif new[table] != old[table] or _differ(connection, quoted(table)):
            change = "changed"
        else:
            continue
        system, named, key = _told(name, table)
        yield Difference(change, system, "table", named, key)


def _named(connection: apsw.Connection, schema: str) -> dict[str, str]:
    """Tables with their statements."""
    rows: list[Row] = connection.execute(_TABLES.format(schema=schema)).fetchall()
    return {row[0]: row[1] for row in rows}


def _differ(connection: apsw.Connection, table: str) -> bool:
    count = "SELECT count(*) FROM {}.{}"
    if connection.execute(count.format("main", table)).fetchall() != (
        connection.execute(count.format("old", table)).fetchall()
    ):
        return True
    # Rows of equal number, and none that is new: the same, but for how often each is there.
    query = f"SELECT * FROM {{}}.{table} EXCEPT SELECT * FROM {{}}.{table} LIMIT 1"
    return any(
        connection.execute(query.format(*pair)).fetchall()
        for pair in (("main", "old"), ("old", "main"))
    )


def _told(name: str, table: str) -> tuple[str, str, str]:
    """System, name and key of a SQLite file and a table in it."""
    folder, _, rest = name.partition("/")
    stem = rest.removesuffix(".sqlite")
    if folder == "d1":
        return "d1", stem, table
    if folder == "do-sql":
        namespace, _, digits = stem.rpartition("/")
        return "objects", namespace, f"{digits}/{table}" if table else digits
    return "files", name, table
