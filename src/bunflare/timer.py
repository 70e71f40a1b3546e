"""The one timer of a state: it sleeps until the earliest thing that is due, and never polls."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .clock import Timer as Alarm

_log = logging.getLogger("bunflare")

# When what was due could not be done (another process holds the lock for long, the disk is full).
_TRY_AGAIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class Chore:
    """Something that has to be done at times that only its rows know."""

    name: str
    #: When it is due next, in epoch milliseconds; None if nothing is waiting.
    due: Callable[[], float | None]
    #: Does what is due at the time it is given, in epoch milliseconds. What it gives back was set
    #: off and goes on by itself; only a clock that is moved by hand waits for that.
    act: Callable[[int], Awaitable[Sequence[asyncio.Future[Any]] | None]]


class Timer:
    """Runs chores when they are due. Works within the event loop that first needed it."""

    def __init__(self, clock: Clock, chores: tuple[Chore, ...]) -> None:
        self._clock = clock
        self._chores = chores
        self._alarm: Alarm | None = None
        self._next: float | None = None
        self._task: asyncio.Task[list[asyncio.Future[Any]]] | None = None
        self._started = False
        self._closed = False
        #: Where it was set last.
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Look for what is due, and from now on be in time for everything."""
        if not self._started and not self._closed:
            self._started = True
            self._arm()

    def at(self, when: float) -> None:
        """Something new is due at ``when`` (epoch milliseconds)."""
        if not self._started:
            self.start()
        elif not self._working and (self._next is None or when < self._next or self._lost):
            self._set(when)

    def add(self, chore: Chore) -> None:
        """Have one more thing done in time."""
        self._chores += (chore,)
        self.look()

    def remove(self, chore: Chore) -> None:
        """Forget a chore."""
        self._chores = tuple(one for one in self._chores if one is not chore)

    def look(self) -> None:
        """What is due may have changed."""
        if not self._started:
            self.start()
        elif not self._working:
            self._arm()

    @property
    def _working(self) -> bool:
        # A task may have been cancelled before it could say that it has ended.
        return self._task is not None and not self._task.done() and not self._lost

    @property
    def _lost(self) -> bool:
        """Whether the event loop that was to wake it has been closed."""
        return self._loop is not None and self._loop.is_closed()

    def _arm(self) -> None:
        if self._closed:
            return
        times = [when for chore in self._chores if (when := chore.due()) is not None]
        if times:
            self._set(min(times))
        else:
            self._next = None

    def _set(self, when: float) -> None:
        if self._closed:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._next = when
        self._loop = asyncio.get_running_loop()
        # Rows may tell fractions of a millisecond; a moment early would find nothing due.
        self._alarm = self._clock.call_at(math.ceil(when), self._fire)

    def _fire(self) -> asyncio.Task[list[asyncio.Future[Any]]] | None:
        self._alarm = None
        self._next = None
        if not self._working and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    async def _run(self) -> list[asyncio.Future[Any]]:
        failed = False
        begun: list[asyncio.Future[Any]] = []
        for chore in self._chores:
            now = self._clock.now()
            try:
                when = chore.due()
                if when is not None and when <= now:
                    begun += await chore.act(now) or ()
            except Exception:
                _log.exception("%s could not be done; trying again in a minute", chore.name)
                failed = True
        self._task = None
        if not self._closed:
            if failed:
                self._set(self._clock.now() + _TRY_AGAIN_MS)
            else:
                self._arm()
        return begun

    async def close(self) -> None:
        """Stop, after what is being done just now."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        if self._task is not None and not self._lost:
            # Whether it succeeded or was cancelled with all other tasks is not our caller's error.
            await asyncio.wait([self._task])
