"""Copying the write-ahead log back into the database, off everybody's path.

A commit that happens to cross a limit would otherwise pay for it with two flushes and thousands of
page writes. So a thread copies, beside the writes that go on. Those add to the log meanwhile, and
only a log that was copied to its end is written anew from its beginning, in place, where a flush
costs half of what it costs at the end of a growing file. So a second, short copy follows while our
own writer stands still. Where other processes keep adding or reading all the same, a higher limit
holds all writers up until no reader needs the log any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import apsw

from .connection import BusyWait, Durability, connect
from .directory import Directory
from .log_space import LogSpace
from .loops import call_soon
from .turnstile import Turnstile

if TYPE_CHECKING:
    from concurrent.futures import Executor

_log = logging.getLogger("bunflare")

_OK = int(apsw.SQLITE_OK)

# In pages of 4 KiB.
_WORTH_IT = 1_000
_TOO_LONG = 16_000
# How long other processes may hold up the rest, in seconds.
_PATIENCE = 0.2
# How long all writers are held up: until readers have moved on (ours keep a snapshot for 50 ms),
# and until the log begins anew.
_HOLD_SECONDS = 0.1
_RESTART_SECONDS = 0.05
_PAUSE_SECONDS = 0.002


class Keeper(Protocol):
    """Who wants to have what a checkpoint is about to make an end of."""

    def kept(self) -> AbstractContextManager[None]:
        """Checkpoints run inside."""

    def trim(self) -> None:
        """Now is a time for what takes long."""


class Checkpointer:
    """Watches the log of the writing connection."""

    def __init__(
        self,
        writing: apsw.Connection,
        directory: Directory,
        durability: Durability,
        threads: Callable[[], Executor],
        release_readers: Callable[[], None],
        pause_writer: Callable[[Callable[[], None]], None],
        keeper: Keeper,
        space: LogSpace | None,
    ) -> None:
        """``space`` makes room for the log of ``writing``, if its commits are flushed."""
        self._directory = directory
        self._durability = durability
        self._threads = threads
        self._release_readers = release_readers
        self._pause_writer = pause_writer
        self._keeper = keeper
        self._space = space
        self._connection: apsw.Connection | None = None
        self._patience = BusyWait(_PATIENCE)
        self._turnstile: Turnstile | None = None
        #: Commits of this process that wrote something.
        self.commits = 0
        self._pages = 0
        #: How many times as long as others this log may become, where each copy costs much.
        self.stretch = 1
        self._too_long = _TOO_LONG
        self._busy = False
        #: Whether the long copy was made and the short one could not follow.
        self._owed = False
        writing.set_wal_hook(self._count)

    def _count(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.commits += 1
        self._pages = pages
        return _OK

    def look(self) -> None:
        """Start a checkpoint if the log has grown enough. To be called after a commit."""
        if self._space is not None and self._pages >= self._space.enough:
            self._space.extend(self._pages)
        if self._pages >= _WORTH_IT * self.stretch and not self._busy:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._busy = True
            if self._owed:
                self._continue()
            else:
                self._threads().submit(self._first, loop)

    def _first(self, loop: asyncio.AbstractEventLoop) -> None:
        """The long copy, beside the writers. Runs on a thread."""
        try:
            if self._connection is None:
                self._connection = connect(
                    self._directory.database, self._durability, self._patience
                )
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                self._turnstile = Turnstile(self._directory.turnstile)
            self._copy(self._connection)
            self._keeper.trim()
            call_soon(loop, self._continue)
        except apsw.BusyError:
            # Another process does the same at this moment; the next commit will look again.
            self._busy = False
        except Exception:
            _log.exception("a checkpoint of %s failed", self._directory.database)
            self._busy = False

    def _copy(self, connection: apsw.Connection) -> tuple[int, int]:
        """Copy what can be copied; how many frames the log has, and how many are copied."""
        with self._keeper.kept():
            return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _continue(self) -> None:
        self._owed = False
        self._release_readers()
        try:
            self._pause_writer(self._second)
        except RuntimeError:
            # The event loop has ended. Closing the database does the rest, or the next commit:
            # where each write has an event loop of its own, none lives as long as a long copy.
            self._owed = True
            self._busy = False

    def _second(self) -> None:
        """The short copy, while our writer stands still. Runs on a thread."""
        assert self._connection is not None
        try:
            frames, _ = self._copy(self._connection)
            if frames >= self._too_long:
                # Whoever reads for longer than our patience would else hold up every commit.
                self._too_long = frames + _TOO_LONG
                self._restart(self._connection)
            elif frames < _TOO_LONG:
                self._too_long = _TOO_LONG
        except apsw.BusyError:
            # Somebody else does the same, or reads for long; the next commit will try again.
            pass
        except Exception:
            _log.exception("a checkpoint of %s failed", self._directory.database)
        self._pages = 0
        self._busy = False

    def _restart(self, connection: apsw.Connection) -> None:
        """Have the log begin anew, with all writers held up."""
        assert self._turnstile is not None
        if not self._turnstile.enter(_PATIENCE):
            return
        try:
            frames, copied = self._copy(connection)
            if frames < _TOO_LONG:
                # While we waited for our turn, another process has done it.
                self._too_long = _TOO_LONG
                return
            # Nobody commits now, so whoever reads moves on to the newest snapshot. SQLite would
            # wait for the place where it noted the old one, which the new one may occupy.
            deadline = time.monotonic() + _HOLD_SECONDS
            while frames > copied:
                if time.monotonic() >= deadline:
                    return  # somebody reads for long; the log may grow meanwhile
                time.sleep(_PAUSE_SECONDS)
                frames, copied = self._copy(connection)
            self._patience.timeout = _RESTART_SECONDS
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self._too_long = _TOO_LONG
        finally:
            self._patience.timeout = _PATIENCE
            self._turnstile.leave()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._turnstile is not None:
            self._turnstile.close()
