"""Durable Objects: their key-value storage, their alarms, and who runs them.

An object is known by its namespace and its id. A row of `bunflare_objects` is written with the
first of its data, and keeps the name that the id was made from.
"""

from __future__ import annotations

from ..errors import ValueCorrupt
from . import object_bookmarks, object_history
from .connection import Row
from .object_bookmarks import BOOKMARKS
from .object_history import HISTORIES
from .records import Invariant, Records
from .rows import RowStatement
from .schema import Schema, add_columns
from .session import View
from .transaction import Transaction

DO_STORAGE = """
CREATE TABLE IF NOT EXISTS do_storage (
  namespace TEXT NOT NULL,   -- class name
  id TEXT NOT NULL,          -- DO instance ID
  key TEXT NOT NULL,
  value TEXT NOT NULL,       -- JSON-serialized
  PRIMARY KEY (namespace, id, key)
)
"""

DO_ALARMS = """
CREATE TABLE IF NOT EXISTS do_alarms (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  alarm_time INTEGER NOT NULL,  -- ms epoch
  PRIMARY KEY (namespace, id)
)
"""

OBJECTS = """
CREATE TABLE IF NOT EXISTS bunflare_objects (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT,                            -- what the id was made from; NULL for a unique id
  created_at INTEGER NOT NULL,          -- ms epoch
  applied INTEGER NOT NULL DEFAULT 0,   -- the last commit of its SQL file whose changes are here
  PRIMARY KEY (namespace, id)
)
"""

OWNERS = """
CREATE TABLE IF NOT EXISTS bunflare_object_owners (
  namespace TEXT PRIMARY KEY,
  owner TEXT NOT NULL,      -- the process that runs the namespace's objects
  address TEXT NOT NULL     -- the socket on which it takes calls of other processes
)
"""

CLASSES = """
CREATE TABLE IF NOT EXISTS bunflare_object_classes (
  namespace TEXT PRIMARY KEY,
  unique_key TEXT NOT NULL   -- what its ids are bound to: its first name, through all renaming
);
CREATE TABLE IF NOT EXISTS bunflare_object_migrations (
  worker TEXT NOT NULL,
  tag TEXT NOT NULL,
  applied_at INTEGER NOT NULL,   -- ms epoch
  PRIMARY KEY (worker, tag)
);
CREATE TABLE IF NOT EXISTS bunflare_object_moves (
  source TEXT PRIMARY KEY,   -- a directory of SQL files
  target TEXT                -- what it is to be called; NULL if it is to go
)
"""

# When an alarm is to be tried next, where that is not its own time, and how often it has failed.
DUE = """
CREATE INDEX IF NOT EXISTS bunflare_do_alarms_due
  ON do_alarms (namespace, COALESCE(bunflare_retry_at, alarm_time))
"""


def _alarm_columns(tx: Transaction) -> None:
    add_columns(
        tx,
        "do_alarms",
        bunflare_retry_at="INTEGER",
        bunflare_retries="INTEGER NOT NULL DEFAULT 0",
    )
    tx.run(DUE)


SCHEMA = Schema(
    "objects",
    (
        *(DO_STORAGE + ";" + DO_ALARMS, OBJECTS + ";" + OWNERS, _alarm_columns, CLASSES),
        *(BOOKMARKS, HISTORIES),
    ),
)

RECORDS = (
    Records(
        "objects",
        "bunflare_objects",
        "namespace",
        ("id",),
        time="created_at",
        kind="object",
        volatile=("applied",),
    ),
    Records("objects", "do_storage", "namespace", ("id", "key"), "value", kind="key"),
    Records("objects", "do_alarms", "namespace", ("id",), time="alarm_time", kind="alarm"),
)

INVARIANTS = (
    Invariant(
        "objects",
        "value",
        """
        SELECT namespace, id || '/' || key, 'the value is not JSON' FROM do_storage
        WHERE NOT json_valid(value)
        """,
        remedy="put or delete the key",
    ),
    Invariant(
        "objects",
        "history",
        """
        SELECT namespace, number, 'an earlier state is not JSON'
        FROM bunflare_object_changes WHERE earlier != '' AND NOT json_valid(earlier)
        """,
        """
        UPDATE bunflare_object_changes SET earlier = ''
        WHERE namespace = :name AND number = :key
        """,
        "what was before it is forgotten",
    ),
    Invariant(
        "objects",
        "alarm",
        """
        SELECT namespace, id, 'the alarm is set for no time' FROM do_alarms
        WHERE typeof(alarm_time) != 'integer'
          OR typeof(bunflare_retry_at) NOT IN ('integer', 'null')
        """,
        "DELETE FROM do_alarms WHERE namespace = :name AND id = :key",
        "the alarm is removed",
    ),
    Invariant(
        "objects",
        "retries",
        """
        SELECT namespace, id, 'how often the alarm has failed is no number' FROM do_alarms
        WHERE typeof(bunflare_retries) != 'integer' OR bunflare_retries < 0
        """,
        "UPDATE do_alarms SET bunflare_retries = 0 WHERE namespace = :name AND id = :key",
        "it counts as never failed",
    ),
)

_GET = "SELECT value FROM do_storage WHERE namespace = ? AND id = ? AND key = ?"
_PUT = RowStatement(
    "INSERT INTO do_storage (namespace, id, key, value) VALUES",
    "(?, ?, ?, ?)",
    "ON CONFLICT (namespace, id, key) DO UPDATE SET value = excluded.value",
)
_DELETE = "DELETE FROM do_storage WHERE namespace = ? AND id = ? AND key = ?"
_CLEAR = "DELETE FROM do_storage WHERE namespace = ? AND id = ?"
_LIST = """
SELECT key, value FROM do_storage
WHERE namespace = ? AND id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?
"""
_LIST_REVERSED = _LIST.replace("ORDER BY key", "ORDER BY key DESC")

_ALARM = """
SELECT alarm_time, bunflare_retries FROM do_alarms WHERE namespace = ? AND id = ?
"""
_SET_ALARM = """
INSERT INTO do_alarms (namespace, id, alarm_time) VALUES (?, ?, ?)
ON CONFLICT (namespace, id) DO UPDATE SET
  alarm_time = excluded.alarm_time, bunflare_retry_at = NULL, bunflare_retries = 0
"""
_DELETE_ALARM = "DELETE FROM do_alarms WHERE namespace = ? AND id = ?"
_RETRY_ALARM = """
UPDATE do_alarms SET bunflare_retry_at = ?, bunflare_retries = ?
WHERE namespace = ? AND id = ? AND alarm_time = ?
"""
_DUE = """
SELECT id, alarm_time, bunflare_retries, COALESCE(bunflare_retry_at, alarm_time)
FROM do_alarms WHERE namespace = ?
ORDER BY COALESCE(bunflare_retry_at, alarm_time) LIMIT ?
"""

_OBJECT = "SELECT name, created_at, applied FROM bunflare_objects WHERE namespace = ? AND id = ?"
_KNOWN = """
SELECT EXISTS (SELECT 1 FROM bunflare_objects WHERE namespace = ?1 AND id = ?2)
  OR EXISTS (SELECT 1 FROM do_storage WHERE namespace = ?1 AND id = ?2)
  OR EXISTS (SELECT 1 FROM do_alarms WHERE namespace = ?1 AND id = ?2)
"""
_ADD_OBJECT = """
INSERT INTO bunflare_objects (namespace, id, name, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, id) DO UPDATE SET name = COALESCE(name, excluded.name)
"""
_APPLIED = "UPDATE bunflare_objects SET applied = ? WHERE namespace = ? AND id = ?"
_OBJECTS = """
SELECT id FROM bunflare_objects WHERE namespace = ?1 AND id > ?2
UNION SELECT id FROM do_storage WHERE namespace = ?1 AND id > ?2
UNION SELECT id FROM do_alarms WHERE namespace = ?1 AND id > ?2
ORDER BY id LIMIT ?3
"""
_DESCRIBED = f"""
SELECT found.id, name, created_at, alarm_time FROM ({_OBJECTS}) AS found
LEFT JOIN bunflare_objects AS object ON object.namespace = ?1 AND object.id = found.id
LEFT JOIN do_alarms AS alarm ON alarm.namespace = ?1 AND alarm.id = found.id
ORDER BY found.id
"""
_COUNT = """
SELECT count(*) FROM (
  SELECT id FROM bunflare_objects WHERE namespace = ?1
  UNION SELECT id FROM do_storage WHERE namespace = ?1
  UNION SELECT id FROM do_alarms WHERE namespace = ?1
)
"""
_NAMESPACES = """
SELECT namespace FROM bunflare_objects UNION SELECT namespace FROM do_storage
UNION SELECT namespace FROM do_alarms ORDER BY namespace
"""
_ALARMS = """
SELECT namespace, id, alarm_time, bunflare_retries, bunflare_retry_at FROM do_alarms
WHERE (?1 IS NULL OR namespace = ?1)
ORDER BY COALESCE(bunflare_retry_at, alarm_time)
"""

_OWNER = "SELECT owner, address FROM bunflare_object_owners WHERE namespace = ?"
_OWN = """
INSERT INTO bunflare_object_owners (namespace, owner, address) VALUES (?, ?, ?)
ON CONFLICT (namespace) DO UPDATE SET owner = excluded.owner, address = excluded.address
"""
_DISOWN = "DELETE FROM bunflare_object_owners WHERE namespace = ? AND address = ?"

_OWNERS = "SELECT namespace, owner FROM bunflare_object_owners"
_WITH_SQL = "SELECT namespace, id FROM bunflare_objects WHERE applied > 0"
_UNIQUE = "SELECT unique_key FROM bunflare_object_classes WHERE namespace = ?"
_SET_UNIQUE = """
INSERT INTO bunflare_object_classes (namespace, unique_key) VALUES (?, ?)
ON CONFLICT (namespace) DO UPDATE SET unique_key = excluded.unique_key
"""
_MIGRATED = "SELECT tag FROM bunflare_object_migrations WHERE worker = ?"
_NOTE_MIGRATION = """
INSERT INTO bunflare_object_migrations (worker, tag, applied_at) VALUES (?, ?, ?)
"""
_MOVES = "SELECT source, target FROM bunflare_object_moves"
_ADD_MOVE = """
INSERT INTO bunflare_object_moves (source, target) VALUES (?, ?)
ON CONFLICT (source) DO UPDATE SET target = excluded.target
"""
_END_MOVE = "DELETE FROM bunflare_object_moves WHERE source = ?"
_DATA_TABLES = (
    *("do_storage", "do_alarms", "bunflare_objects"),
    *(*object_bookmarks.TABLES, *object_history.TABLES),
)

#: Namespace, id, key and the text of its value.
Put = tuple[str, str, str, str]

#: Instead of an alarm: it stays as it is.
KEEP = -1


def get(view: View, namespace: str, id: str, key: str) -> str | None:
    """The value's text, or None."""
    row = view.one(_GET, (namespace, id, key))
    return None if row is None else row[0]


def list_rows(
    view: View, namespace: str, id: str, start: str, end: str | None, limit: int, reverse: bool
) -> list[Row]:
    """``(key, value)`` from ``start`` on and below ``end``; a limit of -1 is none."""
    # SQLite orders every blob behind every text, so an empty one is the end of all keys.
    above = b"" if end is None else end
    return view.all(_LIST_REVERSED if reverse else _LIST, (namespace, id, start, above, limit))


def put(tx: Transaction, namespace: str, id: str, key: str, value: str | None) -> None:
    """Write the text of a value; None deletes the key."""
    if value is None:
        tx.run(_DELETE, (namespace, id, key))
    else:
        tx.run(_PUT.one, (namespace, id, key, value))


def put_all(tx: Transaction, rows: list[Put]) -> None:
    """Write the texts of any keys of any objects, in this order."""
    _PUT.run(tx, rows)


def clear(tx: Transaction, namespace: str, id: str) -> None:
    """Delete all keys."""
    tx.run(_CLEAR, (namespace, id))


def set_alarm(tx: Transaction, namespace: str, id: str, alarm: int | None) -> None:
    """Set the alarm to epoch milliseconds; None deletes it."""
    if alarm is None:
        tx.run(_DELETE_ALARM, (namespace, id))
    else:
        tx.run(_SET_ALARM, (namespace, id, alarm))


def alarm(view: View, namespace: str, id: str) -> tuple[int, int] | None:
    """When the alarm was set for, in epoch milliseconds, and how often it has failed."""
    row = view.one(_ALARM, (namespace, id))
    return None if row is None else (row[0], row[1])


def retry_alarm(
    tx: Transaction, namespace: str, id: str, time: int, when: int, retries: int
) -> None:
    """Try the alarm of ``time`` again at ``when``, unless it has been set anew."""
    tx.run(_RETRY_ALARM, (when, retries, namespace, id, time))


def due(view: View, namespace: str, limit: int) -> list[Row]:
    """``(id, alarm_time, retries, when)`` of the alarms that are due first."""
    return view.all(_DUE, (namespace, limit))


def describe(view: View, namespace: str, id: str) -> Row | None:
    """``(name, created_at, applied)`` of an object."""
    return view.one(_OBJECT, (namespace, id))


def applied(view: View, namespace: str, id: str) -> int:
    """The last commit of its SQL file whose changes are in the rows. Raises `ValueCorrupt`."""
    row = describe(view, namespace, id)
    found = 0 if row is None else row[2]
    if not isinstance(found, int):
        raise ValueCorrupt("the number of an object's last commit is damaged")
    return found


def known(view: View, namespace: str, id: str) -> bool:
    """Whether there is anything of the object."""
    row = view.hot(_KNOWN, (namespace, id))
    return row is not None and row[0] == 1


def add(tx: Transaction, namespace: str, id: str, name: str | None, now: int) -> None:
    tx.run(_ADD_OBJECT, (namespace, id, name, now))
    tx.forget(_KNOWN, (namespace, id))


def set_applied(tx: Transaction, namespace: str, id: str, sequence: int) -> None:
    tx.run(_APPLIED, (sequence, namespace, id))


def described(view: View, namespace: str, after: str, limit: int) -> list[Row]:
    """``(id, name, created_at, alarm_time)`` of a namespace's objects behind ``after``."""
    return view.all(_DESCRIBED, (namespace, after, limit))


def count(view: View, namespace: str) -> int:
    """How many objects a namespace has."""
    row = view.one(_COUNT, (namespace,))
    return 0 if row is None else int(row[0])


def namespaces(view: View) -> list[str]:
    return [row[0] for row in view.all(_NAMESPACES)]


def alarms(view: View, namespace: str | None) -> list[Row]:
    """``(namespace, id, alarm_time, retries, retry_at)``, the next first."""
    return view.all(_ALARMS, (namespace,))


def owner(view: View, namespace: str) -> tuple[str, str] | None:
    """The process that runs a namespace's objects, and its address."""
    row = view.one(_OWNER, (namespace,))
    return None if row is None else (row[0], row[1])


def own(tx: Transaction, namespace: str, owner: str, address: str) -> None:
    tx.run(_OWN, (namespace, owner, address))


def disown(tx: Transaction, namespace: str, address: str) -> None:
    tx.run(_DISOWN, (namespace, address))


def unique_key(view: View, namespace: str) -> str:
    """What the ids of a namespace are bound to."""
    row = view.one(_UNIQUE, (namespace,))
    return namespace if row is None else row[0]


def rename(tx: Transaction, source: str, target: str) -> None:
    """Give a namespace's objects another name; their ids stay."""
    for table in _DATA_TABLES:
        tx.run(f"UPDATE {table} SET namespace = ? WHERE namespace = ?", (target, source))
    object_history.rename(tx, source, target)
    tx.run(_SET_UNIQUE, (target, unique_key(tx, source)))
    # Whoever takes the old name makes ids of its own.
    fresh = tx.one("SELECT lower(hex(randomblob(16)))")
    assert fresh is not None
    tx.run(_SET_UNIQUE, (source, fresh[0]))
    tx.run(_ADD_MOVE, (source, target))


def remove(tx: Transaction, namespace: str) -> None:
    """Delete a namespace's objects."""
    for table in _DATA_TABLES:
        tx.run(f"DELETE FROM {table} WHERE namespace = ?", (namespace,))
    object_history.remove(tx, namespace)
    tx.run(_ADD_MOVE, (namespace, None))


def migrated(view: View, worker: str) -> set[str]:
    """The tags of the migrations that a Worker has behind it."""
    return {row[0] for row in view.all(_MIGRATED, (worker,))}


def note_migration(tx: Transaction, worker: str, tag: str, now: int) -> None:
    tx.run(_NOTE_MIGRATION, (worker, tag, now))


def moves(view: View) -> list[Row]:
    """``(source, target)`` of directories that are still to be moved, or to go."""
    return view.all(_MOVES)


def end_move(tx: Transaction, source: str) -> None:
    tx.run(_END_MOVE, (source,))


def owners(view: View) -> list[Row]:
    """``(namespace, process)`` of those whose objects are run."""
    return view.all(_OWNERS)


def with_sql(view: View) -> list[Row]:
    """``(namespace, id)`` of the objects whose SQL files have carried changes along."""
    return view.all(_WITH_SQL)
