"""Files that belong to a row: made before it, named by it, and gone with it.

A file is written under a name that was never used before, flushed to the disk together with its
directory, and only then named by a committed row. It is never changed again; whoever replaces or
deletes the row unlinks it after that commit. So at any moment, whatever is killed, each row has its
whole file, and all that can be left over is a file without a row.

Whoever is writing a file holds its lock until the row is committed; a file that can be locked and
has no row is left over and may be swept. Between its making and its locking a file would look left
over as well, so both are done with the lock of the directory shared, and whoever looks for
left-over files takes that lock alone once it knows their names: by then each of them is locked, or
never will be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import DatabaseError, DatabaseFull

_COPY_STEP = 64 * 1024 * 1024
_READ_STEP = 1024 * 1024
_KERNEL_REFUSES = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)

# Whether a read can be told not to wait for the disk; and how far apart one asks, since pages come
# and go in larger numbers.
_CAN_TELL = hasattr(os, "RWF_NOWAIT")
_PROBE_STEP = 512 * 1024
_PROBE = (bytearray(1),)


class Draft:
    """A file in the making. Its methods block; call them on a thread."""

    __slots__ = ("_descriptor", "_directory", "_mutex", "kept", "name", "size")

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self.name = os.urandom(16).hex()
        self.size = 0
        self.kept = False
        # Who gives up waiting for a thread that writes closes the file beside it.
        self._mutex = threading.Lock()
        with _locked(directory, fcntl.LOCK_SH):
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    @property
    def _path(self) -> Path:
        return self._directory / self.name

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``."""
        left = memoryview(data)
        try:
            with self._mutex:
                while left:
                    written = os.write(self._descriptor, left)
                    self.size += written
                    left = left[written:]
        except OSError as error:
            raise translated(error, self._path) from error

    def append(self, source: int, offset: int, length: int) -> None:
        """Append so many bytes of the file behind the descriptor ``source``."""
        try:
            with self._mutex:
                for copied in copied_range(source, self._descriptor, offset, length):
                    self.size += copied
        except OSError as error:
            raise translated(error, self._path) from error

    def stamp(self, mtime: int) -> None:
        """Set the file's time of modification, in nanoseconds."""
        with self._mutex:
            os.utime(self._descriptor, ns=(mtime, mtime))

    def sync(self) -> None:
        """Have the file and its name on disk."""
        try:
            with self._mutex:
                os.fsync(self._descriptor)
            sync_directory(self._directory)
        except OSError as error:
            raise translated(error, self._path) from error

    def keep(self) -> None:
        """A committed row names the file now."""
        self.kept = True

    def close(self) -> None:
        """Let go of the file, and remove it if no row names it."""
        with self._mutex:
            if self._descriptor < 0:
                return
            if not self.kept:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class OpenFile:
    """A file's bytes, which stay readable when its row has been replaced and its name is gone."""

    __slots__ = ("_descriptor", "size")

    def __init__(self, file: Path | int, size: int | None = None) -> None:
        self._descriptor = -1
        if isinstance(file, Path):
            file = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._descriptor = file
        self.size = os.fstat(file).st_size if size is None else size

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def read(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``. Blocks, unless they are `cached`."""
        return os.pread(self._descriptor, length, offset)

    def cached(self, offset: int, length: int) -> bool:
        """Whether these bytes seem to be in memory, so that to read them will not block."""
        if not _CAN_TELL:
            return False
        try:
            for position in range(offset, offset + length, _PROBE_STEP):
                os.preadv(self._descriptor, _PROBE, position, os.RWF_NOWAIT)
        except OSError:  # of which one kind says no, and another that it is not told here
            return False
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # A response that nobody read to its end is ordinary, not a leak worth a warning.
        self.close()


def copied_range(source: int, target: int, offset: int, length: int) -> Iterator[int]:
    """Append a range of one file to another, within the kernel if that can; sizes as it goes on.

    On file systems that share blocks among files nothing is copied at all.
    """
    end = offset + length
    kernel = hasattr(os, "copy_file_range")
    while offset < end:
        wanted = min(end - offset, _COPY_STEP)
        copied = 0
        if kernel:
            try:
                copied = os.copy_file_range(source, target, wanted, offset)
            except OSError as error:
                if error.errno not in _KERNEL_REFUSES:
                    raise
                kernel = False
        if not kernel:
            left = memoryview(os.pread(source, min(wanted, _READ_STEP), offset))
            copied = len(left)
            while left:
                left = left[os.write(target, left) :]
        if not copied:
            raise OSError(errno.EIO, "the file ends before its time")
        offset += copied
        yield copied


def remove(path: Path) -> None:
    """Remove a file that no row names any more."""
    path.unlink(missing_ok=True)


def leftovers(directory: Path) -> list[str]:
    """Names of the files that nobody is writing, with or without a row."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    with _locked(directory, fcntl.LOCK_EX):
        pass  # all that was being made while we looked has its lock now
    return [entry.name for entry in entries if entry.is_file() and not _is_locked(entry.path)]


def _is_locked(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    descriptor = _open_directory(directory)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = _open_directory(directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_directory(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def translated(error: OSError, path: Path) -> DatabaseError:
    """The error of ours that says what the system's means for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DatabaseFull(f"the disk that holds {path.parent} is full; nothing was written")
    return DatabaseError(f"{path}: {error.strerror}")
