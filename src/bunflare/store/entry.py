"""Taking SQLite's write lock: at once if nobody has it, else on a thread that waits in line."""

from __future__ import annotations

from pathlib import Path

import apsw

from .connection import BusyWait, translate
from .turnstile import Turnstile

# How long whoever waits in line may be overlooked.
_LOOK_SECONDS = 0.001


class Entry:
    """How one connection begins what it writes."""

    __slots__ = ("_execute", "_path", "_turnstile", "busy", "look_by", "waiting")

    def __init__(
        self, connection: apsw.Connection, path: Path, busy: BusyWait, turnstile: Turnstile
    ) -> None:
        self._execute = connection.cursor().execute
        self._path = path
        self.busy = busy
        self._turnstile = turnstile
        #: Until when no look at the line is needed (`time.monotonic`).
        self.look_by = 0.0
        #: Whether the turnstile is held, by one who waits for the lock.
        self.waiting = False

    def at_once(self) -> bool:
        """Take the lock if nobody has it. Raises `apsw.Error`.

        Where somebody has it, the place in line is kept, for `patiently` or until `give_up`.
        """
        turnstile, busy = self._turnstile, self.busy
        try:
            turnstile.take()
        except BlockingIOError:
            return False
        busy.patient = False
        try:
            self._execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self.waiting = True
            return False
        except BaseException:
            turnstile.leave()
            raise
        finally:
            busy.patient = True
        self.waiting = False
        turnstile.leave()
        return True

    def begin(self) -> bool:
        """Take the lock if nobody has it. Raises `apsw.Error`. ``busy`` is not patient just now."""
        try:
            self._execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        return True

    def look(self, moment: float) -> bool:
        """Whether nobody waits in line."""
        turnstile = self._turnstile
        try:
            turnstile.take()
        except BlockingIOError:
            return False
        turnstile.leave()
        self.look_by = moment + _LOOK_SECONDS
        return True

    def patiently(self) -> BaseException | None:
        """Wait for the lock; why it could not be had. Runs on a thread."""
        try:
            if not self.waiting:
                if not self._turnstile.enter(self.busy.timeout):
                    return translate(apsw.BusyError(), self._path)
                self.waiting = True
            self._execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            return translate(error, self._path)
        finally:
            self.give_up()
        return None

    def give_up(self) -> None:
        """Let others go first."""
        if self.waiting:
            self.waiting = False
            self._turnstile.leave()
