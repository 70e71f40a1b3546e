"""Running files of SQL on a D1 database: imports and migrations.

A file is read in blocks that end where a statement ends, and SQLite runs the statements of a block
one after the other, so neither its size nor the number of its statements costs much. What files
carry for other programs (BEGIN, COMMIT, the switching of foreign keys) is passed over by the
authorizer: a file is one transaction.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apsw

from ..errors import D1Error
from .connection import translate
from .d1 import D1File, connect_beside
from .d1_connection import USER, Guard, start_of, statements
from .d1_executor import D1Executor
from .d1_reader import LONGEST
from .transaction import Transaction

#: Is told how many bytes (of a file that is read) or rows (written) are done.
Progress = Callable[[int], object]
#: A piece of a text that ends where a statement ends, and how many bytes of the file are read.
Block = tuple[str, int]

_BLOCK = 256 * 1024
# How many semicolons are tried as the end of a block.
_TRIES = 16
_KEYS = "PRAGMA foreign_key_check"


def run_blocks(
    tx: Transaction,
    executor: D1Executor,
    blocks: Iterable[Block],
    source: str,
    progress: Progress | None = None,
) -> int:
    """Run a file's statements: a write function. How many there were.

    Raises `D1Error`, naming the line of ``source`` that fails.
    """
    connection = tx._connection
    guard = executor.guard
    place = _Place()
    cursor = connection.cursor()
    cursor.exec_trace = place.move
    tx.run("PRAGMA defer_foreign_keys=1")
    guard.limit(connection, file=True)
    place.guard = guard
    try:
        for text, done in blocks:
            place.begin(text)
            guard.begin(time.monotonic() + LONGEST, passes=True)
            try:
                for _row in cursor.execute(text, (), can_cache=False, prepare_flags=USER):
                    pass
            finally:
                guard.end()
            place.end()
            if progress is not None:
                progress(done)
        if connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise D1Error(
                f"{source}: FOREIGN KEY constraint failed: a row at its end refers to one that is "
                "not there"
            )
    except apsw.Error as error:
        reason = str(guard.explain(error)).removeprefix("D1_ERROR: ")
        line = place.line(error, connection)
        raise D1Error(f"{source}:{line}: {reason}") from error
    finally:
        guard.limit(connection)
        if tx.open:
            # The next of the group is a transaction of its own in the platform's eyes.
            tx.run("PRAGMA defer_foreign_keys=0")
    return place.count


class _Place:
    """Where in a file SQLite is."""

    guard: Guard

    def __init__(self) -> None:
        self.count = 0
        self._text = ""
        self._lines = 1
        self._next = 0
        self._here = 0

    def begin(self, text: str) -> None:
        self._text = text
        self._here = self._next = 0

    def move(self, _cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        """The next statement begins."""
        self._here = self._next
        self._next += len(sql)
        self.count += 1
        self.guard.deadline = time.monotonic() + LONGEST
        return True

    def end(self) -> None:
        self._lines += self._text.count("\n")

    def line(self, error: apsw.Error, connection: apsw.Connection) -> int:
        """The line that failed."""
        text = self._text
        offset = getattr(error, "error_offset", -1)
        if offset >= 0:
            return self._lines + (
                text.count("\n", 0, self._next) + text[self._next :].encode()[:offset].count(b"\n")
            )
        place = self._here
        # One that cannot be prepared was not announced.
        for _, following in statements(text[self._next :]):
            self.guard.begin(time.monotonic() + LONGEST)
            try:
                connection.execute(f"EXPLAIN {following}", prepare_flags=USER, can_cache=False)
            except apsw.Error as again:
                if str(again) == str(error):
                    place = self._next
            finally:
                self.guard.end()
            break
        return self._lines + text.count("\n", 0, start_of(text, place))


def blocks_of(path: Path) -> Iterator[Block]:
    """A file in blocks. Raises `D1Error` where it cannot be read or is no text."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    wanted = _BLOCK
    done = 0
    try:
        with path.open("rb") as file:
            while data := file.read(wanted):
                rest += decoder.decode(data)
                done += len(data)
                end = _end_of_statements(rest)
                if end:
                    yield rest[:end], done
                    rest = rest[end:]
                    wanted = _BLOCK
                else:
                    # A long statement is looked at a few times, not once for each block.
                    wanted = max(wanted, len(rest))
            rest += decoder.decode(b"", True)
    except OSError as error:
        raise D1Error(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise D1Error(f"{path} is not UTF-8 text (byte {done + error.start})") from error
    if start_of(rest) < len(rest):
        yield rest, done


def _end_of_statements(text: str) -> int:
    """After the last statement that ends in a text that begins with one; 0 if none does."""
    end = len(text)
    for _ in range(_TRIES):
        end = text.rfind(";", 0, end) + 1
        if not end:
            return 0
        if apsw.complete(text[:end]):
            return end
        end -= 1
    return 0


async def load(file: D1File, path: Path, progress: Progress | None) -> int:
    """Run a file's statements as one transaction. How many there were.

    Dumps of other programs fill tables before those that they refer to exist, which SQLite bears
    only with foreign keys switched off, and that only outside of transactions: so a connection of
    its own reads them, while our writer stands still, and checks the keys at the end.
    """
    return await file.aside(lambda: _load(file, path, progress))


def _load(file: D1File, path: Path, progress: Progress | None) -> int:
    connection = connect_beside(file.path, file.durability)
    try:
        executor = D1Executor(connection)
        connection.execute("PRAGMA foreign_keys=0")
        tx = Transaction(connection)
        tx.run("BEGIN IMMEDIATE")
        wrong = set(connection.execute(_KEYS).fetchall())
        done = run_blocks(tx, executor, blocks_of(path), str(path), progress)
        for table, _row, parent, _key in set(connection.execute(_KEYS).fetchall()) - wrong:
            raise D1Error(
                f"{path}: FOREIGN KEY constraint failed: a row of {table} refers to one of "
                f"{parent} that is not there"
            )
        tx.run("COMMIT")
        return done
    except apsw.Error as error:
        raise translate(error, file.path) from error
    finally:
        # What was not committed is undone with it.
        connection.close()
