"""The authorizer of an object's SQL file, and an end to statements that find none themselves."""

from __future__ import annotations

import time

import apsw

from .d1_connection import Guard
from .d1_reader import LONGEST

# SQLite tells of a statement that runs much more often than this, in seconds.
_PAUSE = 1.0


class ObjectGuard(Guard):
    """Stops a statement that has run for `LONGEST`.

    To tell it of each statement would take a tenth of the time of a short one, which SQLite never
    tells of: so it counts from the first it hears of one.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._first = 0.0
        #: When SQLite last told of a statement; 0 if another begins.
        self.ticked = 0.0
        super().__init__(connection)

    def _tick(self) -> bool:
        if self.trusted:
            return False
        now = time.monotonic()
        if now - self.ticked > _PAUSE:
            self._first = now
        self.ticked = now
        self.stopped = now - self._first > LONGEST
        return self.stopped
