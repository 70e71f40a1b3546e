"""What queues have to do in time, whoever uses them: what is too old goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..store import queue_care, queues
from ..timer import Chore

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..timer import Timer

_SWEEP = 500
# Between two looks, since the next look is known only for the messages that there were at the last.
# What is too old is not delivered before it goes either.
_LONGEST_MS = 3_600_000


class Retention:
    """Removes messages that are older than their queue keeps them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        #: When to look, if that is known.
        self.next: float | None = None
        self.chore = Chore("the removal of old messages", self._due, self._act)

    def sent(self, timer: Timer) -> None:
        """There are messages. To be called if there is no `next`."""
        self.next = self._clock.now() + _LONGEST_MS
        timer.at(self.next)

    def changed(self, timer: Timer) -> None:
        """A queue keeps its messages for another time than before."""
        self.next = None
        timer.look()

    def _due(self) -> float | None:
        if self.next is None:
            self.next = self._earliest()
        return self.next

    def _earliest(self) -> float | None:
        view = self._database.view
        names = queues.waiting(view)
        if not names:
            return None
        return min(queue_care.next_expiry(view, names), self._clock.now() + _LONGEST_MS)

    async def _act(self, now: int) -> None:
        database = self._database
        for queue in queues.waiting(database.view):
            while await database.write(queue_care.expire, queue, now, _SWEEP) == _SWEEP:
                pass
        while await database.write(queue_care.expire_moved, now, _SWEEP) == _SWEEP:
            pass
        # What is left may be just being delivered, and too old.
        earliest = self._earliest()
        self.next = None if earliest is None else max(earliest, now + 60_000)
