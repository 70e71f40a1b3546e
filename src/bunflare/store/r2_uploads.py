"""R2: multipart uploads, and their parts until they are an object."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import blobs, r2
from .connection import Row
from .records import Invariant, Records
from .schema import Schema
from .session import View
from .transaction import Transaction

UPLOADS = """
CREATE TABLE IF NOT EXISTS bunflare_r2_uploads (
  upload_id TEXT PRIMARY KEY,
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  created INTEGER NOT NULL,  -- ms epoch
  state TEXT NOT NULL,       -- open, completed, aborted
  http_metadata TEXT,        -- JSON
  custom_metadata TEXT,      -- JSON
  storage_class TEXT NOT NULL,
  ssec TEXT                  -- JSON: with which customer's key the parts are encrypted
);
CREATE INDEX IF NOT EXISTS bunflare_r2_uploads_created ON bunflare_r2_uploads (created)
"""

PARTS = """
CREATE TABLE IF NOT EXISTS bunflare_r2_parts (
  upload_id TEXT NOT NULL,
  part_number INTEGER NOT NULL,
  file TEXT NOT NULL,        -- name of a staged file
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,        -- md5, hexadecimal
  ssec TEXT,                 -- JSON: how the file is encrypted
  PRIMARY KEY (upload_id, part_number)
);
CREATE INDEX IF NOT EXISTS bunflare_r2_parts_files ON bunflare_r2_parts (file)
"""


SCHEMA = Schema("r2_uploads", (UPLOADS + ";" + PARTS,))

RECORDS = (
    Records(
        "r2",
        "bunflare_r2_uploads",
        "bucket",
        ("upload_id",),
        time="created",
        kind="upload",
    ),
)

INVARIANTS = (
    Invariant(
        "r2",
        "part",
        """
        SELECT upload_id, file, 'part ' || part_number || ' belongs to no open upload'
        FROM bunflare_r2_parts WHERE upload_id NOT IN (
          SELECT upload_id FROM bunflare_r2_uploads WHERE state = 'open')
        """,
        "DELETE FROM bunflare_r2_parts WHERE upload_id = :name AND file = :key",
        "the part is removed",
    ),
)


class Upload(NamedTuple):
    upload_id: str
    bucket: str
    key: str
    created: int
    state: str
    http_metadata: str | None
    custom_metadata: str | None
    storage_class: str
    ssec: str | None


class Part(NamedTuple):
    part_number: int
    file: str
    size: int
    etag: str
    ssec: str | None


_CREATE = """
INSERT INTO bunflare_r2_uploads (upload_id, bucket, key, created, state, http_metadata,
  custom_metadata, storage_class, ssec) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_UPLOAD = """
SELECT upload_id, bucket, key, created, state, http_metadata, custom_metadata, storage_class, ssec
FROM bunflare_r2_uploads WHERE upload_id = ?
"""

_END = "UPDATE bunflare_r2_uploads SET state = ? WHERE upload_id = ?"

_PUT_PART = """
INSERT INTO bunflare_r2_parts (upload_id, part_number, file, size, etag, ssec)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (upload_id, part_number) DO UPDATE SET
  file = excluded.file, size = excluded.size, etag = excluded.etag, ssec = excluded.ssec
"""

_PART = """
SELECT part_number, file, size, etag, ssec FROM bunflare_r2_parts
WHERE upload_id = ? AND part_number = ?
"""

_PARTS = """
SELECT part_number, file, size, etag, ssec FROM bunflare_r2_parts
WHERE upload_id = ? ORDER BY part_number
"""

_DELETE_PARTS = "DELETE FROM bunflare_r2_parts WHERE upload_id = ? RETURNING file"

_NAMED = "SELECT 1 FROM bunflare_r2_parts WHERE file = ?"

_ALL_PARTS = "SELECT upload_id, part_number, file, size, etag, ssec FROM bunflare_r2_parts"

_FORGET_PART = "DELETE FROM bunflare_r2_parts WHERE upload_id = ? AND file = ?"

_FILES = "SELECT file FROM bunflare_r2_parts"

_OLDEST = "SELECT created FROM bunflare_r2_uploads ORDER BY created LIMIT 1"

_EXPIRED = "SELECT upload_id FROM bunflare_r2_uploads WHERE created <= ? ORDER BY created LIMIT ?"

_DELETE = "DELETE FROM bunflare_r2_uploads WHERE upload_id = ?"


def create(tx: Transaction, upload: Upload) -> None:
    tx.run(_CREATE, upload)


def get(view: View, upload_id: str) -> Upload | None:
    row = view.one(_UPLOAD, (upload_id,))
    return None if row is None else Upload._make(row)


def is_open(view: View, upload_id: str, bucket: str, key: str) -> bool:
    """Whether parts may be added to an upload, which is for that key."""
    upload = get(view, upload_id)
    return upload is not None and (upload.bucket, upload.key, upload.state) == (bucket, key, "open")


def parts(view: View, upload_id: str) -> list[Part]:
    return [Part._make(row) for row in view.all(_PARTS, (upload_id,))]


def put_part(
    tx: Transaction, staging: Path, upload: Upload, part: Part, committed: Callable[[], object]
) -> bool:
    """Add or replace a part; whether the upload was still open."""
    if not is_open(tx, upload.upload_id, upload.bucket, upload.key):
        return False
    replaced = tx.one(_PART, (upload.upload_id, part.part_number))
    tx.run(_PUT_PART, (upload.upload_id, *part))
    if replaced is not None:
        tx.after(partial(blobs.remove, staging / Part._make(replaced).file))
    tx.after(committed)
    return True


def complete(
    tx: Transaction,
    staging: Path,
    upload: Upload,
    used: list[Part],
    row: r2.ObjectRow,
    committed: Callable[[list[str]], object],
) -> bool:
    """Make the object of which ``row`` tells, and end the upload.

    False if it was ended, or a part of it replaced, since its parts were put together.
    """
    if not is_open(tx, upload.upload_id, upload.bucket, upload.key):
        return False
    if not set(used) <= set(parts(tx, upload.upload_id)):
        return False
    r2.put(tx, upload.bucket, upload.key, row, None, None, committed)
    _end(tx, staging, upload.upload_id, "completed")
    return True


def abort(tx: Transaction, staging: Path, upload_id: str) -> None:
    _end(tx, staging, upload_id, "aborted")


def _end(tx: Transaction, staging: Path, upload_id: str, state: str) -> None:
    tx.run(_END, (state, upload_id))
    _remove_parts(tx, staging, upload_id)


def _remove_parts(tx: Transaction, staging: Path, upload_id: str) -> None:
    files: list[Row] = tx.all(_DELETE_PARTS, (upload_id,))
    for (file,) in files:
        tx.after(partial(blobs.remove, staging / file))


def names_file(view: View, file: str) -> bool:
    """Whether some part is in that staged file."""
    return view.one(_NAMED, (file,)) is not None


def oldest(view: View) -> int | None:
    """When the oldest upload that is remembered was created, in epoch milliseconds."""
    row = view.one(_OLDEST)
    return None if row is None else row[0]


def remove_expired(tx: Transaction, staging: Path, until: int, limit: int) -> int:
    """Forget at most ``limit`` uploads that were created by then; how many there were."""
    expired: list[Row] = tx.all(_EXPIRED, (until, limit))
    for (upload_id,) in expired:
        _remove_parts(tx, staging, upload_id)
        tx.run(_DELETE, (upload_id,))
    return len(expired)


def files(view: View) -> set[str]:
    """The staged files of all parts."""
    return {row[0] for row in view.all(_FILES)}


def all_parts(view: View) -> list[tuple[str, Part]]:
    """All parts, each with its upload."""
    return [(row[0], Part._make(row[1:])) for row in view.all(_ALL_PARTS)]


def forget_part(tx: Transaction, upload_id: str, file: str) -> None:
    tx.run(_FORGET_PART, (upload_id, file))
