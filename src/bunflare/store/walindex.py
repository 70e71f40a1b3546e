"""Seeing every commit of every process in well under a microsecond.

SQLite keeps an index of its write-ahead log in shared memory (the ``-shm`` file) that begins with
a 48-byte header. Each commit, by whatever connection of whatever process, rewrites that header
before it returns: a change counter goes up by one, and the position and the cumulative checksum of
the log change with it. A reader that finds the very bytes it saw when it took its snapshot
therefore knows that nothing has been committed since, and may answer from that snapshot or from
what it remembers of it. Any other bytes, torn ones included, only send it back to SQLite.

A commit that has not yet rewritten the header has not returned to its caller either, so nobody can
know of it: "not stale" here means that whoever has heard of a commit sees it.

Closing *any* descriptor of a file drops every POSIX lock that the process holds on it, SQLite's
included. Whoever opens the file next would then take itself for the first, and cut it to nothing
under those who have it mapped: they end with a bus error, or write what no one will find. No count
of our own connections tells when it may be closed, since SQLite keeps the file for any connection
of the process: a thread that still reads, a backup, one of the user's. But whoever has closed it
last has removed it. So a descriptor is closed once its file is gone, and until then kept for
whoever opens that database again.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import Struct
from typing import cast

_HEADER_SIZE = 48
_HEADER = slice(_HEADER_SIZE)
_TRIES = 1000
_PAGES = Struct("=20xI")
_LOG = Struct("=16xI12x8s8x")
#: The parts of a header: how many commits it has seen (modulo 2**32).
parts: Callable[[bytes], tuple[int]] = Struct("=8xI36x").unpack

#: Only where it was tested: other processors order memory otherwise, other systems lock otherwise.
SUPPORTED = sys.platform == "linux" and os.uname().machine == "x86_64"


class _Mapped:
    """A file that this process has mapped, for one or several."""

    __slots__ = ("descriptor", "map", "users")

    def __init__(self, path: Path) -> None:
        self.users = 0
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.map = mmap.mmap(self.descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.descriptor)
            raise

    def close_if_gone(self) -> bool:
        if self.users or os.fstat(self.descriptor).st_nlink:
            return False
        self.map.close()
        os.close(self.descriptor)
        return True


# By device and number of the file, which is nobody else's while we have it open.
_mapped: dict[tuple[int, int], _Mapped] = {}
_mutex = threading.Lock()


def _of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _sweep() -> None:
    for key, one in list(_mapped.items()):
        if one.close_if_gone():
            del _mapped[key]


def _after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class WalIndex:
    """The mapped header of one database's ``-shm`` file. A connection to it is open."""

    __slots__ = ("_file", "_map", "header")

    def __init__(self, database: Path) -> None:
        path = Path(f"{database}-shm")
        with _mutex:
            _sweep()
            file = _mapped.get(_of(path.stat()))
            if file is None:
                file = _Mapped(path)
                _mapped[_of(os.fstat(file.descriptor))] = file
            file.users += 1
        self._file = file
        self._map = file.map
        #: What changes with every commit.
        self.header = cast("Callable[[], bytes]", partial(file.map.__getitem__, _HEADER))

    def pages(self) -> int:
        """How many pages the database has; 0 before the first commit."""
        pages: int = _PAGES.unpack_from(self._map, 0)[0]
        return pages

    def log(self) -> tuple[int, bytes]:
        """How many frames the log has, and the salts that tell this life of it from others."""
        unpack, mapped = _LOG.unpack_from, self._map
        for _ in range(_TRIES):
            found = unpack(mapped, 0)
            # SQLite writes the header twice: two that differ are being rewritten.
            if found == unpack(mapped, _HEADER_SIZE):
                break
        return found

    def close(self) -> None:
        """To be called once, after the connections that it was for were closed."""
        with _mutex:
            self._file.users -= 1
            _sweep()


def counter(header: bytes) -> int:
    """How many commits the header has seen (modulo 2**32)."""
    return parts(header)[0]
