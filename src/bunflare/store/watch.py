"""Learning of commits, other processes' included, without asking all the time.

A commit appends to the write-ahead log, and the operating system reports that (inotify). The
report comes with the write, a moment before the commit counts; so from a report on, the header in
shared memory is looked at in growing intervals. A change that is found may be that of the commit
before, so the looking does not end with it. Where there is no inotify, the header is looked at
every 20 ms, for as long as somebody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from . import reports
from .reports import Reports

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_LOOK_SECONDS = 0.001
_LONGEST_LOOK_SECONDS = 0.25
_GIVE_UP_SECONDS = 10.0
_INTERVAL_SECONDS = 0.02

Listener = Callable[[], object]


class Watched(Protocol):
    """What a `Watch` needs of a database."""

    path: Path

    def header(self) -> object: ...


class Watch:
    """Calls listeners, each in its own event loop, after commits."""

    def __init__(self, database: Watched) -> None:
        self._database = database
        self._loops: dict[asyncio.AbstractEventLoop, _LoopWatch] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` in the running event loop soon after each commit of any process.

        Commits that follow each other closely may be reported once. Returns what ends it.
        """
        loop = asyncio.get_running_loop()
        watch = self._loops.get(loop)
        if watch is None:
            watch = self._loops[loop] = _LoopWatch(self._database, loop)
        watch.listeners.append(listener)

        def unsubscribe() -> None:
            if listener in watch.listeners:
                watch.listeners.remove(listener)
            if not watch.listeners:
                watch.close()
                self._loops.pop(loop, None)

        return unsubscribe

    async def wait(self, until: Callable[[], bool]) -> None:
        """Return once ``until()`` is true, which is asked now and after each commit."""
        if until():
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not done.done() and until():
                done.set_result(None)

        unsubscribe = self.subscribe(look)
        try:
            # A commit between the question above and the subscription is not reported.
            look()
            await done
        finally:
            unsubscribe()

    def close(self) -> None:
        for watch in self._loops.values():
            watch.close()
        self._loops.clear()

    @property
    def listened_to(self) -> bool:
        return bool(self._loops)

    def renew(self) -> None:
        """To be called when the log has become another file."""
        for watch in list(self._loops.values()):
            watch.follow()


class _LoopWatch:
    """The listeners of one event loop."""

    def __init__(self, database: Watched, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop
        self.listeners: list[Listener] = []
        self._seen = database.header()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0.0
        self._deadline = 0.0
        self._reports: Reports | None = None
        if reports.HAS_INOTIFY:
            self._reports = Reports(loop, self._reported)
            self.follow()
            # A commit may have been written a moment ago that does not count yet.
            self._expect_commit()
        else:
            self._timer = loop.call_later(_INTERVAL_SECONDS, self._tick)

    def follow(self) -> None:
        """Have writes to the log reported."""
        if self._reports is not None:
            from asyncinotify import Mask

            self._reports.follow(f"{self._database.path}-wal", Mask.MODIFY)

    def _reported(self) -> None:
        self._expect_commit()
        self._look()

    def _expect_commit(self) -> None:
        self._pause = _FIRST_LOOK_SECONDS
        self._deadline = self._loop.time() + _GIVE_UP_SECONDS
        self._look_again()

    def _look_again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._pause, self._expect)

    def _expect(self) -> None:
        """Look for the commit that was announced."""
        self._timer = None
        if self._loop.time() < self._deadline:
            self._pause = min(self._pause * 2, _LONGEST_LOOK_SECONDS)
            self._look_again()
        self._look()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL_SECONDS, self._tick)
        self._look()

    def _look(self) -> None:
        """Tell the listeners if somebody has committed."""
        header = self._database.header()
        if header != self._seen:
            self._seen = header
            for listener in list(self.listeners):
                listener()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._reports is not None:
            self._reports.close()
