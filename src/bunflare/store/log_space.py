"""Keeping the file of a write-ahead log longer than the log.

A commit at the end of a file makes it grow, and its flush then has to write down the file's new
size and place as well: that takes half as long again as a flush of what has its place already. So
the file is kept ahead of the log, filled with zeros, a few hundred commits at a time. SQLite takes
them for what follows the end of a log: no frame has the page number 0.

They are written under SQLite's write lock. So nobody adds to the log meanwhile, and nobody cuts it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import apsw

from .connection import BusyWait
from .history_files import FRAME_HEADER, LOG_HEADER

_log = logging.getLogger("bunflare")

# In pages. A log that has stayed shorter is not worth a thought.
_FIRST = 16
# In bytes, and what that is of the usual pages.
_AHEAD_BYTES = 512 * 1024
_AHEAD = 128


class LogSpace:
    """The file of the log of a connection that writes."""

    __slots__ = ("_busy", "_database", "_execute", "_frame", "enough")

    def __init__(self, connection: apsw.Connection, database: Path, busy: BusyWait) -> None:
        self._execute = connection.cursor().execute
        self._database = database
        self._busy = busy
        self._frame = 0
        #: From how many pages on the log needs a longer file, as far as is known.
        self.enough = _FIRST

    def extend(self, pages: int) -> None:
        """Make room beyond a log of so many pages, if nobody writes. No transaction is open."""
        self.enough = pages + _AHEAD // 2
        try:
            if self._begin():
                try:
                    self.enough = self._fill(pages)
                finally:
                    self._execute("ROLLBACK")
        except (apsw.Error, OSError) as error:
            # The log grows as it would without this; and what is amiss, the next commit will tell.
            _log.debug("no room was made for the log of %s: %s", self._database, error)

    def _begin(self) -> bool:
        busy = self._busy
        patient, busy.patient = busy.patient, False
        try:
            self._execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        finally:
            busy.patient = patient
        return True

    def _fill(self, pages: int) -> int:
        """Make room beyond so many pages; for how many there is room then."""
        if not self._frame:
            self._frame = FRAME_HEADER + self._execute("PRAGMA page_size").get
        file = os.open(f"{self._database}-wal", os.O_WRONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            wanted = LOG_HEADER + pages * self._frame + _AHEAD_BYTES
            if size < wanted:
                size += os.pwrite(file, bytes(wanted - size), size)
            return (size - LOG_HEADER) // self._frame
        finally:
            os.close(file)
