"""The file of a D1 database, and how its statements reach it.

It is a `Database` of its own: a reader for each thread, one group-commit writer, checkpoints. What
takes microseconds runs on the event loop's thread. A query that turns out to take long is stopped
and run anew on a thread; a write whose program runs through a table goes there at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import apsw

from ..errors import D1Error
from .connection import BusyWait, Durability, connect, enter_wal, translate
from .d1_connection import keyword, statements
from .d1_reader import (
    LONGEST,
    PAGE_SIZE,
    SIZE,
    START,
    UNKNOWN,
    Bound,
    D1Executor,
    D1Reader,
    Done,
    Outcome,
    Position,
    Program,
    TooLong,
    Writes,
    count,
)
from .database import Database, Running, _registry, _registry_lock
from .directory import Directory
from .transaction import Transaction

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

# How long a query may hold up the event loop before it moves to a thread, in seconds.
_INLINE = 0.01
# How long a write waits for other processes: longer than any statement may run.
_PATIENCE = 60.0
_KNOWN = 4096
_TABLES = """
SELECT count(*) FROM sqlite_schema
WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@' AND name NOT LIKE '@_cf@_%' ESCAPE '@'
"""
_READS = frozenset({"SELECT", "VALUES", "EXPLAIN", "WITH"})
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
        """Where kept states of the database are."""
        return self.path.with_name(f".{self.path.stem}.history")


class D1Running(Running):
    """What is open while a D1 database is in use."""

    executes: D1Executor
    #: When the last write was asked for, in milliseconds.
    now = 0

    def __init__(self, directory: Directory, durability: Durability) -> None:
        super().__init__(directory, durability)
        self.busy.timeout = _PATIENCE
        self._slow: ThreadPoolExecutor | None = None

    def prepare(self, connection: apsw.Connection, directory: Directory) -> None:
        path = directory.database
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            enter_wal(connection, path, _PATIENCE)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            self.executes = D1Executor(connection)
        except apsw.Error as error:
            raise translate(error, path) from error
        path.chmod(0o600)

    def _before_commit(self) -> bytes | None:
        header = super()._before_commit()
        try:
            # Once for all that share the commit.
            count(Transaction(self._connection), self.now)
        except apsw.Error:
            # What follows meets the same, and says so to those who asked for it.
            return None
        return header

    def make_reader(self, connection: apsw.Connection) -> D1Reader:
        return D1Reader(connection, self.path, self.index)

    def slow(self) -> ThreadPoolExecutor:
        """Threads for queries that take long, apart from those that the writer needs."""
        with self._mutex:
            if self._slow is None:
                from concurrent.futures import ThreadPoolExecutor

                self._slow = ThreadPoolExecutor(4, thread_name_prefix="bunflare-d1")
            return self._slow

    def close(self) -> None:
        if self._slow is not None:
            self._slow.shutdown(wait=True)
        super().close()


class _Kind:
    """What is known of a text: its statements, and whether they only read."""

    __slots__ = ("parts", "program", "reads")

    def __init__(self, sql: str) -> None:
        self.parts = [part for _, part in statements(sql)]
        self.reads = len(self.parts) == 1 and keyword(sql) in _READS
        self.program: Program | None = None


class D1File(Database):
    """One open D1 database."""

    def __init__(self, directory: D1Directory, durability: Durability) -> None:
        self._kinds: dict[str, _Kind] = {}
        super().__init__(directory, durability)

    def _open(self) -> D1Running:
        return D1Running(self.directory, self.durability)

    def _kind(self, sql: str) -> _Kind:
        kind = self._kinds.get(sql)
        if kind is None:
            if len(self._kinds) >= _KNOWN:
                self._kinds.clear()
            kind = self._kinds[sql] = _Kind(sql)
        return kind

    def read(self, bound: Bound, counted: bool = True) -> Outcome | None:
        """Run the query here and now; None if it is not one, or takes long."""
        sql, parameters = bound
        kind = self._kinds.get(sql) or self._kind(sql)
        if not kind.reads:
            return None
        try:
            reader = cast("D1Reader", self._local.reader)
            if counted and kind.program is None:
                kind.program = reader.program(sql, parameters)
            scans = kind.program is None or not kind.program.short
            return reader.fetch(sql, parameters, _INLINE, counted, scans)
        except TooLong:
            return None
        except Writes:
            kind.reads = False
            return None

    async def query(self, bound: Bound, counted: bool, now: int) -> Outcome:
        """Run what `read` does not: the statement, or several as one transaction."""
        sql, parameters = bound
        kind = self._kind(sql)
        if kind.reads:
            return await self._slowly(sql, parameters, counted)
        program = kind.program
        if program is None or not program.short:
            return (await self.batch([bound], now))[0]
        running = cast("D1Running", self._start())
        running.now = now
        done = await self.write(running.executes.one, sql, parameters, program)
        return self._outcome(done)

    def _outcome(self, done: Done) -> Outcome:
        return Outcome._make((*done, cast("D1Reader", self._local.reader).newest_size()))

    async def _slowly(self, sql: str, parameters: tuple[Any, ...], counted: bool) -> Outcome:
        def run() -> Outcome:
            try:
                reader = cast("D1Reader", self.view)
                return reader.fetch(sql, parameters, LONGEST, counted, True)
            except TooLong:
                raise D1Error(
                    "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be "
                    "reset."
                ) from None

        running = cast("D1Running", self._start())
        return await asyncio.get_running_loop().run_in_executor(running.slow(), run)

    async def batch(self, bounds: Sequence[Bound], now: int) -> list[Outcome]:
        """Run statements as one transaction: all or none. The outcome of each."""
        flat: list[tuple[str, tuple[Any, ...], Program]] = []
        last: list[int] = []
        heavy = False
        for sql, parameters in bounds:
            kind = self._kind(sql)
            if not kind.parts:
                raise D1Error("D1_ERROR: No SQL statements detected.")
            flat += [(part, (), UNKNOWN) for part in kind.parts[:-1]]
            program = kind.program
            if program is None:
                program = cast("D1Reader", self.view).program(kind.parts[-1], parameters)
                short = program.short and keyword(kind.parts[-1]) not in ("PRAGMA", "CREATE")
                program = program._replace(short=short and not _ROLLBACK.search(sql))
                if program.short and len(kind.parts) == 1:
                    kind.program = program
            heavy = heavy or not program.short or len(kind.parts) > 1
            flat.append((kind.parts[-1], parameters, program))
            last.append(len(flat) - 1)
        running = cast("D1Running", self._start())
        running.now = now
        done = await self.write(running.executes.run, flat, now, heavy, heavy=heavy)
        if heavy and any(one[5] and not one[3] for one in done):
            # The schema may have changed, and with it what is known of programs.
            self._kinds.clear()
        size = cast("D1Reader", self._local.reader).newest_size()
        return [Outcome._make((*done[index], size)) for index in last]

    def describe(self, sql: str, parameters: tuple[Any, ...]) -> tuple[str, ...]:
        """The names of the columns that a query gives."""
        return cast("D1Reader", self.view).describe(sql, parameters)

    def position(self) -> Position:
        """How often the database was written to."""
        return cast("D1Reader", self.view).position()

    def describe_all(self) -> dict[str, int]:
        """Size in bytes and number of tables."""
        view = self.view
        pages, size, tables = view.one(SIZE), view.one(PAGE_SIZE), view.one(_TABLES)
        if pages is None or size is None or tables is None:
            raise D1Error("D1_ERROR: the database has no size")
        return {"size": pages[0] * size[0], "tables": tables[0]}

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Run what takes long and only reads."""
        running = cast("D1Running", self._start())
        return await asyncio.get_running_loop().run_in_executor(running.slow(), work)


def open_d1(directory: Directory, name: str, durability: Durability) -> D1File:
    """The database of that name, opened if this process has not opened it yet.

    Each call is one more user, who ends with `Database.release`.
    """
    folder = directory.path / "d1"
    path = folder / f"{name}.sqlite"
    with _registry_lock:
        found = _registry.get(path)
        if found is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = D1File(D1Directory(path), durability)
            _registry[path] = found
        found.retain()
        return cast("D1File", found)


def connect_beside(path: Path, durability: Durability) -> apsw.Connection:
    """A connection of its own to a database's file."""
    return connect(path, durability, BusyWait(_PATIENCE))


__all__ = ["START", "Bound", "D1File", "Outcome", "Position", "open_d1"]
