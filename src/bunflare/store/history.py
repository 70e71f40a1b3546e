"""Every state of a SQLite file, for as long as one wants to go back to it.

What SQLite commits goes to its write-ahead log first, as pages ("frames"), and the log is written
anew from its beginning once a checkpoint has copied it back. So before each checkpoint what the log
has gained is appended to a file of ours, which becomes the same as the log, byte for byte. Each of
the log's lives is a generation with a number; a position is a generation and a number of frames. A
copy of the database (a base) and the generations after it give every state that was ever
committed, whatever was changed: rows, tables, full-text indexes.

Nothing of this is on a commit's path but a note of its time, which is written a moment later. A
checkpoint runs while a reader of ours holds a snapshot, past which SQLite does not copy, and only
after all that the snapshot sees was kept and flushed.

A program that knows nothing of this may checkpoint too, and what it copies is lost for us. That is
seen by the file's time of modification, to which we give random digits after each checkpoint of our
own. The numbers then skip one, and a new base is made, from which on one can go back again.

:mod:`bunflare.store.history_files` has the files, :mod:`bunflare.store.past` reads them.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import apsw

from .connection import BusyWait, connect
from .history_files import (
    LOG_HEADER,
    LONG_PATIENCE,
    NOTE,
    SALTS,
    Files,
    Position,
    Settings,
    frame_size,
)
from .history_times import Times
from .turnstile import Turnstile

_log = logging.getLogger("bunflare")

_CHUNK = 1024 * 1024
# How long another process may keep us from a checkpoint, in seconds.
_PATIENCE = 0.2
_TRIES = 5


_BUSY = "the log begins anew again and again"


class Index(Protocol):
    """Where one sees how far the log has come."""

    def log(self) -> tuple[int, bytes]:
        """How many frames it has, and the salts that tell this life of it from others."""


class _BegunAnewError(Exception):
    """The log has begun anew between two looks at it."""


class History:
    """Keeps what a database that this process has open commits."""

    def __init__(
        self,
        database: Path,
        folder: Path,
        index: Index | None,
        now: Callable[[], int],
        *,
        durable: bool = True,
        prompt: bool = False,
    ) -> None:
        """The history of ``database`` in ``folder``.

        ``index`` is the database's, where there is one; ``now`` gives the ms epoch. One that is not
        ``durable`` need not outlast a loss of power. ``prompt`` is for one whose times have to be
        on a par with others, also after a kill.
        """
        self.files = Files(folder)
        self.choose(self.files.settings())
        self._database = database
        self._log = Path(f"{database}-wal")
        #: How many frames the log has, and which life of it that is.
        self._look = self._ask_log if index is None else index.log
        self._now = now
        self._durable = durable
        self._connection: apsw.Connection | None = None
        self._asking: apsw.Connection | None = None
        self._mutex = threading.Lock()
        self._making = threading.Lock()
        self._times = Times(prompt=prompt)
        self._salts = b""
        self._number = 0
        self._noted: tuple[int, bytes] = (0, b"")
        self._checked = b""
        self._begun: tuple[apsw.Connection, Position] | None = None
        #: Whether a base is to be made before one can go back.
        self.wanting = False
        with self.files.lock():
            self.lineage = self.files.lineage()
            self._end = self._recognise()
            if self.wanting and self.settings.on:
                # At once, so that it is the state before what is written next.
                self._begun = self._begin_base()

    def choose(self, settings: Settings) -> None:
        """Keep so much from now on."""
        self.settings = settings
        self._on = settings.on

    # -- what there is ---------------------------------------------------------------------

    def _ask_log(self) -> tuple[int, bytes]:
        frames, _ = self._ask()
        return max(frames, 0), self._log_header()[SALTS]

    def _ask(self, mode: int = apsw.SQLITE_CHECKPOINT_NOOP) -> tuple[int, int]:
        """How many frames the log has, and how many of them are copied to the database."""
        with self._mutex:
            if self._asking is None:
                self._asking = connect(self._database, "normal", BusyWait(_PATIENCE))
            return self._asking.wal_checkpoint(mode=mode)

    def frames(self) -> int:
        """How many frames the log has, whoever wrote them."""
        return max(self._ask()[0], 0)

    def copy_back(self) -> None:
        """A checkpoint, inside `kept`, for whoever has no connection for it."""
        self._ask(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _log_header(self) -> bytes:
        try:
            with self._log.open("rb") as file:
                return file.read(LOG_HEADER)
        except FileNotFoundError:
            return b""

    def _recognise(self) -> Position:
        """Find out whether the database is as we left it; where its history ends so far."""
        numbers = self.files.generations()
        newest = numbers[-1] if numbers else 0
        frames, salts = self._look()
        if frames and newest and self.files.salts(newest) == salts:
            self._note_newest(newest, frames)
            self.wanting = not self.files.based(newest)
        else:
            number = self._next(newest)
            if not frames:
                # The next life of the log follows on what is there now.
                self._seal(number)
                if self.wanting:
                    # Nothing that is kept leads here: the base that is made next will.
                    return Position(number, 0)
        return Position(newest, self.files.count(newest)) if newest else Position(1, 0)

    def _note_newest(self, number: int, frames: int) -> None:
        """Note when the newest state was, if who made it was killed before they did."""
        if max(self.files.notes(number), default=(0, 0))[0] < frames:
            with self.files.times(number).open("ab") as file:
                file.write(NOTE.pack(frames, self._log.stat().st_mtime_ns // 1_000_000))

    def _next(self, newest: int) -> int:
        """The number of a life of the log that has just begun."""
        sealed = self.files.sealed()
        number = sealed.get("next", 0)
        size, modified = self._print()
        if number > newest and (sealed.get("size"), sealed.get("modified")) == (size, modified):
            self.wanting = not (
                self.files.based(number) or (newest == number - 1 and self.files.based(newest))
            )
            return number
        # Somebody else has copied the log, or parts of it, unless this is the beginning.
        self.wanting = True
        known = max([newest, *(base.generation for base in self.files.bases())])
        return known + 2 if known else 1

    def _print(self) -> tuple[int, int]:
        status = self._database.stat()
        return status.st_size, status.st_mtime_ns

    def _seal(self, number: int) -> None:
        """Note what the database's file looks like; the log's next life may have this number."""
        stamp = time.time_ns() // 1000 * 1000 + random.randrange(1000)
        os.utime(self._database, ns=(stamp, stamp))
        size, modified = self._print()
        self.files.seal({"size": size, "modified": modified, "next": number})

    # -- commits ---------------------------------------------------------------------------

    def note(self) -> None:
        """Note the time of a commit. To be called after it, by whoever made it."""
        if not self._on:
            return
        try:
            seen = frames, salts = self._look()
            if seen == self._noted or not frames:
                return
            if salts != self._salts:
                self._enter(salts)
            self._times.note(frames, self._now())
            self._noted = seen
        except (OSError, apsw.Error, _BegunAnewError):
            # The commit stands; its time will be that of the next.
            _log.exception("the time of a commit to %s was not noted", self._database)

    def told(self) -> Files:
        """The files, with the times of all that this process has committed."""
        self._times.flush()
        return self.files

    def position(self) -> Position:
        """The present state's."""
        for _ in range(_TRIES):
            frames, salts = self._look()
            if not frames:
                if not self._number:
                    return self._end
                return Position(self._number, self.files.count(self._number))
            if salts == self._salts:
                return Position(self._number, frames)
            with suppress(_BegunAnewError):
                self._enter(salts)
        raise apsw.BusyError(_BUSY)

    def _enter(self, salts: bytes) -> None:
        with self.files.lock():
            self._enter_alone(salts)

    def _enter_alone(self, salts: bytes) -> None:
        """Learn, or say, what number a life of the log has. The lock is held."""
        if salts == self._salts:
            return
        files = self.files
        numbers = files.generations()
        number = numbers[-1] if numbers else 0
        if not number or files.salts(number) != salts:
            header = self._log_header()
            if header[SALTS] != salts:
                raise _BegunAnewError
            self._times.flush()
            before = files.notes(number)
            number = self._next(number)
            # How things were before its first commit, they have been since the last one's time.
            since = max(before)[1] if before else self._now()
            files.write(files.times(number), NOTE.pack(0, since))
            files.write(files.frames(number), header)
        elif not files.based(number):
            self.wanting = True
        self._times.open(files.times(number))
        self._number, self._salts = number, salts

    # -- checkpoints -----------------------------------------------------------------------

    @contextmanager
    def kept(self, patience: float = _PATIENCE) -> Iterator[None]:
        """Keep what the log has; checkpoints inside copy nothing that was not kept.

        To be called on a thread. Raises `apsw.BusyError` if another process is about the same.
        """
        if not self.settings.on:
            yield
            return
        with self.files.lock(patience):
            reader = self._reader()
            reader.execute("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            try:
                self._keep()
                yield
                # While our snapshot is held, the log does not begin anew.
                frames, copied = self._ask()
                if frames > 0:
                    whole = frames == copied == self.files.count(self._number)
                    self._seal(self._number + 1 if whole else 0)
            finally:
                reader.execute("COMMIT")

    def _keep(self) -> None:
        """Make our copy of the log the same as the log. The lock is held."""
        for _ in range(_TRIES):
            frames, salts = self._look()
            if not frames or self._append(salts, frames):
                return
        raise apsw.BusyError(_BUSY)

    def _append(self, salts: bytes, frames: int) -> bool:
        try:
            self._enter_alone(salts)
        except _BegunAnewError:
            return False
        path = self.files.frames(self._number)
        with self._log.open("rb") as log:
            header = log.read(LOG_HEADER)
            if header[SALTS] != salts:
                return False
            end = LOG_HEADER + frames * frame_size(header)
            size = path.stat().st_size
            if self._checked == salts and size <= end:
                return size == end or self._copy(log, path, size, end, salts)
            # What was kept before a loss of power may not be what the log has now, so each process
            # begins with the whole of it.
            partial = self.files.partial()
            try:
                partial.write_bytes(b"")
                if not self._copy(log, partial, 0, end, salts):
                    return False
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            self.files.flush()
        self._checked = salts
        return True

    def _copy(self, log: BinaryIO, path: Path, start: int, end: int, salts: bytes) -> bool:
        """Copy a part of the log to its place in ``path``; False if the log began anew."""
        with path.open("r+b") as ours:
            log.seek(start)
            ours.seek(start)
            left = end - start
            while left:
                data = log.read(min(left, _CHUNK))
                if not data:
                    raise OSError(f"{self._log} is shorter than it should be")
                ours.write(data)
                left -= len(data)
            ours.flush()
            log.seek(0)
            if log.read(LOG_HEADER)[SALTS] != salts:
                # It does so only after somebody has copied all of it to the database.
                ours.truncate(start)
                return False
            if self._durable:
                os.fsync(ours.fileno())
        return True

    def _reader(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = connect(self._database, "normal", BusyWait(_PATIENCE))
        return self._connection

    def make_base(self) -> None:
        """Copy the database, if there is no copy to go back from. To be called on a thread."""
        with self._making:
            if self.wanting and self.settings.on:
                self._make_base()

    def _make_base(self) -> None:
        files = self.files
        partial = files.partial()
        begun, self._begun = self._begun, None
        if begun is None:
            with files.lock():
                begun = self._begin_base()
        source, at = begun
        try:
            if not files.based(at.generation):
                copy = apsw.Connection(str(partial))
                try:
                    with copy.backup("main", source, "main") as backup:
                        backup.step()
                finally:
                    copy.close()
                partial.replace(files.base(at))
                if self._durable:
                    files.flush()
            self.wanting = False
        finally:
            source.close()
            partial.unlink(missing_ok=True)

    def _begin_base(self) -> tuple[apsw.Connection, Position]:
        """Hold on to the state that is to be copied: a snapshot, and where it is. The lock is held.

        What is committed in between makes the position later than the snapshot, which is right too.
        """
        source = connect(self._database, "normal", BusyWait(LONG_PATIENCE))
        try:
            source.execute("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            return source, self._base_position()
        except BaseException:
            source.close()
            raise

    def _base_position(self) -> Position:
        for _ in range(_TRIES):
            frames, salts = self._look()
            if not frames:
                return Position(self.files.sealed().get("next", 0) or 1, 0)
            with suppress(_BegunAnewError):
                self._enter_alone(salts)
                return Position(self._number, frames)
        raise apsw.BusyError(_BUSY)

    # -- the end ---------------------------------------------------------------------------

    def rest(self) -> None:
        """Let go of the connections of its own, until they are needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._ask_no_more()

    def leave(self) -> None:
        """End, with the log left as it is, for whoever opens the database next to keep."""
        try:
            self._times.close()
        except OSError:
            _log.exception("the times of some commits to %s were not noted", self._database)
        if self._begun is not None:
            self._begun[0].close()
            self._begun = None
        self.rest()

    def close(self, connection: apsw.Connection, turnstile: Turnstile) -> None:
        """Keep what the log has, and close ``connection``, the last of this process.

        Where no other process has the database open, that copies the log back and removes it.
        """
        self.leave()
        try:
            self._close(connection, turnstile)
        except (apsw.Error, OSError):
            # What the log has is kept by whoever opens the database next.
            _log.exception("the log of %s was left as it is", self._database)
        finally:
            self._ask_no_more()
            connection.close()

    def _ask_no_more(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _close(self, connection: apsw.Connection, turnstile: Turnstile) -> None:
        if not turnstile.enter(LONG_PATIENCE):
            raise apsw.BusyError(f"{self._database} has been written to by others for too long")
        try:
            with self.files.lock():
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if self.settings.on:
                    # Whoever was past the turnstile is done then, and nobody else gets past it.
                    connection.execute("BEGIN IMMEDIATE")
                    self._keep()
                    connection.execute("ROLLBACK")
                self._ask_no_more()
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                connection.close()
                if self.settings.on and not self._log.exists():
                    following = self.files.sealed().get("next", 0)
                    self._seal(self._number + 1 if self._number else following)
        finally:
            turnstile.leave()


def keep_log(database: Path, folder: Path, now: Callable[[], int]) -> None:
    """Keep what a database's log has, from beside whoever has it open. Blocks.

    What was kept of it before is not looked at again. Raises `apsw.BusyError`.
    """
    files = Files(folder)
    newest = files.generations()[-1:]
    with suppress(FileNotFoundError):
        size = Path(f"{database}-wal").stat().st_size
        if not size or (newest and size == files.frames(newest[0]).stat().st_size):
            return
        history = History(database, folder, None, now)
        try:
            with history.kept(LONG_PATIENCE):
                pass
        finally:
            history.leave()
