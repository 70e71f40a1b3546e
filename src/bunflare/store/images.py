"""Whole directories: made beside the one that they are to become, and put in its place at once.

What is being made lies in a directory that its maker holds a lock on. A directory without that is
left over from a maker that was killed, and removed by the next one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import apsw

from ..errors import BackupError, DatabaseFull, DirectoryError, StateError
from .beside import open_beside
from .connection import translate
from .database import _registry, _registry_lock
from .directory import Directory
from .layout import DATABASE, SNAPSHOTS, is_written_once, tree
from .moment import Moment, Moved, SqlFile, clone, link, moment

_MAKING = ".making-"
_EXCHANGE = 2
_TRIES = 6

T = TypeVar("T")
#: What is told the bytes that are done, and those that there are.
Progress = Callable[[int, int], object]


class Image:
    """The files of a moment: those in a directory, and SQLite's, copied when they are due."""

    def __init__(self, pins: Path, sql: list[SqlFile], copy: Path | None = None) -> None:
        self._pins = pins
        self._sql = sql
        # Where such copies are made, one at a time.
        self._copy = copy or pins / ".copy"

    @cached_property
    def size(self) -> int:
        """About how many bytes they are."""
        pinned = sum(entry.stat().st_size for entry in tree(self._pins, ""))
        return pinned + sum(sum(file.signature[1::3]) for file in self._sql)

    def files(self) -> Iterator[tuple[str, Path | bytes]]:
        """Names, and the bytes or where they are. Each is gone when the next is asked for."""
        for file in self._sql:
            if file.small:
                yield file.name, file.data()
                continue
            try:
                file.copy(self._copy)
                yield file.name, self._copy
            finally:
                self._copy.unlink(missing_ok=True)
        start = len(str(self._pins)) + 1
        for entry in tree(self._pins, ""):
            yield entry.path[start:], Path(entry.path)

    def settle(self, progress: Progress | None = None) -> None:
        """Have the files of SQLite in their places too."""
        done = 0
        whole = sum(sum(file.signature[1::3]) for file in self._sql)
        for file in self._sql:
            if progress is not None:
                progress(done, whole)
            done += sum(file.signature[1::3])
            target = self._pins / file.name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.copy(target)


def of_moment(directory: Directory, make: Callable[[Moment, Path], T]) -> T:
    """What ``make`` makes of a moment and of a directory in which its files are pinned."""
    held: set[str] = set()
    for _ in range(_TRIES):
        with workshop(directory.path) as pins:
            try:
                with moment(directory, pins, held) as found:
                    return make(found, pins)
            except Moved as moved:
                held |= moved.names
    raise BackupError(f"{', '.join(sorted(held))} came to life again and again; nothing was made")


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """What the system refuses while something is made, in a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatabaseFull(
                f"the disk that holds {target} is full; nothing was changed"
            ) from error
        where = error.filename or target
        raise BackupError(f"{where}: {error.strerror or error}") from error


# -- in the making -----------------------------------------------------------------------------


@contextmanager
def workshop(directory: Path) -> Iterator[Path]:
    """A new directory within a data directory, on the same volume. Removed at the end."""
    above = directory / SNAPSHOTS
    recover(directory)
    above.mkdir(mode=0o700, exist_ok=True)
    with making(above, "") as path:
        yield path


@contextmanager
def making(above: Path, prefix: str) -> Iterator[Path]:
    """A new directory for something in the making. What is still there at the end is removed."""
    sweep(above, prefix)
    path, descriptor = _begin(above, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _begin(above: Path, prefix: str) -> tuple[Path, int]:
    """A new directory, and a descriptor that holds its lock."""
    while True:
        path = above / f"{prefix}{_MAKING}{secrets.token_hex(6)}"
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        # Another one has taken it for left over before it was locked.
        os.close(descriptor)


def sweep(above: Path, prefix: str) -> int:
    """Remove what killed makers have left; how many there were."""
    swept = 0
    for left in above.glob(f"{glob_safe(prefix)}{_MAKING}*"):
        with suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _give_back(above, prefix, left)
                shutil.rmtree(left, ignore_errors=True)
                swept += 1
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
    return swept


def recover(root: Path) -> int:
    """Finish what was killed while it put a data directory in its place; how many there were."""
    if root.is_dir() and not (root / SNAPSHOTS).is_dir():
        return sweep(root.parent, root.name)
    return 0


def _give_back(above: Path, prefix: str, left: Path) -> None:
    """A maker was killed after it had taken the snapshots and before it had put them in place."""
    owner = above / prefix
    if not prefix or not (left / SNAPSHOTS).is_dir() or not (owner / DATABASE).exists():
        return
    (owner / SNAPSHOTS).mkdir(mode=0o700, exist_ok=True)
    for one in (left / SNAPSHOTS).glob("[!.]*"):
        if not (owner / SNAPSHOTS / one.name).exists():
            one.rename(owner / SNAPSHOTS / one.name)


def glob_safe(text: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)


def sync_tree(path: Path) -> None:
    """Have everything in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError, AttributeError):
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) == 0:
                return
    finally:
        os.close(descriptor)
    for folder, _, names in os.walk(path):
        for name in [*names, "."]:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(descriptor)
            os.close(descriptor)


def copy_image(source: Path, target: Path, progress: Progress | None = None) -> None:
    """Fill a directory with what another holds. What is written once is linked, all else copied."""
    start = len(str(source)) + 1
    made: set[str] = set()
    done = 0
    whole = 0 if progress is None else sum(entry.stat().st_size for entry in tree(source, ""))
    for entry in tree(source, ""):
        if progress is not None:
            progress(min(done, whole), whole)
            done += entry.stat().st_size
        name = entry.path[start:]
        copy = f"{target}/{name}"
        above = copy.rpartition("/")[0]
        if above not in made:
            Path(above).mkdir(mode=0o700, parents=True, exist_ok=True)
            made.add(above)
        if is_written_once(name):
            link(entry.path, copy)
        else:
            clone(entry.path, copy)


# -- in its place ------------------------------------------------------------------------------


def put_in_place(made: Path, target: Path) -> None:
    """Have a finished directory, on disk, be ``target``: where nothing is, or in exchange.

    What was there is then at the path of the finished one. Before or after, never between.
    """
    try:
        # An empty directory is replaced, too.
        made.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(made, target)
    sync_directory(target.parent)


def _exchange(one: Path, other: Path) -> None:
    name = "renamex_np" if sys.platform == "darwin" else "renameat2"
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    code = errno.ENOSYS
    if function is not None:
        paths = os.fsencode(one), os.fsencode(other)
        arguments = paths if sys.platform == "darwin" else (-100, paths[0], -100, paths[1])
        if function(*arguments, _EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV):
        raise BackupError(
            f"the file system of {other} cannot exchange two directories in one step; choose a "
            "directory that does not exist yet"
        )
    raise OSError(code, os.strerror(code), str(other))


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_target(target: Path, replace: bool | None) -> None:
    """Refuse to put a state where something else is; None: nor where one is already."""
    if not target.exists():
        if not target.parent.is_dir():
            raise DirectoryError(f"there is no directory {target.parent}")
        return
    if not target.is_dir():
        raise DirectoryError(f"{target} is not a directory")
    with os.scandir(target) as entries:
        if not any(True for _ in entries):
            return
    if not (target / DATABASE).is_file():
        raise DirectoryError(f"{target} holds something else than a state of bunflare")
    if replace is None:
        raise DirectoryError(f"{target} holds a state already")
    if not replace:
        raise DirectoryError(f"{target} holds a state already; say that it is to be replaced")


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Nobody has the state open, and nobody can open it meanwhile.

    Raises `StateError` where somebody has.
    """
    path = target / DATABASE
    with _registry_lock:
        if target.resolve() in _registry:
            raise StateError(f"{target} is open in this process; close it first")
        if not path.exists():
            yield
            return
        number = path.stat().st_ino
        try:
            connection = open_beside(path, 0.5)
        except apsw.Error as error:
            raise translate(error, path) from error
        try:
            # It would remove a log by its name, which then may be that of another file.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            connection.execute("BEGIN IMMEDIATE; COMMIT")
        except apsw.BusyError as error:
            connection.close()
            raise StateError(f"{target} is in use by another process; stop it first") from error
        except (apsw.CorruptError, apsw.NotADBError):
            # What is damaged may be replaced, and nobody can work with it.
            connection.close()
            yield
            return
        try:
            yield
        finally:
            if path.stat().st_ino == number:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            connection.close()
