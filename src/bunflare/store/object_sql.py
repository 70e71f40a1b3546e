"""The SQL tables of one Durable Object: a file, ``do-sql/<namespace>/<id>.sqlite``.

Statements run at once, in a transaction that is open until the object's changes are flushed. Those
of its key-value storage lie in ``data.sqlite``, and become one with them like this: the file's
commit carries them along, in a table that is hidden from the user (the redo record); then they are
written to ``data.sqlite`` with the record's number. Whoever opens the file and finds a number that
is not there writes them once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from ..errors import DurableObjectSqlError
from .connection import BusyWait, Durability, Row, connect, enter_wal, translate
from .d1_connection import USER, Guard, keyword, statements
from .d1_reader import SCHEMA_WORDS, UNKNOWN, Program, columns_of, read_program

_PATIENCE = 10.0
_KNOWN = 1024
# The rows of a statement that gives none.
_NONE: Iterator[Row] = iter(())
_REDO = "_cf_bunflare_redo"
_CREATE_REDO = f"""
CREATE TABLE IF NOT EXISTS {_REDO} (
  id INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL,   -- how many commits have carried changes along
  changes TEXT NOT NULL        -- JSON of the last of them
)
"""
_WRITE_REDO = f"""
INSERT INTO {_REDO} (id, sequence, changes) VALUES (1, ?, ?)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, changes = excluded.changes
"""
_READ_REDO = f"SELECT sequence, changes FROM {_REDO}"
_HAS_REDO = f"SELECT 1 FROM sqlite_schema WHERE name = '{_REDO}'"
_TABLES = r"""
SELECT name, type, sql FROM sqlite_schema
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
  AND name NOT LIKE '\_cf\_%' ESCAPE '\'
ORDER BY type = 'view' DESC, sql LIKE 'CREATE VIRTUAL%' DESC
"""
_SEQUENCES = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence'"


class _Kind:
    """What is known of a text."""

    __slots__ = ("parts", "program", "reads", "schema")

    def __init__(self, sql: str) -> None:
        self.parts = [part for _, part in statements(sql)]
        #: Whether what is known of other texts does not hold after it.
        self.schema = any(keyword(part) in SCHEMA_WORDS for part in self.parts)
        #: Whether the last statement only reads; None if it has not run yet.
        self.reads: bool | None = None
        self.program = UNKNOWN


class Rows:
    """The rows of a statement, which are read when they are asked for."""

    __slots__ = ("_file", "_names", "_query", "read", "rows", "written")

    def __init__(
        self,
        file: ObjectFile,
        query: tuple[str, tuple[Any, ...]],
        rows: Iterator[Row],
        names: tuple[str, ...] | None,
        written: int,
    ) -> None:
        self._file = file
        self._query = query
        self._names = names
        self.rows = rows
        self.read = 0
        self.written = written

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        try:
            row = next(self.rows)
        except apsw.Error as error:
            raise self._file.failed(error) from error
        self.read += 1
        return row

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        if self._names is None:
            self._names = self._file.names(*self._query)
        return self._names


class ObjectFile:
    """The open file of an object that is running."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = connection = connect(path, durability, BusyWait(_PATIENCE))
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            enter_wal(connection, path, _PATIENCE)
            connection.execute("PRAGMA wal_autocheckpoint=1000")
            connection.execute("PRAGMA cache_size=-2048")
            self._guard = Guard(connection)
            self._guard.trusted = False
            self._execute = connection.cursor().execute
            self._kinds: dict[str, _Kind] = {}
            self._before = 0
            self._schema = 0
            #: Whether a transaction is open.
            self.open = False
            self.sequence, self.changes = self._redo()
        except apsw.Error as error:
            connection.close()
            raise translate(error, path) from error

    # -- statements ------------------------------------------------------------------------

    def run(self, sql: str, bindings: tuple[Any, ...]) -> Rows:
        """Run one statement or several; the rows of the last one, to which the bindings belong."""
        kind = self._kinds.get(sql)
        if kind is None:
            kind = self._learn(sql)
        if not self.open:
            self._begin()
        parts = kind.parts
        if len(parts) > 1:
            for part in parts[:-1]:
                self._step(part)
        text = parts[-1]
        if kind.reads is False:
            return self._write(kind, text, bindings)
        cursor = self._connection.cursor()
        before = self._connection.total_changes()
        try:
            cursor.execute(text, bindings, prepare_flags=USER)
            names = columns_of(cursor) or None
            if kind.reads is None:
                kind.reads = names is not None and bool(cursor.is_readonly)
            reads = kind.reads
            rows: Iterator[Row] = cursor
            if not reads:
                # What has not been read to its end would keep the transaction from committing.
                rows = iter(cursor.fetchall())
        except apsw.Error as error:
            raise self.failed(error) from error
        changed = self._connection.total_changes() - before
        if not reads:
            kind.program = self._program(text, bindings)
            if kind.schema:
                self._kinds.clear()
        return Rows(self, (text, bindings), rows, names, _written(changed, kind.program))

    def _write(self, kind: _Kind, text: str, bindings: tuple[Any, ...]) -> Rows:
        connection = self._connection
        before = connection.total_changes()
        try:
            cursor = self._execute(text, bindings, prepare_flags=USER)
            rows = iter(cursor.fetchall()) if kind.program.rows else _NONE
        except apsw.Error as error:
            raise self.failed(error) from error
        changed = connection.total_changes() - before
        if kind.schema:
            self._kinds.clear()
        return Rows(self, (text, bindings), rows, None, _written(changed, kind.program))

    def _step(self, sql: str) -> None:
        try:
            self._execute(sql, (), prepare_flags=USER).fetchall()
        except apsw.BindingsError as error:
            raise DurableObjectSqlError(
                "When executing multiple SQL statements in a single call, only the last "
                "statement can have parameters."
            ) from error
        except apsw.Error as error:
            raise self.failed(error) from error

    def _learn(self, sql: str) -> _Kind:
        kind = _Kind(sql)
        if not kind.parts:
            raise DurableObjectSqlError("SQL code did not contain a statement.")
        if len(self._kinds) >= _KNOWN:
            self._kinds.clear()
        self._kinds[sql] = kind
        return kind

    def _program(self, sql: str, bindings: tuple[Any, ...]) -> Program:
        try:
            rows = self._execute(f"EXPLAIN {sql}", bindings, prepare_flags=USER).fetchall()
        except apsw.Error:
            return UNKNOWN
        root = self._own(_SEQUENCES)
        return read_program(rows, root[0][0] if root else -1)

    def names(self, sql: str, bindings: tuple[Any, ...]) -> tuple[str, ...]:
        """The columns of a statement that gave no row."""
        found: list[tuple[str, ...]] = []

        def look(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
            found.append(tuple([column[0] for column in cursor.get_description()]))
            return False

        cursor = self._connection.cursor()
        cursor.exec_trace = look
        with suppress(apsw.ExecTraceAbort, apsw.ExecutionCompleteError):
            cursor.execute(sql, bindings, prepare_flags=USER)
        return found[0] if found else ()

    def failed(self, error: apsw.Error) -> DurableObjectSqlError:
        """The platform's words for SQLite's."""
        if self.open and not self._connection.in_transaction:
            # Some failures undo the whole transaction.
            self.open = False
        if isinstance(error, apsw.AbortError):
            return DurableObjectSqlError(
                "The cursor's rows are gone: its transaction was rolled back."
            )
        return DurableObjectSqlError(str(self._guard.explain(error)).removeprefix("D1_ERROR: "))

    @property
    def size(self) -> int:
        """Bytes of the database."""
        pages, size = self._own("PRAGMA page_count"), self._own("PRAGMA page_size")
        return int(pages[0][0]) * int(size[0][0])

    # -- transactions ----------------------------------------------------------------------

    def _begin(self) -> None:
        self._own("BEGIN IMMEDIATE")
        self._before = self._connection.total_changes()
        self._schema = self._version()
        self.open = True

    @property
    def changed(self) -> bool:
        """Whether the open transaction has written anything."""
        return self.open and (
            self._connection.total_changes() != self._before or self._version() != self._schema
        )

    def _version(self) -> int:
        return int(self._own("PRAGMA schema_version")[0][0])

    def commit(self, changes: str | None) -> int | None:
        """Commit what was written, together with changes that belong elsewhere.

        The number of the redo record, if there had to be one: the changes are then to be written
        with it. Raises `DatabaseError` and its kinds.
        """
        if not self.open:
            return None
        sequence = None
        try:
            if changes is not None and self.changed:
                sequence = self.sequence + 1
                if sequence == 1:
                    self._own(_CREATE_REDO)
                self._own(_WRITE_REDO, (sequence, changes))
            self._own("COMMIT")
        except apsw.Error as error:
            self.rollback()
            raise translate(error, self.path) from error
        self.open = False
        if sequence is not None:
            self.sequence = sequence
        return sequence

    def rollback(self) -> None:
        """Undo what was not committed."""
        self.open = False
        if self._connection.in_transaction:
            self._own("ROLLBACK")

    def savepoint(self, level: int) -> None:
        if not self.open:
            self._begin()
        self._own(f"SAVEPOINT level{level}")

    def release(self, level: int) -> None:
        if self.open:
            self._own(f"RELEASE level{level}")

    def undo(self, level: int) -> None:
        """Go back to a savepoint."""
        if self.open:
            self._own(f"ROLLBACK TO level{level}")
            self._own(f"RELEASE level{level}")

    def clear(self, changes: str) -> int:
        """Drop everything, in a commit of its own that carries ``changes`` along."""
        self.rollback()
        # Tables may refer to each other in circles.
        self._own("PRAGMA foreign_keys=0")
        try:
            self._begin()
            while tables := self._own(_TABLES):
                name, kind, _ = tables[0]
                quoted = str(name).replace('"', '""')
                self._own(f'DROP {kind} "{quoted}"')
            self._schema = -1  # so that the record is written in any case
            sequence = self.commit(changes)
            assert sequence is not None
            return sequence
        finally:
            self._own("PRAGMA foreign_keys=1")

    def _redo(self) -> tuple[int, str]:
        if not self._own(_HAS_REDO):
            return 0, ""
        rows = self._own(_READ_REDO)
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def _own(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Row]:
        """A statement of ours."""
        self._guard.trusted = True
        try:
            return list(self._connection.execute(sql, bindings))
        finally:
            self._guard.trusted = False

    def close(self) -> None:
        self.rollback()
        self._connection.close()


def _written(changed: int, program: Program) -> int:
    return changed * program.entries + (1 if program.sequence and changed else 0)
