"""The earlier states of an object's SQL file: a history as D1's databases have.

An object's file has one connection that writes, and objects come and go. So how far its log has
come is known without a look at SQLite's shared index, and the log stays where it is when the file
is closed: it would else begin a new life each time that the object wakes up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path

import apsw

from .blobs import sync_directory
from .connection import translate
from .history import History
from .history_files import LOG_HEADER, SALTS, Files, Position, Settings
from .layout import history_of
from .past import materialize, trim

# After how many frames of the log it is copied back, as SQLite does by itself.
_WORTH_IT = 1000
_PATIENCE = 10.0
#: Bytes of a file that is copied at once to begin its history; a larger one on a thread.
_SMALL = 1024 * 1024

_log = logging.getLogger("bunflare")


def trim_all(directory: Path, settings: Settings, now: int) -> None:
    """Forget what is too old of all files of a namespace, also of those that nobody uses."""
    for folder in directory.glob(".*.history"):
        with suppress(FileNotFoundError):
            trim(Files(folder), settings, now)


class ObjectLog:
    """Keeps what is committed to an object's SQL file."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        settings: Settings,
        now: Callable[[], int],
        *,
        durable: bool,
    ) -> None:
        """The history of ``path``, whose connection has no transaction open."""
        self._connection = connection
        self._path = path
        self._now = now
        self._making: Future[None] | None = None
        self._index = _Seen(path, connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])
        #: How far the log was copied back the last time.
        self._copied = 0
        # Its keys have theirs in the row that is written with them.
        self.history = History(
            path, Path(history_of(path)), self._index, now, durable=durable, prompt=True
        )
        self.history.choose(settings)
        connection.set_wal_hook(self._index.hear)

    def begin(self, threads: Callable[[], Executor]) -> None:
        """See to it that there is something to go back from."""
        if not self.history.wanting:
            return
        if self._path.stat().st_size <= _SMALL:
            self.history.make_base()
        else:
            self._making = threads().submit(self.history.make_base)

    def committed(self) -> None:
        """Take note of a commit; no transaction is open."""
        self.history.note()
        frames = self._index.frames
        if frames < self._copied:
            self._copied = 0
        if frames - self._copied >= _WORTH_IT:
            # Where somebody still reads what was before, the log goes on: it is tried later again.
            self._copied = frames
            try:
                self._checkpoint()
            except (apsw.Error, OSError) as error:
                _log.warning("the log of an object's SQL was not copied back: %s", error)

    def _checkpoint(self) -> None:
        history = self.history
        self._ask()
        with history.kept():
            history.copy_back()
        self._index.copied = True
        history.rest()
        trim(history.files, history.settings, self._now())

    def _ask(self) -> None:
        # Another program may have written in between.
        self._index.hear(None, "", self.history.frames())

    def position(self) -> Position:
        """The present state's."""
        return self.history.position()

    def materialize(self, at: Position, path: Path) -> bool:
        """Write an earlier state to a new file; False if it is not kept. Blocks.

        Nothing is committed meanwhile. Raises `DatabaseError` and its kinds.
        """
        partial = path.with_suffix(".part")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            partial.unlink(missing_ok=True)
            self._ask()
            with self.history.kept(_PATIENCE):
                pass
            self.history.make_base()
            self.history.rest()
            if not materialize(self.history.files, at, partial):
                return False
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            sync_directory(path.parent)
        except apsw.Error as error:
            raise translate(error, self._path) from error
        finally:
            partial.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """End, before the connection is closed."""
        if self._making is not None:
            self._making.exception()
        self._connection.set_wal_hook(None)
        self.history.leave()


class _Seen:
    """How far a log has come, as its only writer knows."""

    def __init__(self, path: Path, frames: int) -> None:
        self._path = Path(f"{path}-wal")
        self._salts = b""
        self.frames = max(frames, 0)
        self._fresh = False
        #: Whether all of it may have been copied back, so that the next commit begins it anew.
        self.copied = True

    def hear(self, _connection: apsw.Connection | None, _name: str, frames: int) -> int:
        """A commit has brought the log to so many frames."""
        if self.copied or frames <= self.frames:
            self._fresh = False
        self.frames = frames
        return apsw.SQLITE_OK

    def log(self) -> tuple[int, bytes]:
        if not self._fresh:
            self._read()
        return (self.frames, self._salts) if self._salts else (0, bytes(8))

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                salts = file.read(LOG_HEADER)[SALTS]
        except FileNotFoundError:
            salts = b""
        if salts != self._salts:
            self.copied = not self._salts
        self._salts = salts
        self._fresh = True
