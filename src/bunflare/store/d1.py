"""The file of a D1 database, and how its statements reach it.

It is a `Database` of its own: a reader for each thread, one group-commit writer, checkpoints, a
history. What takes microseconds runs on the event loop's thread. A query that turns out to take
long is stopped and run anew on a thread; a write whose program runs through a table goes there at
once. What is known of a text (its statements, SQLite's program for them) is learned once.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import apsw

from ..errors import D1Error, StateError
from .connection import BusyWait, Durability, connect, enter_wal, translate
from .d1_connection import keyword, looks_back, same_anywhere, statements, unkept
from .d1_executor import D1Executor, Step, Steps, UnlikeError
from .d1_reader import (
    LONGEST,
    PAGE_SIZE,
    SIZE,
    UNKEPT,
    UNKNOWN,
    Bound,
    D1Reader,
    Done,
    Outcome,
    Program,
    TooLong,
    Writes,
    assumed,
)
from .database import Database, _registry, _registry_lock
from .directory import Directory
from .gate import output_gate
from .gathered import Gatherer
from .history import History
from .history_files import Position, Settings
from .operation import LATER
from .past import trim
from .pending import Pending
from .running import Running
from .threads import on_thread
from .transaction import Transaction

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

# How long a query may hold up the event loop before it moves to a thread, in seconds.
_INLINE = 0.01
# How long a write waits for other processes: longer than any statement may run.
_PATIENCE = 60.0
# So many queries may take long at once before one has to wait for another.
_THREADS = 32
_KNOWN = 4096
# How many times as long the log becomes where earlier states are kept.
_STRETCH = 4
_TABLES = """
SELECT count(*) FROM sqlite_schema
WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@' AND name NOT LIKE '@_cf@_%' ESCAPE '@'
"""
_READS = frozenset({"SELECT", "VALUES", "EXPLAIN", "WITH"})
_QUICK = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
# What undoes a whole transaction must not share one with others.
_ROLLBACK = re.compile(r"\brollback\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class D1Directory(Directory):
    """A database's file, where `Database` expects a directory."""

    @property
    def database(self) -> Path:
        return self.path

    @property
    def turnstile(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    @property
    def history(self) -> Path:
        """Where the earlier states of the database are."""
        return self.path.with_name(f".{self.path.stem}.history")


class D1Running(Running):
    """What is open while a D1 database is in use."""

    executes: D1Executor

    def __init__(
        self, directory: D1Directory, durability: Durability, now: Callable[[], int]
    ) -> None:
        super().__init__(directory, durability)
        self.busy.timeout = _PATIENCE
        self._now = now
        self._slow: ThreadPoolExecutor | None = None
        self.history = History(
            self.path, directory.history, self.index, now, durable=durability != "off"
        )
        self.choose(self.history.settings)
        if self.history.wanting:
            self.executor().submit(self.history.make_base)

    def prepare(self, connection: apsw.Connection, directory: Directory) -> None:
        path = directory.database
        try:
            enter_wal(connection, path, _PATIENCE)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            self.executes = D1Executor(connection)
        except apsw.Error as error:
            raise translate(error, path) from error
        path.chmod(0o600)

    def remembering(self) -> Mapping[int, Any]:
        return {}  # they look for themselves what is new

    def committed(self) -> Callable[[], None]:
        return self._committed

    def _committed(self) -> None:
        self.checkpointer.look()
        self.history.note()

    def choose(self, settings: Settings) -> None:
        """Keep so much of the history from now on."""
        self.history.choose(settings)
        # Keeping what the log has is three flushes and a halt of the writer, whatever that is.
        self.checkpointer.stretch = _STRETCH if settings.on else 1

    def kept(self) -> AbstractContextManager[None]:
        return self.history.kept()

    def trim(self) -> None:
        self.history.make_base()
        trim(self.history.files, self.history.settings, self._now())

    def make_reader(self, connection: apsw.Connection) -> D1Reader:
        # Only who closes the last connection of all copies the log back: see `History.close`.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.executes.switches.apply(connection)
        return D1Reader(connection, self.path, self.index)

    def slow(self) -> ThreadPoolExecutor:
        """Threads for queries that take long, apart from those that the writer needs."""
        with self._mutex:
            if self._slow is None:
                from concurrent.futures import ThreadPoolExecutor

                self._slow = ThreadPoolExecutor(_THREADS, thread_name_prefix="bunflare-d1")
            return self._slow

    async def rest(self) -> None:
        """Wait until the queries that take long have come to their ends."""
        if self._slow is not None:
            await on_thread(self._slow.shutdown)

    def close(self) -> None:
        if self._slow is not None:
            self._slow.shutdown(wait=True)
        super().close()

    def close_connection(self) -> None:
        self.history.close(self._connection, self._turnstile)


class _Kind:
    """What is known of a text: its statements, and what they do."""

    __slots__ = ("parts", "program", "reads")

    def __init__(self, sql: str) -> None:
        if "\0" in sql:
            raise D1Error("D1_ERROR: a statement cannot have a NUL character: SQLITE_ERROR")
        self.parts = [part for _, part in statements(sql)]
        #: Whether it is one statement that only reads.
        self.reads = len(self.parts) == 1 and keyword(sql) in _READS and same_anywhere(sql)
        #: The last statement's, once it is known.
        self.program = UNKEPT if self.parts and unkept(self.parts[-1]) else None


class D1File(Database):
    """One open D1 database."""

    _running: D1Running | None
    # Readers are each thread's own.
    _local: Any

    def __init__(
        self,
        directory: D1Directory,
        durability: Durability,
        now: Callable[[], int],
        results: Callable[[Sequence[Any], int], list[Any]],
    ) -> None:
        """``results`` makes of what several statements did, and the size after them, what those
        hear who wait for short writes.
        """
        self._results = results
        self._kinds: dict[str, _Kind] = {}
        self._now = now
        self._asked = 0
        #: Short writes: the result of each.
        self.writes = Gatherer[Step, Any](self, self._gathered, self._finished)
        super().__init__(directory, durability)

    def _open(self) -> D1Running:
        running = D1Running(cast("D1Directory", self.directory), self.durability, self._now)
        running.executes.switches.changed = self.renew_readers
        return running

    @property
    def running(self) -> D1Running:
        """What is open, opened if need be."""
        return self._running or self._start()

    def _start(self) -> D1Running:
        return cast("D1Running", super()._start())

    @property
    def history(self) -> History:
        return self.running.history

    # -- what is known of statements -------------------------------------------------------

    def _kind(self, sql: str) -> _Kind:
        if (kind := self._kinds.get(sql)) is None:
            if len(self._kinds) >= _KNOWN:
                self._kinds.clear()
            kind = self._kinds[sql] = _Kind(sql)
        return kind

    def _program(self, kind: _Kind, parameters: tuple[Any, ...]) -> Program:
        """What the last statement of a text does."""
        program = kind.program
        if program is not None:
            return program
        last = kind.parts[-1]
        word = keyword(last)
        program = cast("D1Reader", self.view).program(last, parameters)
        short = program.short and word != "CREATE" and _ROLLBACK.search(last) is None
        quick = short and program.final and not program.rows and word in _QUICK
        quick = quick and len(kind.parts) == 1 and not looks_back(last)
        program = program._replace(short=short, quick=quick, appends=quick and program.appends)
        if program != UNKNOWN:
            kind.program = program
        return program

    def _relearn(self) -> None:
        """Forget what is known if SQLite had to look at a schema, which may be a new one."""
        asked = self.running.executes.guard.asked
        if asked != self._asked:
            self._asked = asked
            self._kinds.clear()

    # -- running them ----------------------------------------------------------------------

    def read(self, bound: Bound, counted: bool = True) -> Outcome | None:
        """Run the query here and now; None if it is not one, or takes long."""
        sql, parameters = bound
        kind = self._kinds.get(sql) or self._kind(sql)
        if not kind.reads:
            return None
        try:
            reader: D1Reader = self._local.reader
            if counted and kind.program is None:
                kind.program = reader.program(sql, parameters)
            return reader.fetch(sql, parameters, _INLINE, counted, kind.program)
        except TooLong:
            return None
        except Writes:
            kind.reads = False
            return None

    def quick(self, sql: str, parameters: tuple[Any, ...]) -> Step | None:
        """The short write, for `writes`; None if it is not known to be one, or has to wait."""
        kind = self._kinds.get(sql)
        program = None if kind is None else kind.program
        if program is None or not program.quick or output_gate.get() is not None:
            return None
        return sql, parameters, program

    def begin_short(self, sql: str, parameters: tuple[Any, ...]) -> Pending[Any] | None:
        """Begin a short write, for whoever waits for its result; None where it is to be awaited."""
        running = self._running
        if running is None or running.writer.lone is not None or self.hindered:
            return None
        step = self.quick(sql, parameters)
        return None if step is None else self.writes.begin(step)

    def now(self, step: Step | Steps, many: bool = False) -> tuple[Any, int] | Any:
        """What was done, and the size, at once for a task that writes alone; else `LATER`.

        ``many`` says that it is for `D1Executor.batch`.
        """
        running = self._running or self._start()
        if self.writes.gathering or running.writer.lone is None:
            return LATER
        executes = running.executes
        function: Callable[..., Any] = executes.batch if many else executes.single
        done = running.writer.now(asyncio.current_task(), function, (step,), not many)
        if done is LATER:
            return LATER
        if executes.guard.asked != self._asked:
            self._relearn()
        return done, self._local.reader.newest_size()

    def _gathered(self, tx: Transaction, steps: list[Step]) -> Sequence[Any]:
        return self.running.executes.gathered(tx, steps)

    def _finished(self, _steps: Sequence[Step], done: Sequence[Any]) -> list[Any]:
        self._relearn()
        return self._results(done, self._local.reader.newest_size())

    async def query(self, bound: Bound, counted: bool) -> Outcome:
        """Run what `read` and `quick` do not: the statement, or several as one transaction."""
        sql, parameters = bound
        kind = self._kind(sql)
        if kind.reads:
            return await self._slowly(sql, parameters, counted, kind.program)
        done, size = await self.batch([bound])
        return (*done[0], size)

    async def _slowly(
        self, sql: str, parameters: tuple[Any, ...], counted: bool, program: Program | None
    ) -> Outcome:
        given_up: list[None] = []

        def run() -> Outcome:
            try:
                reader = cast("D1Reader", self.view)
                return reader.fetch(sql, parameters, LONGEST, counted, program, given_up.__len__)
            except TooLong:
                raise D1Error(
                    "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be "
                    "reset."
                ) from None

        try:
            return await self.on_thread(run)
        except asyncio.CancelledError:
            # Nobody waits for it any more.
            given_up.append(None)
            raise

    async def alike(
        self, sql: str, many: Sequence[tuple[Any, ...]]
    ) -> tuple[Sequence[Done], int] | None:
        """`batch` of one statement that appends a row, with many parameters; None of another."""
        kind = self._kinds.get(sql)
        if kind is None or kind.program is None or not kind.program.appends:
            return None
        step = sql, many, kind.program
        try:
            if self.hindered or (found := self.now(step, many=True)) is LATER:
                return await self._written(self.running.executes.batch, step)
            return found
        except UnlikeError:
            return None

    async def batch(self, bounds: Sequence[Bound]) -> tuple[Sequence[Done], int]:
        """Run statements as one transaction: all or none. What each did, and the size after."""
        steps: list[Step] = []
        last: list[int] = []
        heavy = False
        last_sql: str | None = None
        program = UNKNOWN
        for sql, parameters in bounds:
            if sql is not last_sql:
                kind = self._kind(sql)
                if not kind.parts:
                    raise D1Error("D1_ERROR: No SQL statements detected.")
                program = self._program(kind, parameters)
                heavy = heavy or not program.short or len(kind.parts) > 1
                last_sql = sql if len(kind.parts) == 1 else None
                text = kind.parts[-1]
            if last_sql is None:
                steps += [(part, (), assumed(part)) for part in kind.parts[:-1]]
            steps.append((text, parameters, program))
            last.append(len(steps) - 1)
        given_up: list[None] = []
        try:
            done, size = await self._written(
                self.running.executes.run, steps, given_up.__len__, heavy=heavy
            )
        except asyncio.CancelledError:
            # A write that takes long need not come to its end: nothing of it is written.
            given_up.append(None)
            raise
        if heavy and any(one[5] and not one[3] for one in done):
            # The schema may have changed, and with it what is known of programs.
            self._kinds.clear()
        if len(last) != len(done):
            done = [done[index] for index in last]
        return done, size

    async def _written(
        self, function: Callable[..., Sequence[Done]], *args: object, heavy: bool = False
    ) -> tuple[Sequence[Done], int]:
        # What is asked for after this comes after it.
        self.writes.part()
        done = await self.write(function, *args, heavy=heavy)
        self._relearn()
        return done, self._local.reader.newest_size()

    def describe(self, sql: str, parameters: tuple[Any, ...]) -> tuple[str, ...]:
        """The names of the columns that a text's last statement gives."""
        return cast("D1Reader", self.view).describe(self._kind(sql).parts[-1], parameters)

    def position(self) -> Position:
        """The present state's place in the history."""
        return self.history.position()

    def describe_all(self) -> dict[str, int]:
        """Size in bytes and number of tables."""
        view = self.view
        pages, size, tables = view.one(SIZE), view.one(PAGE_SIZE), view.one(_TABLES)
        if pages is None or size is None or tables is None:
            raise D1Error("D1_ERROR: the database has no size")
        return {"size": pages[0] * size[0], "tables": tables[0]}

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Run what takes long and only reads."""
        try:
            asked = asyncio.get_running_loop().run_in_executor(self.running.slow(), work)
        except RuntimeError as error:
            raise StateError("the state is closed") from error
        return await asked

    async def release(self) -> None:
        if self._users == 1 and self._running is not None:
            await self._running.rest()
        await super().release()

    async def aside(self, work: Callable[[], T]) -> T:
        """Run what writes through a connection of its own, while our writer stands still."""
        outcome: list[T | BaseException] = []

        def run() -> None:
            try:
                outcome.append(work())
                self.history.note()
            except Exception as error:
                outcome.append(error)

        await self.running.writer.aside(run)
        # Its tables may be others now.
        self._kinds.clear()
        if not outcome:
            raise D1Error("D1_ERROR: the database was closed before this was done")
        found = outcome[0]
        if isinstance(found, BaseException):
            raise found
        return found


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def open_d1(
    directory: Directory,
    name: str,
    durability: Durability,
    results: Callable[[Sequence[Any], int], list[Any]],
    now: Callable[[], int] = _milliseconds,
) -> D1File:
    """The database of that name, opened if this process has not opened it yet.

    Each call is one more user, who ends with `Database.release`. ``now`` gives the ms epoch; for
    ``results`` see `D1File`.
    """
    folder = directory.path / "d1"
    path = folder / f"{name}.sqlite"
    with _registry_lock:
        found = _registry.get(path)
        if found is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = D1File(D1Directory(path), durability, now, results)
            _registry[path] = found
        found.retain()
        return cast("D1File", found)


def connect_beside(path: Path, durability: Durability) -> apsw.Connection:
    """A connection of its own to a database's file."""
    return connect(path, durability, BusyWait(_PATIENCE))


__all__ = ["Bound", "D1File", "Outcome", "Position", "open_d1"]
