"""Taking over what other programs have stored: writing it, as ours, into a data directory.

The directory is one that nobody else sees yet (`store.importing`), so files are put in their places
at once, and rows follow each other in one transaction. What is there already stays: the intake then
says so, and its caller decides.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from .blobs import copied_range
from .connection import BusyWait, connect, translate
from .directory import Directory
from .foreign import ForeignFile
from .r2_files import Mark, R2Files
from .systems import prepare
from .transaction import Transaction

_PATIENCE = 10.0
_BLOCK = 1024 * 1024
_HASHED = 256 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """How much of one thing was taken over."""

    #: kv, r2, d1, objects, queues, workflows, cache.
    system: str
    #: The namespace, the bucket, the database, …
    name: str
    count: int
    #: Bytes of values and files.
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not taken over."""

    system: str
    name: str
    #: Which key, object or instance; None for all of it.
    key: str | None
    reason: str


@dataclass(slots=True)
class Tally:
    """What becomes of an import, as it goes on."""

    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def took(self, system: str, name: str, size: int) -> None:
        found = self.counts.setdefault((system, name), [0, 0])
        found[0] += 1
        found[1] += size

    def leave_out(self, system: str, name: str, key: str | None, reason: str) -> None:
        self.left_out.append(LeftOut(system, name, key, reason))

    def taken(self) -> list[Taken]:
        return [Taken(*name, *counts) for name, counts in sorted(self.counts.items())]


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """An object of R2 as its program describes it."""

    bucket: str
    key: str
    size: int
    etag: str
    #: ISO 8601.
    uploaded: str
    http_metadata: str | None = None
    custom_metadata: str | None = None
    checksums: str | None = None
    storage_class: str | None = None
    ssec: str | None = None


THERE = "there is one already"


class Intake:
    """A data directory in the making, into which things are taken."""

    def __init__(self, path: Path, tally: Tally, now: int) -> None:
        self.directory = Directory(path)
        self.tally = tally
        self.now = now
        self._connection = connect(self.directory.database, "normal", BusyWait(_PATIENCE))
        try:
            prepare(self._connection, self.directory, _PATIENCE)
            self.tx = Transaction(self._connection)
            self.tx.run("BEGIN IMMEDIATE")
        except BaseException as error:
            self._connection.close()
            if isinstance(error, apsw.Error):
                raise translate(error, self.directory.database) from error
            raise
        self._files = R2Files(self.directory.r2, self.directory.r2_staging)
        self._columns: dict[str, set[str]] = {}

    # -- rows ------------------------------------------------------------------------------

    def columns(self, table: str) -> set[str]:
        """The columns of a table of ours; none if there is no such table."""
        found = self._columns.get(table)
        if found is None:
            rows = self.tx.all("SELECT name FROM pragma_table_info(?)", (table,))
            found = self._columns[table] = {row[0] for row in rows}
        return found

    def insert(self, table: str, row: dict[str, Any]) -> bool:
        """Add a row, of which columns that the table does not have are left out.

        False if there is one with its key already.
        """
        known = self.columns(table)
        names = [name for name in row if name in known]
        listed = ", ".join(names)
        places = ", ".join("?" * len(names))
        before = self._connection.total_changes()
        self.tx.run(
            f"INSERT INTO {table} ({listed}) VALUES ({places}) ON CONFLICT DO NOTHING",
            tuple(row[name] for name in names),
        )
        return self._connection.total_changes() != before

    def add(self, table: str, row: dict[str, Any], what: tuple[str, str, str], size: int) -> bool:
        """`insert` of what people know as ``what``: system, name, key. Counted, or left out."""
        system, name, key = what
        if self.insert(table, row):
            self.tally.took(system, name, size)
            return True
        self.tally.leave_out(system, name, key, THERE)
        return False

    # -- R2 --------------------------------------------------------------------------------

    def put_object(self, found: ForeignObject, parts: list[Path | bytes]) -> None:
        """Take over an object, whose bytes are those of the parts, one after another."""
        what = ("r2", found.bucket, found.key)
        if self.tx.one("SELECT 1 FROM r2_objects WHERE bucket = ? AND key = ?", what[1:]):
            self.tally.leave_out(*what, THERE)
            return
        version, mtime = secrets.token_hex(16), self._time()
        size = self._stage(version, mtime, parts)
        if size is None or size != found.size:
            told = "its file is missing" if size is None else f"its file has {size} bytes"
            self.tally.leave_out(*what, f"{told}, and the object {found.size}")
            self._files.discard(version)
            return
        try:
            self._files.place(found.bucket, found.key, Mark(version, size, mtime), None)
        except OSError as error:
            self.tally.leave_out(*what, error.strerror or str(error))
            self._files.discard(version)
            return
        self.insert(
            "r2_objects",
            {
                "bucket": found.bucket,
                "key": found.key,
                "size": size,
                "etag": found.etag,
                "uploaded": found.uploaded,
                "http_metadata": found.http_metadata,
                "custom_metadata": found.custom_metadata,
                "bunflare_version": version,
                "bunflare_etag": found.etag,
                "bunflare_mtime": mtime,
                "bunflare_checksums": found.checksums,
                "bunflare_storage_class": found.storage_class or "Standard",
                "bunflare_ssec": found.ssec,
            },
        )
        self.tally.took("r2", found.bucket, size)

    def put_part(
        self, upload: str, number: int, source: Path, etag: str | None, ssec: str | None
    ) -> str | None:
        """Take over a part of an upload; why it cannot be, or None."""
        name, mtime = secrets.token_hex(16), self._time()
        size = self._stage(name, mtime, [source])
        if size is None:
            return "its file is missing"
        self.insert(
            "bunflare_r2_parts",
            {
                "upload_id": upload,
                "part_number": number,
                "file": name,
                "size": size,
                "etag": etag or _md5(self.directory.r2_staging / name),
                "ssec": ssec,
            },
        )
        return None

    def _time(self) -> int:
        """A file's time of modification, of which those digits below a millisecond are random."""
        return self.now * 1_000_000 + secrets.randbelow(1_000_000)

    def _stage(self, name: str, mtime: int, parts: list[Path | bytes]) -> int | None:
        """Copy files into one of ours, within the kernel; its size, or None if one is missing."""
        staging = self.directory.r2_staging
        staging.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(staging / name, flags, 0o600)
        size = 0
        try:
            for part in parts:
                if isinstance(part, bytes):
                    size += os.write(target, part) if part else 0
                    continue
                try:
                    source = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                except OSError:
                    (staging / name).unlink()
                    return None
                try:
                    length = os.fstat(source).st_size
                    for _ in copied_range(source, target, 0, length):
                        pass
                    size += length
                finally:
                    os.close(source)
            os.utime(target, ns=(mtime, mtime))
        finally:
            os.close(target)
        return size

    # -- files -----------------------------------------------------------------------------

    def copy_database(
        self, source: ForeignFile, below: str, name: str, drop: tuple[str, ...] = ()
    ) -> int | None:
        """Copy a SQLite file to ``below/name.sqlite``, without some tables; its size, or None if
        there is one already."""
        target = self.directory.path / below / f"{name}.sqlite"
        if target.exists():
            return None
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            source.copy(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        try:
            copy = apsw.Connection(str(target))
            try:
                for table in drop:
                    copy.execute(f'DROP TABLE IF EXISTS "{table}"')
            finally:
                copy.close()
        except apsw.Error as error:
            raise translate(error, target) from error
        target.chmod(0o600)
        return target.stat().st_size

    def keep_body(self, body: bytes | Path, most: int) -> tuple[bytes, str | None]:
        """A cached body as its row has it: the bytes, or, if there are many, a file's name."""
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        if size <= most:
            return body if isinstance(body, bytes) else body.read_bytes(), None
        directory = self.directory.cache_bodies
        directory.mkdir(mode=0o700, exist_ok=True)
        name = secrets.token_hex(16)
        data = body if isinstance(body, bytes) else body.read_bytes()
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
        return b"", name

    def close(self, commit: bool) -> None:
        try:
            if self.tx.open:
                self.tx.run("COMMIT" if commit else "ROLLBACK")
        except apsw.Error as error:
            raise translate(error, self.directory.database) from error
        finally:
            self._connection.close()


@contextmanager
def intake(path: Path, tally: Tally, now: int) -> Iterator[Intake]:
    """An intake whose rows are committed at the end, if nothing goes wrong."""
    made = Intake(path, tally, now)
    try:
        yield made
    except BaseException as error:
        made.close(commit=False)
        if isinstance(error, apsw.Error):
            raise translate(error, made.directory.database) from error
        raise
    made.close(commit=True)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def text_of(value: object) -> str | None:
    """A column that should hold text, whatever another program has put there."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return json.dumps(value)
