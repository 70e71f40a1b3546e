"""Writing on the spot, for one who writes alone: one thing after the other, and nobody else.

Nothing would join what they ask for, so a future, a turn of the event loop and a group would only
add to it: a fifth of each write, most of it in memory that the processor has to fetch anew after
the flush. For while a commit is flushed, its caches fill with what others do, and each function and
each object that the next write touches costs several times as much as in a loop that never waits.
Hence the few steps of `Alone.now`, which is the one way there is.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

import apsw

from .connection import DRIVER_ERRORS, Query, Row, translate
from .operation import LATER, Operation
from .transaction import UNKNOWN, Transaction

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpoint import Checkpointer
    from .entry import Entry
    from .reader import Before, Reader

# What a commit may cost on average before commits leave the event loop's thread.
_SLOW_COMMIT_SECONDS = 0.001
_COST_WEIGHT = 0.2
# How long one who writes alone may keep the event loop from turning.
_TURN_SECONDS = 0.005


def _nobody() -> None:
    """Nobody has committed yet."""


class Alone:
    """The connection that writes, and whoever writes alone with it. `Writer` is it for all others.

    It is theirs after a group that was theirs and nobody else's, until somebody else asks for
    something, or the event loop is to turn.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        entry: Entry,
        checkpointer: Checkpointer,
        readers: Mapping[int, Reader],
        mark: Callable[[], bytes | None],
        committed: Callable[[], None],
    ) -> None:
        """``readers`` are those of the threads that remember rows, ``mark`` is `Session.mark`.

        ``committed`` is called after each commit.
        """
        self._connection = connection
        self._execute = connection.cursor().execute
        self._path = path
        self._entry = entry
        self._checkpointer = checkpointer
        self._readers = readers
        #: That of the thread that committed last: mostly there is but one.
        self._latest: Callable[[], Reader | None] = _nobody
        self._mark = mark
        self._committed = committed
        #: The commits until the group that is under way.
        self._commits = 0
        self._mutex = threading.Lock()
        self._waiting: deque[Operation] = deque()
        #: Whether someone (a group, a transaction, one who writes alone) is using the connection.
        self._active = False
        self._closed = False
        self._commit_cost = 0.0
        #: Who writes alone: the last group was theirs, and nobody else's.
        self.lone: weakref.ref[Any] | None = None
        #: How long they may go on without a turn of their event loop (`time.monotonic`).
        self._turn_by = 0.0
        #: What their write functions see, one after the other.
        self._own_transaction = Transaction(connection, self._execute)

    def now(
        self,
        asker: object | None,
        work: Any,
        args: tuple[Any, ...],
        single: bool,
        query: Query | None = None,
        row: Row | None = UNKNOWN,
        mark: bytes | None = None,
    ) -> Any:
        """Run ``work(transaction, *args)`` and commit it before this returns, with its result.

        For an ``asker`` who does not write alone, and where it would have to wait, nothing is done
        and `LATER` is returned. ``single`` says that it writes by one statement, with nothing that
        may fail after it: that is a transaction of its own then, since to begin and to commit one
        takes as long again.

        With a ``query``, ``work`` is the text of that statement, which gives no rows, and changes
        the answer to that look-up to ``row`` (`Transaction.forget`), if nobody has committed since
        ``mark`` (`Session.mark`; now, if it is not given). What comes back is the mark of this
        commit then, and None if somebody has, or may have.
        """
        if (
            (lone := self.lone) is None
            or lone() is not asker
            or self._waiting
            or (cost := self._commit_cost) >= _SLOW_COMMIT_SECONDS
            or (moment := time.monotonic()) > self._turn_by
        ):
            return LATER
        mutex = self._mutex
        mutex.acquire()  # `with` takes twice as long
        try:
            if self._active or self._waiting or self._closed:
                return LATER
            self._active = True
        finally:
            mutex.release()
        entry, checkpointer = self._entry, self._checkpointer
        busy = entry.busy
        try:
            # For who writes one thing after the other, a look at the line now and then will do.
            if moment > entry.look_by and not entry.look(moment):
                return LATER
            # A single statement takes SQLite's lock itself: at once or not at all.
            busy.patient = False
            try:
                if query is not None:
                    commits, execute = checkpointer.commits, self._execute
                    if not mark:
                        mark = self._mark()
                    execute(work, args)
                elif single or entry.begin():
                    own = self._own_transaction
                    own.before = before = self._before_commit()
                    result = work(own, *args)
                else:
                    return LATER
                if single:
                    self._commit_cost = cost + (time.monotonic() - moment - cost) * _COST_WEIGHT
                elif (failure := self._commit()) is not None:
                    raise failure
            except BaseException as error:
                # What it promised goes with it.
                self._own_transaction = Transaction(self._connection, self._execute)
                self._rollback()
                if single and isinstance(error, apsw.BusyError):
                    return LATER
                raise
            if query is None:
                self._after_commit(before, own)
                own.stale.clear()
                return result
            if self._closed:
                return None
            # Python finds in the class at once what it calls, but not what an object has.
            latest, committed = self._latest, self._committed
            reader, after = latest(), None
            if reader is not None and reader.thread == get_ident():
                after = reader.keep(mark, checkpointer.commits - commits, query, row)
            committed()
            return after
        except DRIVER_ERRORS as error:
            raise translate(error, self._path) from error
        finally:
            busy.patient = True
            # Whoever asks has added to what waits before they look at this.
            self._active = False
            if self._waiting:
                self._release()

    def expects(self, asker: object | None) -> bool:
        """Whether one writes alone, as far as can be said before they do."""
        lone = self.lone
        return (
            lone is not None
            and lone() is asker
            and not self._waiting
            and self._commit_cost < _SLOW_COMMIT_SECONDS
        )

    async def turn(self, asker: object | None) -> bool:
        """Let the event loop turn, where one who writes alone has kept it from that for long.

        Whether they may go on: not where others have asked for something meanwhile.
        """
        if not self.expects(asker) or time.monotonic() <= self._turn_by:
            return False
        # Who waits for something from outside is told in the first turn, and goes on in the next.
        for _ in range(2):
            await asyncio.sleep(0)
            if not self.expects(asker):
                return False
        self._turn_by = time.monotonic() + _TURN_SECONDS
        return True

    # -- what they share with all others ---------------------------------------------------

    @property
    def _slow(self) -> bool:
        """Whether commits are made on a thread."""
        return self._commit_cost >= _SLOW_COMMIT_SECONDS

    def _met_alone(self, asker: object) -> None:
        """A group is theirs, and nobody else's."""
        self.lone = weakref.ref(asker)
        self._turn_by = time.monotonic() + _TURN_SECONDS

    def _before_commit(self) -> Before | None:
        """To be called with SQLite's lock taken; what `_after_commit` is to be told."""
        self._commits = self._checkpointer.commits
        number = get_ident()
        reader = self._latest()
        if reader is None or reader.thread != number:
            reader = self._readers.get(number)
            if reader is None:
                return None
            self._latest = weakref.ref(reader)
        return reader.before_commit()

    def _after_commit(self, before: Before | None, transaction: Transaction) -> None:
        if not self._closed:
            if before is not None:
                reader, header = before
                # Where an event loop ended meanwhile, this may be another thread.
                if reader.thread == get_ident():
                    commits = self._checkpointer.commits - self._commits
                    reader.after_commit(header, commits, transaction.stale)
            self._committed()
        if transaction.afterwards:
            transaction.follow()

    def _commit(self) -> BaseException | None:
        started = time.perf_counter()
        try:
            self._execute("COMMIT")
        except apsw.Error as error:
            self._rollback()
            return translate(error, self._path)
        self._commit_cost += (time.perf_counter() - started - self._commit_cost) * _COST_WEIGHT
        return None

    def _rollback(self) -> None:
        # Closing the connection undoes what it had not committed.
        if not self._closed and self._connection.in_transaction:
            self._execute("ROLLBACK")

    def _release(self) -> None:
        """The connection is free: have what waits done."""
        raise NotImplementedError
