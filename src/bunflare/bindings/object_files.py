"""Which objects have their SQL file open: where they are many, idle objects leave memory early.

An open file takes three descriptors, five with a history, and some 200 KB. A process has 1,024
descriptors on most systems unless it asks for more, and all its sockets and other files need some.
"""

from __future__ import annotations

from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from ..store.descriptors import allow

if TYPE_CHECKING:
    from .object_host import ObjectHost

#: How many SQL files a process keeps open for objects that are idle.
MOST_OPEN = 1000
# So few are open without a look at what the system allows.
_FEW = 64
_DESCRIPTORS = 5
# What is left to all else.
_OTHERS = 256
# How many are looked at when one more is opened.
_ROUND = 32
# When of more than so many a quarter is left, the system gets their memory back.
_MANY = 256


class _Process:
    """What all namespaces of the process share."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open = 0
        self._most: int | None = None
        self._peak = _MANY

    def count(self, more: int) -> bool:
        """Count one that was opened, or closed. Whether they are too many."""
        with self._lock:
            self._open += more
            self._peak = max(self._peak, self._open)
            if self._open < self._peak // 4 and self._peak > _MANY:
                self._peak = _MANY
                _give_back()
            if self._open <= _FEW:
                return False
            if self._most is None:
                allowed = allow(MOST_OPEN * _DESCRIPTORS + _OTHERS)
                self._most = max(_FEW, min(MOST_OPEN, (allowed - _OTHERS) // _DESCRIPTORS))
            return self._open > self._most


def _give_back() -> None:
    """Give the system what the C library has free, and would keep for later."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_process = _Process()


class SqlFiles:
    """The SQL files of a namespace that are open."""

    def __init__(self, host: ObjectHost) -> None:
        self._host = host
        self._open: dict[str, None] = {}

    def opened(self, digits: str) -> None:
        """The file of an object was opened. Where they are too many, others are closed."""
        self._open[digits] = None
        if _process.count(1):
            self._make_room(digits)

    def closed(self, digits: str) -> None:
        """The file of an object was closed."""
        del self._open[digits]
        _process.count(-1)

    def _make_room(self, opened: str) -> None:
        """Evict some of the idle objects, those of which nothing was seen since the last look."""
        host = self._host
        now = host.clock.now()
        for digits in list(islice(self._open, _ROUND)):
            actor = host.actors.get(digits)
            if actor is not None and digits != opened:
                if actor.idle and not actor.used:
                    host.evict(digits)
                    if not _process.count(0):
                        return
                    continue
                actor.used = False
                actor.seen = now
            # Behind all others, for the next look.
            self._open[digits] = self._open.pop(digits)
