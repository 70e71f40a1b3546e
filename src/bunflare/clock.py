"""The clock that everything timed reads: the system's, or one that tests move by hand.

Time is epoch milliseconds throughout, as on the platform. Expiry, delays, alarms, retries and
sleeps ask a :class:`Clock` for the time and for a wake-up, never the system, so that a test can
move time and nothing ever waits for it to pass.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

# Of real time, for what a hand-moved clock has fired.
_PATIENCE_SECONDS = 1.0


class Timer(Protocol):
    """A wake-up that has been asked for."""

    def cancel(self) -> None:
        """Forget the wake-up; harmless when it has fired already."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """The time in milliseconds since the UNIX epoch."""

    def call_at(self, when: int, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` in the running event loop once ``now()`` has reached ``when``.

        What it returns is of interest to a clock that is moved by hand, if it is a task: the clock
        waits for its end before it moves on.
        """


class SystemClock:
    """The system's wall clock, which may jump: a wake-up is checked against it before it fires."""

    # A wall clock may be set back or forward while a timer runs on the monotonic one.
    # Looking again this often bounds how late a jump forward can make a wake-up.
    _LOOK_AGAIN_SECONDS = 60.0

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def call_at(self, when: int, callback: Callable[[], object]) -> Timer:
        return _SystemTimer(self, when, callback, self._LOOK_AGAIN_SECONDS)


class _SystemTimer:
    __slots__ = ("_callback", "_clock", "_handle", "_longest", "_loop", "_when")

    def __init__(
        self, clock: Clock, when: int, callback: Callable[[], object], longest: float
    ) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle = self._arm()

    def _arm(self) -> asyncio.TimerHandle:
        left = (self._when - self._clock.now()) / 1000
        return self._loop.call_later(min(max(left, 0.0), self._longest), self._look)

    def _look(self) -> None:
        if self._clock.now() >= self._when:
            self._callback()
        else:
            self._handle = self._arm()

    def cancel(self) -> None:
        self._handle.cancel()


class ManualClock:
    """A clock that stands still until it is moved.

    ``start`` is the first time shown: epoch milliseconds, an aware datetime, or by default
    2026-01-01T00:00:00Z.
    """

    def __init__(self, start: int | datetime | None = None) -> None:
        if start is None:
            start = datetime(2026, 1, 1, tzinfo=UTC)
        if isinstance(start, datetime):
            if start.tzinfo is None:
                raise ValueError("ManualClock needs an aware datetime (with a tzinfo)")
            start = round(start.timestamp() * 1000)
        self._now = start
        self._heap: list[tuple[int, int, _ManualTimer]] = []
        self._sequence = 0
        self._busy: list[Callable[[], bool]] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[[], object]) -> Timer:
        timer = _ManualTimer(callback)
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, timer))
        return timer

    def set(self, now: int) -> None:
        """Jump to ``now`` (also backwards) without firing anything."""
        self._now = now

    async def advance(
        self,
        seconds: float = 0,
        *,
        milliseconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> None:
        """Move time forward, firing what falls due in its order, each at its own moment.

        What was fired has taken effect when this returns, also where it works on a thread; only
        for what waits for something else (longer than a second) it does not wait.
        """
        delta = milliseconds + 1000 * (seconds + 60 * (minutes + 60 * (hours + 24 * days)))
        if delta < 0:
            raise ValueError("time only advances; use set() to jump back")
        target = self._now + round(delta)
        await self.settled()
        while self._heap and self._heap[0][0] <= target:
            when, _, timer = heapq.heappop(self._heap)
            if timer.callback is None:
                continue
            self._now = max(self._now, when)
            begun = timer.callback()
            if isinstance(begun, asyncio.Future):
                done, _ = await asyncio.wait([begun], timeout=_PATIENCE_SECONDS)
                if done and not begun.cancelled() and begun.exception() is None and begun.result():
                    await asyncio.wait(begun.result(), timeout=_PATIENCE_SECONDS)
            await self.settled()
        self._now = max(self._now, target)
        await self.settled()

    def heed(self, busy: Callable[[], bool]) -> Callable[[], None]:
        """Do not move on while ``busy()``, for a second at most. Returns what ends that."""
        self._busy.append(busy)
        return lambda: self._busy.remove(busy)

    async def settled(self) -> None:
        """Wait until what was fired has taken effect."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        await settle()
        while any(busy() for busy in self._busy) and time.monotonic() < deadline:
            await asyncio.sleep(0)
            if not any(busy() for busy in self._busy):
                await settle()


class _ManualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


async def settle(rounds: int = 20) -> None:
    """Let the event loop run what is ready, so that a fired wake-up has taken effect."""
    for _ in range(rounds):
        await asyncio.sleep(0)
