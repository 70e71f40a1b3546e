"""What is asked for in one turn of an event loop, gathered into one write.

Group commit makes one flush of many writes; here they are one operation of the writer, too, which
halves what each costs where many are asked for at once. They join whatever else is written in that
turn.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .operation import Joint
from .pending import Pending
from .told import Outcome

if TYPE_CHECKING:
    from .database import Database
    from .transaction import Transaction

T = TypeVar("T")
R = TypeVar("R")

#: A write function of several items: what was done for each, or the error of what undid itself.
Work = Callable[["Transaction", list[T]], Sequence[Any]]
#: What makes of the items, and what was done for each, what those hear who wait for them.
Finish = Callable[[Sequence[T], Sequence[Any]], Sequence["R | Exception"]]

_cancelled = methodcaller("cancelled")
# So that no turn takes too long.
_MOST = 1024


class Gathered(Joint, Generic[T, R]):
    """The items of one turn, until the writer takes them, and who waits for them."""

    __slots__ = ("_finish", "_over", "_work", "closed", "futures", "items", "mutex")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work[T],
        finish: Finish[T, R] | None,
        over: Callable[[Gathered[T, R]], object],
        ordered: bool,
    ) -> None:
        Joint.__init__(self, self._run, loop)  # `super()` takes longer
        self.ordered = ordered
        self._work = work
        self._finish = finish
        self._over = over
        self.items: list[T] = []
        self.futures: list[asyncio.Future[R]] = []
        # The writer may run it in another event loop, on another thread.
        self.mutex = threading.Lock()
        self.closed = False

    def close(self) -> None:
        self.closed = True

    @property
    def several(self) -> bool:
        return len(self.items) > 1

    def _run(self, tx: Transaction) -> Sequence[R | Exception]:
        with self.mutex:
            self.closed = True
        if any(map(_cancelled, self.futures)):
            pairs = zip(self.items, self.futures, strict=True)
            kept = [pair for pair in pairs if not pair[1].cancelled()]
            self.items = [item for item, _ in kept]
            self.futures = [future for _, future in kept]
        return self._work(tx, self.items)

    def settle(self, told: list[Outcome]) -> None:
        self.closed = True
        self._over(self)
        items, futures = self.items, self.futures
        # The writer may go on holding this. What it holds goes now, and it is in no circle.
        self.items, self.futures, self.function = [], [], None
        if self.loop.is_closed():
            return
        outcomes: Sequence[Any]
        if self.error is not None:
            outcomes = [self.error] * len(futures)
        elif self._finish is not None:
            try:
                outcomes = self._finish(items, self.result)
            except Exception as error:
                # It is on disk, but was closed before one could say what was done.
                outcomes = [error] * len(futures)
        else:
            outcomes = self.result
        for future, outcome in zip(futures, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                told.append((future, None, outcome))
            else:
                told.append((future, outcome, None))


class Gatherer(Generic[T, R]):
    """Gathers what is asked of one database in each event loop."""

    __slots__ = ("_database", "_finish", "_ordered", "_work", "gathering")

    def __init__(
        self,
        database: Database,
        work: Work[T],
        finish: Finish[T, R] | None = None,
        ordered: bool = False,
    ) -> None:
        """``work`` is a write function; ``finish``, once its commit is on disk, gives the results
        in the place of what that gave. ``ordered`` is `Operation.ordered`."""
        self._database = database
        self._work = work
        self._finish = finish
        self._ordered = ordered
        #: What is not taken by the writer yet, of each event loop.
        self.gathering: dict[asyncio.AbstractEventLoop, Gathered[T, R]] = {}

    def add(self, item: T) -> asyncio.Future[R]:
        """Have an item written; its result when it is on disk."""
        loop = get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._add(item, future, loop)
        return future

    def begin(self, item: T) -> Pending[R] | None:
        """The same, for whoever may want to make a task of it; None if no event loop runs yet."""
        try:
            loop = get_running_loop()
        except RuntimeError:
            return None
        future: Pending[R] = Pending(loop=loop)
        self._add(item, future, loop)
        return future

    def _add(self, item: T, future: asyncio.Future[R], loop: asyncio.AbstractEventLoop) -> None:
        gathered = self.gathering.get(loop)
        if gathered is not None:
            mutex = gathered.mutex
            mutex.acquire()  # `with` takes twice as long
            try:
                if not gathered.closed:
                    if len(gathered.items) < _MOST:
                        gathered.items.append(item)
                        gathered.futures.append(future)
                        return
                    gathered.closed = gathered.alone = True
            finally:
                mutex.release()
        gathered = Gathered(loop, self._work, self._finish, self._over, self._ordered)
        gathered.items.append(item)
        gathered.futures.append(future)
        self._database.enqueue(gathered)
        self.gathering[loop] = gathered

    def part(self) -> None:
        """What is added after this comes after whatever else is asked of the writer now."""
        self.gathering.pop(get_running_loop(), None)

    def _over(self, gathered: Gathered[T, R]) -> None:
        if self.gathering.get(gathered.loop) is gathered:
            del self.gathering[gathered.loop]
