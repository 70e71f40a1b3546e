"""Taking turns at writing among processes.

SQLite's write lock goes to whoever asks at the right moment: a process that commits in a loop asks
again within microseconds and starves those that sleep between two tries. So a writer first takes
the lock of a file of its own, keeps it until SQLite's lock is its, and only then lets the next one
in. Whoever has just committed finds it taken by the one who waits, and stands in line like all
others. Programs that do not know of it only wait as SQLite lets them.
"""

from __future__ import annotations

import fcntl
import os
import time
from functools import partial
from pathlib import Path

_POLL_SECONDS = 0.0002


class Turnstile:
    """A lock among processes that dies with its process."""

    __slots__ = ("_descriptor", "leave", "take")

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        #: Take the lock if it is free, else raise BlockingIOError.
        self.take = partial(fcntl.flock, self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        #: Let the next one in.
        self.leave = partial(fcntl.flock, self._descriptor, fcntl.LOCK_UN)

    def try_enter(self) -> bool:
        """Take the lock if it is free."""
        try:
            self.take()
        except BlockingIOError:
            return False
        return True

    def enter(self, timeout: float) -> bool:
        """Take the lock, blocking the thread for at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.try_enter():
            if time.monotonic() > deadline:
                return False
            # flock() can wait by itself, but not for a limited time.
            time.sleep(_POLL_SECONDS)
        return True

    def close(self) -> None:
        os.close(self._descriptor)
