"""What a write function sees: a transaction with four verbs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import apsw

from ..errors import DatabaseError, StateError
from .connection import Parameters, Query, Row, as_ours

if TYPE_CHECKING:
    from .reader import Before

T = TypeVar("T")

_log = logging.getLogger("bunflare")

#: What no row is.
UNKNOWN: Row = (object(),)
#: A look-up whose answer has changed, with the new one or `UNKNOWN`.
Stale = tuple[Query, Row | None]
#: A point within a transaction: rows changed, actions and stale rows named so far.
Mark = tuple[int, int, int]


class HalfWayError(Exception):
    """An operation failed half-way: undo the group, and run it with savepoints."""


class Transaction:
    """`run`, `one`, `all`, and `after`: all that a function of the store may do.

    A write function may be run twice (its first run undone), so it touches nothing else; what has
    to happen outside the database once the commit is on disk is handed to `after`.
    """

    __slots__ = (
        "_connection",
        "_execute",
        "afterwards",
        "before",
        "careful",
        "many",
        "run",
        "stale",
    )

    def __init__(
        self, connection: apsw.Connection, execute: Callable[..., apsw.Cursor] | None = None
    ) -> None:
        self._connection = connection
        # One cursor serves all statements: each is read to its end before the next.
        self._execute: Callable[..., apsw.Cursor] = execute or connection.cursor().execute
        #: ``run(sql, parameters=())``: run a statement for its effect.
        self.run: Callable[..., object] = self._execute
        #: ``many(sql, rows)``: the same, once with each of several parameters.
        self.many: Callable[..., object] = connection.executemany
        self.afterwards: list[Callable[[], object]] = []
        self.stale: list[Stale] = []
        #: What was known when this began.
        self.before: Before | None = None
        #: Whether something has failed half-way, and all of it is run once more.
        self.careful = False

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row of a query, or of a statement with RETURNING; or None."""
        rows = self._execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    #: The name that readers give to a look-up by the whole key.
    hot = one

    def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING."""
        return self._execute(sql, parameters).fetchall()

    def known(self, sql: str, parameters: Parameters) -> Row | None:
        """The answer to a look-up without asking; `UNKNOWN` if it would have to be asked for."""
        before = self.before
        if before is None or before[1] is None or self.stale:
            return UNKNOWN
        return before[0].remembered((sql, parameters))

    def after(self, action: Callable[[], object]) -> None:
        """Call ``action`` once the commit is on disk; never, if there is none."""
        self.afterwards.append(action)

    def forget(self, sql: str, parameters: Parameters, row: Row | None = UNKNOWN) -> None:
        """Name a look-up whose answer this transaction changes and that readers may remember.

        ``row`` is the new answer, a few numbers, where it is likely to be asked for soon.
        """
        self.stale.append(((sql, parameters), row))

    def forget_each(self, sql: str, keys: Iterable[Parameters]) -> None:
        """`forget`, of several."""
        self.stale += [((sql, key), UNKNOWN) for key in keys]

    def apart(self, function: Callable[..., T], items: Iterable[Any]) -> list[T | Exception]:
        """``function(transaction, item)`` for each, of which each succeeds or fails alone.

        Only in a write function that it is all of: what was done may be undone and done once more.
        """
        outcomes: list[T | Exception] = []
        for item in items:
            mark = self.mark()
            try:
                if self.careful:
                    with self.savepoint():
                        outcomes.append(function(self, item))
                else:
                    outcomes.append(function(self, item))
            except Exception as error:
                if not self.open:
                    raise
                if self.changed_since(mark) and not self.careful:
                    raise HalfWayError from error
                self.rewind(mark)
                outcomes.append(as_ours(error, Path(self._connection.filename)))
        return outcomes

    # -- for those who run write functions -------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether SQLite still has the transaction: some failures undo it as a whole."""
        return self._connection.in_transaction

    def mark(self) -> Mark:
        """Where this transaction stands."""
        return self._connection.total_changes(), len(self.afterwards), len(self.stale)

    def changed_since(self, mark: Mark) -> bool:
        return self._connection.total_changes() != mark[0]

    def rewind(self, mark: Mark) -> None:
        """Drop what was promised since ``mark``; its statements are undone by the caller."""
        del self.afterwards[mark[1] :]
        del self.stale[mark[2] :]

    def follow(self) -> None:
        """It is on disk: do what was to be done `after`."""
        for action in self.afterwards:
            try:
                action()
            except Exception:
                # The commit stands, whatever becomes of what follows it.
                _log.exception("an action that follows a commit failed")
        self.afterwards.clear()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """All or nothing of what is written inside."""
        if not self.open:
            # Here a savepoint would begin, and its release commit, a transaction of its own.
            self._execute("")  # which tells whoever comes after the end
            raise DatabaseError("an error has undone this transaction; nothing more is written")
        mark = self.mark()
        self._execute("SAVEPOINT operation")
        try:
            yield
        except BaseException:
            if self.open:
                self._execute("ROLLBACK TO operation")
                self._execute("RELEASE operation")
                self.rewind(mark)
            raise
        self._execute("RELEASE operation")

    def finish(self, refusal: str = "this transaction has ended") -> None:
        """From now on, every use is an error: the connection belongs to others again."""

        def refuse(*_: object) -> NoReturn:
            raise StateError(refusal)

        self._execute = self.run = self.many = refuse
