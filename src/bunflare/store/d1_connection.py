"""A connection to a D1 database: what the platform forbids, its limits, and its words for errors.

Everything is forbidden by SQLite itself, through its authorizer, which is asked whenever a
statement is prepared. It looks at what is prepared while a user's statement runs; the driver's
cache of statements keeps those apart from ours by their prepare flags, `USER`.

Two kinds are never kept there. SQLite prepares a statement anew where the schema has changed, but
not an EXPLAIN, which then tells of the schema it was prepared with, and reads what was freed with
that. And a PRAGMA switches when it is prepared, not when it runs.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator

import apsw

from ..errors import D1Error
from .d1_allowed import drop_others, may_call, may_create, may_run, ours

#: The prepare flags of all statements that come from the user.
USER = apsw.SQLITE_PREPARE_PERSISTENT

#: Has SQLite see whether the schema is still the one it knows, which no EXPLAIN does.
LOOK = "SELECT 1 FROM sqlite_schema LIMIT 1"

#: Limits that SQLite itself watches over, as the platform sets them.
_LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: 2_000_000,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    apsw.SQLITE_LIMIT_COLUMN: 100,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 5,
    # Of one program. SQLite makes room for twice as many each time, so 21,504 are the last to fit.
    apsw.SQLITE_LIMIT_VDBE_OP: 25_000,
    # The documentation still says 32, which the platform has not had since 2024.
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 127,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# What a file with statements may need: a blob of 2 MB is 4 MB of hexadecimal digits, and other
# programs write thousands of rows in one INSERT.
_FILE_LIMITS = {
    apsw.SQLITE_LIMIT_SQL_LENGTH: 8_000_000,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000_000,
}

# Which name a table is given anew, no authorizer is told.
HIDDEN = r"SELECT count(*) FROM sqlite_schema WHERE name LIKE '\_cf\_%' ESCAPE '\'"
_TRANSACTIONS = (
    "To execute a transaction, please use the state.storage.transaction() or "
    "state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT "
    "statements. The JavaScript API is safer because it will automatically roll back on "
    "exceptions, and because it interacts correctly with Durable Objects' automatic atomic "
    "write coalescing."
)
_TEMPORARY = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_DROP_TEMP_INDEX,
        apsw.SQLITE_DROP_TEMP_TABLE,
        apsw.SQLITE_DROP_TEMP_TRIGGER,
        apsw.SQLITE_DROP_TEMP_VIEW,
    }
)
_CREATES = frozenset(
    {
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
    }
)
_DROPS = frozenset(
    {
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
    }
)
_BY_TABLE = _DROPS | {
    apsw.SQLITE_READ,
    apsw.SQLITE_INSERT,
    apsw.SQLITE_UPDATE,
    apsw.SQLITE_DELETE,
}


def never() -> object:
    """What is asked of a statement that nothing stops before its time."""
    return False


class Guard:
    """One connection's authorizer, and the clock of its statements.

    The connection has it, so it must not have the connection: a circle would stay open after its
    thread has ended, for as long as Python does not look for such.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        #: False while a statement of the user's runs.
        self.trusted = True
        #: When the running statement is stopped (`time.monotonic`), and whether it was.
        self.deadline = float("inf")
        self.stopped = False
        #: How often something was asked about a user's statement: whenever one is prepared.
        self.asked = 0
        self._passes = False
        self._unless: Callable[[], object] = never
        self._refusal = ""
        connection.execute("PRAGMA foreign_keys=1")
        # LIKE and MATCH know text only; double-quoted strings are a trap that the platform shuts.
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
        drop_others(connection)
        self.limit(connection)
        connection.authorizer = self._ask
        connection.set_progress_handler(self._tick, 20_000)

    def begin(
        self, deadline: float, *, passes: bool = False, unless: Callable[[], object] = never
    ) -> None:
        """A statement of the user's runs from now on.

        ``passes`` says that a file's BEGIN and COMMIT, and its switching of foreign keys, do
        nothing, instead of being refused. Once ``unless()`` is true, it is stopped.
        """
        self.trusted = False
        self._unless = unless
        self._passes = passes
        self.stopped = False
        self.deadline = deadline

    def end(self) -> None:
        """It has ended."""
        self.trusted = True
        self.deadline = float("inf")
        self._unless = never
        self._passes = False

    def limit(self, connection: apsw.Connection, *, file: bool = False) -> None:
        """Set the platform's limits; for statements of a ``file`` the wider ones."""
        for which, value in (_LIMITS | _FILE_LIMITS if file else _LIMITS).items():
            connection.limit(which, value)

    def _tick(self) -> bool:
        if time.monotonic() < self.deadline and not self._unless():
            return False
        self.stopped = True
        return True

    def _ask(
        self, action: int, one: str | None, two: str | None, schema: str | None, inner: str | None
    ) -> int:
        if self.trusted:
            return apsw.SQLITE_OK
        self.asked += 1
        self._refusal = ""
        if action in _BY_TABLE:
            theirs = ours(one) or (action in _DROPS and ours(two))
            return apsw.SQLITE_DENY if theirs else apsw.SQLITE_OK
        if action == apsw.SQLITE_ALTER_TABLE:
            # Here, the first is the database's name.
            return apsw.SQLITE_DENY if ours(two) else apsw.SQLITE_OK
        if action in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT):
            if self._passes:
                return apsw.SQLITE_IGNORE
            self._refusal = _TRANSACTIONS
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_PRAGMA:
            if self._passes and one is not None and one.lower() == "foreign_keys":
                return apsw.SQLITE_IGNORE
            return apsw.SQLITE_OK if may_run(one or "", two) else apsw.SQLITE_DENY
        if action in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH) or action in _TEMPORARY:
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_CREATE_VTABLE:
            known = may_create(two) and not ours(one)
            return apsw.SQLITE_OK if known else apsw.SQLITE_DENY
        if action == apsw.SQLITE_FUNCTION:
            known = may_call(two or "", file=self._passes)
            return apsw.SQLITE_OK if known else apsw.SQLITE_DENY
        if action in _CREATES:
            return apsw.SQLITE_DENY if ours(one) or ours(two) else apsw.SQLITE_OK
        return apsw.SQLITE_OK

    def explain(self, error: apsw.Error | UnicodeDecodeError) -> D1Error:
        """The platform's error for SQLite's."""
        refusal, self._refusal = self._refusal, ""
        if isinstance(error, UnicodeDecodeError):
            return D1Error("D1_ERROR: a text in the result is not UTF-8: select it as a blob")
        if self.stopped:
            return D1Error(
                "D1_ERROR: D1 DB storage operation exceeded timeout which caused "
                "object to be reset."
            )
        if isinstance(error, apsw.AuthError) and refusal:
            return D1Error(f"D1_ERROR: {refusal}")
        if isinstance(error, apsw.BindingsError):
            return D1Error("D1_ERROR: Wrong number of parameter bindings for SQL query.")
        code = apsw.mapping_result_codes.get(getattr(error, "result", 1) & 0xFF, "SQLITE_ERROR")
        text = str(error)
        offset = getattr(error, "error_offset", -1)
        if offset is not None and offset >= 0:
            text = f"{text} at offset {offset}"
        return D1Error(f"D1_ERROR: {text}: {code}")


# What a semicolon may hide in. SQLite decides whether one ends a statement; this only saves asking.
# What is never closed goes to the end: to look for its end from each of many would take for ever.
_TOKENS = re.compile(
    r"""'[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
    | --[^\n]* | /\*.*?(?:\*/|\Z) | ;""",
    re.DOTALL | re.VERBOSE,
)
# SQLite takes a byte order mark for a blank, wherever it is.
_BLANK = re.compile(r"(?:[\s\ufeff]+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z)|;)*", re.DOTALL)
_UNKEPT = frozenset({"EXPLAIN", "PRAGMA"})
# Functions that tell what the connection has written last.
_LOOKS_BACK = re.compile(r"last_insert_rowid|changes\W*\(", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]*")


def statements(sql: str) -> Iterator[tuple[int, str]]:
    """The statements of a text, each with the place where it begins.

    Where one ends is SQLite's own judgement, so triggers, CASE … END, comments, strings and all
    kinds of line ends are as they should be. Blanks, comments and lone semicolons are no statement.
    """
    start = start_of(sql)
    # Where the last semicolon was, within a trigger: there, only one after END can be the end.
    within: int | None = None
    for match in _TOKENS.finditer(sql, start):
        end = match.end()
        if match.group() != ";" or end <= start:
            continue
        asked = within is None or _only_end(sql, within, match.start())
        if asked and apsw.complete(sql[start:end]):
            yield start, sql[start:end]
            start = start_of(sql, end)
            within = None
        else:
            within = end
    if start < len(sql):
        yield start, sql[start:]


def _only_end(sql: str, start: int, stop: int) -> bool:
    """Whether there is END between two places, and nothing else."""
    word = start_of(sql, start, stop)
    return sql[word : word + 3].upper() == "END" and start_of(sql, word + 3, stop) == stop


def start_of(sql: str, position: int = 0, stop: int = sys.maxsize) -> int:
    """Where the first statement at or after ``position`` begins, or ``stop``."""
    match = _BLANK.match(sql, position, stop)
    assert match is not None
    return match.end()


def keyword(sql: str) -> str:
    """The first word of a statement, in capitals."""
    match = _WORD.match(sql, start_of(sql))
    return match.group().upper() if match else ""


def looks_back(sql: str) -> bool:
    """Whether a statement may ask what an earlier one has written: only its connection knows."""
    return _LOOKS_BACK.search(sql) is not None


def same_anywhere(sql: str) -> bool:
    """Whether a query gives the same, and does the same, on every connection."""
    return not switches(sql) and not looks_back(sql)


def unkept(sql: str) -> bool:
    """Whether a statement is not to be kept, and not to be run before `LOOK`."""
    return keyword(sql) in _UNKEPT


def switches(sql: str) -> bool:
    """Whether a statement may be a PRAGMA that switches something, which an EXPLAIN of one does."""
    return keyword(sql) in _UNKEPT and "PRAGMA" in sql.upper()
