"""Counts, sizes and times of what a directory keeps.

Counts come from the smallest index, sizes from one pass over the rows that does not read what is
long: a million keys take a fifth of a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .beside import reading
from .catalog import RECORDS
from .connection import Row
from .directory import Directory
from .layout import sql_files

if TYPE_CHECKING:
    import apsw

    from .records import Records

# Each name is one more sum in the pass over the rows; beyond this, sorting them is quicker.
_MOST_SUMS = 32


@dataclass(frozen=True, slots=True)
class Figures:
    """What is kept under one name: a namespace, a bucket, a queue, a database."""

    system: str
    #: What is counted: keys, objects, messages, …
    kind: str
    name: str
    count: int
    #: Bytes; None where that means nothing.
    size: int | None
    #: Epoch milliseconds; None where the system keeps no times.
    oldest: int | None
    newest: int | None


@dataclass(frozen=True, slots=True)
class StateInfo:
    """A data directory in figures."""

    directory: Path
    #: Bytes of ``data.sqlite`` with its write-ahead log.
    database_size: int
    #: Bytes of the bodies of cached responses that are files.
    cache_size: int
    figures: tuple[Figures, ...]


def state_info(directory: Directory) -> StateInfo:
    """Count everything. Blocks."""
    with reading(directory.database) as connection:
        figures = [found for records in RECORDS for found in _figures(connection, records)]
    figures += _sql_figures(directory)
    return StateInfo(
        directory.path,
        _size(str(directory.database)) + _size(f"{directory.database}-wal"),
        _tree_size(directory.cache_bodies),
        tuple(figures),
    )


def _figures(connection: apsw.Connection, records: Records) -> Iterator[Figures]:
    table, name = records.table, records.name
    counts: list[Row] = connection.execute(
        f"SELECT {name}, count(*) FROM {table} GROUP BY {name}"
    ).fetchall()
    if not counts:
        return
    names = [row[0] for row in counts]
    parts: list[str] = []
    if records.size is not None:
        size = records.size if records.counted else f"octet_length({records.size})"
        parts.append(f"sum({size})")
    if records.time is not None:
        parts += [f"min({records.time})", f"max({records.time})"]
    rows: dict[object, tuple[Any, ...]] = {}
    width = len(parts)
    if parts and len(names) <= _MOST_SUMS:
        columns = ", ".join(
            f"{part} FILTER (WHERE {name} = ?{number + 1})"
            for number in range(len(names))
            for part in parts
        )
        query = f"SELECT {columns} FROM {table} NOT INDEXED"
        flat = connection.execute(query, tuple(names)).fetchall()[0]
        rows = {
            one: flat[number * width : (number + 1) * width] for number, one in enumerate(names)
        }
    elif parts:
        query = f"SELECT {name}, {', '.join(parts)} FROM {table} NOT INDEXED GROUP BY +{name}"
        rows = {row[0]: row[1:] for row in connection.execute(query)}
    for one, count in counts:
        found: list[object] = list(rows.get(one, ()))
        amount = found.pop(0) if records.size is not None and found else None
        oldest, newest = found if found else (None, None)
        yield Figures(
            records.system,
            records.kind,
            str(one),
            count,
            int(amount) if isinstance(amount, int | float) else None,
            _milliseconds(oldest),
            _milliseconds(newest),
        )


def _milliseconds(time: object) -> int | None:
    if isinstance(time, int):
        return time
    if isinstance(time, str):
        try:
            return round(datetime.fromisoformat(time).timestamp() * 1000)
        except ValueError:
            return None
    return None


def _sql_figures(directory: Directory) -> Iterator[Figures]:
    """D1 databases, and the SQL files of objects by their namespaces."""
    # Bytes, and when they were last written to.
    namespaces: dict[str, list[tuple[int, int]]] = {}
    for name in sorted(sql_files(directory.path)):
        system, _, rest = name.partition("/")
        if system == "d1":
            found = (directory.path / name).stat()
            size = found.st_size + _size(f"{directory.path / name}-wal")
            newest = found.st_mtime_ns // 1_000_000
            yield Figures("d1", "database", rest.removesuffix(".sqlite"), 1, size, None, newest)
        elif system == "do-sql" and "/" in rest:
            namespace = rest.rpartition("/")[0]
            found = (directory.path / name).stat()
            size = found.st_size + _size(f"{directory.path / name}-wal")
            namespaces.setdefault(namespace, []).append((size, found.st_mtime_ns))
    for namespace, files in namespaces.items():
        yield Figures(
            "objects",
            "SQL file",
            namespace,
            len(files),
            sum(size for size, _ in files),
            None,
            max(newest for _, newest in files) // 1_000_000,
        )


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _tree_size(path: Path) -> int:
    try:
        with os.scandir(path) as entries:
            return sum(_size(entry.path) for entry in entries if entry.is_file())
    except FileNotFoundError:
        return 0
