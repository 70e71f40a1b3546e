"""Running the statements that write to a D1 database, and counting what they did.

Most writes are one short statement of which all is known: its program runs through no table and
leaves nothing to be checked at the commit. What an event loop's turn asks for of that kind is
gathered into one operation of the writer's, in which a failing statement undoes itself and harms no
other. All else is an operation of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import apsw

from ..errors import D1Error
from .connection import Row
from .d1_connection import LOOK, USER, Guard, keyword
from .d1_reader import (
    ENTRIES,
    LONGEST,
    SCHEMA_WORDS,
    Done,
    Program,
    bounded,
    columns_of,
)
from .transaction import Transaction

#: A statement, its parameters, and what its program says.
Step = tuple[str, tuple[Any, ...], Program]

# A statement that gives no rows and no columns.
_NO_ROWS: tuple[Row, ...] = ()


class D1Executor:
    """Runs the user's statements on the connection that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.guard = Guard(connection)
        self._connection = connection
        cursor = connection.cursor()
        self._execute, self._executemany = cursor.execute, cursor.executemany
        self._status: dict[str, int] = {}
        self._traced = False
        self._rows = _Rows(connection)

    def _profile(self, event: dict[str, Any]) -> None:
        self._status = event["stmt_status"]

    def _trace(self, wanted: bool) -> None:
        if self._traced is not wanted:
            self._traced = wanted
            self._connection.trace_v2(
                apsw.SQLITE_TRACE_PROFILE if wanted else 0, self._profile if wanted else None
            )

    def run(self, _tx: Transaction, steps: Sequence[Step]) -> list[Done]:
        """Run statements one after the other: a write function."""
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
                done.append(self._one(*steps[quick]))
                quick += 1
        if self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            # Else the commit would fail, for all that share it.
            raise D1Error("D1_ERROR: FOREIGN KEY constraint failed: SQLITE_CONSTRAINT")
        return done

    def batch(self, _tx: Transaction, alike: Sequence[Step]) -> list[Done]:
        """`run`, for steps of one statement that appends a row (`Program.appends`)."""
        return self._appended(alike) or self.quick(alike, stop=True)

    def gathered(self, _tx: Transaction, steps: Sequence[Step]) -> list[Any]:
        """`quick`, for what was asked for by several: a write function."""
        first, _, program = steps[0]
        if program.appends and len(steps) > 1 and all(sql is first for sql, _, _ in steps):
            found = self._appended(steps)
            if found is not None:
                return found
        return self.quick(steps, stop=False)

    def _appended(self, steps: Sequence[Step]) -> list[Done] | None:
        """Run one statement with all parameters; None, and nothing is done, if not all append.

        They share their time evenly.
        """
        sql, parameters, program = steps[0]
        execute, connection = self._execute, self._connection
        many = [parameters for _, parameters, _ in steps]
        execute("SAVEPOINT several")
        before = connection.total_changes()
        guard = self.guard
        started = time.monotonic()
        guard.begin(started + LONGEST)
        try:
            execute(sql, parameters, prepare_flags=USER)
            first = connection.last_insert_rowid()
            self._executemany(sql, many[1:], prepare_flags=USER)
        except apsw.Error as error:
            if not connection.in_transaction:
                raise guard.explain(error) from error
            first = -1
        finally:
            guard.end()
        last = first + len(many) - 1
        # A table may say that what violates its rules is passed over, and one whose ids have come
        # to their end gives any.
        alike = connection.total_changes() - before == len(many)
        if first < 0 or not alike or connection.last_insert_rowid() != last:
            execute("ROLLBACK TO several")
            execute("RELEASE several")
            return None
        execute("RELEASE several")
        each = (time.monotonic() - started) / len(many)
        read, written = program.seeks, program.entries + program.sequence
        return [
            ((), _NO_ROWS, each, 1, number, True, read, written)
            for number in range(first, last + 1)
        ]

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
                    add(
                        (
                            (),
                            _NO_ROWS,
                            now - started,
                            count,
                            last(),
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

    def _one(self, sql: str, parameters: tuple[Any, ...], program: Program) -> Done:
        connection = self._connection
        self._trace(True)
        connection.set_last_insert_rowid(0)
        before = connection.total_changes()
        started = time.monotonic()
        columns: tuple[str, ...] = ()
        rows: Sequence[Row] = _NO_ROWS
        guard = self.guard
        if program.nested:
            self._rows.begin()
        guard.begin(started + LONGEST)
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
        total = connection.total_changes() - before
        if program.nested:
            written = self._rows.written()
        else:
            written = total * program.entries + (program.sequence if total else 0)
        return (
            columns,
            rows,
            time.monotonic() - started,
            connection.changes() if total else 0,
            connection.last_insert_rowid() if total else 0,
            total > 0 or keyword(sql) in SCHEMA_WORDS,
            program.read(self._status, rows, connection.changes() if total else 0),
            written,
        )


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
