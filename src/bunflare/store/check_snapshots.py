"""What must be true of a named moment: it is as it was made, and all that it names is there.

Nobody writes to a snapshot, so its files are read without locks, and nothing comes to lie beside
them. What its rows say is not judged: it is what the state said at that moment, and `repair` mends
it once it has come back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from . import snapshots
from .beside import open_still
from .check_history import check_histories
from .checks import Problem, findings, missing_bodies, missing_parts, summary
from .connection import DRIVER_ERRORS, translate
from .directory import Directory
from .layout import DATABASE, SNAPSHOTS, sql_files
from .schema import is_current
from .systems import SCHEMAS
from .transaction import Transaction

SYSTEM = "snapshots"


def kept_paths(root: Path) -> list[Path]:
    """All that is called a snapshot, whole or not."""
    return sorted(path for path in (root / SNAPSHOTS).glob("[!.]*") if path.is_dir())


def size_of_sql(path: Path) -> int:
    """The bytes of a snapshot's SQLite files."""
    return sum(_size(path / name) or 0 for name in sql_files(path))


def size_of_unshared(root: Path) -> int:
    """The bytes of R2's files of snapshots, but for what is the state's own file or that of another
    snapshot by a further name. Blocks."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for path in kept_paths(root):
        for folder, _, names in os.walk(path / "r2"):
            beside = root / Path(folder).relative_to(path)
            for name in names:
                found = _number(Path(folder, name))
                if found is None or found[:2] in seen or found == _number(beside / name):
                    continue
                seen.add(found[:2])
                size += found[2]
    return size


def _number(path: Path) -> tuple[int, int, int] | None:
    """By what a file is known whatever its name is, and its size."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def check_manifest(path: Path) -> Iterator[Problem]:
    """Hold the files of a snapshot against what was noted of them when it was made. Blocks."""
    try:
        about = snapshots.about(path)
    except OSError:
        detail = "it is not there, so nobody can go back to this snapshot"
        yield _problem(path, "manifest", snapshots.ABOUT, detail)
        return
    except ValueError as error:
        yield _problem(path, "manifest", snapshots.ABOUT, f"it is damaged: {error}")
        return
    for name, size in about.files.items():
        found = _size(path / name)
        if found is None:
            yield _problem(path, "missing", name, "the file is not there")
        elif found != size:
            yield _problem(path, "changed", name, f"the file has {found} bytes, not {size}")
    if DATABASE not in about.files and _size(path / DATABASE) is None:
        yield _problem(path, "missing", DATABASE, "the file is not there")


def check_sql(path: Path, full: bool) -> Iterator[Problem]:
    """Have SQLite check its files in a snapshot. Blocks."""
    for name in sql_files(path):
        if _size(Path(f"{path / name}-wal")):
            detail = "something was written to it after the snapshot was made"
            yield _problem(path, "changed", name, detail)
            continue
        try:
            connection = open_still(path / name)
            try:
                texts = findings(connection, full)
            finally:
                connection.close()
        except apsw.Error as error:
            texts = [str(translate(error, path / name))]
        if texts:
            yield _problem(path, "damaged", name, summary(texts))
    for found in check_histories(path, full, still=True):
        name = f"{found.name}/{found.key}"
        yield _problem(path, "damaged", name, found.detail)


def check_files(path: Path, view: Transaction, digests: bool) -> Iterator[Problem]:
    """Hold a snapshot's files of cached responses and of uploads against its rows. Blocks."""
    directory = Directory(path)
    for found in missing_bodies(view, directory, set()):
        yield _problem(path, "missing", f"cache/{found.name}/{found.key}", found.detail)
    for found in missing_parts(view, directory, digests):
        yield _problem(path, "missing", f"r2-staging/{found.key}", found.detail)


@contextmanager
def rows_of(path: Path) -> Iterator[Transaction | None]:
    """The rows of a snapshot; None where they are of another version, or cannot be read."""
    try:
        connection = open_still(path / DATABASE)
    except apsw.Error:
        yield None
        return
    try:
        tx = Transaction(connection)
        yield tx if is_current(tx, SCHEMAS) else None
    except DRIVER_ERRORS as error:
        raise translate(error, path / DATABASE) from error
    finally:
        connection.close()


def _problem(path: Path, kind: str, name: str, detail: str) -> Problem:
    return Problem(SYSTEM, kind, path.name, name, detail, None)
