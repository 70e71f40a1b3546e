"""One moment of everything in a data directory, held while writers go on.

A state must survive the end of its process at any time, so what lies on the disk at one instant is
always a whole state: rows whose files have yet to follow say so, and so do the SQL files of
objects. What has to be shown is that it *is* one instant, over many files. So for a moment nobody
writes: the write lock of every SQLite file is taken, and with all of them held a reader's snapshot
of each is begun, which costs some microseconds a file. The snapshots are then read while others
write.

Files of R2 and of the cache are written once, under a name of their own or in the place of
another, so a further name (a hard link) keeps what it was. R2's files follow their rows under a
lock of their own, which is held until each has its second name; most were given theirs before, and
only what has changed since is left to do.

Objects may be many and their files at rest. A file that has not been written to for some seconds
is not opened at all: what the system says of it is noted with all locks held, and compared when it
has been read. If it was written to in between, all begins again with that file among those held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import apsw

from ..errors import DatabaseBusy
from . import cache, r2, r2_uploads
from .beside import open_beside
from .blobs import copied_range
from .connection import translate
from .directory import Directory
from .history import keep_log
from .history_files import Files
from .layout import CACHE, DATABASE, R2, STAGING, histories, plain_files, sql_files, tree
from .transaction import Transaction
from .turnstile import Turnstile

# For how long a file was not written to that counts as at rest, and how many others are held.
_REST_NS = 2_000_000_000
_MOST_HELD = 1024
# Bytes up to which a SQLite file is taken into memory as a whole.
_SMALL = 4 * 1024 * 1024
# How long one lock is waited for with others held, and all of them together, in seconds.
_STEP_SECONDS = 0.25
_PATIENCE = 30.0
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
_CLONE = 0x40049409  # FICLONE: two files share their blocks until one is written to

Signature = tuple[int, ...]
T = TypeVar("T")


class Moved(Exception):
    """Files at rest were written to while they were read."""

    def __init__(self, names: set[str]) -> None:
        self.names = names


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A SQLite file as it was at the moment."""

    name: str
    path: Path
    #: Holds the snapshot; None for a file at rest.
    reader: apsw.Connection | None
    signature: Signature

    @property
    def small(self) -> bool:
        """Whether it is better taken as bytes than by way of a further file."""
        return sum(self.signature[1::3]) <= _SMALL

    def data(self) -> bytes:
        """Its bytes. Raises `Moved`."""
        return self._read(_bytes)

    def copy(self, target: Path) -> None:
        """Write it to a new file. Raises `Moved`."""
        if self.small:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
                file.write(self.data())
        else:
            self._read(lambda reader: _copy(reader, target))

    def _read(self, read: Callable[[apsw.Connection], T]) -> T:
        try:
            if self.reader is not None:
                return read(self.reader)
            try:
                reader = open_beside(self.path)
            except apsw.CantOpenError:
                raise Moved({self.name}) from None
            try:
                reader.execute("BEGIN")
                found = read(reader)
                if signature(self.path) != self.signature:
                    raise Moved({self.name})
                return found
            finally:
                reader.close()
        except apsw.Error as error:
            raise translate(error, self.path) from error


@dataclass(slots=True)
class Moment:
    """What was held. Close it soon: the write-ahead logs grow meanwhile."""

    #: Epoch milliseconds.
    at: int
    sql: list[SqlFile] = field(default_factory=list)

    def close(self) -> None:
        for file in self.sql:
            if file.reader is not None:
                file.reader.close()


@contextmanager
def moment(directory: Directory, pins: Path, held: Collection[str] = ()) -> Iterator[Moment]:
    """Hold a moment: SQLite files in it, all others under their names in ``pins``, a new directory.

    ``held`` are SQLite files that are not taken to be at rest. Blocks. Raises `DatabaseBusy` where
    somebody writes for too long.
    """
    pinned = _Pins(directory.path, pins)
    # Earlier states come first: there are to be none that are later than the moment.
    for name in histories(directory.path):
        _copy_history(directory.path, pins, name)
    pinned.tree(R2)
    pinned.tree(CACHE)
    found = Moment(0)
    try:
        with settling(directory):
            try:
                _hold(directory, set(held), pinned, found)
            except apsw.Error as error:
                raise translate(error, directory.path) from error
            pinned.tree(R2)
        for name in plain_files(directory.path):
            with suppress(FileNotFoundError):
                _copy_plain(directory.path, pins, name)
        yield found
    finally:
        found.close()


# -- SQLite ------------------------------------------------------------------------------------


def _hold(directory: Directory, held: set[str], pinned: _Pins, found: Moment) -> None:
    """Begin a snapshot of each file, at an instant at which nobody writes to any."""
    deadline = time.monotonic() + _PATIENCE
    while (late := _try(directory.path, held, pinned, found)) is not None:
        if time.monotonic() > deadline:
            raise DatabaseBusy(
                f"{late} has been written to by others for more than {_PATIENCE:g} seconds (a long "
                "transaction, or another program that holds its lock)"
            )
        time.sleep(random.uniform(0.005, 0.05))


def _try(root: Path, held: set[str], pinned: _Pins, found: Moment) -> Path | None:
    """`_hold`, once; what was in the way, if anything."""
    names = list(sql_files(root))
    lively = _lively(root, names, held)
    with ExitStack() as stack:
        files: dict[str, _Held] = {}
        for name in names:
            if name in lively:
                try:
                    files[name] = file = _Held(root / name)
                except apsw.CantOpenError:
                    return root / name  # it has just been removed
                stack.callback(file.close)
        # The file that most wait for is held for the shortest time.
        for file in reversed(files.values()):
            if not file.lock():
                return file.path
        if list(sql_files(root)) != names:
            return root
        found.at = _now()
        quiet = time.time_ns() - _REST_NS // 2
        moved: list[SqlFile] = []
        for name in names:
            now = signature(root / name)
            if name not in files and _newest(now) > quiet:
                return root / name
            reader = files[name].begin() if name in files else None
            moved.append(SqlFile(name, root / name, reader, now))
        _pin_named(moved[0], pinned)
        for file in files.values():
            file.keep_reader()
        found.sql = moved
    return None


def _lively(root: Path, names: list[str], held: set[str]) -> set[str]:
    """The files to hold: those that are written to, the busiest first if they are too many."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = min(_MOST_HELD, max(soft // 8, 8)) if soft > 0 else _MOST_HELD
    quiet = time.time_ns() - _REST_NS
    ages = sorted(((_newest(signature(root / name)), name) for name in names), reverse=True)
    lively = [name for newest, name in ages if newest > quiet and name not in held]
    return {DATABASE, *held, *lively[:most]}


def signature(path: Path) -> Signature:
    """What changes whenever the file, or its log, is written to."""
    found: list[int] = []
    for part in (path, f"{path}-wal"):
        try:
            status = Path(part).stat()
        except FileNotFoundError:
            found += (0, 0, 0)
        else:
            found += (status.st_mtime_ns, status.st_size, status.st_ino)
    # An empty log says as much as none.
    return tuple(found if found[4] else found[:3])


def _newest(signature: Signature) -> int:
    return max(signature[0], signature[3] if len(signature) > 3 else 0)


class _Held:
    """One file with its write lock, and a reader for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closing = ExitStack()
        with ExitStack() as opened:
            self._writer = open_beside(path, _STEP_SECONDS)
            opened.callback(self._writer.close)
            self._reader = open_beside(path)
            self._kept = False
            opened.callback(self._drop_reader)
            self._reader.execute("PRAGMA query_only=1")
            # Those of data.sqlite and of D1; objects have one process only.
            lines = [path.with_name("writer.lock"), path.with_name(f".{path.name}.lock")]
            line = next((one for one in lines if one.exists()), None)
            self._turnstile = None if line is None else Turnstile(line)
            if self._turnstile is not None:
                opened.callback(self._turnstile.close)
            self._closing = opened.pop_all()

    def lock(self) -> bool:
        """Take the write lock; whether it was to be had."""
        turnstile = self._turnstile
        if turnstile is not None and not turnstile.enter(_STEP_SECONDS):
            return False
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        finally:
            if turnstile is not None:
                turnstile.leave()
        return True

    def begin(self) -> apsw.Connection:
        """Begin the reader's snapshot."""
        self._reader.execute("BEGIN")
        self._reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        return self._reader

    def keep_reader(self) -> None:
        """It is closed by others."""
        self._kept = True

    def _drop_reader(self) -> None:
        if not self._kept:
            self._reader.close()

    def close(self) -> None:
        self._closing.close()


def _bytes(source: apsw.Connection) -> bytes:
    return source.serialize("main")


def _copy(source: apsw.Connection, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    copy = apsw.Connection(str(target))
    try:
        # Whoever asked for the copy flushes it.
        copy.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        with copy.backup("main", source, "main") as backup:
            backup.step(-1)
    except apsw.FullError:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None
    finally:
        copy.close()


def _copy_history(root: Path, pins: Path, name: str) -> None:
    """Copy the earlier states of a database, or of an object's SQL, while nobody adds to them."""
    files = Files(root / name)
    try:
        # What the log has would be missing: the file is taken as one with it.
        with suppress(apsw.Error):
            keep_log(files.database, files.folder, _now)
        with files.lock(_PATIENCE), files.old(_PATIENCE):
            for entry in tree(root, name):
                if not entry.name.endswith(("lock", ".part")):
                    _copy_plain(root, pins, f"{name}/{entry.name}")
    except FileNotFoundError:
        return  # the database has just been removed


def _now() -> int:
    return time.time_ns() // 1_000_000


def _copy_plain(root: Path, pins: Path, name: str) -> None:
    target = pins / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    clone(str(root / name), str(target))


# -- other files -------------------------------------------------------------------------------


class _Pins:
    """Second names of files, under a directory that mirrors theirs."""

    def __init__(self, root: Path, pins: Path) -> None:
        self._root = str(root)
        self._pins = str(pins)
        # What each name stood for. A file that has a second name keeps its number.
        self._seen: dict[str, tuple[int, int]] = {}
        self._made: set[str] = set()

    def tree(self, below: str) -> None:
        """Pin what lies there now; what was pinned before and is gone, no longer is."""
        start = len(self._root) + 1
        gone = {name for name in self._seen if name.startswith(f"{below}/")}
        for entry in tree(Path(self._root), below):
            name = entry.path[start:]
            seen = self._seen.get(name)
            if seen is None or seen[0] != entry.inode() or self._changed(entry, seen):
                try:
                    self.add(name)
                except FileNotFoundError:
                    continue
            gone.discard(name)
        for name in gone:
            self.drop(name)

    def _changed(self, entry: os.DirEntry[str], seen: tuple[int, int]) -> bool:
        # A copy does not keep the number of its file from being given to another.
        return bool(seen[1]) and entry.stat(follow_symlinks=False).st_mtime_ns != seen[1]

    def add(self, name: str) -> None:
        source, target = f"{self._root}/{name}", f"{self._pins}/{name}"
        if name in self._seen:
            self.drop(name)
        above = target.rpartition("/")[0]
        if above not in self._made:
            Path(above).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._made.add(above)
        if link(source, target):
            self._seen[name] = (Path(target).stat().st_ino, 0)
        else:
            status = Path(source).stat()
            self._seen[name] = (status.st_ino, status.st_mtime_ns)

    def drop(self, name: str) -> None:
        del self._seen[name]
        Path(self._pins, name).unlink()

    def only(self, below: str, names: Collection[str]) -> None:
        """Have those files of a directory, and no others, pinned."""
        wanted = {f"{below}/{name}" for name in names}
        for name in [one for one in self._seen if one.startswith(f"{below}/")]:
            if name not in wanted:
                self.drop(name)
        for name in wanted - self._seen.keys():
            with suppress(FileNotFoundError):
                self.add(name)


def link(source: str, target: str) -> bool:
    """Give a file a second name; where that cannot be, a copy. Whether it is the same file."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        clone(source, target)
        return False
    return True


def clone(source: str, target: str) -> None:
    """Copy a file with its time; without copying bytes, where the file system can."""
    with ExitStack() as stack:
        read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, read)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        written = os.open(target, flags, 0o600)
        stack.callback(os.close, written)
        status = os.fstat(read)
        try:
            fcntl.ioctl(written, _CLONE, read)
        except OSError:
            for _ in copied_range(read, written, 0, status.st_size):
                pass
        os.utime(written, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _pin_named(database: SqlFile, pinned: _Pins) -> None:
    """Pin the files that rows name and that go with these, whatever becomes of R2's lock."""
    assert database.reader is not None
    view = Transaction(database.reader)
    pinned.only(CACHE, cache.files(view))
    pinned.only(STAGING, {*r2.staged_files(view), *r2_uploads.files(view)})


@contextmanager
def settling(directory: Directory) -> Iterator[None]:
    """The lock under which R2's files follow their rows."""
    directory.r2.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory.r2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseBusy(
                        f"the lock of {directory.path / R2} has been held for more than "
                        f"{_PATIENCE:g} seconds"
                    ) from None
                time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)
