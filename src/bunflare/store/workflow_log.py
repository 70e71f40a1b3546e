"""What the runs of workflows have done: a log for each instance, and the events sent to it.

An entry is added when something has ended (a step, a failed attempt, a sleep) or begins to be
waited for, and is never changed. Running an instance again from its log gives every step what it
gave before. Entries are only taken from the run that the instance has now, so a run that was
restarted, or deleted, in the middle of a step cannot write any more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .connection import ConstraintError, Row, SqliteError
from .records import time_in
from .session import View
from .transaction import Transaction

#: Instance, run, number, kind, name, count, parent, place, attempt, started_at, at, due, value and
#: about.
Entry = tuple[object, ...]


class Awaited(NamedTuple):
    """An event that a run looks for."""

    instance: str
    type: str
    #: The entry that says that it is waited for from now on, at the first time.
    begun: Entry | None
    #: The entry for an event, without its end: due, value, about.
    done: Entry
    #: The entry for none in time, when the time is over.
    late: Entry | None


LOG = """
CREATE TABLE IF NOT EXISTS bunflare_workflow_log (
  instance TEXT NOT NULL,   -- workflow_instances.id
  number INTEGER NOT NULL,
  kind TEXT NOT NULL,       -- step_completed, attempt_errored, sleep_started, …
  name TEXT,                -- the step's
  count INTEGER,            -- and how often its name had been used
  parent TEXT,              -- the step within whose callback it is
  place TEXT,               -- in which of the tasks and how often there, if count does not tell
  attempt INTEGER,
  started_at INTEGER,       -- ms epoch
  at INTEGER NOT NULL,      -- ms epoch
  due INTEGER,              -- ms epoch: until when is waited
  value TEXT,               -- JSON: an output, an error, a payload
  about TEXT,               -- JSON: the step's configuration where it has one
  PRIMARY KEY (instance, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bunflare_workflow_events (
  instance TEXT NOT NULL,
  number INTEGER NOT NULL,
  type TEXT NOT NULL,
  payload TEXT,             -- JSON
  at INTEGER NOT NULL,      -- ms epoch
  PRIMARY KEY (instance, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bunflare_workflow_chunks (
  instance TEXT NOT NULL,
  stream TEXT NOT NULL,     -- the step whose output it is, and its attempt
  number INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (instance, stream, number)
)
"""

# Where the run is over, there is no instance that the entry is of, and that column is not to be
# empty. A condition would make it a statement of many rows, of which each keeps a journal.
_RECORD = """
INSERT INTO bunflare_workflow_log
  (instance, number, kind, name, count, parent, place, attempt, started_at, at, due, value, about)
VALUES ((SELECT id FROM workflow_instances WHERE id = ?1 AND bunflare_run = ?2),
  ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
"""
_IS_RUN = "SELECT 1 FROM workflow_instances WHERE id = ? AND bunflare_run = ?"
_TELL = """
INSERT INTO bunflare_workflow_log (instance, number, kind, at)
SELECT ?1, COALESCE(MAX(number), 0) + 1, ?2, ?3 FROM bunflare_workflow_log WHERE instance = ?1
HAVING COALESCE((SELECT kind FROM bunflare_workflow_log
  WHERE instance = ?1 ORDER BY number DESC LIMIT 1), '') <> ?2
"""
_ENTRIES = f"""
SELECT number, kind, name, count, parent, attempt, {time_in("started_at")}, {time_in("at")},
  {time_in("due")}, value, about, place
FROM bunflare_workflow_log WHERE instance = ? AND number > ? ORDER BY number LIMIT ?
"""
_CUT = "DELETE FROM bunflare_workflow_log WHERE instance = ? AND number >= ?"
_CUT_CHUNKS = "DELETE FROM bunflare_workflow_chunks WHERE instance = ?"

_SEND = """
INSERT INTO bunflare_workflow_events (instance, number, type, payload, at)
SELECT ?1, COALESCE((SELECT MAX(number) FROM bunflare_workflow_events WHERE instance = ?1), 0) + 1,
  ?2, ?3, ?4
"""
_OLDEST = f"""
SELECT number, payload, {time_in("at", "0")} FROM bunflare_workflow_events
WHERE instance = ? AND type = ? ORDER BY number LIMIT 1
"""
_TAKE = "DELETE FROM bunflare_workflow_events WHERE instance = ? AND number = ?"
_CLEAR_EVENTS = "DELETE FROM bunflare_workflow_events WHERE instance = ?"
_BUFFERED = """
SELECT number, type, payload, at FROM bunflare_workflow_events WHERE instance = ? ORDER BY number
"""

_ADD_CHUNK = """
INSERT INTO bunflare_workflow_chunks (instance, stream, number, data) VALUES (?, ?, ?, ?)
ON CONFLICT (instance, stream, number) DO UPDATE SET data = excluded.data
"""
_CHUNK = """
SELECT data FROM bunflare_workflow_chunks WHERE instance = ? AND stream = ? AND number = ?
"""
_DROP_STREAM = "DELETE FROM bunflare_workflow_chunks WHERE instance = ? AND stream = ?"


def record(tx: Transaction, entry: Entry) -> bool:
    """Add an entry; false if the run is over. The run alone adds entries, so it numbers them."""
    (told,) = record_all(tx, [entry])
    if isinstance(told, Exception):
        raise told
    return told


def record_all(tx: Transaction, entries: list[Entry]) -> list[bool | Exception]:
    """Add entries of several runs; of each, what `record` gives or raises."""
    told: list[bool | Exception] = [True] * len(entries)
    at = 0
    while at < len(entries):
        before = tx.mark()[0]
        try:
            tx.many(_RECORD, entries[at:])
            break
        except Exception as error:
            at += tx.mark()[0] - before
            told[at] = _refused(tx, entries[at], error)
            at += 1
    return told


def write_all(tx: Transaction, items: list[Entry | Awaited]) -> list[Any]:
    """Add entries and take events, in their order; of each, what `record` and `await_event` give
    or raise."""
    if not any(item.__class__ is Awaited for item in items):
        return record_all(tx, items)
    told: list[Any] = []
    for item in items:
        if isinstance(item, Awaited):
            told.append(await_event(tx, item))
        else:
            told += record_all(tx, [item])
    return told


def _refused(tx: Transaction, entry: Entry, error: Exception) -> bool | Exception:
    """Why an entry was not taken, unless that concerns the others too."""
    if not isinstance(error, SqliteError):
        return error
    if isinstance(error, ConstraintError) and tx.one(_IS_RUN, entry[:2]) is None:
        return False
    raise error


def tell(tx: Transaction, instance: str, kind: str, now: int) -> None:
    """Add an entry of no step, unless the last one says the same; to be called where nobody runs
    the instance."""
    tx.run(_TELL, (instance, kind, now))


def entries(view: View, instance: str, after: int = 0, limit: int = -1) -> list[Row]:
    """Entries behind one.

    ``(number, kind, name, count, parent, attempt, started_at, at, due, value, about, place)``;
    times are None where another program has put something else.
    """
    return view.all(_ENTRIES, (instance, after, limit))


def cut(tx: Transaction, instance: str, number: int) -> None:
    """Forget the entries from one on."""
    tx.run(_CUT, (instance, number))


def send(tx: Transaction, instance: str, type: str, payload: str | None, now: int) -> None:
    tx.run(_SEND, (instance, type, payload, now))


def await_event(tx: Transaction, awaited: Awaited) -> tuple[str | None, str | None, int] | None:
    """Take the oldest event of a type: ``(kind, payload, at)``; no kind if there is none yet.

    None: the run is over.
    """
    instance, wanted, begun, done, late = awaited
    if begun is not None and not record(tx, begun):
        return None
    row = tx.one(_OLDEST, (instance, wanted))
    if row is not None:
        number, payload, at = row
        if not record(tx, (*done, at, payload, None)):
            return None
        tx.run(_TAKE, (instance, number))
        return "wait_completed", payload, at
    if late is None:
        return None, None, 0
    return ("wait_timed_out", None, 0) if record(tx, late) else None


def buffered(view: View, instance: str) -> list[Row]:
    """``(number, type, payload, at)`` of the events that nobody has awaited."""
    return view.all(_BUFFERED, (instance,))


def add_chunk(tx: Transaction, instance: str, stream: str, number: int, data: bytes) -> None:
    tx.run(_ADD_CHUNK, (instance, stream, number, data))


def chunk(view: View, instance: str, stream: str, number: int) -> bytes | None:
    row = view.one(_CHUNK, (instance, stream, number))
    return None if row is None else row[0]


def drop_stream(tx: Transaction, instance: str, stream: str) -> None:
    tx.run(_DROP_STREAM, (instance, stream))


def forget(tx: Transaction, instance: str) -> None:
    """Everything that an instance has left."""
    tx.run(_CUT, (instance, 0))
    tx.run(_CUT_CHUNKS, (instance,))
    tx.run(_CLEAR_EVENTS, (instance,))
