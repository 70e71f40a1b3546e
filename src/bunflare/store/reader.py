"""Reading: inline on the calling thread, from a snapshot that is kept for as long as it is true.

Most of a point read is its transaction. So a thread's reader begins one, keeps it open between
reads, and checks before each read, through :mod:`bunflare.store.walindex`, that nobody has
committed since; it also remembers rows that were read often. Both answers are exactly what a fresh
transaction would give.

A snapshot that stays open holds back the recycling of the write-ahead log. It is therefore given
up at the next commit that a read notices, and by a timer of the event loop at the latest after
`_HOLD_SECONDS`; where no event loop runs, each read is a transaction of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from itertools import count
from sys import getsizeof
from typing import TYPE_CHECKING

import apsw

from .connection import DRIVER_ERRORS, Parameters, Query, Row, translate
from .loops import Once
from .transaction import UNKNOWN, Stale
from .walindex import WalIndex, parts

if TYPE_CHECKING:
    from pathlib import Path

_HOLD_SECONDS = 0.05
_PAUSE_SECONDS = 0.0005
_HOT_BYTES = 16 * 1024 * 1024
_HOT_LARGEST = 64 * 1024
_ROW_OVERHEAD = 400
#: What is worth being remembered by others (`Reader.life`), in characters, and what each weighs.
LENT_LARGEST = 1024
LENT_BYTES = 500
# Where more rows are read than fit, one in so many is remembered at its first reading.
_SAMPLE = 8
# No number of one reader is one of another.
_lives = count(0, 1 << 40)


class Reader:
    """One thread's view of the database. Not for use by other threads."""

    __slots__ = (
        "__weakref__",
        "_connection",
        "_cursor",
        "_execute",
        "_held",
        "_hot",
        "_hot_size",
        "_index",
        "_lent",
        "_lent_size",
        "_life",
        "_loop",
        "_path",
        "_skipped",
        "_warm",
        "seen",
        "thread",
    )

    def __init__(self, connection: apsw.Connection, path: Path, index: WalIndex | None) -> None:
        self._connection = connection
        self._path = path
        self._index = index
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._held = False
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The one it belongs to.
        self.thread = threading.get_ident()
        #: The mark of what is remembered and held, as of the last look (`Session.mark`).
        self.seen = b""
        # Two generations instead of a list of recent use: what is read again moves to the young
        # one, and when that is full the old one is dropped whole.
        self._hot: dict[Query, Row | None] = {}
        self._warm: dict[Query, Row | None] = {}
        self._hot_size = 0
        self._skipped = 0
        # What others remember in our place: see `life`.
        self._life = next(_lives)
        self._lent = False
        self._lent_size = 0

    # -- rows ------------------------------------------------------------------------------

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, or None."""
        index = self._index
        if index is not None and index.header() != self.seen:
            self._renew()
        if not self._held:
            self._hold()
        try:
            rows = self._execute(sql, parameters).fetchall()
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error
        return rows[0] if rows else None

    def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows."""
        index = self._index
        if index is not None and index.header() != self.seen:
            self._renew()
        if not self._held:
            self._hold()
        try:
            return self._execute(sql, parameters).fetchall()
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error

    def hot(self, sql: str, parameters: Parameters) -> Row | None:
        """`one`, for a row that is likely to be read again and is looked up by its whole key.

        Whoever changes such a row names it with `Transaction.forget`.
        """
        index = self._index
        if index is None:
            return self.one(sql, parameters)
        query = (sql, parameters)
        if index.header() == self.seen:
            row = self._hot.get(query, UNKNOWN)
            if row is not UNKNOWN:
                return row
            row = self._warm.get(query, UNKNOWN)
            if row is not UNKNOWN:
                self._remember(query, row)
                return row
        row = self.one(sql, parameters)
        if self._warm:
            # More is read than fits, and most of it will not be read again in time; what is read
            # often has its turn soon.
            self._skipped = (self._skipped + 1) % _SAMPLE
            if self._skipped:
                return row
        self._remember(query, row)
        return row

    def _remember(self, query: Query, row: Row | None) -> None:
        size = _ROW_OVERHEAD + sum(map(getsizeof, query[1]))
        if row is not None:
            size += sum(map(getsizeof, row))
        if size > _HOT_LARGEST:
            return
        self._hot_size += size
        if self._hot_size > _HOT_BYTES // 2:
            self._warm = self._hot
            self._hot = {}
            self._hot_size = size
        self._hot[query] = row

    def life(self) -> int:
        """What tells whether what one has read before is still so, but for one's own writes.

        For those who remember rows that nobody else of this process writes. The number changes when
        another process has committed, or when too much is remembered.
        """
        index = self._index
        if index is None:
            self._life += 1
        elif index.header() != self.seen:
            self._renew()
        self._lent = True
        return self._life

    def outdate(self) -> None:
        """This process has written such rows by another way than those who remember them."""
        self._life += 1

    def weigh(self, size: int) -> None:
        """So much more is remembered by others, in bytes."""
        self._lent_size += size
        if self._lent_size > _HOT_BYTES:
            self._lent_size = 0
            self._life += 1

    # -- the snapshot ----------------------------------------------------------------------

    def _renew(self) -> None:
        """Somebody committed: forget what was remembered, and let the next read look anew.

        The header is taken before the snapshot. A commit in between makes the snapshot newer than
        the header says, which the next read sees as one more change: never the other way round.
        """
        self.release()
        self._hot.clear()
        self._warm.clear()
        self._hot_size = 0
        self._life += 1
        self._lent = False
        self._lent_size = 0
        if self._index is not None:
            self.seen = self._index.header()

    def _hold(self) -> None:
        """Begin a transaction that outlives this read, if something will end it."""
        if self._index is None:
            return
        loop = self._loop
        if loop is None or loop.is_closed():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._loop = loop
            loop.call_later(_HOLD_SECONDS, Once(self._give_up))
        try:
            self._execute("BEGIN")
        except apsw.Error as error:
            raise self._failed(error) from error
        self._held = True

    def _give_up(self) -> None:
        # An event loop may be closed by another thread; this one notices by itself.
        if threading.get_ident() == self.thread:
            self._loop = None
            self.release()

    def release(self) -> None:
        """End the held transaction, so that the write-ahead log can be recycled."""
        if self._held:
            self._held = False
            self._execute("COMMIT")

    @property
    def abandoned(self) -> bool:
        """Whether a snapshot is held for an event loop that was closed and cannot give it up."""
        return self._held and self._loop is not None and self._loop.is_closed()

    # -- own commits -----------------------------------------------------------------------

    def before_commit(self) -> Before | None:
        """To be called with the write lock taken. The header, if what is remembered is current.

        None if `after_commit` has nothing to do.
        """
        if self._index is None or not (self._held or self._lent or self._hot or self._warm):
            return None
        header = self._index.header()
        return self, header if header == self.seen else None

    def remembered(self, query: Query) -> Row | None:
        """What is remembered of a look-up, or `UNKNOWN`; whether it is current is not looked at."""
        row = self._hot.get(query, UNKNOWN)
        return self._warm.get(query, UNKNOWN) if row is UNKNOWN else row

    def after_commit(self, before: bytes | None, commits: int, stale: Sequence[Stale]) -> None:
        """Keep what is remembered across a commit of our own, except for the rows it changed.

        The write lock was ours from ``before`` to the commit. A counter that has risen by exactly
        ``commits`` (1, or 0 if nothing was written) says that nobody else has committed after us
        either.
        """
        index = self._index
        if index is None:
            return
        if self._held:
            self.release()
        header = index.header()
        if (
            before is None
            or before != self.seen
            or parts(header)[0] != (parts(before)[0] + commits) & 0xFFFFFFFF
        ):
            self._renew()
            return
        for query, row in stale:
            self._replace(query, row)
        self.seen = header

    def keep(
        self, before: bytes | None, commits: int, query: Query, row: Row | None
    ) -> bytes | None:
        """`after_commit`, for a statement that was a transaction of its own.

        ``row`` is the answer to ``query`` if nobody else has committed since ``before``. The header
        is given back if so.
        """
        index = self._index
        if index is None:
            return None
        if self._held:
            self.release()
        look = index.header  # see `Alone.now`
        header = look()
        if (
            before is None
            or before != self.seen
            or parts(header)[0] != (parts(before)[0] + commits) & 0xFFFFFFFF
        ):
            self._renew()
            return None
        if row is UNKNOWN or query not in self._hot:
            self._replace(query, row)
        else:
            self._hot[query] = row
        self.seen = header
        return header

    def _replace(self, query: Query, row: Row | None) -> None:
        """The answer to a look-up is another one now."""
        hot = self._hot
        if row is UNKNOWN:
            hot.pop(query, None)
            self._warm.pop(query, None)
        elif query in hot:
            # It weighs what the one before did.
            hot[query] = row
        else:
            self._warm.pop(query, None)
            self._remember(query, row)

    def _failed(self, error: apsw.Error | UnicodeDecodeError) -> Exception:
        # Whatever went wrong, the next read begins afresh.
        if self._held:
            self._held = False
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
        return translate(error, self._path)

    def close(self) -> None:
        """End it, from any thread."""
        while True:
            try:
                self.release()
                self._connection.close()
                break
            except apsw.ThreadingViolationError:
                # Its own thread is in the middle of a read, which fails.
                self._connection.interrupt()
                time.sleep(_PAUSE_SECONDS)
        self._index = None
        self._hot.clear()
        self._warm.clear()


#: What a reader knew before a commit.
Before = tuple[Reader, bytes | None]
