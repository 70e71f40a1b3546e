"""A single statement of one who writes alone, in as few steps as can be.

It is what `Writer.now` does, and what the reader does about a commit of our own, with nothing in
between. While a commit is flushed, the processor's caches fill with what others do, so whatever the
next one touches has to be fetched anew: each function and each object costs several times as much
as in a loop that never waits.
"""

from __future__ import annotations

import asyncio
import time
from threading import get_ident
from typing import TYPE_CHECKING, Any

import apsw

from . import writer as limits
from .connection import Parameters, Query, Row, translate
from .operation import LATER
from .walindex import parts

if TYPE_CHECKING:
    from .running import Running


class Alone:
    """The way to the disk of one who writes alone. One per database and process."""

    __slots__ = ("_checkpointer", "_entry", "_execute", "_mark", "_running", "_writer")

    def __init__(self, running: Running) -> None:
        self._running = running
        self._checkpointer = running._checkpointer
        self._mark = running.mark
        self._writer = running.writer
        self._entry = running.writer._entry
        self._execute = running.writer._execute

    def write(
        self,
        asker: object | None,
        sql: str,
        parameters: Parameters,
        mark: bytes,
        query: Query,
        row: Row,
    ) -> bytes | Any | None:
        """Run a statement that is a transaction of its own; `LATER` if it is to be enqueued.

        The answer to the look-up ``query`` is ``row`` then, if nobody else has committed since
        ``mark`` (of `Session.mark`; empty if that is not known). If so, what comes back is the mark
        of this commit, else None.
        """
        writer = self._writer
        if (
            (lone := writer.lone) is None
            or lone() is not asker
            or writer._waiting
            or writer._commit_cost >= limits._SLOW_COMMIT_SECONDS
            or (moment := time.monotonic()) > writer._turn_by
        ):
            return LATER
        mutex = writer._mutex
        mutex.acquire()  # `with` takes twice as long
        try:
            if writer._active or writer._waiting or writer._closed:
                return LATER
            writer._active = True
        finally:
            mutex.release()
        entry, checkpointer = self._entry, self._checkpointer
        commits = checkpointer.commits
        try:
            if moment > entry.look_by and not entry.look(moment):
                return LATER
            entry.busy.patient = False
            try:
                self._execute(sql, parameters)
            except BaseException as error:
                writer._rollback()
                if isinstance(error, apsw.BusyError):
                    return LATER
                raise
            cost = writer._commit_cost
            writer._commit_cost = cost + (time.monotonic() - moment - cost) * limits._COST_WEIGHT
            if writer._closed:
                return None
            commits = checkpointer.commits - commits
            after = self._mark()
            if not (mark and after and parts(after)[0] == (parts(mark)[0] + commits) & 0xFFFFFFFF):
                after = None
            reader = self._running.latest()
            if reader is not None and reader.thread == get_ident():
                hot = reader._hot
                if after is not None and mark == reader._seen and query in hot and not reader._held:
                    hot[query] = row
                    reader._seen = after
                else:
                    reader.after_commit(mark or None, commits, [(query, row)])
            checkpointer.look()
            return after
        except apsw.Error as error:
            raise translate(error, self._running.path) from error
        finally:
            entry.busy.patient = True
            # Whoever asks has added to what waits before they look at this.
            writer._active = False
            if writer._waiting:
                writer._release()

    def expects(self, asker: object | None) -> bool:
        """Whether one writes alone, as far as can be said before they do."""
        writer = self._writer
        lone = writer.lone
        return (
            lone is not None
            and lone() is asker
            and not writer._waiting
            and writer._commit_cost < limits._SLOW_COMMIT_SECONDS
        )

    async def turn(self, asker: object | None) -> bool:
        """Let the event loop turn, where one who writes alone has kept it from that for long.

        Whether they may go on: not where others have asked for something meanwhile.
        """
        writer = self._writer
        if not self.expects(asker) or time.monotonic() <= writer._turn_by:
            return False
        # Who waits for something from outside is told in the first turn, and goes on in the next.
        for _ in range(2):
            await asyncio.sleep(0)
            if not self.expects(asker):
                return False
        writer._turn_by = time.monotonic() + limits._TURN_SECONDS
        return True
