"""Workers KV: its table and the statements on it.

Expired keys are filtered by whoever reads: a key whose ``expiration`` is not later than now does
not exist, whether or not its row has been removed already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter

from .connection import Row
from .records import Invariant, Records
from .rows import RowStatement
from .schema import Schema
from .session import View
from .transaction import Transaction

KV = """
CREATE TABLE IF NOT EXISTS kv (
  namespace TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  metadata TEXT,            -- JSON
  expiration INTEGER,       -- epoch seconds, NULL = no expiry
  PRIMARY KEY (namespace, key)
)
"""

# What is due to be removed is found without looking at what is not.
EXPIRING = """
CREATE INDEX IF NOT EXISTS bunflare_kv_expiring ON kv (expiration)
  WHERE expiration IS NOT NULL
"""

# Listing reads no rows: keys come from the index of the primary key, in their order, and what is to
# be told beside them, where there is something, from here. Rows lie in the order of their first
# writing, so that reading them would take a page of the file for each, and in a row `metadata` and
# `expiration` stand behind the whole value.
DESCRIBED = """
CREATE INDEX IF NOT EXISTS bunflare_kv_described ON kv (namespace, key, expiration, metadata)
  WHERE expiration IS NOT NULL OR metadata IS NOT NULL
"""

SCHEMA = Schema("kv", (KV + ";" + EXPIRING + ";" + DESCRIBED,))

RECORDS = (Records("kv", "kv", "namespace", ("key",), "value", kind="key"),)

INVARIANTS = (
    Invariant(
        "kv",
        "metadata",
        """
        SELECT namespace, key, 'the metadata is not JSON' FROM kv INDEXED BY bunflare_kv_described
        WHERE (expiration IS NOT NULL OR metadata IS NOT NULL)
          AND metadata IS NOT NULL AND NOT json_valid(metadata)
        """,
        "UPDATE kv SET metadata = NULL WHERE namespace = :name AND key = :key",
        "the metadata is removed, the value stays",
    ),
    Invariant(
        "kv",
        "expiration",
        """
        SELECT namespace, key, 'the expiration is not a number' FROM kv
        WHERE expiration IS NOT NULL AND typeof(expiration) NOT IN ('integer', 'real')
        """,
        "UPDATE kv SET expiration = NULL WHERE namespace = :name AND key = :key",
        "the key no longer expires",
    ),
    Invariant(
        "kv",
        "value",
        """
        SELECT namespace, key, 'the value is a ' || typeof(value) FROM kv
        WHERE typeof(value) NOT IN ('blob', 'text')
        """,
        "UPDATE kv SET value = CAST(CAST(value AS TEXT) AS BLOB)"
        " WHERE namespace = :name AND key = :key",
        "the number becomes its digits",
    ),
)

GET = "SELECT value, metadata, expiration FROM kv WHERE namespace = ? AND key = ?"

_PUT = RowStatement(
    "INSERT INTO kv (namespace, key, value, metadata, expiration) VALUES",
    "(?, ?, ?, ?, ?)",
    """
ON CONFLICT (namespace, key) DO UPDATE SET
  value = excluded.value, metadata = excluded.metadata, expiration = excluded.expiration
""",
)
PUT = _PUT.one

DELETE = "DELETE FROM kv WHERE namespace = ? AND key = ?"

# Most namespaces have nothing beside their keys.
_LIST_NAMES = """
SELECT key FROM kv
WHERE namespace = ?1 AND key >= ?2 AND key < ?3 AND NOT EXISTS (
  SELECT 1 FROM kv INDEXED BY bunflare_kv_described
  WHERE namespace = ?1 AND key >= ?2 AND key < ?3
    AND (expiration IS NOT NULL OR metadata IS NOT NULL)
) ORDER BY key LIMIT ?4
"""

_LIST = """
SELECT kv.key, described.expiration, described.metadata
FROM kv LEFT JOIN kv AS described INDEXED BY bunflare_kv_described
  ON described.namespace = kv.namespace AND described.key = kv.key
  AND (described.expiration IS NOT NULL OR described.metadata IS NOT NULL)
WHERE kv.namespace = ?1 AND kv.key >= ?2 AND kv.key < ?3
  AND (described.expiration IS NULL OR described.expiration > ?4)
ORDER BY kv.key LIMIT ?5
"""

_NEXT_EXPIRATION = """
SELECT expiration FROM kv WHERE expiration IS NOT NULL ORDER BY expiration LIMIT 1
"""

_REMOVE_EXPIRED = """
DELETE FROM kv WHERE (namespace, key) IN (
  SELECT namespace, key FROM kv WHERE expiration IS NOT NULL AND expiration <= ? LIMIT ?
) RETURNING namespace, key
"""

_NAMESPACES = "SELECT namespace FROM kv WHERE namespace > ? ORDER BY namespace LIMIT 1"

_CLEAR = "DELETE FROM kv WHERE namespace = ? RETURNING key"

_RENAME = "UPDATE kv SET namespace = ? WHERE namespace = ? RETURNING key"

#: namespace, key, value, metadata, expiration
Put = tuple[str, str, bytes, str | None, int | None]
_names_of = itemgetter(slice(2))

#: Bytes from which a value is better written on a thread.
HEAVY_VALUE = 256 * 1024


def get(view: View, namespace: str, key: str) -> Row | None:
    """``(value, metadata, expiration)`` of a key, expired or not."""
    return view.hot(GET, (namespace, key))


def put(
    tx: Transaction,
    namespace: str,
    key: str,
    value: bytes,
    metadata: str | None,
    expiration: int | None,
) -> None:
    tx.run(PUT, (namespace, key, value, metadata, expiration))
    tx.forget(GET, (namespace, key))


def put_gathered(tx: Transaction, rows: list[Put]) -> Sequence[Exception | None]:
    """Put several in their order, as `put` does, of which each succeeds or fails alone.

    Other programs may have rules of their own, as triggers, that only some of them violate.
    """
    outcomes = _PUT.run_apart(tx, rows)
    tx.forget_each(GET, map(_names_of, rows))
    return outcomes


def delete(tx: Transaction, namespace: str, key: str) -> None:
    tx.run(DELETE, (namespace, key))
    tx.forget(GET, (namespace, key))


def put_many(
    tx: Transaction, namespace: str, rows: list[tuple[str, bytes, str | None, int | None]]
) -> None:
    for row in rows:
        put(tx, namespace, *row)


def delete_many(tx: Transaction, namespace: str, keys: list[str]) -> None:
    for key in keys:
        delete(tx, namespace, key)


def list_names(
    view: View, namespace: str, start: str, end: str | None, limit: int
) -> list[tuple[str]]:
    """Keys from ``start`` on and below ``end``; none if any of these has more than its name."""
    return view.all(_LIST_NAMES, (namespace, start, _end(end), limit))


def list_keys(
    view: View, namespace: str, start: str, end: str | None, now: float, limit: int
) -> list[Row]:
    """``(key, expiration, metadata)`` of live keys from ``start`` on and below ``end``."""
    return view.all(_LIST, (namespace, start, _end(end), now, limit))


def _end(end: str | None) -> str | bytes:
    # SQLite orders every blob behind every text, so an empty one is the end of all keys.
    return b"" if end is None else end


def next_expiration(view: View) -> float | None:
    """When the first key expires, in epoch seconds."""
    row = view.one(_NEXT_EXPIRATION)
    return None if row is None else seconds(row[0])


def seconds(expiration: object) -> float | None:
    """An ``expiration`` as a number, whatever another program may have stored there."""
    if not isinstance(expiration, int | float) or expiration == math.inf:
        return None
    return max(expiration, 0)


def remove_expired(tx: Transaction, now: float, limit: int) -> int:
    """Remove at most ``limit`` keys that have expired; how many there were."""
    gone = tx.all(_REMOVE_EXPIRED, (now, limit))
    for namespace, key in gone:
        tx.forget(GET, (namespace, key))
    return len(gone)


def namespaces(view: View) -> list[str]:
    """Names of the namespaces that hold keys, or held such as have expired."""
    found: list[str] = []
    while (row := view.one(_NAMESPACES, (found[-1] if found else "",))) is not None:
        found.append(row[0])
    return found


def clear(tx: Transaction, namespace: str) -> int:
    """Remove all keys of a namespace; how many there were."""
    gone = tx.all(_CLEAR, (namespace,))
    for (key,) in gone:
        tx.forget(GET, (namespace, key))
    return len(gone)


def rename(tx: Transaction, old: str, new: str) -> int:
    """Give a namespace another name, which no other has; how many keys there are."""
    moved = tx.all(_RENAME, (new, old))
    for (key,) in moved:
        tx.forget(GET, (old, key))
        tx.forget(GET, (new, key))
    return len(moved)
