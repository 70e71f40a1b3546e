"""The SQL tables of one Durable Object: a file, ``do-sql/<namespace>/<id>.sqlite``.

Statements run at once, in a transaction that is open until the object's changes are flushed. Those
of its key-value storage lie in ``data.sqlite``, and become one with them like this: the file's
commit carries them along, in a table that is hidden from the user (the redo record); then they are
written to ``data.sqlite`` with the record's number. Whoever opens the file and finds a number that
is not there writes them once more.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import apsw

from ..errors import DatabaseError, DurableObjectAbort, DurableObjectSqlError
from .blobs import sync_directory
from .connection import (
    DRIVER_ERRORS,
    BusyWait,
    Durability,
    Row,
    connect,
    copy_whole,
    enter_wal,
    translate,
)
from .d1_connection import LOOK, USER, keyword, unkept
from .d1_reader import UNKNOWN, Program, columns_of, read_program, scanned
from .object_guard import ObjectGuard
from .object_log import ObjectLog
from .object_redo import CREATE_REDO, WRITE_REDO, last_record, refused
from .object_statement import ALTERING, WRITES, Kind, Rows, straight, unbound

_PATIENCE = 10.0
_KNOWN = 1024
_TABLES = r"""
SELECT name, type, sql FROM sqlite_schema
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
  AND name NOT LIKE '\_cf\_%' ESCAPE '\'
ORDER BY type = 'view' DESC, sql LIKE 'CREATE VIRTUAL%' DESC
"""
_SEQUENCES = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence'"


class ObjectFile:
    """The open file of an object that is running."""

    def __init__(
        self,
        path: Path,
        durability: Durability,
        keep: Callable[[apsw.Connection], ObjectLog] | None = None,
        *,
        kept: bool = False,
    ) -> None:
        """Open ``path``; ``keep`` goes on with its history, or it is ``kept`` by somebody else."""
        self.path = path
        #: What keeps its earlier states.
        self.log: ObjectLog | None = None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = connection = connect(path, durability, BusyWait(_PATIENCE))
        try:
            enter_wal(connection, path, _PATIENCE)
            if keep is None and not kept:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                connection.execute("PRAGMA wal_autocheckpoint=1000")
            connection.execute("PRAGMA cache_size=-2048")
            self._guard = ObjectGuard(connection)
            self._guard.trusted = False
            #: For statements that are read to their end before the next.
            self.execute = connection.cursor().execute
            self.total_changes = connection.total_changes
            #: How many rows the last statement has changed, without those of triggers.
            self.rows_changed = connection.changes
            self.kinds: dict[str, Kind] = {}
            self._altered = False
            self._before = 0
            self._traced = False
            self._status: dict[str, int] = {}
            # The schema's version, as far as it is known; -1 after something was undone.
            self._schema = -1
            #: Whether a transaction is open.
            self.open = False
            #: A commit on a thread: until `settle`, nothing else may touch the connection.
            self.committing: Future[DatabaseError | None] | None = None
            #: What the last of these took, in seconds.
            self.took = 0.0
            self.sequence, self.changes = last_record(self._own)
            self._schema = self._version()
            if keep is not None:
                self.log = keep(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, apsw.Error):
                raise translate(error, path) from error
            raise

    # -- statements ------------------------------------------------------------------------

    def run(self, rows: Rows, sql: str, bindings: tuple[Any, ...]) -> Iterator[Row]:
        """Run what `Rows` was made for: the rows that the last statement gives."""
        kind = self.kinds.get(sql)
        if kind is None:
            kind = self._learn(sql)
        if not self.open:
            self._begin()
        self._guard.ticked = 0.0
        for part in kind.parts:
            self._step(part)
        if kind.reads is None:
            # Before it runs, which may change what there is.
            kind.program = self._program(kind, bindings)
        scans = not kind.program.short
        if scans is not self._traced:
            self._trace(scans)
        kept = kind.program.kept
        before = self.total_changes()
        cursor = self._connection.cursor()
        try:
            if not kept:
                self._own(LOOK, plainly=True)
            if kind.program.torn:
                with self._whole():
                    cursor.execute(kind.text, bindings, prepare_flags=USER)
            else:
                cursor.execute(kind.text, bindings, prepare_flags=USER, can_cache=kept)
            rows.columns = columns_of(cursor) or None
            if kind.reads is None:
                kind.reads = rows.columns is not None and bool(cursor.is_readonly)
            # What has not been read to its end would keep the transaction from committing.
            found: Iterator[Row] = cursor if kind.reads else iter(cursor.fetchall())
        except Exception as error:
            # Of what it gives something may be no text: it has not come to its end.
            cursor.close(True)
            raise self.failed(error, bindings) from error
        rows.scans = scans and kind.reads
        changed = self.total_changes() - before
        rows.written = kind.written(changed)
        if not kind.reads:
            if scans:
                rows.read = max(self.scanned(), changed)
            if kind.schema:
                self._alter(kind.text, rows.columns is not None)
            elif not kind.parts and not scans and kind.program is not UNKNOWN:
                kind.plain = not kind.program.rows
        return found

    def _step(self, sql: str) -> None:
        try:
            # It may be a torn one; few write in this way.
            with self._whole() if keyword(sql) in WRITES else nullcontext():
                cursor = self.execute(sql, (), prepare_flags=USER, can_cache=not unkept(sql))
                gave = bool(columns_of(cursor))
                # What it gives is for nobody; it need not come to its end.
                self.execute("")
        except apsw.BindingsError as error:
            raise DurableObjectSqlError(
                "When executing multiple SQL statements in a single call, only the last "
                "statement can have parameters."
            ) from error
        except apsw.Error as error:
            raise self.failed(error) from error
        if keyword(sql) in ALTERING:
            self._alter(sql, gave)

    def _alter(self, sql: str, gave: bool) -> None:
        """A statement has run that may have altered the schema; whether it ``gave`` rows."""
        version = self._version()
        if version != self._schema:
            # Not where a table was to be created that is there.
            self._schema = version
            self.kinds.clear()
            self._altered = True
        elif not gave and keyword(sql) == "PRAGMA":
            # It may have switched something, which makes other programs of the same statements.
            self.kinds.clear()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Undo all of a statement that fails, where SQLite forgets to (`Program.torn`)."""
        self.savepoint(0)
        try:
            yield
        except BaseException as error:
            if self._connection.in_transaction:
                code = getattr(error, "extendedresult", apsw.SQLITE_OK)
                end = self.undo if code == apsw.SQLITE_CONSTRAINT_DATATYPE else self.release
                end(0)
            raise
        self.release(0)

    def _undone(self) -> None:
        """Something was undone, which may have been an alteration of the schema."""
        self._schema = -1
        if self._altered:
            self.kinds.clear()

    def _version(self) -> int:
        return int(self._own("PRAGMA schema_version")[0][0])

    def _learn(self, sql: str) -> Kind:
        try:
            sql.encode()
        except UnicodeEncodeError:
            raise DurableObjectSqlError("a query must be text that UTF-8 can encode") from None
        if "\0" in sql:
            raise DurableObjectSqlError("a query cannot have a NUL character: SQLITE_ERROR")
        kind = Kind(sql)
        if not kind.text:
            raise DurableObjectSqlError("SQL code did not contain a statement.")
        if len(self.kinds) >= _KNOWN:
            self.kinds.clear()
        self.kinds[sql] = kind
        return kind

    def _program(self, kind: Kind, bindings: tuple[Any, ...]) -> Program:
        if not kind.program.kept:
            return kind.program
        explain = f"EXPLAIN {kind.text}"
        try:
            # First, since it has SQLite look at the schema as well.
            root = self._own(_SEQUENCES, plainly=True)
            rows = self.execute(explain, bindings, prepare_flags=USER, can_cache=False).fetchall()
        except (apsw.Error, TypeError, ValueError, OverflowError):
            return UNKNOWN
        program = read_program(rows, root[0][0] if root else -1)
        kind.appends = program.appends and straight(rows)
        return program

    def _trace(self, on: bool) -> None:
        # What SQLite tells of a statement costs as much as a look-up by key.
        self._traced = on
        self._connection.trace_v2(
            apsw.SQLITE_TRACE_PROFILE if on else 0, self._profile if on else None
        )

    def _profile(self, event: dict[str, Any]) -> None:
        self._status = event["stmt_status"]

    def scanned(self) -> int:
        """The rows that the last statement to end has scanned."""
        status, self._status = self._status, {}
        return scanned(status)

    def names(self, sql: str, bindings: tuple[Any, ...]) -> tuple[str, ...]:
        """The columns of a statement that gave no row."""
        found: list[tuple[str, ...]] = []

        def look(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
            found.append(tuple([column[0] for column in cursor.get_description()]))
            return False

        self.settle()
        text = (self.kinds.get(sql) or self._learn(sql)).text
        cursor = self._connection.cursor()
        cursor.exec_trace = look
        # One that has run may not be run again, as DROP TABLE, and gives no columns then.
        with suppress(apsw.Error):
            cursor.execute(text, bindings, prepare_flags=USER, can_cache=not unkept(text))
        return found[0] if found else ()

    def failed(self, error: Exception, bindings: tuple[Any, ...] = ()) -> BaseException:
        """The platform's words for SQLite's and the driver's."""
        if self._guard.stopped:
            self._guard.stopped = False
            # What it had written is undone, and nothing else of the object may be kept then.
            return DurableObjectAbort(
                "Durable Object storage operation exceeded timeout which caused object to be reset."
            )
        if not isinstance(error, apsw.Error | UnicodeDecodeError):
            return unbound(error, bindings)
        if self.open and not self._connection.in_transaction:
            # Some failures undo the whole transaction.
            self.open = False
            self._undone()
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
        self._before = self.total_changes()
        self._altered = False
        self.open = True

    @property
    def changed(self) -> bool:
        """Whether the open transaction has written anything."""
        return self.open and (self._altered or self.total_changes() != self._before)

    def commit(self, changes: str | None) -> int | None:
        """Commit what was written, together with changes that belong elsewhere.

        The number of the redo record, if there had to be one: the changes are then to be written
        with it. Raises `DatabaseError` and its kinds.
        """
        if not self.open:
            return None
        sequence = self._record(changes)
        try:
            self._own("COMMIT", plainly=True)
        except apsw.Error as error:
            self.rollback()
            raise refused(error, self.path) from error
        self.open = False
        if sequence is not None:
            self.sequence = sequence
        if self.log is not None:
            self.log.committed()
        return sequence

    def _record(self, changes: str | None) -> int | None:
        if changes is None or not self.changed:
            return None
        sequence = self.sequence + 1
        # The user's own, whom a later statement may ask for.
        inserted = self._connection.last_insert_rowid()
        try:
            if sequence == 1:
                self._own(CREATE_REDO)
            self._own(WRITE_REDO, (sequence, changes))
            self._connection.set_last_insert_rowid(inserted)
        except DatabaseError:
            self.rollback()
            raise
        return sequence

    def commit_aside(
        self, changes: str | None, threads: Executor, ended: Callable[[object], object]
    ) -> tuple[int | None, Future[DatabaseError | None]]:
        """`commit` on a thread, which calls ``ended`` there.

        The number of the redo record, and what the commit has failed with. Whoever needs the
        connection before waits for it.
        """
        sequence = self._record(changes)
        self.open = False
        self._guard.trusted = True
        committing = self.committing = threads.submit(self._commit)
        if sequence is not None:
            # If it fails, the file is not written any more.
            self.sequence = sequence
        committing.add_done_callback(ended)
        return sequence, committing

    def _commit(self) -> DatabaseError | None:
        started = time.perf_counter()
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._schema = -1
            with suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            return refused(error, self.path)
        self.took = time.perf_counter() - started
        if self.log is not None:
            self.log.committed()
        return None

    def settle(self) -> None:
        """Wait for a commit that is on a thread."""
        committing, self.committing = self.committing, None
        if committing is not None:
            committing.result()
            self._guard.trusted = False

    def rollback(self) -> None:
        """Undo what was not committed."""
        self.settle()
        self.open = False
        self._undone()
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
            self._undone()
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
                try:
                    self._own(f'DROP {kind} "{quoted}"', plainly=True)
                except apsw.LockedError:
                    self._end_readers()
                    self._own(f'DROP {kind} "{quoted}"')
            self._altered = True  # so that the record is written in any case
            sequence = self.commit(changes)
            assert sequence is not None
            return sequence
        except apsw.Error as error:
            raise translate(error, self.path) from error
        finally:
            # Of one that failed nothing is kept; and in a transaction the switch would do nothing.
            self.rollback()
            self._own("PRAGMA foreign_keys=1")

    def _end_readers(self) -> None:
        """Close the cursors that were not read to their end, which tables cannot go before.

        Nobody keeps a list of them: that would cost each query, and this is rare.
        """
        ours = cast(Any, self.execute).__self__
        for one in gc.get_referrers(self._connection):
            if isinstance(one, apsw.Cursor) and one is not ours:
                one.close(True)

    def copy(self, path: Path) -> None:
        """Write what was committed to a new file, flushed to disk."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.unlink(missing_ok=True)
        self.settle()
        try:
            with closing(apsw.Connection(str(partial))) as target:
                copy_whole(self._connection, target)
            partial.replace(path)
            sync_directory(path.parent)
        except (apsw.Error, OSError) as error:
            partial.unlink(missing_ok=True)
            raise translate(error, path) if isinstance(error, apsw.Error) else error from error

    def replace(self, path: Path, changes: str, least: int) -> int:
        """Put a copy in the place of what there is, in a commit that carries ``changes`` along.

        The number of that is above ``least``, and above all that this file has seen.
        """
        number = max(self.sequence, least) + 1
        self.rollback()
        try:
            readonly = apsw.SQLITE_OPEN_READONLY
            with closing(apsw.Connection(str(path), flags=readonly)) as source:
                copy_whole(source, self._connection)
        except apsw.Error as error:
            raise translate(error, self.path) from error
        self.kinds.clear()
        self.sequence = number - 1
        self._begin()
        self._own(CREATE_REDO)
        self._altered = True  # so that the record is written in any case
        sequence = self.commit(changes)
        assert sequence is not None
        return sequence

    def _own(self, sql: str, bindings: tuple[Any, ...] = (), *, plainly: bool = False) -> list[Row]:
        """A statement of ours. Raises `DatabaseError`, or ``plainly`` what the driver does."""
        if self.committing is not None:
            self.settle()
        self._guard.trusted = True
        try:
            return list(self._connection.execute(sql, bindings))
        except DRIVER_ERRORS as error:
            if plainly:
                raise
            raise translate(error, self.path) from error
        finally:
            self._guard.trusted = False

    def close(self) -> None:
        self.rollback()
        if self.log is not None:
            self.log.close()
        self._connection.close()
