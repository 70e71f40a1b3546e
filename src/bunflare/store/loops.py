"""Handing work to an event loop that may end before it comes to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")


class Once:
    """A callback that is called once: by the event loop, or when that forgets it at its own end.

    In the child of a fork it is not called at all: what was under way is the parent's.
    """

    __slots__ = ("_callback", "_pid")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._pid = os.getpid()

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None and self._pid == os.getpid():
            callback()

    __del__ = __call__


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call ``callback`` in ``loop``, from any thread; here and now if that has ended."""
    once = Once(callback)
    try:
        loop.call_soon_threadsafe(once)
    except RuntimeError:
        once()


def in_thread(
    threads: Callable[[], Executor], work: Callable[[], T], done: Callable[[T], object]
) -> None:
    """Run ``work`` on a thread, then ``done`` with its result in the current event loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # The event loop that began this is gone, and this is a thread already.
        done(work())
        return

    def run() -> None:
        result = work()
        # Others may wait for what it holds, so it goes on whatever becomes of this event loop.
        call_soon(loop, lambda: done(result))

    threads().submit(run)
