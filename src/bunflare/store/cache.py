"""The Cache API: stored responses, with large bodies in files of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import blobs
from .connection import Row
from .records import Invariant, Records
from .schema import Schema, add_columns
from .session import View
from .transaction import Transaction

CACHE_ENTRIES = """
CREATE TABLE IF NOT EXISTS cache_entries (
  cache_name TEXT NOT NULL,
  url TEXT NOT NULL,
  status INTEGER NOT NULL,
  headers TEXT NOT NULL,     -- JSON
  body BLOB NOT NULL,
  PRIMARY KEY (cache_name, url)
)
"""

_INDEXES = """
CREATE INDEX IF NOT EXISTS bunflare_cache_expiring ON cache_entries (bunflare_expires)
  WHERE bunflare_expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS bunflare_cache_files ON cache_entries (bunflare_file)
  WHERE bunflare_file IS NOT NULL
"""


def _extend(tx: Transaction) -> None:
    add_columns(
        tx,
        "cache_entries",
        # Epoch milliseconds. NULL in a row that another program wrote.
        bunflare_expires="INTEGER DEFAULT NULL",
        bunflare_stored="INTEGER DEFAULT NULL",
        # The name of a file in the directory `cache/` that holds the body; `body` is then empty.
        bunflare_file="TEXT DEFAULT NULL",
    )
    tx.run(_INDEXES)


SCHEMA = Schema("cache", (CACHE_ENTRIES, _extend))

RECORDS = (
    Records(
        "cache",
        "cache_entries",
        "cache_name",
        ("url",),
        "body",
        time="bunflare_stored",
        kind="response",
    ),
)

INVARIANTS = (
    Invariant(
        "cache",
        "headers",
        """
        SELECT cache_name, url, 'the headers are not JSON' FROM cache_entries
        WHERE NOT json_valid(headers)
        """,
        "DELETE FROM cache_entries WHERE cache_name = :name AND url = :key",
        "the response is removed: a cache may forget",
    ),
)

_MATCH = """
SELECT status, headers, body, bunflare_expires, bunflare_stored, bunflare_file
FROM cache_entries WHERE cache_name = ? AND url = ?
"""

_PUT = """
INSERT INTO cache_entries
  (cache_name, url, status, headers, body, bunflare_expires, bunflare_stored, bunflare_file)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (cache_name, url) DO UPDATE SET
  status = excluded.status, headers = excluded.headers, body = excluded.body,
  bunflare_expires = excluded.bunflare_expires, bunflare_stored = excluded.bunflare_stored,
  bunflare_file = excluded.bunflare_file
"""

_FILE = "SELECT bunflare_file FROM cache_entries WHERE cache_name = ? AND url = ?"

_DELETE = """
DELETE FROM cache_entries WHERE cache_name = ? AND url = ?
RETURNING bunflare_expires, bunflare_file
"""

_NEXT_EXPIRATION = """
SELECT bunflare_expires FROM cache_entries
WHERE bunflare_expires IS NOT NULL ORDER BY bunflare_expires LIMIT 1
"""

_REMOVE_EXPIRED = """
DELETE FROM cache_entries WHERE (cache_name, url) IN (
  SELECT cache_name, url FROM cache_entries
  WHERE bunflare_expires IS NOT NULL AND bunflare_expires <= ? LIMIT ?
) RETURNING cache_name, url, bunflare_file
"""

_BODIES = """
SELECT cache_name, url, bunflare_file FROM cache_entries
WHERE bunflare_file IS NOT NULL AND length(body) = 0
"""

_FILES = "SELECT bunflare_file FROM cache_entries WHERE bunflare_file IS NOT NULL"

_CACHES = "SELECT cache_name FROM cache_entries WHERE cache_name >= ? ORDER BY cache_name LIMIT 1"

_LIST = """
SELECT url, status, length(body), bunflare_expires, bunflare_stored, bunflare_file
FROM cache_entries WHERE cache_name = ? AND url >= ? AND url < ? ORDER BY url LIMIT ?
"""

_NAMED = "SELECT 1 FROM cache_entries WHERE bunflare_file = ?"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A stored response."""

    status: int
    headers: list[tuple[str, str]]
    #: Empty if the body is a file.
    body: bytes
    #: Epoch milliseconds; None if another program stored the row.
    expires: int | None
    stored: int | None
    file: str | None


def match(view: View, cache_name: str, url: str) -> CacheEntry | None:
    """The entry, expired or not."""
    row = view.hot(_MATCH, (cache_name, url))
    return None if row is None else _entry(row)


def _entry(row: Row) -> CacheEntry:
    status, headers, body, expires, stored, file = row
    if isinstance(body, str):
        body = body.encode()
    # A program that does not know of files has written a body of its own over ours.
    return CacheEntry(int(status), _headers(headers), body, expires, stored, None if body else file)


def _headers(text: str) -> list[tuple[str, str]]:
    """Pairs, as we store them, or an object, as other programs may."""
    decoded = json.loads(text)
    pairs = decoded.items() if isinstance(decoded, dict) else decoded
    return [(str(name), str(value)) for name, value in pairs]


def put(
    tx: Transaction,
    directory: Path,
    cache_name: str,
    url: str,
    entry: CacheEntry,
    committed: Callable[[], object] | None = None,
) -> None:
    """Store an entry. ``committed`` is called once it is on disk."""
    key = (cache_name, url)
    replaced = tx.one(_FILE, key)
    headers = json.dumps(entry.headers, ensure_ascii=False, separators=(",", ":"))
    tx.run(
        _PUT,
        (*key, entry.status, headers, entry.body, entry.expires, entry.stored, entry.file),
    )
    tx.forget(_MATCH, key)
    if replaced is not None:
        _remove_file(tx, directory, replaced[0])
    if committed is not None:
        tx.after(committed)


def delete(tx: Transaction, directory: Path, cache_name: str, url: str, now: int) -> bool:
    """Whether there was an entry that had not expired."""
    key = (cache_name, url)
    gone = tx.one(_DELETE, key)
    if gone is None:
        return False
    tx.forget(_MATCH, key)
    expires, file = gone
    _remove_file(tx, directory, file)
    return expires is None or expires > now


def next_expiration(view: View) -> int | None:
    """When the first entry expires, in epoch milliseconds."""
    row = view.one(_NEXT_EXPIRATION)
    return None if row is None else row[0]


def remove_expired(tx: Transaction, directory: Path, now: int, limit: int) -> int:
    """Remove at most ``limit`` entries that have expired; how many there were."""
    gone = tx.all(_REMOVE_EXPIRED, (now, limit))
    for cache_name, url, file in gone:
        tx.forget(_MATCH, (cache_name, url))
        _remove_file(tx, directory, file)
    return len(gone)


def caches(view: View) -> list[str]:
    """Names of the caches that hold entries, as the table has them."""
    found: list[str] = []
    while (row := view.one(_CACHES, (found[-1] + "\0" if found else "",))) is not None:
        found.append(row[0])
    return found


def list_entries(view: View, cache_name: str, start: str, end: str | None, limit: int) -> list[Row]:
    """``(url, status, length of the row's body, expires, stored, file)`` from ``start`` on and
    below ``end``, expired or not."""
    # SQLite orders every blob behind every text, so an empty one is the end of all addresses.
    above = b"" if end is None else end
    return view.all(_LIST, (cache_name, start, above, limit))


def names_file(view: View, file: str) -> bool:
    """Whether some entry's body is that file."""
    return view.one(_NAMED, (file,)) is not None


def _remove_file(tx: Transaction, directory: Path, file: str | None) -> None:
    if file is not None:
        tx.after(partial(blobs.remove, directory / file))


def files(view: View) -> set[str]:
    """The files of all bodies that are files."""
    return {row[0] for row in view.all(_FILES)}


def bodies(view: View) -> list[Row]:
    """``(cache name, url, file)`` of the responses whose bodies are files."""
    return view.all(_BODIES)
