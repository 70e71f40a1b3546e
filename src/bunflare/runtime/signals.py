"""SIGINT and SIGTERM: the first one ends the server gently, the second at once.

The handlers run between two instructions of Python, also while a Worker computes and the event loop
stands still. A signal that comes before the loop has taken notice of the one before it ends the
Worker's code where it is.
"""

from __future__ import annotations

import asyncio
import signal
from types import FrameType, TracebackType
from typing import Any

from .departing import end_within

# How long anything at all may take after the second signal, in seconds: to be cancelled, tasks and
# generators have 5 of them each.
_LAST_SECONDS = 15.0
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that is not to be waited with, in the midst of somebody's code."""


class Signals:
    """To be used with ``with``, in the main thread, inside of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Set by the first signal, and by the second.
        self.stop = asyncio.Event()
        self.force = asyncio.Event()
        self._taken = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._come) for number in _NUMBERS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if not self._taken:
            raise Interrupted
        self._taken = False
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._taken = True
        if not self.stop.is_set():
            self.stop.set()
        elif not self.force.is_set():
            self.force.set()
            end_within(_LAST_SECONDS, 1)
