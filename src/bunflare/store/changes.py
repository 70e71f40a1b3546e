"""The change log: what was added, changed and removed, in the order of the commits.

Triggers write it, in the very commit of the change, so that it also tells what other programs have
written. They are there only while the log is switched on: off, it costs nothing. Its size is
bounded, since each so many rows the oldest are removed, by a trigger too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .catalog import RECORDS
from .records import Records
from .schema import Schema
from .session import View
from .transaction import Transaction

CHANGES = """
CREATE TABLE IF NOT EXISTS bunflare_changes (
  position INTEGER PRIMARY KEY,   -- in the order of the commits
  time INTEGER NOT NULL,          -- ms epoch
  system TEXT NOT NULL,           -- kv, r2, objects, queues, workflows, cache; changes: the log
  kind TEXT NOT NULL,             -- key, object, message, …
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  change TEXT NOT NULL,           -- added, changed, removed; started: nothing is known before
  size INTEGER                    -- bytes; NULL where it was removed or has none
)
"""

SCHEMA = Schema("changes", (CHANGES,))

#: How many changes are kept, if nothing else is said.
LIMIT = 100_000

_TRIM_EACH = 256
_PREFIX = "bunflare_changes_"
# Which every SQLite of the last ten years can do.
_NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_INSERT = (
    "INSERT INTO bunflare_changes (time, system, kind, name, key, change, size) "
    f"VALUES ({_NOW}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}});"
)
_TRIM = """
CREATE TRIGGER {prefix}trim AFTER INSERT ON bunflare_changes WHEN NEW.position % {each} = 0 BEGIN
  DELETE FROM bunflare_changes WHERE position <= NEW.position - {limit};
END
"""
_TRIGGERS = r"""
SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'bunflare\_changes\_%'
  ESCAPE '\'
"""
_ENABLED = "SELECT 1 FROM sqlite_master WHERE name = 'bunflare_changes_trim'"
_LATEST = "SELECT max(position) FROM bunflare_changes"
_FIRST = "SELECT min(position) FROM bunflare_changes"
_READ = """
SELECT position, time, system, kind, name, key, change, size FROM bunflare_changes
WHERE position > ? ORDER BY position LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One change."""

    #: What to go on from. Later changes have larger ones.
    position: int
    #: When it was written, in epoch milliseconds, by the system's clock.
    time: int
    #: kv, r2, objects, queues, workflows, cache; or changes, where the log tells of itself.
    system: str
    #: key, object, message, …
    kind: str
    name: str
    key: str
    #: added, changed, removed; or started: what was before the log was switched on is not in it.
    change: str
    #: Bytes of what is there now; None where it was removed, or has no size.
    size: int | None


def switch_on(tx: Transaction, limit: int) -> None:
    """Write a log from now on, of at most about so many changes."""
    fresh = not enabled(tx)
    _drop(tx)
    for records in RECORDS:
        for statement in _triggers(tx, records):
            tx.run(statement)
    tx.run(_TRIM.format(prefix=_PREFIX, each=min(_TRIM_EACH, limit), limit=limit))
    if fresh:
        tx.run(_INSERT.format("'changes'", "'log'", "''", "''", "'started'", "NULL").rstrip(";"))


def switch_off(tx: Transaction) -> None:
    """Write no log any more. What is in it stays."""
    _drop(tx)


def _drop(tx: Transaction) -> None:
    for (name,) in tx.all(_TRIGGERS):
        tx.run(f"DROP TRIGGER {name}")


def _triggers(tx: Transaction, records: Records) -> Iterator[str]:
    columns = [row[1] for row in tx.all(f"PRAGMA table_info({records.table})")]
    lasting = ", ".join(one for one in columns if one not in records.volatile)
    for change, event, row in (
        ("added", "INSERT", "NEW"),
        ("changed", f"UPDATE OF {lasting}", "NEW"),
        ("removed", "DELETE", "OLD"),
    ):
        size = "NULL"
        if records.size is not None and row == "NEW":
            column = f"NEW.{records.size}"
            size = column if records.counted else f"length(CAST({column} AS BLOB))"
        key = " || '/' || ".join(f"{row}.{column}" for column in records.key)
        insert = _INSERT.format(
            f"'{records.system}'",
            f"'{records.kind}'",
            f"{row}.{records.name}",
            key,
            f"'{change}'",
            size,
        )
        yield (
            f"CREATE TRIGGER {_PREFIX}{records.table}_{change} AFTER {event} ON {records.table} "
            f"BEGIN {insert} END"
        )


def enabled(view: View) -> bool:
    """Whether the log is switched on."""
    return view.one(_ENABLED) is not None


def latest(view: View) -> int:
    """The position of the last change that the log knows of; 0 if there was none."""
    row = view.one(_LATEST)
    return 0 if row is None or row[0] is None else row[0]


def first(view: View) -> int:
    """The position of the first change that is still kept; 1 if there was none."""
    row = view.one(_FIRST)
    return 1 if row is None or row[0] is None else row[0]


def read(view: View, after: int, limit: int) -> list[Change]:
    """Changes behind a position, in their order."""
    return [Change(*row) for row in view.all(_READ, (after, limit))]
