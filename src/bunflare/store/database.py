"""The database of one data directory: one per directory and process, shared by all bindings.

It joins the parts: a reader for each thread, the writer, checkpoints on a thread, what other
processes commit, and the beginning and end of it all, a fork included.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import apsw

from ..errors import DatabaseError, StateError
from .connection import Durability, Query, translate
from .directory import MEMORY, Directory, locate, open_directory
from .gate import output_gate, pass_output_gate, restrained
from .gathered import Gatherer, Work
from .operation import LATER, Operation
from .running import Running, no_mark
from .session import View
from .transaction import Transaction
from .walindex import counter
from .watch import Watch

if TYPE_CHECKING:
    from .alone import Alone
    from .processes import Presence
    from .reader import Reader

T = TypeVar("T")


class Database:
    """One open ``data.sqlite``. Get it from `open_database` or `get_database`."""

    immediate = True

    def __init__(self, directory: Directory, durability: Durability) -> None:
        self.directory = directory
        self.durability = durability
        self.path: Path = directory.database
        self._users = 0
        self._pid = os.getpid()
        self._refusal: str | None = None
        self._mutex = threading.RLock()
        self._open_transaction = _no_transaction()
        self._running: Running | None = None
        self._local: _Local | _Dormant = _Dormant(self)
        self._forking: list[object] = []
        self._gatherers: dict[Any, Gatherer[Any, Any]] = {}
        self._presence: Presence | None = None
        #: What changes with every commit of any process; None where that is not known at once.
        self.mark: Callable[[], bytes | None] = no_mark
        self.watch = Watch(self)
        self._start()

    # -- reading and writing ---------------------------------------------------------------

    @property
    def view(self) -> View:
        """This thread's reader."""
        return self._local.reader

    @property
    def reader(self) -> Reader:
        """This thread's reader, for those who remember what they have read."""
        return self._local.reader

    async def write(self, function: Callable[..., T], *args: object, heavy: bool = False) -> T:
        """Run ``function(transaction, *args)`` and return its result once it is on disk.

        It joins whatever else is waiting in one commit, and fails or succeeds alone. It may be run
        twice, and touches nothing but its transaction. Raises `DatabaseError` and its kinds.
        """
        if self.hindered:
            await self.admit()
        writer = self._start().writer
        if not heavy:
            done = writer.now(asyncio.current_task(), function, args, False)
            if done is not LATER:
                return cast("T", done)
        return await writer.submit(function, args, heavy)

    def run_now(self, sql: str, parameters: tuple[Any, ...], query: Query) -> object:
        """Write by one statement, for a task that writes alone; `LATER` where `write` is to."""
        if self.hindered:
            return LATER
        writer = (self._running or self._start()).writer
        return writer.now(asyncio.current_task(), sql, parameters, True, query)

    def gatherer(self, work: Work[T]) -> Gatherer[T, Any]:
        """What gathers items for ``work(transaction, items)``; for use where it is `joinable`.

        Those that stand next to each other are written together, with the result or the error of
        each.
        """
        gatherer = self._gatherers.get(work)
        if gatherer is None:
            gatherer = self._gatherers.setdefault(work, Gatherer(self, work, ordered=True))
        return gatherer

    async def admit(self) -> None:
        """What comes before each write, for those who use `submit`."""
        if self.in_transaction:
            raise StateError(
                "a write beside an open transaction of the same task would wait for itself; "
                "write through the transaction instead (tx.kv(…), tx.…)"
            )
        await pass_output_gate()

    def submit(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """`write`, whatever the running task holds or waits for. Not to be cancelled."""
        return self._start().writer.submit(function, args)

    def write_now(
        self, asker: object | None, function: Callable[..., T], *args: object, single: bool = False
    ) -> T | Any:
        """`write` on the spot, for an asker who writes alone; `LATER` if it is to be enqueued."""
        running = self._running or self._start()
        return running.writer.now(asker, function, args, single)

    def enqueue(self, operation: Operation) -> None:
        """Have the writer do it in its turn; it learns itself what has become of it."""
        self._start().writer.enqueue(operation)

    def alone(self) -> Alone:
        """The way to the disk of one who writes alone."""
        return (self._running or self._start()).writer

    async def when_over(self, close: Callable[[], Awaitable[object]]) -> None:
        """Await ``close()``: what was written is on disk."""
        await close()

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._running is not None and not self._running.writer.idle

    @property
    def hindered(self) -> bool:
        """Whether `admit` has something to wait for, or to refuse."""
        if not restrained.get():
            return False
        if output_gate.get() is not None:
            return True
        current = self._open_transaction.get()
        return current is not None and not current.ended

    @property
    def joinable(self) -> bool:
        """Whether a write may begin as soon as it is called, and join those of the same turn.

        Not where it has to wait for something before, and not where somebody writes alone, who is
        to wait for no turn's end: see `write_now`.
        """
        running = self._running
        return running is not None and running.writer.lone is None and not self.hindered

    @property
    def in_transaction(self) -> bool:
        """Whether the running task holds a transaction."""
        current = self._open_transaction.get()
        return current is not None and not current.ended

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Hold the write lock for several reads and writes that become one commit.

        Every other writer of the directory waits meanwhile, so keep it short. Leaving the block by
        an exception undoes everything.
        """
        if self.in_transaction:
            raise StateError("transactions do not nest")
        await pass_output_gate()
        writer = self._start().writer
        request = writer.request()
        try:
            tx = await request
        except asyncio.CancelledError:
            if request.done() and not request.cancelled() and request.exception() is None:
                await writer.end(request.result(), commit=False)
            raise
        opened = _OpenTransaction()
        self._open_transaction.set(opened)
        restrained.set(True)
        committing = False
        try:
            yield tx
            committing = True
        except apsw.Error as error:
            raise translate(error, self.path) from error
        finally:
            opened.ended = True
            tx.finish()
            await writer.end(tx, committing)

    # -- beginning and end -----------------------------------------------------------------

    def _start(self) -> Running:
        running = self._running
        if running is not None:
            return running
        with self._mutex:
            if self._refusal is not None:
                raise StateError(self._refusal)
            if self._running is None:
                self._running = self._open()
                self._local = _Local(self._running)
                self.mark = self._running.mark
                self.watch.renew()
            return self._running

    def _open(self) -> Running:
        while True:
            number = self._file_number()
            running = Running(self.directory, self.durability)
            if number in (None, self._file_number()):
                return running
            # While we waited for its lock, another state was put in the place of this one.
            running.close()

    def _file_number(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def _stop(self) -> None:
        with self._mutex:
            running, self._running = self._running, None
            self._local = _Dormant(self)
            self.mark = no_mark
        if running is not None:
            running.close()

    def renew_readers(self) -> None:
        """Have each thread open its reader anew, when it reads the next time."""
        with self._mutex:
            if self._running is not None:
                self._local = _Local(self._running)

    def header(self) -> object:
        """What changes with every commit of any process."""
        index = self._start().index
        return self.view.one("PRAGMA data_version") if index is None else index.header()

    def foreign(self) -> object:
        """What changes with every commit of another process; None where that is not known now."""
        running = self._start()
        # A commit of ours counts in the file a moment before it does here.
        if running.index is None or running.writer.active:
            return None
        return (counter(running.index.header()) - running.checkpointer.commits) & 0xFFFFFFFF

    @property
    def presence(self) -> Presence:
        """This process among those that use the directory: what claims and leases are held by."""
        with self._mutex:
            if self._refusal is not None:
                raise StateError(self._refusal)
            if self._presence is None:
                from .processes import Presence

                self._presence = Presence(self.directory.processes)
            return self._presence

    def retain(self) -> None:
        """Count one more user."""
        self._users += 1

    async def release(self) -> None:
        """One user is done. The last one waits for what is being written and closes everything."""
        try:
            if self._users == 1 and self._running is not None:
                await self._running.writer.drain()
        finally:
            self.leave()

    def leave(self) -> None:
        """One user is done, who waits for nothing. After the last one everything is closed."""
        with _registry_lock:
            self._users -= 1
            if self._users == 0:
                self.close()

    def close(self) -> None:
        """Close everything at once. What still waits to be written fails with `StateError`."""
        # Whoever opens the directory again looks at its files beside SQLite, which is only right
        # when nothing of this process has them open any more.
        with _registry_lock:
            if _registry.get(self.directory.path) is self:
                del _registry[self.directory.path]
            self.watch.close()
            self._refusal = self._refusal or "the state is closed"
            self._stop()
            if self._presence is not None:
                self._presence.close()
                self._presence = None
            if self.directory.temporary and self._pid == os.getpid():
                self.directory.remove()

    # -- forks -----------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the files if nobody is using them: both processes then open their own.

        SQLite's locks belong to a process and its library remembers which it holds; a child that
        inherits that memory without the locks could corrupt the file.
        """
        self._mutex.acquire()
        if self._running is None:
            return
        if self._running.only_used_by_this_thread():
            self._stop()
        else:
            self._forking = self._running.opened()

    def after_fork_in_parent(self) -> None:
        self._forking = []
        try:
            if self.watch.listened_to:
                # It hears nothing of a log that nobody has open.
                self._start()
        finally:
            self._mutex.release()

    def after_fork_in_child(self) -> None:
        self._mutex = threading.RLock()
        self.watch = Watch(self)
        if self._presence is not None:
            self._presence.abandon()
            self._presence = None
        if self._running is not None:
            # Neither used nor closed: see before_fork.
            self._refusal = (
                f"{self.path} was in use when this process was forked and cannot be used in the "
                "child: fork while nothing is being written and no other thread reads, or start "
                "the process with the spawn method"
            )
            self._open_transaction = _no_transaction()
            self._running.writer.abandon(self._refusal)
            _keep_for_ever(self._forking)
            self._running = None
            self._local = _Dormant(self)
            self.mark = no_mark


class _OpenTransaction:
    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False


def _no_transaction() -> contextvars.ContextVar[_OpenTransaction | None]:
    return contextvars.ContextVar("bunflare_transaction", default=None)


class _Local(threading.local):
    """A thread's reader, opened when the thread first reads."""

    def __init__(self, running: Running) -> None:
        self.reader = running.open_reader()


class _Dormant:
    """Stands for `_Local` while nothing is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def reader(self) -> Reader:
        self._database._start()
        return self._database.reader


_registry: dict[Path, Database] = {}
_registry_lock = threading.RLock()


def _keep_for_ever(inherited: list[object]) -> None:
    """Never close connections that came through a fork, since to close them would be to use them.

    The end of the interpreter would: it takes apart what modules hold, but not what is counted as
    held from elsewhere.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def open_database(
    path: str | os.PathLike[str] | None = None, durability: Durability | None = None
) -> Database:
    """The database of a directory, opened if this process has not opened it yet.

    Each call is one more user, who ends with `Database.release`. ``durability`` is "full" (the
    default: a commit survives a loss of power), "normal" (it survives the end of the process), or
    "off" (a loss of power may ruin the file: for what is thrown away).
    """
    if durability not in (None, "full", "normal", "off"):
        raise DatabaseError(f'durability must be "full" or "normal", not {durability!r}')
    with _registry_lock:
        database = None if path == MEMORY else _registry.get(locate(path))
        if database is None:
            directory = open_directory(path)
            database = Database(directory, "off" if directory.temporary else durability or "full")
            _registry[directory.path] = database
        elif durability is not None and durability != database.durability:
            raise StateError(
                f"{database.directory.path} is open already with durability={database.durability!r}"
            )
        database.retain()
        return database


def get_database(path: str | os.PathLike[str] | None = None) -> Database:
    """The one `Database` of a directory in this process, open until the process ends."""
    with _registry_lock:
        database = open_database(path)
        if database in _kept:
            database._users -= 1
        else:
            _kept.append(database)
        return database


_kept: list[Database] = []


def _close_all() -> None:
    for database in list(_registry.values()):
        database.close()


def _before_fork() -> None:
    _registry_lock.acquire()
    for database in _registry.values():
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in _registry.values():
        database.after_fork_in_parent()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for database in _registry.values():
        database.after_fork_in_child()


atexit.register(_close_all)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
