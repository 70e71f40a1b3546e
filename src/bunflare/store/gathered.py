"""What is asked for in one turn of an event loop, gathered into one write.

Group commit makes one flush of many writes; here they are one operation of the writer, too, which
halves what each costs where many are asked for at once. They join whatever else is written in that
turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .operation import Joint

if TYPE_CHECKING:
    from .database import Database
    from .transaction import Transaction

T = TypeVar("T")
R = TypeVar("R")

#: A write function of several items: a result for each, or the error of what undid itself alone.
Work = Callable[["Transaction", list[T]], Sequence[R | Exception]]

_cancelled = methodcaller("cancelled")
# So that no turn takes too long.
_MOST = 1024


class Gathered(Joint, Generic[T, R]):
    """The items of one turn, until the writer takes them, and who waits for them."""

    __slots__ = ("_closed", "_finish", "_futures", "_items", "_mutex", "_over", "_work")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work[T, R],
        finish: Callable[[Sequence[Any]], Sequence[R | Exception]] | None,
        over: Callable[[Gathered[T, R]], object],
    ) -> None:
        super().__init__(self._run, loop)
        self._work = work
        self._finish = finish
        self._over = over
        self._items: list[T] = []
        self._futures: list[asyncio.Future[R]] = []
        # The writer may run it in another event loop, on another thread.
        self._mutex = threading.Lock()
        self._closed = False

    def add(self, item: T) -> asyncio.Future[R] | None:
        """One more item: its result. None if it is too late for that."""
        with self._mutex:
            if self._closed or len(self._items) >= _MOST:
                return None
            future: asyncio.Future[R] = asyncio.Future(loop=self.loop)
            self._items.append(item)
            self._futures.append(future)
            return future

    def _run(self, tx: Transaction) -> Sequence[R | Exception]:
        with self._mutex:
            self._closed = True
        if any(map(_cancelled, self._futures)):
            pairs = zip(self._items, self._futures, strict=True)
            kept = [pair for pair in pairs if not pair[1].cancelled()]
            self._items = [item for item, _ in kept]
            self._futures = [future for _, future in kept]
        return self._work(tx, self._items)

    def settle(self) -> None:
        self._closed = True
        self._over(self)
        if self.loop.is_closed():
            return
        futures = self._futures
        outcomes: Sequence[Any]
        if self.error is not None:
            outcomes = [self.error] * len(futures)
        elif self._finish is not None:
            outcomes = self._finish(self.result)
        else:
            outcomes = self.result
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():
                continue  # given up
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


class Gatherer(Generic[T, R]):
    """Gathers what is asked of one database in each event loop."""

    __slots__ = ("_database", "_finish", "_open", "_work")

    def __init__(
        self,
        database: Database,
        work: Work[T, R],
        finish: Callable[[Sequence[Any]], Sequence[R | Exception]] | None = None,
    ) -> None:
        """``work`` is a write function; ``finish``, once its commit is on disk, gives the results
        in the place of what that gave."""
        self._database = database
        self._work = work
        self._finish = finish
        self._open: dict[asyncio.AbstractEventLoop, Gathered[T, R]] = {}

    def add(self, item: T) -> asyncio.Future[R]:
        """Have an item written; its result when it is on disk."""
        loop = asyncio.get_running_loop()
        gathered = self._open.get(loop)
        if gathered is not None:
            future = gathered.add(item)
            if future is not None:
                return future
        gathered = Gathered(loop, self._work, self._finish, self._over)
        future = gathered.add(item)
        assert future is not None
        self._database.enqueue(gathered)
        self._open[loop] = gathered
        return future

    def part(self) -> None:
        """What is added after this comes after whatever else is asked of the writer now."""
        self._open.pop(asyncio.get_running_loop(), None)

    def _over(self, gathered: Gathered[T, R]) -> None:
        if self._open.get(gathered.loop) is gathered:
            del self._open[gathered.loop]
