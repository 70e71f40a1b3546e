"""Writing down when each state was: the notes of a history.

A note is twelve bytes to the system, and that costs a tenth of a lone commit. So those that follow
each other within a few milliseconds are written together. A process that is killed in between loses
no state, only the times of its last ones; but for the newest, which the log itself tells.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

from .history_files import NOTE
from .loops import Once

_log = logging.getLogger("bunflare")

# How long a note may wait for others.
_REST_MS = 5


class Times:
    """The notes of the present life of the log."""

    __slots__ = ("_descriptor", "_mutex", "_rest", "_scheduled", "_waiting", "_written")

    def __init__(self, *, prompt: bool = False) -> None:
        """``prompt`` has each note written at once."""
        self._rest = 0 if prompt else _REST_MS
        self._descriptor = -1
        # A forgotten event loop writes what waited for it, whatever else goes on then.
        self._mutex = threading.RLock()
        self._waiting = b""
        #: When something was written the last time (ms epoch).
        self._written = 0
        self._scheduled = False

    def open(self, path: Path) -> None:
        """From now on, write to this file."""
        self.close()
        with self._mutex:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )

    def note(self, frames: int, at: int) -> None:
        """Note that the log has come to so many frames at a time (ms epoch). Raises `OSError`."""
        with self._mutex:
            self._waiting += NOTE.pack(frames, at)
            close = 0 <= at - self._written < self._rest
            if close and (self._scheduled or self._schedule()):
                return
            self._written = at
            self._write()

    def flush(self) -> None:
        """Write what waits. Raises `OSError`."""
        with self._mutex:
            self._write()

    def close(self) -> None:
        """Write what waits, and end."""
        with self._mutex:
            if self._descriptor >= 0:
                try:
                    self._write()
                finally:
                    os.close(self._descriptor)
                    self._descriptor = -1

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, b""
        if waiting:
            os.write(self._descriptor, waiting)

    def _schedule(self) -> bool:
        """Have it written soon; False where no event loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._scheduled = True
        loop.call_later(self._rest / 1000, Once(self._rested))
        return True

    def _rested(self) -> None:
        self._scheduled = False
        try:
            self.flush()
        except OSError:
            _log.exception("the times of some commits were not noted")
