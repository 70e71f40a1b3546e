"""Looking after a bucket: objects against files, repairs, and files that somebody put there.

A file that is not as its object's row says was changed by somebody else: moved with the whole
directory, touched, edited, removed. Reading puts up with what does no harm, and says what does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ..clock import Clock
from ..errors import R2Error
from ..store import r2 as store
from ..store import r2_paths as paths
from ..store.blobs import OpenFile
from ..store.r2 import ObjectRow
from ..store.r2_files import R2Files
from ..store.r2_settle import Job, Settler, mark_of
from ..store.session import Session
from ..store.threads import on_thread
from .r2_files import stage_copy
from .r2_objects import R2Object, object_of
from .r2_options import R2Limits, date_of, iso
from .r2_staging import BLOCK

_BATCH = 500
# Batches that are looked at at once, and how often one whose objects change meanwhile.
_AT_ONCE = os.cpu_count() or 1
_TRIES = 10
_PORTION = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class R2Problem:
    """An object that is not as it should be."""

    key: str
    #: "missing" (its file), "changed" (the file is not of this version), or "digest" (the bytes
    #: are not those that the etag was made of).
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class R2Check:
    """What a look at a bucket has found."""

    objects: int
    #: Bytes of all objects.
    size: int
    problems: list[R2Problem] = field(default_factory=list)
    #: Files in the bucket's directory, relative to it, that belong to no object.
    strangers: list[str] = field(default_factory=list)


# -- reading what is odd -----------------------------------------------------------------------


async def open_odd(
    files: R2Files, bucket: str, key: str, row: ObjectRow
) -> tuple[OpenFile, ObjectRow]:
    """The file of a row that another program wrote, or of ours if it was touched but not changed.

    The row comes back with the size that the file has.
    """
    descriptor = files.open_any(bucket, key, row.size if row.own else None)
    if descriptor is None:
        raise R2Error(
            f"The file of {key!r} is missing, or was changed beside bunflare; `bunflare r2 check "
            f"{bucket}` tells more.",
            10001,
            "get",
        )
    file = OpenFile(descriptor)
    if not row.own:
        return file, row._replace(size=file.size)
    # A copy of the directory may have new times, but the same bytes.
    if _is_md5(row) and await on_thread(_md5, file) != row.etag:
        file.close()
        raise R2Error(
            f"The bytes of {key!r} were changed beside bunflare; `bunflare r2 repair {bucket}` "
            "takes them over.",
            10001,
            "get",
        )
    return file, row


def _is_md5(row: ObjectRow) -> bool:
    """Whether the etag can be compared with the file's bytes."""
    return "-" not in row.etag and (row.ssec is None or not row.own)


def _size(row: ObjectRow) -> int:
    """What other programs have spoilt of it has none."""
    return row.size if isinstance(row.size, int) else 0


def _md5(file: OpenFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for offset in range(0, file.size, BLOCK):
        digest.update(file.read(offset, BLOCK))
    return digest.hexdigest()


# -- looking -----------------------------------------------------------------------------------


async def check(
    session: Session,
    settler: Settler,
    bucket: str,
    digests: bool,
    progress: Callable[[int, int | None], object] | None = None,
) -> R2Check:
    await settler.flush()
    whole = store.statistics(session.view, bucket)[1]
    objects = size = 0
    problems: list[R2Problem] = []
    waiting: list[asyncio.Task[list[R2Problem]]] = []
    own: set[str] = set()
    async for rows in _rows(session, bucket):
        objects += len(rows)
        size += sum(_size(row) for _, row in rows)
        own.update(key for key, row in rows if row.own)
        for batch in _portions(rows):
            if len(waiting) == _AT_ONCE:
                problems += await waiting.pop(0)
            if progress is not None:
                progress(size, whole)
            look = _look(session, settler.files, bucket, batch, digests)
            waiting.append(asyncio.create_task(look))
    for task in waiting:
        problems += await task
    strangers = ["/".join(path) async for path, _ in _strangers(session, settler, bucket, own)]
    return R2Check(objects, size, problems, strangers)


async def _rows(session: Session, bucket: str) -> AsyncIterator[list[tuple[str, ObjectRow]]]:
    """All objects, in lists."""
    start = ""
    while batch := store.list_objects(session.view, bucket, start, None, _BATCH):
        yield batch
        start = batch[-1][0] + "\0"


def _portions(rows: list[tuple[str, ObjectRow]]) -> Iterator[list[tuple[str, ObjectRow]]]:
    """Parts of a list that take about equally long to be read."""
    portion: list[tuple[str, ObjectRow]] = []
    size = 0
    for key, row in rows:
        portion.append((key, row))
        size += _size(row)
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def _look(
    session: Session,
    files: R2Files,
    bucket: str,
    batch: list[tuple[str, ObjectRow]],
    digests: bool,
) -> list[R2Problem]:
    """What is wrong with some objects, as they are at the end: others write meanwhile."""
    for _ in range(_TRIES):
        found = await on_thread(_problems, files, bucket, batch, digests)
        seen = dict(batch)
        batch = [
            (one.key, row)
            for one in found
            if (row := store.current(session.view, bucket, one.key)) is not None
        ]
        if all(row == seen[key] for key, row in batch):
            there = dict(batch)
            return [one for one in found if one.key in there]
    return found


def _problems(
    files: R2Files, bucket: str, rows: list[tuple[str, ObjectRow]], digests: bool
) -> list[R2Problem]:
    found = (problem_of(files, bucket, digests, key, row) for key, row in rows)
    return [problem for problem in found if problem is not None]


def problem_of(
    files: R2Files, bucket: str, digests: bool, key: str, row: ObjectRow, times: bool = True
) -> R2Problem | None:
    """What is wrong with an object's file; ``times``: also if it is its time alone. Blocks."""
    descriptor = files.open(bucket, key, mark_of(row)) if row.own else None
    fits = descriptor is not None
    if descriptor is None:
        descriptor = files.open_any(bucket, key, None)
    if descriptor is None:
        return R2Problem(key, "missing", "there is no file")
    file = OpenFile(descriptor)
    try:
        if file.size != row.size:
            return R2Problem(
                key, "changed", f"the file has {file.size} bytes, the object {row.size}"
            )
        if not row.own:
            fits = True
        if _is_md5(row) and (digests or not fits) and _md5(file) != row.etag:
            kind = "digest" if fits else "changed"
            return R2Problem(key, kind, "the file has other bytes than the object's etag says")
        if not fits and times:
            return R2Problem(key, "changed", "the file's time is not that of the object")
        return None
    finally:
        file.close()


async def _strangers(
    session: Session, settler: Settler, bucket: str, own: AbstractSet[str] = frozenset()
) -> AsyncIterator[tuple[tuple[str, ...], str]]:
    """Paths of files that belong to no object, and the keys that they would have.

    ``own`` are keys of objects that we wrote.
    """
    files = settler.files
    for path in await on_thread(files.all_files, bucket):
        key = "/".join(path)
        if key in own and paths.first(key, files.folding) == path:
            continue
        keys = {files.key_of(path), "/".join(path)}
        if not any(
            path in files.paths_of(key, row.own)
            for key in keys
            if (row := store.current(session.view, bucket, key)) is not None
        ):
            yield path, files.key_of(path)


# -- putting right -----------------------------------------------------------------------------


async def repair(session: Session, settler: Settler, bucket: str, clock: Clock) -> R2Check:
    await settler.recover()
    found = await check(session, settler, bucket, digests=True)
    for problem in found.problems:
        row = store.current(session.view, bucket, problem.key)
        if row is None or problem.kind == "missing":
            continue
        descriptor = settler.files.open_any(bucket, problem.key, None)
        if descriptor is None:
            continue
        file = OpenFile(descriptor)
        if row.own and row.ssec is not None and file.size != row.size:
            file.close()  # without the key, nobody can tell what it holds
            continue
        await _take_over(session, settler, bucket, problem.key, row, file, clock)
    return found


async def _take_over(
    session: Session,
    settler: Settler,
    bucket: str,
    key: str,
    row: ObjectRow | None,
    file: OpenFile,
    clock: Clock,
    http_metadata: str | None = None,
) -> R2Object | None:
    """Make a file's bytes the object's, if that still is as it was seen."""
    size = file.size
    md5 = await on_thread(_md5, file)
    staged = await stage_copy(settler.files.staging, file, size, clock.now)
    try:
        kept = row is not None and size == row.size and (not _is_md5(row) or md5 == row.etag)
        etag = row.etag if row is not None and kept else md5
        uploaded = row.uploaded if row is not None and kept else iso(date_of(clock.now()))
        own = row is not None and row.own
        new = ObjectRow(
            size,
            etag,
            uploaded,
            http_metadata if row is None else row.http_metadata,
            None if row is None else row.custom_metadata,
            staged.draft.name,
            etag,
            staged.mtime,
            row.checksums if row is not None and own and kept else None,
            row.storage_class if row is not None and own else None,
            row.ssec if row is not None and own else None,
        )
        job = Job(bucket, key, new)

        def committed(elsewhere: list[str]) -> None:
            staged.draft.keep()
            settler.submit([job], elsewhere)

        def as_seen(current: ObjectRow | None) -> bool:
            return current == row

        if not await session.write(store.put, bucket, key, new, None, as_seen, committed):
            return None
    finally:
        await session.when_over(staged.close)
    await job.done
    return object_of(key, new)


async def adopt(
    session: Session,
    settler: Settler,
    bucket: str,
    prefix: str,
    clock: Clock,
    limits: R2Limits,
    progress: Callable[[int], object] | None = None,
) -> list[R2Object]:
    """See `R2Bucket.adopt`."""
    await settler.flush()
    adopted: list[R2Object] = []
    async for path, key in _strangers(session, settler, bucket):
        if not key.startswith(prefix) or len(key.encode()) > limits.key_size:
            continue
        descriptor = settler.files.open_path(bucket, path)
        if descriptor is None:
            continue
        kind, encoding = mimetypes.guess_type(path[-1])
        known = {"contentType": kind, "contentEncoding": encoding}
        metadata = {name: value for name, value in known.items() if value is not None}
        found = await _take_over(
            session,
            settler,
            bucket,
            key,
            None,
            OpenFile(descriptor),
            clock,
            json.dumps(metadata) if metadata else None,
        )
        if found is not None:
            adopted.append(found)
            if progress is not None:
                progress(len(adopted))
            if path not in settler.files.paths_of(key, True):
                await on_thread(settler.files.remove_path, bucket, path)
    return adopted
