"""Kept states of Durable Objects, and which of them an object is to begin with.

A kept state is a copy of the object's keys, in a table, and of its SQL file, beside the others of
its namespace. It is made when a bookmark is asked for; where there is a history, when it is to be
gone back, for that once.
"""

from __future__ import annotations

from .connection import Row
from .records import Invariant
from .session import View
from .transaction import Transaction

BOOKMARKS = """
CREATE TABLE IF NOT EXISTS bunflare_object_bookmarks (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  number INTEGER NOT NULL,   -- 1, 2, … of the object; below: out of its history
  at INTEGER NOT NULL,       -- ms epoch
  sql INTEGER NOT NULL,      -- whether there is a copy of its SQL file
  PRIMARY KEY (namespace, id, number)
);
CREATE TABLE IF NOT EXISTS bunflare_object_kept (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  number INTEGER NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,       -- as in do_storage
  PRIMARY KEY (namespace, id, number, key)
);
CREATE TABLE IF NOT EXISTS bunflare_object_restores (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  number INTEGER NOT NULL,   -- the state that its next instance begins with
  PRIMARY KEY (namespace, id)
)
"""
_WHOSE = """
NOT EXISTS (SELECT 1 FROM bunflare_object_bookmarks AS b
WHERE b.namespace = k.namespace AND b.id = k.id AND b.number = k.number)
"""
INVARIANTS = tuple(
    Invariant(
        "objects",
        kind,
        f"""
        SELECT k.namespace, k.id || '/' || k.number, '{told}' FROM {table} AS k WHERE {_WHOSE}
        GROUP BY k.namespace, k.id, k.number
        """,
        f"""
        DELETE FROM {table} AS k
        WHERE k.namespace = :name AND k.id || '/' || k.number = :key AND {_WHOSE}
        """,
        remedy,
    )
    for kind, table, told, remedy in (
        (
            *("kept", "bunflare_object_kept"),
            *("keys of a state that has no bookmark", "they are removed"),
        ),
        (
            *("restore", "bunflare_object_restores"),
            *("it is to go back to a state that is not kept", "it stays as it is"),
        ),
    )
)
TABLES = ("bunflare_object_bookmarks", "bunflare_object_kept", "bunflare_object_restores")

#: The numbers of a state that is put together out of a history: one, while the other is in use.
SLOTS = (0, -1)

_WITH_SQL = "SELECT namespace, id, number FROM bunflare_object_bookmarks WHERE sql"
_LAST = "SELECT max(number) FROM bunflare_object_bookmarks WHERE namespace = ? AND id = ?"
_ADD = """
INSERT INTO bunflare_object_bookmarks (namespace, id, number, at, sql) VALUES (?, ?, ?, ?, ?)
"""
_COPY = """
INSERT INTO bunflare_object_kept (namespace, id, number, key, value)
SELECT namespace, id, ?3, key, value FROM do_storage WHERE namespace = ?1 AND id = ?2
"""
_GET = """
SELECT number, at, sql FROM bunflare_object_bookmarks WHERE namespace = ? AND id = ? AND number = ?
"""
_AT = """
SELECT number FROM bunflare_object_bookmarks
WHERE namespace = ? AND id = ? AND at <= ? AND number > 0 ORDER BY number DESC LIMIT 1
"""
_ENTRIES = """
SELECT key, value FROM bunflare_object_kept WHERE namespace = ? AND id = ? AND number = ?
"""
_ADD_ENTRY = """
INSERT INTO bunflare_object_kept (namespace, id, number, key, value) VALUES (?, ?, ?, ?, ?)
"""
# The newest stays, however old it is.
_OLD = """
SELECT number FROM bunflare_object_bookmarks
WHERE namespace = ?1 AND id = ?2 AND number BETWEEN 1 AND ?5 - 1 AND (at < ?3 OR number <= ?5 - ?4)
"""
_FORGET = "DELETE FROM bunflare_object_bookmarks WHERE namespace = ? AND id = ? AND number = ?"
_FORGET_ENTRIES = "DELETE FROM bunflare_object_kept WHERE namespace = ? AND id = ? AND number = ?"
_WAITING = "SELECT EXISTS (SELECT 1 FROM bunflare_object_restores WHERE namespace = ?)"
_RESTORE = "SELECT number FROM bunflare_object_restores WHERE namespace = ? AND id = ?"
_SET_RESTORE = """
INSERT INTO bunflare_object_restores (namespace, id, number) VALUES (?, ?, ?)
ON CONFLICT (namespace, id) DO UPDATE SET number = excluded.number
"""
_END_RESTORE = "DELETE FROM bunflare_object_restores WHERE namespace = ? AND id = ?"


def last(view: View, namespace: str, id: str) -> int:
    """The number of the newest kept state; 0 if there is none."""
    row = view.one(_LAST, (namespace, id))
    return max(row[0] or 0, 0) if row else 0


def with_sql(view: View) -> list[Row]:
    """``(namespace, id, number)`` of the kept states that have a copy of an SQL file."""
    return view.all(_WITH_SQL)


def forget(tx: Transaction, namespace: str, id: str, number: int) -> None:
    """Forget a kept state."""
    tx.run(_FORGET, (namespace, id, number))
    tx.run(_FORGET_ENTRIES, (namespace, id, number))


def keep(
    tx: Transaction,
    namespace: str,
    id: str,
    number: int,
    now: int,
    sql: bool,
    since: int,
    most: int,
) -> list[int]:
    """Keep the present keys. The numbers of those that are forgotten: older, or too many."""
    tx.run(_ADD, (namespace, id, number, now, sql))
    tx.run(_COPY, (namespace, id, number))
    old = [row[0] for row in tx.all(_OLD, (namespace, id, since, most, number))]
    for one in old:
        forget(tx, namespace, id, one)
    return old


def free_slot(view: View, namespace: str, id: str) -> int:
    """The number of the next state that is to be gone back to out of a history."""
    return SLOTS[1] if restore(view, namespace, id) == SLOTS[0] else SLOTS[0]


def go_back_to(
    tx: Transaction,
    namespace: str,
    id: str,
    slot: int,
    now: int,
    sql: bool,
    entries: dict[str, str],
) -> None:
    """Have the object's next instance begin with these keys, out of its history."""
    _forget_slots(tx, namespace, id)
    tx.run(_ADD, (namespace, id, slot, now, sql))
    tx.many(_ADD_ENTRY, [(namespace, id, slot, key, text) for key, text in entries.items()])
    set_restore(tx, namespace, id, slot)


def _forget_slots(tx: Transaction, namespace: str, id: str) -> None:
    for slot in SLOTS:
        forget(tx, namespace, id, slot)


def kept(view: View, namespace: str, id: str, number: int) -> Row | None:
    """``(number, at, sql)`` of a kept state."""
    return view.one(_GET, (namespace, id, number))


def at(view: View, namespace: str, id: str, time: int) -> int | None:
    """The newest state that was kept at ``time`` or before."""
    row = view.one(_AT, (namespace, id, time))
    return None if row is None else row[0]


def entries(view: View, namespace: str, id: str, number: int) -> dict[str, str]:
    """The keys of a kept state with the texts of their values."""
    return dict(view.all(_ENTRIES, (namespace, id, number)))


def restore(view: View, namespace: str, id: str) -> int | None:
    """The state that the object's next instance is to begin with, if one was named."""
    waiting = view.hot(_WAITING, (namespace,))
    if waiting is None or not waiting[0]:
        return None
    row = view.one(_RESTORE, (namespace, id))
    return None if row is None else row[0]


def set_restore(tx: Transaction, namespace: str, id: str, number: int) -> None:
    tx.run(_SET_RESTORE, (namespace, id, number))
    tx.forget(_WAITING, (namespace,))


def end_restore(tx: Transaction, namespace: str, id: str) -> None:
    """The object has gone back."""
    _forget_slots(tx, namespace, id)
    tx.run(_END_RESTORE, (namespace, id))
    tx.forget(_WAITING, (namespace,))
