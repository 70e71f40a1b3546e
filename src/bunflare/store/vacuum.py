"""Giving back the space of what was deleted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from ..errors import DatabaseBusy
from .beside import open_beside
from .connection import translate
from .images import Progress
from .layout import has_history, sql_files
from .moment import signature
from .turnstile import Turnstile

_PATIENCE = 30.0
_TRUNCATE_PATIENCE = 2.0
# Rows without a number of their own may get another, which an index of words may rely on.
_VIRTUAL = "SELECT 1 FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL%'"


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What became of one SQLite file."""

    #: Its path in the data directory.
    name: str
    #: Bytes, with its write-ahead log.
    before: int
    after: int
    #: Why it was left alone, if it was.
    left: str | None = None


def vacuum(root: Path, progress: Progress | None = None) -> list[Vacuumed]:
    """Write every SQLite file anew without what was deleted from it. Blocks."""
    sizes = {name: _size(root / name) for name in sql_files(root)}
    found = []
    done = 0
    for name, size in sizes.items():
        found.append(_vacuum(root, name))
        done += size
        if progress is not None:
            progress(done, sum(sizes.values()))
    return found


def _vacuum(root: Path, name: str) -> Vacuumed:
    path = root / name
    before = _size(path)
    lines = [path.with_name("writer.lock"), path.with_name(f".{path.name}.lock")]
    line = next((one for one in lines if one.exists()), None)
    turnstile = None if line is None else Turnstile(line)
    try:
        connection = open_beside(path, _PATIENCE)
        try:
            if connection.execute(_VIRTUAL).fetchall():
                return Vacuumed(name, before, before, "it has virtual tables")
            if turnstile is not None and not turnstile.enter(_PATIENCE):
                raise DatabaseBusy(f"{path} has been written to by others for too long")
            connection.execute("VACUUM")
            if has_history(path):
                return Vacuumed(name, before, _size(path))  # its owner copies the log back
            connection.set_busy_timeout(int(_TRUNCATE_PATIENCE * 1000))
            with suppress(apsw.BusyError):  # somebody reads: the log is copied back later
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    except apsw.CantOpenError:
        return Vacuumed(name, before, before, "it has just been removed")
    except apsw.Error as error:
        raise translate(error, path) from error
    finally:
        if turnstile is not None:
            turnstile.close()
    return Vacuumed(name, before, _size(path))


def _size(path: Path) -> int:
    return sum(signature(path)[1::3])
