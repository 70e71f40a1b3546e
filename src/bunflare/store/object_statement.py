"""Statements on an object's tables: what is known of a text, and the rows that one gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from ..errors import DurableObjectTypeError
from .connection import Row
from .d1_connection import keyword, statements
from .d1_reader import SCHEMA_WORDS, assumed

if TYPE_CHECKING:
    from .object_sql import ObjectFile

T = TypeVar("T")

#: The rows of a statement that gives none.
NONE: Iterator[Row] = iter(())
_PLAIN = {"_rows": NONE, "columns": (), "read": 0}
# What the program of a statement has that does the same each time, and has no other way to its end.
_STRAIGHT = frozenset(
    {
        *("Init", "Transaction", "OpenWrite", "Goto", "Halt", "HaltIfNull", "Variable", "Null"),
        *("SoftNull", "Integer", "Int64", "Real", "String8", "Blob", "Copy", "SCopy", "IntCopy"),
        *("Function", "PureFunc", "Affinity", "TypeCheck", "NewRowid", "MakeRecord", "Insert"),
        "IdxInsert",
    }
)
#: Statements after which what is known of others does not hold.
ALTERING = SCHEMA_WORDS | {"PRAGMA"}
#: Statements that may write rows.
WRITES = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"})


class Kind:
    """What is known of a text."""

    __slots__ = (*("appends", "one", "parts", "plain", "program", "reads", "schema", "text"),)

    def __init__(self, sql: str) -> None:
        self.parts = [part for _, part in statements(sql)]
        #: The last statement, to which the bindings and the rows belong.
        self.text = self.parts.pop() if self.parts else ""
        #: Whether what is known of other texts does not hold after it.
        self.schema = any(keyword(part) in ALTERING for part in (*self.parts, self.text))
        #: Whether the last statement only reads; None if it has not run yet.
        self.reads: bool | None = None
        self.program = assumed(self.text)
        #: Whether it is one short statement that writes and gives no rows.
        self.plain = False
        #: Whether it always changes one row, or fails.
        self.appends = False
        #: The rows of such a one that has changed one row: all of them have the same.
        self.one: Any = None

    def written(self, changed: int) -> int:
        """How many rows were written, with the entries of indexes, where so many have changed."""
        program = self.program
        return changed * program.entries + (1 if program.sequence and changed else 0)

    def share(self, rows: T) -> T:
        """Keep ``rows`` for all runs that change one row."""
        self.one = rows
        return rows


class Rows:
    """Runs one statement or several; the rows of the last one, read when they are asked for.

    The bindings belong to that one. Raises `DurableObjectSqlError` and `DurableObjectTypeError`.
    """

    __slots__ = ("_file", "_query", "_rows", "columns", "read", "scans", "written")

    def __init__(self, file: ObjectFile, sql: str, bindings: tuple[Any, ...]) -> None:
        self._file = file
        self._query = (sql, bindings)
        self.columns = None
        self.read = 0
        self.scans = False
        self._rows = file.run(self, sql, bindings)

    def __getattr__(self, name: str) -> Any:
        # Of a `Kind.plain` statement's rows there is only the number of those written.
        value = _PLAIN.get(name)
        if value is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return value

    #: Rows looked at so far, and rows written, those of indexes included.
    read: int
    written: int
    #: Whether SQLite is asked, at the end, how many rows were scanned.
    scans: bool
    columns: tuple[str, ...] | None
    _rows: Iterator[Row]

    def row(self) -> Row:
        """The next row. Raises `StopIteration` if there is none."""
        if self._rows is not NONE and self._file.committing is not None:
            self._file.settle()
        try:
            row = next(self._rows)
        except StopIteration:
            if self._rows is not NONE:
                self._rows = NONE
                if self.scans:
                    self.read = max(self.read, self._file.scanned())
            raise
        except (apsw.Error, UnicodeDecodeError) as error:
            raise self._file.failed(error) from error
        self.read += 1
        return row

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        if self.columns is None:
            self.columns = self._file.names(*self._query)
        return self.columns


def straight(program: Sequence[Row]) -> bool:
    """Whether a statement's program (``EXPLAIN``) has one way only, or ends with an error."""
    codes = [row[1] for row in program]
    # The first instruction goes to the end of the program, and that one back.
    return _STRAIGHT.issuperset(codes) and codes.count("Goto") == codes.count("Halt") == 1


def unbound(error: Exception, bindings: tuple[Any, ...]) -> Exception:
    """Why the driver has not taken the bindings."""
    for value in bindings:
        if isinstance(value, int):
            if not -(1 << 63) <= value < 1 << 63:
                return DurableObjectTypeError("an integer has 64 bits in SQL")
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return DurableObjectTypeError("a text must be one that UTF-8 can encode")
        elif value is not None and not isinstance(value, float | bytes | bytearray | memoryview):
            return DurableObjectTypeError(
                f"a value of type {type(value).__name__} cannot be bound to an SQL query"
            )
    return error
