"""Running the statements of a D1 database, and counting what they did.

What the platform's meta data says comes from SQLite: changes and the last row id from the
connection, scanned rows from the statement (the driver's profile event), and how many entries a
changed row has (itself, its indexes, its table's sequence) from the statement's own program.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from sys import getsizeof
from typing import Any, NamedTuple

import apsw

from ..errors import D1Error
from .connection import Row
from .d1_connection import METADATA, USER, Guard, keyword
from .reader import Reader
from .transaction import Transaction
from .walindex import WalIndex

#: How long a statement may run, in seconds.
LONGEST = 30.0
#: The largest result that is handed out, in bytes: what a Worker could hold.
LARGEST_RESULT = 128 * 1024 * 1024

_CHUNK = 1000
# Where the head of SQLite's shared memory has the number of pages; 0 before the first commit.
_PAGES = slice(20, 24)
_NEVER = float("inf")
_LOOPS = frozenset({"Next", "Prev", "VNext", "SorterNext", "Program", "VUpdate", "RowSetRead"})
_OPENS = frozenset({"OpenRead", "OpenWrite", "ReopenIdx"})
SCHEMA_WORDS = frozenset({"CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"})

_SEQUENCE = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence'"
# The platform keeps notes of its own in a table of this name, which it hides.
_CREATE_METADATA = f"""
CREATE TABLE IF NOT EXISTS {METADATA} (
  id INTEGER PRIMARY KEY,
  commits INTEGER NOT NULL,   -- how often this database was written to
  at INTEGER NOT NULL,        -- ms epoch of the last time
  lineage TEXT NOT NULL       -- which database this is
)
"""
_COUNT = f"UPDATE {METADATA} SET commits = commits + 1, at = ? WHERE id = 1"
_FIRST = (
    f"INSERT INTO {METADATA} (id, commits, at, lineage)"
    " VALUES (1, 1, ?, lower(hex(randomblob(16))))"
)
_POSITION = f"SELECT commits, lineage FROM {METADATA}"
SIZE = "PRAGMA page_count"
PAGE_SIZE = "PRAGMA page_size"

#: A statement with its parameters.
Bound = tuple[str, tuple[Any, ...]]
#: How often the database was written to, and which one it is.
Position = tuple[int, str]
START: Position = (0, "0" * 32)


class Outcome(NamedTuple):
    """What became of one statement. The duration is in milliseconds, the size in bytes."""

    columns: tuple[str, ...]
    rows: list[Row]
    duration: float = 0.0
    changes: int = 0
    last_row_id: int = 0
    changed: bool = False
    rows_read: int = 0
    rows_written: int = 0
    size: int = 0


# What an outcome ends with of which no numbers are wanted.
_UNCOUNTED = tuple(Outcome._field_defaults.values())

#: An outcome without the size, which is known after the commit.
Done = tuple[Any, ...]


class Program(NamedTuple):
    """What SQLite's program for a statement says of it."""

    #: It runs through no table, so it takes microseconds.
    short: bool
    #: Entries written for each changed row: the row and those of its indexes.
    entries: int
    #: It notes the last id of an AUTOINCREMENT table.
    sequence: bool
    #: It may give rows.
    rows: bool


UNKNOWN = Program(False, 1, False, True)


class TooLong(Exception):
    """A statement that is to be run on a thread."""


class Writes(Exception):
    """A statement that is for the writer."""


class D1Reader(Reader):
    """One thread's reader: a look at the newest state, with the names of the columns."""

    __slots__ = ("_guard", "_page_size", "_size", "_sized", "_status", "_traced")

    def __init__(self, connection: apsw.Connection, path: Path, index: WalIndex | None) -> None:
        super().__init__(connection, path, index)
        self._guard = Guard(connection)
        self._traced = False
        self._status: dict[str, int] = {}
        self._size = 0
        self._page_size = 0
        self._sized = b""

    def fetch(
        self, sql: str, parameters: tuple[Any, ...], seconds: float, counted: bool, scans: bool
    ) -> Outcome:
        """Run a query for at most ``seconds``.

        ``counted`` says whether numbers are wanted, ``scans`` whether rows may be scanned for it.
        """
        index = self._index
        if index is not None and index.header() != self._seen:
            self._renew()
        if not self._held:
            self._hold()
        # What SQLite tells of a statement costs as much as a look-up by key.
        traced = counted and scans
        if self._traced is not traced:
            self._traced = traced
            self._connection.trace_v2(
                apsw.SQLITE_TRACE_PROFILE if traced else 0, self._profile if traced else None
            )
        guard = self._guard
        started = time.monotonic()
        guard.begin(started + seconds)
        try:
            cursor = self._execute(sql, parameters, prepare_flags=USER)
            columns = columns_of(cursor)
            rows = cursor.fetchall() if seconds < 1 else bounded(cursor)
        except apsw.InterruptError:
            self._end()
            raise TooLong from None
        except apsw.ReadOnlyError:
            self._end()
            raise Writes from None
        except apsw.Error as error:
            self._end()
            raise guard.explain(error) from error
        except D1Error:
            self._end()
            raise
        finally:
            guard.end()
        if not counted:
            return Outcome._make((columns, rows, *_UNCOUNTED))
        duration = (time.monotonic() - started) * 1000
        read = max(scanned(self._status) if traced else 0, len(rows))
        return Outcome._make((columns, rows, duration, 0, 0, False, read, 0, self._database_size()))

    def program(self, sql: str, parameters: tuple[Any, ...]) -> Program:
        """What the program of a statement says; `UNKNOWN` if there is none (yet)."""
        self._guard.begin(_NEVER)
        try:
            rows = self._execute(f"EXPLAIN {sql}", parameters, prepare_flags=USER).fetchall()
        except apsw.Error:
            self._end()
            return UNKNOWN
        finally:
            self._guard.end()
        root = self.one(_SEQUENCE)
        return read_program(rows, root[0] if root else -1)

    def describe(self, sql: str, parameters: tuple[Any, ...]) -> tuple[str, ...]:
        """The names of a query's columns, also where it gives no row."""
        names: list[tuple[str, ...]] = []

        def look(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
            names.append(columns_of(cursor))
            return False

        cursor = self._connection.cursor()
        cursor.exec_trace = look
        self._guard.begin(_NEVER)
        try:
            cursor.execute(sql, parameters, prepare_flags=USER)
        except apsw.ExecTraceAbort:
            pass
        finally:
            self._guard.end()
        return names[0] if names else ()

    def position(self) -> Position:
        """How often the database was written to."""
        if self.one("SELECT 1 FROM sqlite_schema WHERE name = ?", (METADATA,)) is None:
            return START
        row = self.one(_POSITION)
        return START if row is None else (row[0], row[1])

    def _profile(self, event: dict[str, Any]) -> None:
        self._status = event["stmt_status"]

    def newest_size(self) -> int:
        """Bytes of the database after the last commit."""
        if self._index is not None and self._page_size:
            pages = int.from_bytes(self._index.header()[_PAGES], sys.byteorder)
            if pages:
                return pages * self._page_size
        return self._database_size()

    def _database_size(self) -> int:
        if self._index is None or self._sized != self._seen:
            pages, size = self.one(SIZE), self.one(PAGE_SIZE)
            self._page_size = size[0] if size else 0
            self._size = pages[0] * self._page_size if pages else 0
            self._sized = self._seen
        return self._size

    def _end(self) -> None:
        self._guard.end()
        if self._held:
            self._held = False
            if self._connection.in_transaction:
                self._execute("ROLLBACK")


class D1Executor:
    """Runs the user's statements on the connection that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.guard = Guard(connection)
        self._connection = connection
        self._execute = connection.cursor().execute
        self._status: dict[str, int] = {}
        self._traced = False

    def _profile(self, event: dict[str, Any]) -> None:
        self._status = event["stmt_status"]

    def run(
        self,
        tx: Transaction,
        bounds: Iterable[tuple[str, tuple[Any, ...], Program]],
        now: int,
        alone: bool,
    ) -> list[Done]:
        """Run statements one after the other: a write function.

        Whoever is ``alone`` in a commit notes it; the others' was noted at its beginning.
        """
        before = self._connection.total_changes()
        done = [self._one(*bound) for bound in bounds]
        self._check_keys()
        if alone and (self._connection.total_changes() != before or any(one[5] for one in done)):
            count(tx, now)
        return done

    def one(
        self, _tx: Transaction, sql: str, parameters: tuple[Any, ...], program: Program
    ) -> Done:
        """Run one short statement that shares its commit: a write function."""
        done = self._one(sql, parameters, program)
        self._check_keys()
        return done

    def _check_keys(self) -> None:
        if self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            # Else the commit would fail, for all that share it.
            raise D1Error("D1_ERROR: FOREIGN KEY constraint failed: SQLITE_CONSTRAINT")

    def _one(self, sql: str, parameters: tuple[Any, ...], program: Program) -> Done:
        connection = self._connection
        traced = not program.short
        if self._traced is not traced:
            self._traced = traced
            connection.trace_v2(
                apsw.SQLITE_TRACE_PROFILE if traced else 0, self._profile if traced else None
            )
        connection.set_last_insert_rowid(0)
        before = connection.total_changes()
        started = time.monotonic()
        columns: tuple[str, ...] = ()
        rows: list[Row] = []
        guard = self.guard
        guard.begin(started + LONGEST)
        try:
            cursor = self._execute(sql, parameters, prepare_flags=USER)
            if program.rows:
                columns = columns_of(cursor)
                rows = bounded(cursor) if columns else []
        except apsw.Error as error:
            raise guard.explain(error) from error
        finally:
            guard.end()
        total = connection.total_changes() - before
        looked = max(scanned(self._status), total) if traced else 0
        return (
            columns,
            rows,
            (time.monotonic() - started) * 1000,
            connection.changes() if total else 0,
            connection.last_insert_rowid() if total else 0,
            total > 0 or (traced and keyword(sql) in SCHEMA_WORDS),
            looked if total else max(looked, len(rows)),
            total * program.entries + (1 if program.sequence and total else 0),
        )


def count(tx: Transaction, now: int) -> None:
    """Note that the database is written to."""
    try:
        before = tx.mark()
        tx.run(_COUNT, (now,))
        if tx.changed_since(before):
            return
    except apsw.SQLError:
        tx.run(_CREATE_METADATA)
    tx.run(_FIRST, (now,))


def columns_of(cursor: apsw.Cursor) -> tuple[str, ...]:
    """The names of the columns, if there is a row."""
    try:
        return tuple([column[0] for column in cursor.get_description()])
    except apsw.ExecutionCompleteError:
        return ()


def bounded(cursor: apsw.Cursor) -> list[Row]:
    """All rows, unless they are more than a Worker could hold."""
    rows: list[Row] = []
    size = 0
    while chunk := list(islice(cursor, _CHUNK)):
        rows += chunk
        size += sum(getsizeof(row) + sum(map(getsizeof, row)) for row in chunk)
        if size > LARGEST_RESULT:
            cursor.close()
            raise D1Error("D1_ERROR: Memory limit would be exceeded by this operation.")
    return rows


def scanned(status: dict[str, int]) -> int:
    """How many rows a statement has scanned, by what the driver told at its end."""
    steps = status.get("SQLITE_STMTSTATUS_FULLSCAN_STEP", 0)
    # SQLite counts the steps from one row to the next.
    return steps + 1 if steps else 0


def read_program(rows: list[Row], sequence_root: int) -> Program:
    roots: dict[int, int] = {}
    indexes: set[int] = set()
    removed: set[int] = set()
    short = True
    sequence = inserts = gives = False
    for _address, code, one, two, *_ in rows:
        if code in _OPENS:
            roots[one] = two
        elif code in _LOOPS:
            short = short and code == "Next" and roots.get(one) == sequence_root
        elif code == "IdxInsert" and one in roots:
            indexes.add(roots[one])
        elif code == "IdxDelete":
            removed.add(roots.get(one, -one))
        elif code == "ResultRow":
            gives = True
        elif code == "Insert":
            if roots.get(one) == sequence_root:
                sequence = True
            else:
                inserts = True
    return Program(short, 1 + len(indexes if inserts or indexes else removed), sequence, gives)
