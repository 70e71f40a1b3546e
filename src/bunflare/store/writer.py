"""The one writer of a process: group commit, transactions, and waiting for other processes.

All that waits when the writer is free becomes one ``BEGIN IMMEDIATE … COMMIT``, and nobody is told
of success before that commit is on disk. A write first waits for the end of the event loop's
current turn, so whatever else the turn asks for joins it: a hundred concurrent writes are a single
flush of the disk. But a task whose last write shared its commit with nothing else has the next one
made on the spot, for a few milliseconds: see :mod:`bunflare.store.alone`.

Each operation of a group succeeds or fails alone. Savepoints would cost every operation a third of
its time, so there are none at first: a failed statement undoes itself, and an operation that fails
before it has changed anything simply drops out. Only if it fails half-way is the group undone and
run once more, then with savepoints. That is why a write function may be run twice.

Everything runs on the event loop's thread, where a statement costs microseconds and needs no
hand-over of the interpreter lock, except for what may block: waiting for another process, a commit
on a disk that has shown itself slow, and an operation said to be heavy. Those are single calls on a
thread, during which the event loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from ..errors import DatabaseError, StateError
from .alone import Alone
from .connection import as_ours, translate
from .loops import call_soon, in_thread
from .operation import Joint, Operation, Pause, deliver
from .transaction import HalfWayError, Transaction

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from .checkpoint import Checkpointer
    from .entry import Entry
    from .reader import Before, Reader

T = TypeVar("T")

_GROUP_LARGEST = 1024


class Writer(Alone):
    """Owns the connection that writes. One per database and process."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        entry: Entry,
        checkpointer: Checkpointer,
        readers: Mapping[int, Reader],
        mark: Callable[[], bytes | None],
        committed: Callable[[], None],
        threads: Callable[[], Executor],
    ) -> None:
        super().__init__(connection, path, entry, checkpointer, readers, mark, committed)
        self._threads = threads
        self._pump_loop: asyncio.AbstractEventLoop | None = None
        self._refusal = "the state was closed before this was written"
        self._transaction: Transaction | None = None
        #: Who was the first to ask for something, while that waits.
        self._asker: object | None = None
        #: The last of those that keep their places, if others may join it.
        self._joinable: Joint | None = None

    # -- asking ----------------------------------------------------------------------------

    def submit(
        self, function: Callable[..., T], args: tuple[Any, ...], heavy: bool = False
    ) -> asyncio.Future[T]:
        """Have ``function(transaction, *args)`` run in the next group."""
        operation = Operation(function, args, heavy, asyncio.get_running_loop())
        self.enqueue(operation)
        return operation.future

    def request(self) -> asyncio.Future[Transaction]:
        """Ask for a transaction of one's own, to be ended with `end`."""
        operation = Operation(None, (), False, asyncio.get_running_loop())
        self.enqueue(operation)
        return operation.future

    def pause(self, work: Callable[[], None]) -> None:
        """Run ``work`` on a thread while nothing is written. Nobody waits for it."""
        with suppress(StateError):  # closing does what a pause is asked for
            self.enqueue(Pause(work, (), True, asyncio.get_running_loop()))

    def aside(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run ``work``, which raises nothing, on a thread while nothing is written."""
        operation = Pause(work, (), True, asyncio.get_running_loop())
        self.enqueue(operation)
        return operation.future

    def drain(self) -> asyncio.Future[None]:
        """Wait until all that was asked for before has been done, whether it succeeded or not."""
        operation = Pause(None, (), True, asyncio.get_running_loop())
        self.enqueue(operation)
        return operation.future

    def enqueue(self, operation: Operation) -> None:
        """Have it done in its turn; it learns itself what has become of it."""
        loop = operation.loop
        with self._mutex:
            if self._closed:
                raise StateError("the state is closed")
            if not self._waiting:
                self._asker = operation.asker()
            if operation.ordered:
                if self._joinable is not None:
                    self._joinable.close()
                self._joinable = operation if isinstance(operation, Joint) else None
            self._waiting.append(operation)
            if self._active or self._pump_loop is loop:
                return
            self._pump_loop = loop
        loop.call_soon(self._pump)

    @property
    def active(self) -> bool:
        """Whether a group or a transaction is under way."""
        return self._active

    @property
    def idle(self) -> bool:
        return not self._active and not self._waiting

    def close(self) -> None:
        """Refuse what comes, and fail what still waits."""
        with self._mutex:
            self._closed = True
            rest = list(self._waiting)
            self._waiting.clear()
        for operation in rest:
            if isinstance(operation, Pause) and operation.function is not None:
                continue  # nobody waits for it
            operation.error = StateError(self._refusal)
            deliver(operation)

    def abandon(self, refusal: str) -> None:
        """Never touch the connection again: this is the child of a fork, and it is the parent's."""
        self._mutex = threading.Lock()
        self._refusal = refusal
        if self._transaction is not None:
            self._transaction.finish(refusal)
        self.close()

    # -- groups ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start on what waits, if the writer is free. Runs in an event loop."""
        with self._mutex:
            self._pump_loop = None
            if self._active:
                return
            group = self._take()
            asker, self._asker = self._asker, None
            self.lone = None
            if not group:
                return
            self._active = True
        first = group[0]
        if len(group) == 1 and asker is not None and not first.several:
            self._met_alone(asker)
        if not isinstance(first, Pause):
            self._enter(group)
        elif first.function is None:
            self._paused(first)
        else:
            in_thread(self._threads, first.function, lambda _: self._paused(first))

    def _paused(self, operation: Operation) -> None:
        deliver(operation)
        self._release()

    def _take(self) -> list[Operation]:
        group: list[Operation] = []
        waiting = self._waiting
        while waiting and len(group) < _GROUP_LARGEST:
            if waiting[0].alone and group:
                break
            operation = waiting.popleft()
            if operation.given_up():
                continue
            group.append(operation)
            if operation.alone:
                break
        return group

    def _enter(self, group: list[Operation], *, careful: bool = False) -> None:
        """Take the write lock, waiting for it on a thread if need be, and run the group."""
        try:
            entered = self._entry.at_once()
        except apsw.Error as error:
            self._fail(group, translate(error, self._path))
            return
        if entered:
            self._run(group, careful)
        else:
            in_thread(
                self._threads,
                self._entry.patiently,
                lambda error: self._entered(group, careful, error),
            )

    def _entered(self, group: list[Operation], careful: bool, error: BaseException | None) -> None:
        if error is None and self._closed:
            error = StateError(self._refusal)
        if error is None:
            self._run(group, careful)
        else:
            self._fail(group, error)

    def _run(self, group: list[Operation], careful: bool) -> None:
        transaction = Transaction(self._connection, self._execute)
        if group[0].function is None:
            self._hand_over(group[0], transaction)
        elif group[0].heavy:
            in_thread(
                self._threads,
                lambda: self._heavy(group, transaction),
                lambda error: self._finish(group, transaction, None, error),
            )
        else:
            before = self._before_commit()
            transaction.before, transaction.careful = before, careful
            error = self._statements(group, transaction, careful)
            if isinstance(error, HalfWayError):
                self._run_again(group)
            elif error is not None:
                self._finish(group, transaction, before, error)
            elif not self._slow:
                self._finish(group, transaction, before, self._commit())
            else:
                in_thread(
                    self._threads,
                    self._commit,
                    lambda error: self._finish(group, transaction, before, error),
                )

    def _run_again(self, group: list[Operation]) -> None:
        """Undo the group and run it with savepoints; others may have the write lock first."""
        try:
            self._rollback()
        except apsw.Error as error:
            self._fail(group, translate(error, self._path))
        else:
            self._enter(group, careful=True)

    def _heavy(self, group: list[Operation], transaction: Transaction) -> BaseException | None:
        return self._statements(group, transaction, False) or self._commit()

    def _statements(
        self, group: list[Operation], transaction: Transaction, careful: bool
    ) -> BaseException | None:
        """Run the group's functions. What comes back is why there can be no commit at all."""
        try:
            if len(group) == 1:
                # Whatever it had changed before it failed goes with the group.
                operation = group[0]
                assert operation.function is not None
                operation.result = operation.function(transaction, *operation.args)
            else:
                run = self._cautious if careful else self._optimistic
                for operation in group:
                    run(operation, transaction)
        except HalfWayError as error:
            return error
        except Exception as error:
            return as_ours(error, self._path)
        except BaseException as error:
            # Control flow of the program (an interrupt, an exit): nothing is written.
            self._rollback()
            self._fail(group, StateError(f"interrupted by {type(error).__name__}"))
            raise
        return None

    def _optimistic(self, operation: Operation, transaction: Transaction) -> None:
        assert operation.function is not None
        mark = transaction.mark()
        try:
            operation.result = operation.function(transaction, *operation.args)
        except Exception as error:
            if not transaction.open:
                raise
            if transaction.changed_since(mark):
                raise HalfWayError from error
            transaction.rewind(mark)
            operation.error = as_ours(error, self._path)

    def _cautious(self, operation: Operation, transaction: Transaction) -> None:
        assert operation.function is not None
        operation.error = None
        try:
            with transaction.savepoint():
                operation.result = operation.function(transaction, *operation.args)
        except Exception as error:
            if not transaction.open:
                raise
            operation.error = as_ours(error, self._path)

    def _finish(
        self,
        group: list[Operation],
        transaction: Transaction,
        before: Before | None,
        error: BaseException | None,
    ) -> None:
        if error is not None:
            self._rollback()
            self._fail(group, error)
            return
        self._after_commit(before, transaction)
        deliver(*group)
        self._release()

    def _fail(self, group: list[Operation], error: BaseException) -> None:
        for operation in group:
            operation.error = error
        deliver(*group)
        self._release()

    def _release(self) -> None:
        self._transaction = None
        # Whoever asks has added to what waits before they look at this.
        self._active = False
        if not self._waiting:
            return
        with self._mutex:
            if self._active or not self._waiting:
                return
            loop = self._waiting[0].loop
            if self._pump_loop is loop:
                return
            self._pump_loop = loop
        call_soon(loop, self._pump)

    # -- transactions ----------------------------------------------------------------------

    def _hand_over(self, operation: Operation, transaction: Transaction) -> None:
        operation.result = transaction
        operation.unwanted = self._take_back
        self._transaction = transaction
        deliver(operation)

    def _take_back(self) -> None:
        try:
            self._rollback()
        finally:
            self._release()

    async def end(self, transaction: Transaction, commit: bool) -> None:
        """End the transaction that `request` gave: its writes are on disk, or undone."""
        if not commit:
            self._take_back()
            return
        if self._closed:
            raise StateError(self._refusal)
        if not transaction.open:
            self._release()
            raise DatabaseError(f"{self._path}: the transaction was undone before its end")
        before = self._before_commit()
        if not self._slow:
            error = self._commit()
            self._ended(transaction, before, error)
        else:
            done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

            def ended(error: BaseException | None) -> None:
                self._ended(transaction, before, error)
                done.set_result(error)

            in_thread(self._threads, self._commit, ended)
            # A caller who gives up waiting leaves the commit, and what follows it, to themselves.
            error = await asyncio.shield(done)
        if error is not None:
            raise error

    def _ended(
        self, transaction: Transaction, before: Before | None, error: BaseException | None
    ) -> None:
        if error is None:
            self._after_commit(before, transaction)
        self._release()
