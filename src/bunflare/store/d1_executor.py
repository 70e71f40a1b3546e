"""Running the statements that write to a D1 database, and counting what they did.

Most writes are one short statement of which all is known: its program runs through no table and
leaves nothing to be checked at the commit. What an event loop's turn asks for of that kind is
gathered into one operation of the writer's, in which a failing statement undoes itself and harms no
other. All else is an operation of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, overload

import apsw

from ..errors import D1Error
from .connection import Row
from .d1_connection import HIDDEN, LOOK, USER, Guard, keyword, looks_back, never, switches
from .d1_reader import (
    ENTRIES,
    LONGEST,
    SCHEMA_WORDS,
    Done,
    Program,
    bounded,
    columns_of,
)
from .d1_rows import runs
from .d1_switches import Switches
from .transaction import Transaction

#: A statement, its parameters, and what its program says.
Step = tuple[str, tuple[Any, ...], Program]
#: The same, with the parameters of several runs.
Steps = tuple[str, Sequence[tuple[Any, ...]], Program]

# What is no matter of the statement, and told by the writer.
_OF_THE_STORE = (
    *(apsw.BusyError, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError),
)
# A statement that gives no rows and no columns.
_NO_ROWS: tuple[Row, ...] = ()
# Whether a trigger asks for what its statement finds inserted.
_TRIGGERS = """
SELECT EXISTS (
  SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%last_insert_rowid%'
)
"""
_INSERT = re.compile(r"\b(?:INSERT|REPLACE)\b", re.IGNORECASE)
_NEVER = float("inf")


class UnlikeError(Exception):
    """Statements that were run as one have not all done the same. Nothing is done."""


class Appended(Sequence[Done]):
    """What each of several statements did that appended a row: made where it is asked for.

    They share their time evenly.
    """

    __slots__ = ("_count", "_first", "_program", "_seconds", "size")

    def __init__(self, program: Program, first: int, count: int, seconds: float) -> None:
        self._program = program
        self._first = first
        self._count = count
        self._seconds = seconds
        #: Bytes of the database after them.
        self.size = 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Done: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Done]: ...
    def __getitem__(self, index: int | slice) -> Done | Sequence[Done]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError
        program = self._program
        written = program.entries + program.sequence
        each = self._seconds / self._count
        return ((), _NO_ROWS, each, 1, self._first + index, True, program.seeks, written)


class D1Executor:
    """Runs the user's statements on the connection that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.guard = Guard(connection)
        self.switches = Switches(connection)
        self._connection = connection
        cursor = connection.cursor()
        self._execute, self._executemany = cursor.execute, cursor.executemany
        self._status: dict[str, int] = {}
        self._traced = False
        self._rows = _Rows(connection)
        # What `last_insert_rowid()` is to give: SQLite's own is set back before each statement, to
        # tell whether that inserts anything.
        self._inserted = 0

    def _profile(self, event: dict[str, Any]) -> None:
        self._status = event["stmt_status"]

    def _trace(self, wanted: bool) -> None:
        if self._traced is not wanted:
            self._traced = wanted
            self._connection.trace_v2(
                apsw.SQLITE_TRACE_PROFILE if wanted else 0, self._profile if wanted else None
            )

    def run(
        self, _tx: Transaction, steps: Sequence[Step], unless: Callable[[], object] = never
    ) -> list[Done]:
        """Run statements one after the other: a write function. Stopped when ``unless()``."""
        done: list[Done] = []
        quick = 0
        while quick < len(steps):
            # Most are of one kind, and short.
            start = quick
            while quick < len(steps) and steps[quick][2].quick:
                quick += 1
            if quick > start:
                found = self.quick(steps[start:quick], stop=True)
                done += found
            if quick < len(steps):
                done.append(self._one(*steps[quick], unless))
                quick += 1
        if self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            # Else the commit would fail, for all that share it.
            raise D1Error("D1_ERROR: FOREIGN KEY constraint failed: SQLITE_CONSTRAINT")
        return done

    def single(self, _tx: Transaction, step: Step) -> Done:
        """`quick`, for one who writes alone: in as few steps as can be."""
        sql, parameters, program = step
        connection, guard = self._connection, self.guard
        if self._traced:
            self._trace(False)
        if not program.appends:
            connection.set_last_insert_rowid(0)
        started = time.monotonic()
        guard.trusted = guard.stopped = False
        guard.deadline = started + LONGEST
        try:
            self._execute(sql, parameters, prepare_flags=USER)
        except apsw.Error as error:
            if isinstance(error, _OF_THE_STORE):
                raise
            raise guard.explain(error) from error
        finally:
            guard.trusted = True
            guard.deadline = _NEVER
        seconds = time.monotonic() - started
        # It runs no triggers.
        changes = connection.changes()
        if not changes:
            return ((), _NO_ROWS, seconds, 0, 0, False, program.seeks, 0)
        read, written = program.seeks + program.finds, changes * program.entries + program.sequence
        last = connection.last_insert_rowid()
        if last:
            self._inserted = last
        return ((), _NO_ROWS, seconds, changes, last, True, read, written)

    def batch(self, _tx: Transaction, step: Steps) -> Sequence[Done]:
        """`run`, for one statement that appends a row (`Program.appends`), with many parameters.

        Raises `UnlikeError` where not all have done the same, so that each has to be looked at.
        """
        sql, many, program = step
        try:
            found = self._append(sql, program, many)
        except apsw.Error as error:
            if isinstance(error, _OF_THE_STORE):
                raise
            raise self.guard.explain(error) from error
        if found is None:
            raise UnlikeError
        return found

    def gathered(self, _tx: Transaction, steps: Sequence[Step]) -> Sequence[Any]:
        """`quick`, for what was asked for by several: a write function."""
        first, _, program = steps[0]
        if program.appends and len(steps) > 1:
            many = [parameters for sql, parameters, _ in steps if sql is first]
            if len(many) == len(steps) and (found := self._appended(first, program, many)):
                return found
        return self.quick(steps, stop=False)

    def _appended(
        self, sql: str, program: Program, many: Sequence[tuple[Any, ...]]
    ) -> Appended | None:
        """Run a statement with many parameters; None, and nothing is done, if not all append."""
        execute = self._execute
        execute("SAVEPOINT several")
        try:
            found = self._append(sql, program, many)
        except apsw.Error as error:
            if not self._connection.in_transaction:
                raise self.guard.explain(error) from error
            found = None
        if found is None:
            execute("ROLLBACK TO several")
        execute("RELEASE several")
        return found

    def _append(
        self, sql: str, program: Program, many: Sequence[tuple[Any, ...]]
    ) -> Appended | None:
        """Run a statement with many parameters; None if not all append a row, whatever was done."""
        connection, guard = self._connection, self.guard
        before = connection.total_changes()
        started = time.monotonic()
        guard.begin(started + LONGEST)
        try:
            self._execute(sql, many[0], prepare_flags=USER)
            first = connection.last_insert_rowid()
            for text, rest in runs(sql, many[1:]):
                self._executemany(text, rest, prepare_flags=USER)
        finally:
            guard.end()
        # A table may say that what violates its rules is passed over, and one whose ids have come
        # to their end gives any.
        alike = connection.total_changes() - before == len(many)
        if not alike or connection.last_insert_rowid() != first + len(many) - 1:
            return None
        self._inserted = connection.last_insert_rowid()
        return Appended(program, first, len(many), time.monotonic() - started)

    def quick(self, steps: Sequence[Step], stop: bool) -> list[Any]:
        """Run short statements that give no rows.

        An error ends it if it is to ``stop``; else it is in the place of what was done.
        """
        connection = self._connection
        execute, changes = self._execute, connection.total_changes
        last, forget = connection.last_insert_rowid, connection.set_last_insert_rowid
        monotonic = time.monotonic
        if self._traced:
            self._trace(False)
        guard = self.guard
        done: list[Any] = []
        add = done.append
        before = changes()
        started = monotonic()
        guard.begin(started + LONGEST)
        try:
            for sql, parameters, program in steps:
                forget(0)
                try:
                    execute(sql, parameters, prepare_flags=USER)
                except apsw.Error as error:
                    if stop and isinstance(error, _OF_THE_STORE):
                        raise
                    if stop or not connection.in_transaction:
                        raise guard.explain(error) from error
                    add(guard.explain(error))
                    before = changes()
                    started = monotonic()
                    continue
                total = changes()
                now = monotonic()
                if total == before:
                    add(((), _NO_ROWS, now - started, 0, 0, False, program.seeks, 0))
                else:
                    count = total - before
                    row = last()
                    if row:
                        self._inserted = row
                    add(
                        (
                            (),
                            _NO_ROWS,
                            now - started,
                            count,
                            row,
                            True,
                            program.seeks + program.finds,
                            count * program.entries + program.sequence,
                        )
                    )
                    before = total
                started = now
        finally:
            guard.end()
        return done

    def _one(
        self,
        sql: str,
        parameters: tuple[Any, ...],
        program: Program,
        unless: Callable[[], object],
    ) -> Done:
        connection = self._connection
        self._trace(True)
        asks = looks_back(sql) or (program.nested and self._execute(_TRIGGERS).fetchall()[0][0])
        looked_back = self._inserted if asks else 0
        connection.set_last_insert_rowid(looked_back)
        before = connection.total_changes()
        started = time.monotonic()
        columns: tuple[str, ...] = ()
        rows: Sequence[Row] = _NO_ROWS
        guard = self.guard
        word = keyword(sql)
        hidden = self._hidden() if word == "ALTER" else 0
        if program.nested:
            self._rows.begin()
        guard.begin(started + LONGEST, unless=unless)
        try:
            if not program.kept:
                self._execute(LOOK)
            cursor = self._execute(sql, parameters, prepare_flags=USER, can_cache=program.kept)
            columns = columns_of(cursor)
            if columns:
                rows = bounded(cursor)
        except (apsw.Error, UnicodeDecodeError) as error:
            # What has not come to its end would keep the transaction from ending.
            self._execute("")
            raise guard.explain(error) from error
        except D1Error:
            self._execute("")
            raise
        finally:
            guard.end()
            if program.nested:
                self._rows.end()
        if word == "ALTER" and self._hidden() > hidden:
            raise D1Error("D1_ERROR: not authorized: SQLITE_AUTH")
        if not program.kept and switches(sql):
            self.switches.look()
        total = connection.total_changes() - before
        inserted = connection.last_insert_rowid() if total else 0
        if inserted and inserted == looked_back and not _inserts(word, sql):
            inserted = 0
        if inserted:
            self._inserted = inserted
        if program.nested:
            written = self._rows.written()
        else:
            written = total * program.entries + (program.sequence if total else 0)
        return (
            columns,
            rows,
            time.monotonic() - started,
            connection.changes() if total else 0,
            inserted,
            total > 0 or word in SCHEMA_WORDS,
            program.read(self._status, rows, connection.changes() if total else 0),
            written,
        )

    def _hidden(self) -> int:
        return int(str(self._execute(HIDDEN).fetchall()[0][0]))


def _inserts(word: str, sql: str) -> bool:
    """Whether a statement, which begins with ``word``, inserts rows."""
    return word in ("INSERT", "REPLACE") or (word == "WITH" and _INSERT.search(sql) is not None)


class _Rows:
    """Counts the rows that a statement and its triggers write, table by table."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._entries: dict[str, int] = {}
        self._written = 0

    def begin(self) -> None:
        found = self._connection.execute(ENTRIES).fetchall()
        self._entries = {str(row[0]): int(str(row[1])) for row in found}
        self._written = 0
        self._connection.preupdate_hook(self._see, id=self)

    def _see(self, update: apsw.PreUpdate) -> None:
        deleted = update.op == "DELETE"
        self._written += 1 if deleted else self._entries.get(update.table_name, 1)

    def end(self) -> None:
        self._connection.preupdate_hook(None, id=self)

    def written(self) -> int:
        return self._written
