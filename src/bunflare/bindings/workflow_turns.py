"""Giving results to code that runs in several tasks: one at a time, each when the code has come to
rest after the one before.

So it is the order of the log alone that says what the code asks for next, and a later run that has
the log asks for the same. Otherwise who comes first of two tasks would also depend on what happened
to come to the disk in one commit.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: Turns of the event loop in which code that only waits for steps has asked for its next one.
REST = 12


class Turns:
    """Those of one run."""

    __slots__ = ("_loop", "_ready", "branched", "progress")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: Whether steps are asked for in more than one task, outside of callbacks.
        self.branched = False
        #: Counts what the code asks for and is given.
        self.progress = 0
        # The first one may have been given its result already.
        self._ready: deque[asyncio.Future[None]] = deque()

    def come(self) -> asyncio.Future[None]:
        """Done when the next result may be given."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._ready.append(waiting)
        if len(self._ready) == 1:
            self._loop.call_soon(self._go_on, REST, self.progress)
        return waiting

    def _go_on(self, turns: int, progress: int) -> None:
        ready = self._ready
        if progress != self.progress:
            turns = REST
        elif not turns:
            while ready and ready[0].done():
                ready.popleft()
            if not ready:
                return
            ready[0].set_result(None)
            self.progress += 1
            turns = REST
        self._loop.call_soon(self._go_on, turns - 1, self.progress)
