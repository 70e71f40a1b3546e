"""D1: a SQL database per binding, as a Worker's binding has it, in Python's words.

`D1Database` has the operations of the platform's binding, its types, limits and messages. It
departs from it where that helps: blobs are bytes, 64-bit integers stay whole, and ``exec`` splits a
text as SQLite does instead of at line ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from ..errors import D1Error, D1TypeError, D1ValueError
from ..store.d1 import Bound, D1File, Outcome
from ..store.d1_reader import COLUMNS, ROWS, SIZE_AFTER
from ..store.operation import LATER
from ..store.pending import Pending, begins
from .d1_parameters import parameter
from .d1_results import D1Meta, D1Result, D1Timings, result, result_of_rows, results
from .text import encodable

# Classes of values that SQLite takes as they are; it makes NULL of NaN itself.
_PLAIN = frozenset({type(None), float, bytes})


@dataclass(frozen=True, slots=True)
class D1ExecResult:
    """How many statements were run, and for how many milliseconds."""

    count: int
    duration: float


class D1PreparedStatement:
    """A statement with its parameters. Made by `D1Database.prepare`."""

    # No __init__: there is one for each row that is written, and to call a class that has one takes
    # three times as long.
    __slots__ = ("_database", "_parameters", "_sql")

    _database: _Queries
    _sql: str
    _parameters: tuple[Any, ...]

    @property
    def bound(self) -> Bound:
        """The text and its parameters."""
        return self._sql, self._parameters

    def bind(self, *values: Any) -> D1PreparedStatement:
        """The same statement with ``values`` for its ``?`` or ``?NNN``.

        Takes None, int, float, str, bool (as 1 and 0), bytes and other buffers, and lists of byte
        values (0 to 255). Raises `D1TypeError` for anything else. A lone surrogate in a str
        becomes U+FFFD.
        """
        for value in values:
            kind = type(value)
            if kind is int:
                # Python compares small ones in a third of the time.
                if -0x3FFF_FFFF <= value <= 0x3FFF_FFFF:
                    continue
                if -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
                    continue
            elif kind is str:
                if value.isascii():
                    continue
            elif kind in _PLAIN:
                continue
            values = tuple(map(parameter, values))
            break
        bound = D1PreparedStatement()
        bound._database = self._database
        bound._sql = self._sql
        bound._parameters = values
        return bound

    async def first(self, column: str | None = None) -> Any:
        """The first row as a dict, or its ``column``; None if there is no row."""
        database, bound = self._database, (self._sql, self._parameters)
        outcome = database.read(bound, False) or await database.query(bound, False)
        columns, rows = outcome[:2]
        if not rows:
            return None
        row = dict(zip(columns, rows[0]))  # noqa: B905 - as long as each other
        if column is None:
            return row
        if column not in row:
            raise D1Error(f"D1_COLUMN_NOTFOUND: Column not found ({column})")
        return row[column]

    @begins
    def all(self) -> Coroutine[Any, Any, D1Result]:
        """Run it: all rows, and what was done.

        A short write begins at once; whether it succeeded one hears by awaiting it.
        """
        return self._database.begin(self._sql, self._parameters) or self._all()

    async def _all(self) -> D1Result:
        database = self._database
        file = database.file
        step = file.quick(self._sql, self._parameters)
        if step is not None:
            found = file.now(step)
            made: D1Result = await file.writes.add(step) if found is LATER else result(found)
            database.seen()
            return made
        bound = self._sql, self._parameters
        outcome = database.read(bound, True) or await database.query(bound, True)
        return result_of_rows(outcome, outcome[SIZE_AFTER])

    #: The same as `all`.
    run = all

    async def raw(self, column_names: bool = False) -> list[list[Any]]:
        """All rows as lists, if asked for after a list of the columns' names."""
        database, bound = self._database, (self._sql, self._parameters)
        outcome = database.read(bound, False) or await database.query(bound, False)
        rows: list[list[Any]] = list(map(list, outcome[ROWS]))
        if column_names:
            names = outcome[COLUMNS] or database.file.describe(*bound)
            rows.insert(0, list(names))
        return rows


class _Queries:
    """What a database and a session have in common."""

    __slots__ = ("begin", "file")

    def __init__(self, file: D1File, begin: Callable[..., Pending[Any] | None]) -> None:
        """``begin(sql, parameters)`` begins a write at once, or gives None."""
        self.file = file
        self.begin = begin

    def prepare(self, sql: str) -> D1PreparedStatement:
        """A statement. Nothing is looked at before it is run."""
        if not isinstance(sql, str):
            raise D1TypeError(f"D1_TYPE_ERROR: a statement is a str, not {type(sql).__name__}")
        statement = D1PreparedStatement()
        statement._database = self
        statement._sql = sql if sql.isascii() else encodable(sql)
        statement._parameters = ()
        return statement

    async def batch(self, statements: Iterable[D1PreparedStatement]) -> list[D1Result]:
        """Run several statements as one transaction: if one fails, none was run."""
        if statements.__class__ is not list and not isinstance(statements, Iterable):
            raise D1TypeError(
                f"D1_TYPE_ERROR: batch takes several statements, not {type(statements).__name__}"
            )
        prepared = list(statements)
        kind = D1PreparedStatement
        # Most are one statement with many parameters.
        sql = prepared[0]._sql if prepared and prepared[0].__class__ is kind else None
        many = [one._parameters for one in prepared if one.__class__ is kind and one._sql is sql]
        if sql is None or len(many) != len(prepared):
            done = await self.file.batch(_several(prepared))
        else:
            done = await self.file.alike(sql, many) or await self.file.batch(_several(prepared))
        self.seen()
        return results(*done)

    def read(self, bound: Bound, counted: bool) -> Outcome | None:
        """Run a query here and now, if that is quick."""
        return self.file.read(bound, counted)

    def query(self, bound: Bound, counted: bool) -> Awaitable[Outcome]:
        """Run any statement."""
        return self.file.query(bound, counted)

    def seen(self) -> None:
        """Note what state an answer is of."""


def _several(prepared: list[D1PreparedStatement]) -> list[Bound]:
    """The statements of a batch."""
    for statement in prepared:
        if statement.__class__ is not D1PreparedStatement:
            raise D1TypeError(
                f"D1_TYPE_ERROR: batch takes prepared statements, not {type(statement).__name__}"
            )
    if not prepared:
        raise D1ValueError("D1_ERROR: No SQL statements detected.")
    return [statement.bound for statement in prepared]


class D1Database(_Queries):
    """A database. Made by `State.d1`."""

    __slots__ = ()

    def __init__(self, file: D1File) -> None:
        super().__init__(file, file.begin_short)

    async def exec(self, sql: str) -> D1ExecResult:
        """Run the statements of a text one after the other, each a transaction of its own.

        The text is split as SQLite does it, so statements may span lines. One that fails is named
        by its line; those before it stay done.
        """
        from ..store.d1_connection import statements

        if not isinstance(sql, str):
            raise D1TypeError(f"D1_TYPE_ERROR: exec takes a str, not {type(sql).__name__}")
        sql = encodable(sql)
        started = time.perf_counter()
        count = 0
        for position, statement in statements(sql):
            try:
                bound = (statement, ())
                _ = self.read(bound, False) or await self.query(bound, False)
            except D1Error as error:
                line = sql.count("\n", 0, position) + 1
                reason = str(error).removeprefix("D1_ERROR: ")
                raise D1Error(
                    f"D1_EXEC_ERROR: Error in line {line}: {statement.rstrip()}: {reason}"
                ) from error
            count += 1
        if not count:
            raise D1ValueError("D1_EXEC_ERROR: No SQL statements detected.")
        return D1ExecResult(count, (time.perf_counter() - started) * 1000)

    async def dump(self) -> NoReturn:
        """Refused, as the platform does since its alpha; see `D1Database.export_sql`."""
        raise D1Error("D1_DUMP_ERROR: Status + 404")

    async def migrate(
        self,
        directory: str | os.PathLike[str],
        table: str = "d1_migrations",
        pattern: str = "*.sql",
    ) -> list[str]:
        """Apply the migrations of a directory that were not applied yet, by number and name.

        ``pattern`` says which files they are: ``*/migration.sql`` those that Drizzle makes.

        Each is one transaction together with its record in ``table``, as wrangler keeps it. One
        that fails raises `D1Error` with its file and line, and leaves nothing behind; those before
        it stay applied. Returns the names of those applied now: paths within the directory.
        """
        from .d1_migrations import migrate

        return await migrate(self.file, directory, table, pattern)

    async def pending_migrations(
        self,
        directory: str | os.PathLike[str],
        table: str = "d1_migrations",
        pattern: str = "*.sql",
    ) -> list[str]:
        """The names of the migrations that `migrate` would apply: paths within the directory."""
        from .d1_migrations import pending

        return pending(self.file, directory, table, pattern)

    async def execute(self, sql: str) -> list[D1Result]:
        """The statements of a text as one transaction: a result for each."""
        from ..store.d1_connection import statements

        return await self.batch([self.prepare(one) for _, one in statements(encodable(sql))])

    async def info(self) -> dict[str, int]:
        """Size in bytes and number of tables, without those that SQLite and we keep notes in."""
        return self.file.describe_all()

    async def export_sql(
        self,
        path: str | os.PathLike[str] | None = None,
        schema: bool = True,
        data: bool = True,
        tables: Collection[str] = (),
        progress: Callable[[int], object] | None = None,
    ) -> str | None:
        """Write the database as SQL that SQLite, wrangler and `import_sql` can read.

        To ``path``, whole or not at all; or as the returned text. ``tables`` chooses some.
        ``progress`` is called, on another thread, with the number of statements written. It is the
        state of one moment, and hinders nobody.
        """
        from .d1_files import export

        return await export(self.file, path, schema, data, tables, progress)

    async def import_sql(
        self, path: str | os.PathLike[str], progress: Callable[[int], object] | None = None
    ) -> int:
        """Run a file of SQL as one transaction; returns how many statements it had.

        BEGIN, COMMIT and the switching of foreign keys, which other programs write, are passed
        over; keys are checked at the end. ``progress`` is called, on another thread, with the
        number of bytes done. Raises `D1Error` with file and line, and nothing has changed.
        """
        from .d1_files import load

        return await load(self.file, path, progress)

    async def bookmark(self, at: str | datetime | None = None) -> str:
        """The present state's bookmark for `restore`, or that of the state at a time."""
        from .d1_travel import bookmark

        return await bookmark(self.file, at)

    async def restore(self, to: str | datetime) -> str:
        """Go back to the state of a bookmark (`bookmark`, a session's), or that at a time.

        A time is a datetime (a naive one is local time) or ISO 8601 text (UTC without a zone).
        Every committed state is kept; see `keep_history`. Returns the bookmark of the state before,
        with which going back is undone. Raises `D1Error` where the state is not kept; nothing has
        changed then.
        """
        from .d1_travel import restore

        return await restore(self.file, to)

    async def keep_history(self, days: float = 30.0, megabytes: float = 1024.0) -> None:
        """For how long earlier states are kept, and how many megabytes of them at most.

        It is noted with the database, for all processes that open it after. 0 keeps none.
        """
        from .d1_travel import keep_history

        await keep_history(self.file, days, megabytes)

    def with_session(self, constraint_or_bookmark: str | None = None) -> D1DatabaseSession:
        """A session: "first-primary", "first-unconstrained" (the default), or a bookmark.

        Every query of a session sees at least the state that its bookmark names. There is one copy
        of the data here, so that is the newest state, whichever process wrote it.
        """
        return D1DatabaseSession(self.file, constraint_or_bookmark)

    def __repr__(self) -> str:
        return f"<D1Database {self.file.path.stem}>"


class D1DatabaseSession(_Queries):
    """A session. Made by `D1Database.with_session`."""

    __slots__ = ("_bookmark",)

    def __init__(self, file: D1File, constraint_or_bookmark: str | None) -> None:
        # It notes what each answer is of, so none is given without it.
        super().__init__(file, lambda *_: None)
        if constraint_or_bookmark is not None and not isinstance(constraint_or_bookmark, str):
            raise D1TypeError("D1_SESSION_ERROR: invalid bookmark or constraint")
        given = (constraint_or_bookmark or "").strip()
        constraints = ("", "first-primary", "first-unconstrained")
        self._bookmark: str | None = None if given in constraints else given

    def get_bookmark(self) -> str | None:
        """The newest state that this session has seen; None before its first query."""
        return self._bookmark

    def read(self, bound: Bound, counted: bool) -> Outcome | None:
        outcome = super().read(bound, counted)
        if outcome is not None:
            self.seen()
        return outcome

    async def query(self, bound: Bound, counted: bool) -> Outcome:
        outcome = await super().query(bound, counted)
        self.seen()
        return outcome

    def seen(self) -> None:
        from .d1_travel import bookmark_of

        bookmark = bookmark_of(self.file, self.file.position())
        before = self._bookmark
        # What was given may be another database's, or none at all.
        if before is None or before < bookmark or before[-32:] != bookmark[-32:]:
            self._bookmark = bookmark


__all__ = [
    "D1Database",
    "D1DatabaseSession",
    "D1ExecResult",
    "D1Meta",
    "D1PreparedStatement",
    "D1Result",
    "D1Timings",
]
