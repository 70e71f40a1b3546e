"""Checking the named moments of a state: each is readable, and whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..store import check_snapshots as checks
from ..store import r2, snapshots
from ..store.checks import Problem
from ..store.directory import Directory
from ..store.layout import DATABASE, sql_files
from ..store.r2_files import R2Files
from ..store.r2_settle import mark_of
from ..store.transaction import Transaction
from .r2_care import problem_of

_BATCH = 500
# Bytes after which it is told again how many were read.
_PORTION = 4 * 1024 * 1024


def size_of_snapshots(root: Path, digests: bool) -> int:
    """The bytes of all snapshots that a check reads: of SQLite files, and with ``digests`` of those
    of R2 that are not the state's own as well. Blocks."""
    size = sum(checks.size_of_sql(path) for path in checks.kept_paths(root))
    return size + (checks.size_of_unshared(root) if digests else 0)


def check_snapshots(
    root: Path,
    live: R2Files,
    shared: bool,
    digests: bool,
    full: bool,
    progress: Callable[[int], object],
) -> tuple[int, int, int, list[Problem]]:
    """How many files of SQLite there are in snapshots, their bytes, how many bytes were read of
    R2's files, and what is wrong. Blocks.

    ``live`` are the present files of R2; ``shared`` says that they are checked too: most of those
    of snapshots are the same by another name, and are read once. ``progress`` is told how many
    bytes are done.
    """
    problems: list[Problem] = []
    seen: set[tuple[int, int]] = set()
    files = size = read = told = 0

    def reading(more: int) -> None:
        nonlocal read, told
        read += more
        if read - told >= _PORTION:
            told = read
            progress(size + read)

    for path in checks.kept_paths(root):
        whole = (path / snapshots.ABOUT).exists()
        found = [*checks.check_manifest(path), *checks.check_sql(path, full)]
        if not any((one.kind, one.key) == ("damaged", DATABASE) for one in found):
            with checks.rows_of(path) as view:
                if view is not None:
                    found += checks.check_files(path, view, digests)
                    found += _objects(path, view, live, shared, digests, seen, reading)
        if whole and not (path / snapshots.ABOUT).exists():
            continue  # it has just been dropped
        problems += found
        files += len(list(sql_files(path)))
        size += checks.size_of_sql(path)
        progress(size + read)
    return files, size, read, problems


def _objects(
    path: Path,
    view: Transaction,
    live: R2Files,
    shared: bool,
    digests: bool,
    seen: set[tuple[int, int]],
    reading: Callable[[int], None],
) -> Iterator[Problem]:
    """Hold the objects of R2 in a snapshot against their files."""
    place = Directory(path)
    for bucket in r2.buckets(view):
        # A probe of what the volume does with names would leave something in the snapshot.
        files = R2Files(place.r2, place.r2_staging, live.folding)
        start = ""
        while rows := r2.list_objects(view, bucket, start, None, _BATCH):
            start = rows[-1][0] + "\0"
            for key, row in rows:
                unread = digests and not _is_read(
                    files, live if shared else None, bucket, key, row, seen
                )
                wrong = problem_of(files, bucket, unread, key, row, times=False)
                if unread:
                    reading(row.size if isinstance(row.size, int) else 0)
                if wrong is not None and not _in_row(view, bucket, key):
                    name = f"r2/{bucket}/{key}"
                    yield Problem(checks.SYSTEM, wrong.kind, path.name, name, wrong.detail, None)


def _is_read(
    files: R2Files,
    live: R2Files | None,
    bucket: str,
    key: str,
    row: r2.ObjectRow,
    seen: set[tuple[int, int]],
) -> bool:
    """Whether the bytes of an object's file were, or are, compared under another of its names."""
    if not row.own:
        return False
    own = _number(files, bucket, key, row)
    if own is None:
        return False
    if own in seen or (live is not None and own == _number(live, bucket, key, row)):
        return True
    seen.add(own)
    return False


def _number(files: R2Files, bucket: str, key: str, row: r2.ObjectRow) -> tuple[int, int] | None:
    descriptor = files.open(bucket, key, mark_of(row))
    if descriptor is None:
        return None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_dev, found.st_ino


def _in_row(view: Transaction, bucket: str, key: str) -> bool:
    """Whether the object's bytes lie beside its row still, so that its file has yet to follow."""
    found = r2.get(view, bucket, key)
    return found is not None and found[1] is not None
