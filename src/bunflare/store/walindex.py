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
included. So the file is opened and mapped once for all connections, and unmapped only after the
last of them has been closed.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from struct import Struct

_HEADER_SIZE = 48
_TRIES = 1000
_COUNTER = slice(8, 12)
_LOG = Struct("=16xI12x8s8x")

#: Only where it was tested: other processors order memory otherwise, other systems lock otherwise.
SUPPORTED = sys.platform == "linux" and os.uname().machine == "x86_64"


class WalIndex:
    """The mapped header of one database's ``-shm`` file."""

    __slots__ = ("_descriptor", "_map")

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(f"{database}-shm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(self._descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self._descriptor)
            raise

    def header(self) -> bytes:
        """What changes with every commit."""
        return self._map[:_HEADER_SIZE]

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
        """To be called when no connection of this process is open any more."""
        self._map.close()
        os.close(self._descriptor)


def counter(header: bytes) -> int:
    """How many commits the header has seen (modulo 2**32)."""
    return int.from_bytes(header[_COUNTER], sys.byteorder)
