"""The redo record of an object's SQL file: changes of its keys, which its commit carries along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from ..errors import DatabaseError, ValueCorrupt
from .beside import reading
from .connection import Row, translate

_REDO = "_cf_bunflare_redo"
CREATE_REDO = f"""
CREATE TABLE IF NOT EXISTS {_REDO} (
  id INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL,   -- how many commits have carried changes along
  changes TEXT NOT NULL        -- JSON of the last of them
)
"""
WRITE_REDO = f"""
INSERT INTO {_REDO} (id, sequence, changes) VALUES (1, ?, ?)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, changes = excluded.changes
"""
_READ_REDO = f"SELECT sequence, changes FROM {_REDO}"
_HAS_REDO = f"SELECT 1 FROM sqlite_schema WHERE name = '{_REDO}'"


def last_record(run: Callable[[str], list[Row]]) -> tuple[int, str]:
    """How many commits have carried changes along, and those of the last one.

    Raises `ValueCorrupt` for what no commit has written.
    """
    rows = run(_READ_REDO) if run(_HAS_REDO) else []
    if not rows:
        return 0, ""
    sequence, changes = rows[0]
    if not isinstance(sequence, int) or not isinstance(changes, str):
        raise ValueCorrupt("the redo record of an object's SQL file is damaged")
    return sequence, changes


def redo_sequence(path: Path) -> int:
    """How many commits of an object's file have carried changes along."""
    with reading(path) as connection:
        return last_record(lambda sql: connection.execute(sql).fetchall())[0]


def refused(error: apsw.Error, path: Path) -> DatabaseError:
    """Why a commit has failed."""
    if isinstance(error, apsw.ConstraintError):
        # It is no matter of the file: foreign keys that were deferred do not hold.
        return DatabaseError(f"{error}: SQLITE_CONSTRAINT")
    return translate(error, path)
