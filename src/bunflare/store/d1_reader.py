"""Running the queries of a D1 database, and what is known of statements.

What the platform's meta data says comes from SQLite: changes and the last row id from the
connection, scanned rows from the statement (the driver's profile event), and how many entries a
changed row has (itself, its indexes, its table's sequence) from the statement's own program. What
is counted is what the platform counts: see `read_program`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from sys import getsizeof
from typing import Any, NamedTuple

import apsw

from ..errors import D1Error, DatabaseError
from .connection import Row
from .d1_connection import LOOK, USER, Guard, unkept
from .reader import Reader
from .walindex import WalIndex

#: How long a statement may run, in seconds.
LONGEST = 30.0
#: The largest result that is handed out, in bytes: what a Worker could hold.
LARGEST_RESULT = 128 * 1024 * 1024

_CHUNK = 1000
_KNOWN = 1024
_NEVER = float("inf")
_LOOPS = frozenset({"Next", "Prev", "VNext", "SorterNext", "Program", "VUpdate", "RowSetRead"})
# What the end of a loop jumps back to that has no opcode of its own: a recursive query's.
_STARTS = frozenset({"Rewind", "Sort", "SorterSort"})
_OPENS = frozenset({"OpenRead", "OpenWrite", "ReopenIdx"})
_SEEKS = frozenset({"SeekRowid", "NotExists", "Rewind", "Last"})
# An id that the statement gives itself, and what may be there already.
_CHOICES = frozenset({"MustBeInt", "NoConflict", "Found", "NotFound", "Delete", "IdxDelete"})
# An insertion that is only there to tell the driver's hooks.
_NOTHING = 0x40
_FINDS = frozenset({"SeekGE", "SeekGT", "SeekLE", "SeekLT"})
SCHEMA_WORDS = frozenset({"CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"})

_SEQUENCE = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence'"
# The primary key of a table without rowids is the table itself.
ENTRIES = """
SELECT t.name, 1 + count(i.name) - t.wr
FROM pragma_table_list AS t LEFT JOIN pragma_index_list(t.name) AS i
WHERE t.schema = 'main' AND t.type IN ('table', 'shadow')
GROUP BY t.name
"""
SIZE = "PRAGMA page_count"
PAGE_SIZE = "PRAGMA page_size"

#: A statement with its parameters.
Bound = tuple[str, tuple[Any, ...]]


#: What a statement did: the names of its columns, its rows, seconds, rows changed, the last row id,
#: whether the database changed, rows read and rows written. Plain, since there is one a call.
Done = tuple[Any, ...]
#: The same, with the size of the database in bytes.
Outcome = tuple[Any, ...]
COLUMNS, ROWS, SECONDS, CHANGES, LAST_ID, CHANGED, READ, WRITTEN, SIZE_AFTER = range(9)
# What an outcome ends with of which no numbers are wanted.
_UNCOUNTED = (0.0, 0, 0, False, 0, 0, 0)


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
    #: Rows that are looked up by their key whether they are there or not, and beginnings of loops.
    seeks: int = 0
    #: Rows that are looked up in an index, which count where they are there.
    finds: int = 0
    #: It reads what it has sorted.
    sorts: bool = False
    #: It asks a table for the number of its rows.
    counts: bool = False
    #: It runs triggers, or follows foreign keys.
    nested: bool = False
    #: It leaves nothing to be checked when its transaction commits.
    final: bool = False
    #: It inserts one row with the next id of its table, or fails.
    appends: bool = False
    #: It is short and final, changes rows and gives none.
    quick: bool = False
    #: SQLite does not undo it where it fails half-way, as it does with all others: it forgets that
    #: the type of a value of a STRICT table may be wrong. Such a one is not `short` either.
    torn: bool = False
    #: The driver may keep it. Before one that it may not, SQLite looks at the schema (`LOOK`).
    kept: bool = True

    def read(self, status: dict[str, int], rows: Sequence[Row], changes: int) -> int:
        """How many rows it read, with SQLite's counters of a run.

        Those of a range of an index that another condition then drops are not in SQLite's counters.
        """
        if self.short:
            return self.seeks + (self.finds if rows or changes else 0)
        steps = status.get("SQLITE_STMTSTATUS_FULLSCAN_STEP", 0) + self.seeks
        if self.counts and rows:
            steps += max((one for one in rows[0] if type(one) is int), default=0)
        found = changes if self.seeks or self.finds else 0
        return max(steps, found, len(rows)) + (len(rows) if self.sorts else 0)


UNKNOWN = Program(False, 1, False, True)
UNKEPT = UNKNOWN._replace(kept=False)


def assumed(sql: str) -> Program:
    """What is taken for granted of a statement of which nothing else is known."""
    return UNKEPT if unkept(sql) else UNKNOWN


class TooLong(Exception):
    """A statement that is to be run on a thread."""


class Writes(Exception):
    """A statement that is for the writer."""


class _Profile:
    """SQLite's counters of the last statement that was read to its end.

    Apart from the reader for the reason that `Guard` has.
    """

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status: dict[str, int] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        self.status = event["stmt_status"]


class D1Reader(Reader):
    """One thread's reader: a look at the newest state, with the names of the columns."""

    __slots__ = ("_guard", "_known", "_page_size", "_profile", "_size", "_sized", "_traced")

    def __init__(self, connection: apsw.Connection, path: Path, index: WalIndex | None) -> None:
        super().__init__(connection, path, index)
        self._guard = Guard(connection)
        self._known: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._traced = False
        self._profile = _Profile()
        self._size = 0
        self._page_size = 0
        self._sized = b""

    def fetch(
        self,
        sql: str,
        parameters: tuple[Any, ...],
        seconds: float,
        counted: bool,
        program: Program | None,
        unless: Callable[[], object] | None = None,
    ) -> Outcome:
        """Run a query for at most ``seconds``, or until ``unless()`` is true.

        ``counted`` says whether numbers are wanted.
        """
        if program is None:
            program = UNKNOWN
        index = self._index
        if index is not None and index.header() != self.seen:
            self._renew()
        if not self._held:
            self._hold()
        # What SQLite tells of a statement costs as much as a look-up by key.
        traced = counted and not program.short
        if self._traced is not traced:
            self._traced = traced
            self._connection.trace_v2(
                apsw.SQLITE_TRACE_PROFILE if traced else 0, self._profile if traced else None
            )
        guard = self._guard
        started = time.monotonic()
        if unless is None:
            guard.begin(started + seconds)
        else:
            guard.begin(started + seconds, unless=unless)
        try:
            if not program.kept:
                self._execute(LOOK)
            cursor = self._execute(sql, parameters, prepare_flags=USER, can_cache=program.kept)
            known = self._known.get(sql)
            # SQLite asks whenever it prepares a statement, so also when a table has changed.
            if known is not None and known[0] == guard.asked:
                columns = known[1]
            else:
                columns = self._learn(sql, cursor)
            rows = cursor.fetchall() if seconds < 1 else bounded(cursor)
        except apsw.InterruptError:
            self._end()
            raise TooLong from None
        except apsw.ReadOnlyError:
            self._end()
            raise Writes from None
        except (apsw.Error, UnicodeDecodeError) as error:
            self._end()
            raise guard.explain(error) from error
        except D1Error:
            self._end()
            raise
        finally:
            guard.end()
        if not counted:
            return (columns, rows, *_UNCOUNTED)
        duration = time.monotonic() - started
        read = program.read(self._profile.status, rows, 0)
        return (columns, rows, duration, 0, 0, False, read, 0, self._database_size())

    def _learn(self, sql: str, cursor: apsw.Cursor) -> tuple[str, ...]:
        """The names of the columns; () if there is no row."""
        columns = columns_of(cursor)
        if columns:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[sql] = (self._guard.asked, columns)
        return columns

    def program(self, sql: str, parameters: tuple[Any, ...]) -> Program:
        """What the program of a statement says; `UNKNOWN` if there is none (yet)."""
        try:
            # First, since it has SQLite look at the schema as well.
            root = self.one(_SEQUENCE)
            self._guard.begin(_NEVER)
            explain = f"EXPLAIN {sql}"
            rows = self._execute(
                explain, parameters, prepare_flags=USER, can_cache=False
            ).fetchall()
        except (apsw.Error, DatabaseError, UnicodeDecodeError):
            self._end()
            return UNKNOWN
        finally:
            self._guard.end()
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
            # One that has run may not be run again, as DROP TABLE, and gives no columns then.
            with suppress(apsw.Error):
                cursor.execute(sql, parameters, prepare_flags=USER, can_cache=not unkept(sql))
        finally:
            self._guard.end()
        return names[0] if names else ()

    def newest_size(self) -> int:
        """Bytes of the database after the last commit."""
        if self._index is not None and self._page_size:
            pages = self._index.pages()
            if pages:
                return pages * self._page_size
        return self._database_size()

    def _database_size(self) -> int:
        if self._index is None or self._sized != self.seen:
            pages, size = self.one(SIZE), self.one(PAGE_SIZE)
            self._page_size = size[0] if size else 0
            self._size = pages[0] * self._page_size if pages else 0
            self._sized = self.seen
        return self._size

    def _end(self) -> None:
        self._guard.end()
        # What was not read to its end would go on.
        self._execute("")
        if self._held:
            self._held = False
            if self._connection.in_transaction:
                self._execute("ROLLBACK")


def columns_of(cursor: apsw.Cursor) -> tuple[str, ...]:
    """The names of the columns, if there is a row."""
    try:
        return tuple([column[0] for column in cursor.get_description()])
    except apsw.ExecutionCompleteError:
        return ()


def bounded(cursor: apsw.Cursor) -> list[Row]:
    """All rows, unless they are more than a Worker could hold.

    Whoever gets the error ends the statement, by running the next with its cursor.
    """
    rows: list[Row] = []
    size = 0
    while chunk := list(islice(cursor, _CHUNK)):
        rows += chunk
        size += sum(getsizeof(row) + sum(map(getsizeof, row)) for row in chunk)
        if size > LARGEST_RESULT:
            raise D1Error("D1_ERROR: Memory limit would be exceeded by this operation.")
    return rows


def scanned(status: dict[str, int]) -> int:
    """The rows of full scans, by SQLite's counters of a statement."""
    steps = status.get("SQLITE_STMTSTATUS_FULLSCAN_STEP", 0)
    # SQLite counts the steps from one row to the next.
    return steps + 1 if steps else 0


def read_program(rows: list[Row], sequence_root: int) -> Program:
    """What the program of a statement (``EXPLAIN``) says of it.

    The platform counts as read each row that is looked up by its key or that a cursor moves to, and
    as written each insertion into a table or an index, and each deletion from a table.
    """
    roots: dict[int, int] = {}
    indexes: set[int] = set()
    short = final = True
    sequence = inserts = gives = sorts = counts = nested = chooses = checks = several = False
    appends = 0
    seeks = finds = 0
    for address, code, one, two, _three, _four, five, *_ in rows:
        if code in _OPENS:
            roots[one] = two
        elif code == "Goto":
            short = short and not (two < address and rows[two][1] in _STARTS)
        elif code in _SEEKS:
            seeks += 1
            chooses = chooses or code == "NotExists"
        elif code in _FINDS:
            finds += 1
        elif code in _LOOPS:
            short = short and code == "Next" and roots.get(one) == sequence_root
            sorts = sorts or code == "SorterNext"
            nested = nested or code == "Program"
        elif code == "IdxInsert" and one in roots:
            indexes.add(roots[one])
        elif code == "ResultRow":
            gives = True
        elif code == "Count":
            counts = True
            short = False
        elif code == "TypeCheck":
            checks = True
        elif code == "Yield":
            several = True
        elif code == "FkCounter" and one:
            final = False
        elif code == "NewRowid":
            appends += 1
        elif code in _CHOICES:
            chooses = True
        elif code == "Insert" and not five & _NOTHING:
            if roots.get(one) == sequence_root:
                sequence = True
            else:
                inserts = True
    torn = checks and (several or not short)
    short = short and not torn
    # A table without rowids is an index of its own.
    entries = (inserts + len(indexes)) or 1
    plain = short and appends == 1 and inserts and not (chooses or nested or finds)
    return Program(
        *(short, entries, sequence, gives, seeks, finds, sorts, counts, nested, final, plain),
        torn=torn,
    )
