"""The floor: SQLite through APSW at its best, with nothing around it.

One connection, its cursor and prepared statements reused, no mutex, our schema. Commits are as
durable as ours: ``synchronous=FULL``, checked, with SQLite's automatic checkpoints left on. A file
that is larger than the cache is mapped into memory, which makes random reads faster by a third.
Nothing is validated and nothing is awaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apsw

from bunflare.store import cache, kv
from bunflare.store.schema import Schema, migrate
from bunflare.store.transaction import Transaction

NAMESPACE = "bench"
#: Keys in a listing, and with each prefix that `prefixes` gives.
PAGE = 1_000

Pair = tuple[str, bytes]

_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX

_GET = "SELECT value FROM kv WHERE namespace = ? AND key = ?"
_PUT = kv.PUT
_LIST = """
SELECT key, expiration, metadata FROM kv
WHERE namespace = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?
"""
_MATCH = "SELECT status, headers, body FROM cache_entries WHERE cache_name = ? AND url = ?"
_STORE = "INSERT INTO cache_entries (cache_name, url, status, headers, body) VALUES (?, ?, ?, ?, ?)"

# Keys are loaded in an order that has nothing to do with theirs, as they come in life: rows that
# follow each other in a listing then lie anywhere in the file. A prime that divides no power of ten
# gives such an order without a table of it.
_STRIDE = 2_654_435_761
_BULK = f"""
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2)
INSERT INTO kv (namespace, key, value)
SELECT ?1, printf('key:%09d', n * {_STRIDE} % ?2), CAST(hex(randomblob(50)) AS BLOB) FROM numbers
"""


class Floor:
    """A bare connection and what one would write around it by hand."""

    def __init__(
        self,
        path: Path,
        schemas: Sequence[Schema] = (kv.SCHEMA, cache.SCHEMA),
        *,
        mapped: bool = False,
    ) -> None:
        self.connection = apsw.Connection(str(path), flags=_FLAGS)
        assert self.connection.pragma("journal_mode", "wal") == "wal"
        self.connection.pragma("synchronous", "full")
        assert self.connection.pragma("synchronous") == 2
        assert self.connection.pragma("wal_autocheckpoint") == 1000
        self.connection.pragma("cache_size", -16384)
        if mapped:
            self.connection.pragma("mmap_size", 1 << 40)
        tx = Transaction(self.connection)
        with self.connection:
            migrate(tx, schemas)
        self._execute = self.connection.cursor().execute

    def fill(self, pairs: Sequence[Pair]) -> None:
        with self.connection:
            self.put(pairs)

    def get(self, keys: Sequence[str]) -> int:
        execute = self._execute
        for key in keys:
            execute(_GET, (NAMESPACE, key)).get  # noqa: B018 - a property that fetches
        return len(keys)

    def put(self, pairs: Sequence[Pair]) -> int:
        execute = self._execute
        for key, value in pairs:
            execute(_PUT, (NAMESPACE, key, value, None, None))
        return len(pairs)

    def list(self, prefixes: Sequence[str]) -> int:
        execute = self._execute
        for prefix in prefixes:
            # Prefixes are ASCII here, so any key with this one lies below the end.
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            rows = execute(_LIST, (NAMESPACE, prefix, end, PAGE)).fetchall()
            assert len(rows) == PAGE
        return len(prefixes)

    def store(self, urls: Sequence[str], headers: str, body: bytes) -> None:
        with self.connection:
            for url in urls:
                self._execute(_STORE, (NAMESPACE, url, 200, headers, body))

    def match(self, urls: Sequence[str]) -> int:
        execute = self._execute
        for url in urls:
            execute(_MATCH, (NAMESPACE, url)).get  # noqa: B018 - a property that fetches
        return len(urls)

    def close(self) -> None:
        self.connection.close()


def bulk_load(path: Path, count: int) -> None:
    """Put ``count`` keys with values of 100 B into a fresh file, by SQL.

    The rows are those that `KVNamespace.put` would have made, in a tenth of the time.
    """
    path.parent.mkdir(exist_ok=True)
    with closing(apsw.Connection(str(path), flags=_FLAGS)) as connection:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "off")
        connection.pragma("cache_size", -4 * 1024 * 1024)
        with connection:
            migrate(Transaction(connection), (kv.SCHEMA,))
            connection.execute(_BULK, (NAMESPACE, count))
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def key_name(number: int) -> str:
    """The keys that `bulk_load` makes, and that all others use too."""
    return f"key:{number:09d}"


def prefixes(count: int) -> list[str]:
    """The prefixes that `PAGE` keys share, of the first ``count`` keys."""
    return [key_name(number)[:-3] for number in range(0, count, PAGE)]
