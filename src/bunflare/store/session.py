"""Where a binding reads and writes: the database itself, or a transaction in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .connection import DRIVER_ERRORS, Parameters, Query, Row, translate
from .operation import LATER
from .transaction import Transaction

if TYPE_CHECKING:
    from .gathered import Gatherer, Work

T = TypeVar("T")


class View(Protocol):
    """What a read function of the store needs: a reader or a transaction."""

    def one(self, sql: str, parameters: Parameters = (), /) -> Row | None: ...
    def all(self, sql: str, parameters: Parameters = (), /) -> list[Row]: ...
    def hot(self, sql: str, parameters: Parameters, /) -> Row | None: ...


class Session(Protocol):
    """What a binding is built on."""

    @property
    def immediate(self) -> bool:
        """Whether a write is on disk when it returns, and not only when something else ends."""

    @property
    def joinable(self) -> bool:
        """Whether a write may begin, for others to join, before it is awaited."""

    @property
    def view(self) -> View: ...

    def mark(self) -> bytes | None:
        """What changes with every commit of any process; None where that is not known at once."""

    async def write(self, function: Callable[..., T], *args: object, heavy: bool = False) -> T:
        """Run ``function(transaction, *args)``; its writes are on disk when this returns.

        ``heavy`` says that it handles megabytes and is better run on a thread.
        """

    def run_now(self, sql: str, parameters: tuple[Any, ...], query: Query) -> object:
        """Write by one statement on the spot; `LATER`, and nothing is done, where `write` is to.

        ``query`` is the look-up whose answer that changes.
        """

    def gatherer(self, work: Work[T]) -> Gatherer[T, Any] | None:
        """What gathers items for ``work(transaction, items)``; for use where it is `joinable`.

        Those that stand next to each other are written together, with the result or the error of
        each. None where it never is.
        """

    async def when_over(self, close: Callable[[], Awaitable[object]]) -> None:
        """Await ``close()`` when it is certain what becomes of the writes until now."""


class _TransactionView:
    """What an open transaction sees; the driver's errors become ours, as a reader's do."""

    __slots__ = ("_path", "_transaction")

    def __init__(self, transaction: Transaction, path: Path) -> None:
        self._transaction = transaction
        self._path = path

    def one(self, sql: str, parameters: Parameters = (), /) -> Row | None:
        try:
            return self._transaction.one(sql, parameters)
        except DRIVER_ERRORS as error:
            raise translate(error, self._path) from error

    def all(self, sql: str, parameters: Parameters = (), /) -> list[Row]:
        try:
            return self._transaction.all(sql, parameters)
        except DRIVER_ERRORS as error:
            raise translate(error, self._path) from error

    def hot(self, sql: str, parameters: Parameters, /) -> Row | None:
        return self.one(sql, parameters)


class TransactionSession:
    """Reads and writes inside an open transaction; nothing is on disk before that commits."""

    __slots__ = ("_closing", "_path", "_transaction", "view")

    immediate = False
    joinable = False

    def __init__(self, transaction: Transaction, path: Path) -> None:
        self._transaction = transaction
        self._path = path
        self.view = _TransactionView(transaction, path)
        self._closing: list[Callable[[], Awaitable[object]]] = []

    def mark(self) -> None:
        return None

    async def write(self, function: Callable[..., T], *args: object, heavy: bool = False) -> T:
        try:
            with self._transaction.savepoint():
                return function(self._transaction, *args)
        except DRIVER_ERRORS as error:
            raise translate(error, self._path) from error

    def run_now(self, sql: str, parameters: tuple[Any, ...], query: Query) -> object:
        return LATER

    def gatherer(self, work: Work[T]) -> None:
        return None

    async def when_over(self, close: Callable[[], Awaitable[object]]) -> None:
        self._closing.append(close)

    async def over(self) -> None:
        """The transaction was committed or undone."""
        while self._closing:
            await self._closing.pop()()
