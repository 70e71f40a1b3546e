"""Migrations, export and import of a D1 database, with the conventions of wrangler."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from pathlib import Path

from ..errors import D1Error, D1TypeError, D1ValueError
from ..store import d1_files as store
from ..store.d1 import D1File
from ..store.d1_load import Progress
from ..store.d1_load import load as load_file

# What wrangler sorts migrations by: JavaScript's `parseInt` of what stands before the first "_".
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")


async def migrate(file: D1File, directory: str | os.PathLike[str], table: str) -> list[str]:
    """Apply what was not applied yet. The names, in their order."""
    done = []
    for path in pending(file, directory, table):
        text = _read(path)
        if await file.write(
            store.apply_migration,
            file.running.executes,
            text,
            str(path),
            path.name,
            table,
            heavy=True,
        ):
            done.append(path.name)
    return done


def pending(file: D1File, directory: str | os.PathLike[str], table: str) -> list[Path]:
    """The files of migrations that were not applied yet, in their order."""
    if not isinstance(table, str):
        raise D1TypeError(f"the table of migrations has a name (a str), not {type(table).__name__}")
    if not table or "\0" in table or table.lower().startswith(("_cf_", "sqlite_")):
        raise D1ValueError(f"{table!r} cannot name the table of migrations")
    found = migration_files(Path(directory))
    known = store.applied(file, table)
    return [path for path in found if path.name not in known]


def migration_files(directory: Path) -> list[Path]:
    """All migrations, in their order, which is wrangler's: by number, then by name."""
    if not directory.is_dir():
        raise D1Error(f"there is no directory of migrations at {directory}")
    return sorted(directory.glob("*.sql"), key=_turn)


def _turn(path: Path) -> tuple[float, str]:
    number = _NUMBER.match(path.name)
    return (int(number[1]) if number else math.inf), path.name


async def export(
    file: D1File,
    path: str | os.PathLike[str] | None,
    schema: bool,
    data: bool,
    tables: Collection[str],
    progress: Progress | None,
) -> str | None:
    """Write the text to ``path``, or give it."""
    if isinstance(tables, str) or not all(isinstance(one, str) for one in tables):
        raise D1TypeError("tables are several names (str)")
    if not schema and not data:
        raise D1ValueError("an export of neither schema nor data would be empty")
    pieces = store.dump(file.path, schema, data, tables, progress)
    if path is None:
        return await file.on_thread(lambda: "".join(pieces))
    where = Path(path)
    try:
        await file.on_thread(lambda: store.write_file(where, pieces))
    except OSError as error:
        raise D1Error(f"{where} cannot be written ({error.strerror})") from error
    return None


async def load(file: D1File, path: str | os.PathLike[str], progress: Progress | None) -> int:
    """Run a file of SQL as one transaction. How many statements it had."""
    return await load_file(file, Path(path), progress)


def _read(path: Path) -> str:
    try:
        # Line ends stay as they are: they may be within strings.
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise D1Error(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise D1Error(f"{path} is not UTF-8 text (byte {error.start})") from error
