"""R2: the metadata of objects, whose bytes are files.

A row and its file cannot change in one step, so a row goes first and says, in a second table, that
its file has yet to follow: with the bytes themselves where these are few, else naming a file that
was written and flushed before. Whoever reads in between takes the bytes from there. How files
follow, also after a crash, is told in :mod:`bunflare.store.r2_settle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from . import r2_paths as paths
from .records import Invariant, Records
from .schema import Schema, add_columns
from .session import View
from .transaction import Transaction

R2_OBJECTS = """
CREATE TABLE IF NOT EXISTS r2_objects (
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,
  uploaded TEXT NOT NULL,    -- ISO 8601
  http_metadata TEXT,        -- JSON
  custom_metadata TEXT,      -- JSON
  PRIMARY KEY (bucket, key)
)
"""

UNSETTLED = """
CREATE TABLE IF NOT EXISTS bunflare_r2_unsettled (
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  version TEXT,              -- of the object whose file has yet to follow; NULL: it was deleted
  data BLOB,                 -- the file's bytes; NULL: they are in the staged file of that name
  PRIMARY KEY (bucket, key)
)
"""


def _extend(tx: Transaction) -> None:
    add_columns(
        tx,
        "r2_objects",
        # NULL in a row that another program wrote.
        bunflare_version="TEXT DEFAULT NULL",
        # The etag once more: if they differ, another program has written over the row.
        bunflare_etag="TEXT DEFAULT NULL",
        # By which its file is known to be of this version: its time of modification, in
        # nanoseconds, of which those below a millisecond are random.
        bunflare_mtime="INTEGER DEFAULT NULL",
        # JSON: names of algorithms and hexadecimal digests, of those that the writer gave.
        bunflare_checksums="TEXT DEFAULT NULL",
        bunflare_storage_class="TEXT DEFAULT NULL",
        # JSON: with which customer's key the file is encrypted, and how.
        bunflare_ssec="TEXT DEFAULT NULL",
    )


SCHEMA = Schema("r2", (R2_OBJECTS, UNSETTLED, _extend))

RECORDS = (
    Records(
        "r2",
        "r2_objects",
        "bucket",
        ("key",),
        "size",
        counted=True,
        time="uploaded",
        kind="object",
    ),
)

INVARIANTS = (
    Invariant(
        "r2",
        "metadata",
        """
        SELECT bucket, key, 'the metadata is not JSON' FROM r2_objects
        WHERE NOT json_valid(COALESCE(http_metadata, '{}'))
          OR NOT json_valid(COALESCE(custom_metadata, '{}'))
        """,
        remedy="put the object anew",
    ),
    Invariant(
        "r2",
        "size",
        """
        SELECT bucket, key, 'the size is not a number' FROM r2_objects
        WHERE typeof(size) != 'integer' OR size < 0
        """,
        """
        UPDATE r2_objects SET size = 0
        WHERE bucket = :name AND key = :key AND (typeof(size) != 'integer' OR size < 0)
        """,
        "the size of its file becomes the object's",
    ),
)


class ObjectRow(NamedTuple):
    """A row of `r2_objects` without its key."""

    size: int
    etag: str
    uploaded: str
    http_metadata: str | None
    custom_metadata: str | None
    version: str | None
    own_etag: str | None
    mtime: int | None
    checksums: str | None
    storage_class: str | None
    ssec: str | None

    @property
    def own(self) -> bool:
        """Whether it is as we wrote it."""
        return self.version is not None and self.etag == self.own_etag


class Unsettled(NamedTuple):
    """A row of `bunflare_r2_unsettled`."""

    bucket: str
    key: str
    version: str | None
    data: bytes | None


_COLUMNS = """o.size, o.etag, o.uploaded, o.http_metadata, o.custom_metadata, o.bunflare_version,
  o.bunflare_etag, o.bunflare_mtime, o.bunflare_checksums, o.bunflare_storage_class,
  o.bunflare_ssec"""

_HEAD = f"SELECT {_COLUMNS} FROM r2_objects AS o WHERE o.bucket = ? AND o.key = ?"

_GET = f"""
SELECT {_COLUMNS}, u.data FROM r2_objects AS o LEFT JOIN bunflare_r2_unsettled AS u
  ON u.bucket = o.bucket AND u.key = o.key AND u.version = o.bunflare_version
WHERE o.bucket = ? AND o.key = ?
"""

_PUT = """
INSERT INTO r2_objects
  (bucket, key, size, etag, uploaded, http_metadata, custom_metadata, bunflare_version,
   bunflare_etag, bunflare_mtime, bunflare_checksums, bunflare_storage_class, bunflare_ssec)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (bucket, key) DO UPDATE SET
  size = excluded.size, etag = excluded.etag, uploaded = excluded.uploaded,
  http_metadata = excluded.http_metadata, custom_metadata = excluded.custom_metadata,
  bunflare_version = excluded.bunflare_version, bunflare_etag = excluded.bunflare_etag,
  bunflare_mtime = excluded.bunflare_mtime, bunflare_checksums = excluded.bunflare_checksums,
  bunflare_storage_class = excluded.bunflare_storage_class, bunflare_ssec = excluded.bunflare_ssec
"""

_UNSETTLE = """
INSERT INTO bunflare_r2_unsettled (bucket, key, version, data) VALUES (?, ?, ?, ?)
ON CONFLICT (bucket, key) DO UPDATE SET version = excluded.version, data = excluded.data
"""

_VERSION = "SELECT bunflare_version FROM r2_objects WHERE bucket = ? AND key = ?"

_DELETE = "DELETE FROM r2_objects WHERE bucket = ? AND key = ? RETURNING bunflare_version"

_LIST = f"""
SELECT o.key, {_COLUMNS} FROM r2_objects AS o
WHERE o.bucket = ? AND o.key >= ? AND o.key < ? ORDER BY o.key LIMIT ?
"""

_FOREIGN = """
SELECT 1 FROM r2_objects WHERE bucket = ? AND key = ? AND bunflare_version IS NULL
"""

_BUCKETS = "SELECT bucket FROM r2_objects WHERE bucket > ? ORDER BY bucket LIMIT 1"

_STATISTICS = """
SELECT COUNT(*), CAST(TOTAL(size) AS INTEGER), MIN(uploaded), MAX(uploaded)
FROM r2_objects WHERE bucket = ?
"""

_PENDING = """
SELECT bucket, key, version, data FROM bunflare_r2_unsettled LIMIT ?
"""

_PENDING_FILE = "SELECT 1 FROM bunflare_r2_unsettled WHERE version = ? AND data IS NULL"

_STAGED = """
SELECT version FROM bunflare_r2_unsettled WHERE data IS NULL AND version IS NOT NULL
"""

_SETTLED = "DELETE FROM bunflare_r2_unsettled WHERE bucket = ? AND key = ? AND version IS ?"

#: Bytes up to which an object goes with its row to the disk, and to its file later.
SMALL = 64 * 1024


def head(view: View, bucket: str, key: str) -> ObjectRow | None:
    row = view.hot(_HEAD, (bucket, key))
    return None if row is None else ObjectRow._make(row)


def get(view: View, bucket: str, key: str) -> tuple[ObjectRow, bytes | None] | None:
    """The row and, if its file has yet to follow and they are few, the object's bytes."""
    row = view.hot(_GET, (bucket, key))
    return None if row is None else (ObjectRow._make(row[:-1]), row[-1])


def current(view: View, bucket: str, key: str) -> ObjectRow | None:
    """`head`, for one look that nobody will repeat."""
    row = view.one(_HEAD, (bucket, key))
    return None if row is None else ObjectRow._make(row)


def version(view: View, bucket: str, key: str) -> str | None:
    """The version of an object of ours; None if there is none."""
    row = view.one(_VERSION, (bucket, key))
    return None if row is None else row[0]


def put(
    tx: Transaction,
    bucket: str,
    key: str,
    row: ObjectRow,
    data: bytes | None,
    condition: Callable[[ObjectRow | None], bool] | None,
    committed: Callable[[list[str]], object],
) -> bool:
    """Set an object, if ``condition`` is content with the one there is; whether it was.

    ``data`` are its bytes, or None if they are in the staged file that is named as the version.
    ``committed`` is called once the row is on disk, with the keys of what other programs wrote and
    is no more, if their files lay elsewhere than ours do.
    """
    if condition is not None and not condition(current(tx, bucket, key)):
        return False
    elsewhere = paths.is_odd(key) and is_foreign(tx, bucket, key)
    tx.run(_PUT, (bucket, key, *row))
    tx.run(_UNSETTLE, (bucket, key, row.version, data))
    _forget(tx, bucket, key)
    tx.after(partial(committed, [key] if elsewhere else []))
    return True


def delete(
    tx: Transaction, bucket: str, keys: list[str], committed: Callable[[list[str]], object]
) -> bool:
    """Delete objects; whether there was any of them. ``committed`` is called as by `put`."""
    found = False
    elsewhere: list[str] = []
    for key in keys:
        row = tx.one(_DELETE, (bucket, key))
        if row is not None:
            tx.run(_UNSETTLE, (bucket, key, None, None))
            _forget(tx, bucket, key)
            found = True
            if row[0] is None and paths.is_odd(key):
                elsewhere.append(key)
    if found:
        tx.after(partial(committed, elsewhere))
    return found


def _forget(tx: Transaction, bucket: str, key: str) -> None:
    tx.forget(_HEAD, (bucket, key))
    tx.forget(_GET, (bucket, key))


def list_objects(
    view: View, bucket: str, start: str, end: str | None, limit: int
) -> list[tuple[str, ObjectRow]]:
    """Objects with keys from ``start`` on and below ``end``, in the order of their UTF-8 bytes."""
    # SQLite orders every blob behind every text, so an empty one is the end of all keys.
    rows = view.all(_LIST, (bucket, start, b"" if end is None else end, limit))
    return [(row[0], ObjectRow._make(row[1:])) for row in rows]


def is_foreign(view: View, bucket: str, key: str) -> bool:
    """Whether there is such an object, and another program wrote it."""
    return view.one(_FOREIGN, (bucket, key)) is not None


def buckets(view: View) -> list[str]:
    """Names of the buckets that hold objects."""
    found: list[str] = []
    while (row := view.one(_BUCKETS, (found[-1] if found else "",))) is not None:
        found.append(row[0])
    return found


def statistics(view: View, bucket: str) -> tuple[int, int, str | None, str | None]:
    """How many objects, their bytes, and when the oldest and the newest were uploaded."""
    row = view.one(_STATISTICS, (bucket,))
    assert row is not None
    return row[0], row[1], row[2], row[3]


# -- what has yet to follow ----------------------------------------------------------------------


def unsettled(view: View, limit: int) -> list[Unsettled]:
    """Some of the objects whose files may not be on disk yet as their rows say."""
    return [Unsettled._make(row) for row in view.all(_PENDING, (limit,))]


def awaits_file(view: View, name: str) -> bool:
    """Whether an object's bytes may be in the staged file of that name."""
    return view.one(_PENDING_FILE, (name,)) is not None


def settled(tx: Transaction, rows: list[Unsettled]) -> None:
    """The files of these are on disk, unless another version has come since."""
    for row in rows:
        tx.run(_SETTLED, (row.bucket, row.key, row.version))
        tx.forget(_GET, (row.bucket, row.key))


def staged_files(view: View) -> set[str]:
    """Staged files in which the bytes of objects may be."""
    return {row[0] for row in view.all(_STAGED)}
