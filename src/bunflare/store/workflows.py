"""Workflows: their instances, and what becomes of them from outside.

Who runs them is in `workflow_owners`, what a run has done in `workflow_log`. An instance is named
by its workflow and its id, while the table's key is an id alone: an id that another workflow has
taken is stored as ``workflow/id``, which no id can look like (`row_id`, `public_id`).

`bunflare_due` says when an instance needs somebody: a time in epoch milliseconds (a sleep's end, or
now for one that waits to be run), `RUNNING` while a process runs it, NULL when it needs nobody.
"""

from __future__ import annotations

from typing import Any

from .connection import Row
from .records import Records, time_in
from .schema import Schema, add_columns
from .session import View
from .transaction import Transaction
from .workflow_log import LOG, forget, record, tell
from .workflow_owners import OWNERS, RUNNING

WORKFLOW_INSTANCES = """
CREATE TABLE IF NOT EXISTS workflow_instances (
  id TEXT PRIMARY KEY,
  workflow_name TEXT NOT NULL,
  class_name TEXT NOT NULL,
  params TEXT,               -- JSON
  status TEXT NOT NULL DEFAULT 'running',  -- running, paused, complete, errored, terminated
  output TEXT,               -- JSON
  error TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
)
"""

DUE = """
CREATE INDEX IF NOT EXISTS bunflare_workflow_due
  ON workflow_instances (workflow_name, bunflare_due) WHERE bunflare_due IS NOT NULL
"""

EXPIRING = """
CREATE INDEX IF NOT EXISTS bunflare_workflow_expiring
  ON workflow_instances (bunflare_expires) WHERE bunflare_expires IS NOT NULL
"""

FINAL = frozenset({"complete", "errored", "terminated"})


def _instance_columns(tx: Transaction) -> None:
    add_columns(
        tx,
        "workflow_instances",
        bunflare_run="INTEGER NOT NULL DEFAULT 1",
        bunflare_due="INTEGER",
        bunflare_expires="INTEGER",
        bunflare_success_retention="INTEGER",
        bunflare_error_retention="INTEGER",
        bunflare_error_name="TEXT",
        bunflare_ending="TEXT",
        bunflare_schedule="TEXT",
    )
    # What another program left half-way is gone on with.
    tx.run(
        "UPDATE workflow_instances SET bunflare_due = created_at"
        " WHERE status IN ('running', 'queued', 'waiting') AND bunflare_due IS NULL"
    )
    tx.run(DUE)
    tx.run(EXPIRING)


def _places(tx: Transaction) -> None:
    add_columns(tx, "bunflare_workflow_log", place="TEXT")


SCHEMA = Schema("workflows", (WORKFLOW_INSTANCES, _instance_columns, OWNERS + ";" + LOG, _places))

_CREATE = """
INSERT INTO workflow_instances
  (id, workflow_name, class_name, params, status, created_at, updated_at, bunflare_run,
   bunflare_due, bunflare_success_retention, bunflare_error_retention, bunflare_schedule)
VALUES (
  CASE WHEN EXISTS (SELECT 1 FROM workflow_instances WHERE id = ?2) THEN ?2 ELSE ?1 END,
  ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO NOTHING
"""
_TAKEN = "SELECT id, workflow_name FROM workflow_instances WHERE id IN (?, ?)"

_COLUMNS = f"""
id, params, status, output, error, bunflare_error_name, {time_in("created_at", "0")},
{time_in("updated_at", "0")}, bunflare_run, bunflare_due, bunflare_ending, bunflare_schedule,
bunflare_success_retention, bunflare_error_retention
"""
_GET = f"SELECT {_COLUMNS} FROM workflow_instances WHERE id = ? AND workflow_name = ?"
_BY_ID = f"SELECT {_COLUMNS} FROM workflow_instances WHERE id = ?"
_STATUS = "SELECT status FROM workflow_instances WHERE id = ?"

_NEXT_DUE = """
SELECT bunflare_due FROM workflow_instances
WHERE workflow_name = ? AND bunflare_due >= 0 ORDER BY bunflare_due LIMIT 1
"""
_WAKE = f"""
UPDATE workflow_instances SET bunflare_due = {RUNNING}, updated_at = ?2,
  status = CASE WHEN status IN ('queued', 'waiting') THEN 'running' ELSE status END
WHERE id IN (
  SELECT id FROM workflow_instances WHERE workflow_name = ?1 AND bunflare_due BETWEEN 0 AND ?2
  ORDER BY bunflare_due LIMIT ?3
) RETURNING {_COLUMNS}
"""
_SET = """
UPDATE workflow_instances SET status = ?, bunflare_due = ?, updated_at = ?
WHERE id = ? AND bunflare_run = ? AND status = ?
RETURNING id
"""
_PARK = """
UPDATE workflow_instances SET status = ?, bunflare_due = ?, updated_at = ?
WHERE id = ? AND bunflare_run = ? AND status IN ('running', 'waiting', 'rollingBack')
RETURNING id
"""
_FINISH = """
UPDATE workflow_instances SET status = ?3, output = ?4, error = ?5, bunflare_error_name = ?6,
  updated_at = ?7, bunflare_due = NULL, bunflare_ending = NULL,
  bunflare_expires = ?7 + COALESCE(
    CASE WHEN ?3 = 'complete' THEN bunflare_success_retention ELSE bunflare_error_retention END, ?8)
WHERE id = ?1 AND bunflare_run = ?2
  AND status <> 'complete' AND status <> 'errored' AND status <> 'terminated'
"""
_ROLL_BACK = """
UPDATE workflow_instances SET status = 'rollingBack', bunflare_ending = ?3, updated_at = ?4
WHERE id = ?1 AND bunflare_run = ?2 AND status NOT IN ('complete', 'errored', 'terminated')
RETURNING id
"""
_ROLL_BACK_NOW = f"""
UPDATE workflow_instances SET status = 'rollingBack', bunflare_ending = 'terminated',
  updated_at = ?2,
  bunflare_due = CASE WHEN bunflare_due = {RUNNING} THEN {RUNNING} ELSE ?2 END
WHERE id = ?1
"""
_READY_BY = """
UPDATE workflow_instances SET bunflare_due = MIN(bunflare_due, ?2)
WHERE id = ?1 AND bunflare_due >= 0
"""
_RESTART = """
UPDATE workflow_instances SET status = 'queued', bunflare_due = ?2, updated_at = ?2,
  bunflare_run = bunflare_run + 1, output = NULL, error = NULL, bunflare_error_name = NULL,
  bunflare_expires = NULL, bunflare_ending = NULL
WHERE id = ?1
"""
_DELETE = "DELETE FROM workflow_instances WHERE id = ?"
_SOME = "SELECT id FROM workflow_instances WHERE workflow_name = ? LIMIT ?"
_NEXT_EXPIRATION = """
SELECT bunflare_expires FROM workflow_instances WHERE bunflare_expires IS NOT NULL
ORDER BY bunflare_expires LIMIT 1
"""
_EXPIRED = """
SELECT id FROM workflow_instances WHERE bunflare_expires IS NOT NULL AND bunflare_expires <= ?
ORDER BY bunflare_expires LIMIT ?
"""

_WORKFLOWS = f"""
SELECT workflow_name, MAX(class_name), COUNT(*), MIN({time_in("created_at")}),
  MAX({time_in("updated_at")})
FROM workflow_instances GROUP BY workflow_name ORDER BY workflow_name
"""
_COUNTS = """
SELECT status, COUNT(*) FROM workflow_instances WHERE workflow_name = ? GROUP BY status
"""
_CLASS = """
SELECT class_name FROM workflow_instances WHERE workflow_name = ? ORDER BY created_at DESC LIMIT 1
"""
_LIST = f"""
SELECT id, status, {time_in("created_at")}, {time_in("updated_at")} FROM workflow_instances
WHERE workflow_name = ?1 AND (?2 IS NULL OR status = ?2)
ORDER BY created_at DESC, id LIMIT ?3 OFFSET ?4
"""
_LIST_REVERSED = _LIST.replace("created_at DESC, id", "created_at, id")


def qualified(workflow: str, instance: str) -> str:
    return f"{workflow}/{instance}"


def public_id(workflow: str, id: str) -> str:
    """The id of an instance as its workflow knows it."""
    return id.removeprefix(f"{workflow}/")


def row_id(view: View, workflow: str, instance: str) -> str | None:
    """The key of an instance's row; None if there is none."""
    for key, name in view.all(_TAKEN, (instance, qualified(workflow, instance))):
        if name == workflow:
            return str(key)
    return None


def create(tx: Transaction, workflow: str, instance: str, values: tuple[object, ...]) -> str | None:
    """Add an instance; its row's key, or None if the workflow has one of that id already.

    ``values`` are class_name, params, status, created_at, run, due, the two retentions in
    milliseconds (None: the usual ones), and schedule.
    """
    other = qualified(workflow, instance)
    before = tx.mark()
    tx.run(_CREATE, (instance, other, workflow, *values))
    if tx.changed_since(before):
        return instance
    for _, name in tx.all(_TAKEN, (instance, other)):
        if name == workflow:
            return None
    tx.run(_CREATE, (other, f"{other}/", workflow, *values))
    return other


def get(view: View, workflow: str, id: str) -> Row | None:
    """The row of a key: see `_COLUMNS`."""
    return view.one(_GET, (id, workflow))


def read(view: View, id: str) -> Row | None:
    return view.one(_BY_ID, (id,))


def status(view: View, id: str) -> str | None:
    row = view.one(_STATUS, (id,))
    return None if row is None else row[0]


def next_due(view: View, workflow: str) -> int | None:
    """When the first instance that nobody runs needs somebody."""
    row = view.one(_NEXT_DUE, (workflow,))
    return None if row is None else row[0]


def wake(tx: Transaction, workflow: str, now: int, limit: int) -> list[Row]:
    """Take at most ``limit`` of the instances that are due, those first that have waited longest.

    From now on they are run by the caller.
    """
    return tx.all(_WAKE, (workflow, now, limit))


def park(
    tx: Transaction,
    id: str,
    run: int,
    status: str,
    due: int | None,
    now: int,
    entry: tuple[object, ...] | None = None,
) -> bool:
    """A run has nothing to do until ``due``, or has again; false if it is another's by now.

    ``entry`` says so in its log.
    """
    if tx.one(_PARK, (status, due, now, id, run)) is None:
        return False
    if entry is not None:
        record(tx, entry)
    return True


def paused(tx: Transaction, id: str, run: int, now: int, entry: tuple[object, ...]) -> None:
    """What was under way has ended, or nothing was."""
    tx.one(_SET, ("paused", None, now, id, run, "waitingForPause"))
    if status(tx, id) == "paused":
        record(tx, entry)


def tell_paused(tx: Transaction, id: str, now: int) -> None:
    """Add to the log of an instance that nobody runs that it is paused."""
    if status(tx, id) == "paused":
        tell(tx, id, "workflow_paused", now)


def finish(
    tx: Transaction,
    id: str,
    run: int,
    status: str,
    output: str | None,
    error: str | None,
    error_name: str | None,
    now: int,
    retention: int,
) -> bool:
    """The end of a run; false if it is over already.

    ``retention`` is how long an instance is kept that does not say itself.
    """
    before = tx.mark()
    tx.run(_FINISH, (id, run, status, output, error, error_name, now, retention))
    return tx.changed_since(before)


def finish_all(tx: Transaction, ends: list[tuple[Any, ...]]) -> list[bool]:
    """`finish`, of several runs."""
    return [finish(tx, *end) for end in ends]


def begin_rollback(tx: Transaction, id: str, run: int, ending: str, now: int) -> bool:
    """From now on the run undoes what it did; ``ending`` is the status it then has."""
    return tx.one(_ROLL_BACK, (id, run, ending, now)) is not None


def make_ready(tx: Transaction, id: str, now: int) -> None:
    """Have a sleeping instance looked at."""
    tx.run(_READY_BY, (id, now))


# -- from outside, by whichever process: the status that was found, None if there is no instance


def pause(tx: Transaction, id: str, now: int) -> str | None:
    row = read(tx, id)
    if row is None:
        return None
    found: str = row[2]
    if found in ("queued", "waiting") or (found == "running" and row[9] != RUNNING):
        tx.one(_SET, ("paused", None, now, id, row[8], found))
    elif found == "running":
        tx.one(_SET, ("waitingForPause", RUNNING, now, id, row[8], found))
    return found


def resume(tx: Transaction, id: str, now: int) -> str | None:
    row = read(tx, id)
    if row is None:
        return None
    found: str = row[2]
    if found == "paused":
        tx.one(_SET, ("queued", now, now, id, row[8], found))
    elif found == "waitingForPause":
        tx.one(_SET, ("running", row[9], now, id, row[8], found))
    return found


def terminate(tx: Transaction, id: str, now: int, rollback: bool, retention: int) -> str | None:
    row = read(tx, id)
    if row is None:
        return None
    found: str = row[2]
    if found in FINAL or (rollback and found == "rollingBack"):
        return found
    if rollback:
        tx.run(_ROLL_BACK_NOW, (id, now))
    else:
        finish(tx, id, row[8], "terminated", None, None, None, now, retention)
    return found


def restart(tx: Transaction, id: str, now: int) -> None:
    """Begin a new run. What of the log it keeps is cut before."""
    tx.run(_RESTART, (id, now))


def delete(tx: Transaction, id: str) -> None:
    """Remove an instance with everything that belongs to it."""
    forget(tx, id)
    tx.run(_DELETE, (id,))


def delete_some(tx: Transaction, workflow: str, limit: int) -> list[str]:
    """Remove at most ``limit`` instances of a workflow; their keys."""
    keys = [row[0] for row in tx.all(_SOME, (workflow, limit))]
    for key in keys:
        delete(tx, key)
    return keys


def next_expiration(view: View) -> int | None:
    """When the first finished instance is to go."""
    row = view.one(_NEXT_EXPIRATION)
    return None if row is None else row[0]


def remove_expired(tx: Transaction, now: int, limit: int) -> int:
    """Remove at most ``limit`` instances whose time is over; how many there were."""
    gone = tx.all(_EXPIRED, (now, limit))
    for (key,) in gone:
        delete(tx, key)
    return len(gone)


# -- for people


def workflows(view: View) -> list[Row]:
    """``(name, class_name, instances, first created_at, last updated_at)``; None for no time."""
    return view.all(_WORKFLOWS)


def counts(view: View, workflow: str) -> dict[str, int]:
    """How many instances there are in each status."""
    return dict(view.all(_COUNTS, (workflow,)))


def class_name(view: View, workflow: str) -> str | None:
    row = view.one(_CLASS, (workflow,))
    return None if row is None else row[0]


def instances(
    view: View, workflow: str, status: str | None, limit: int, offset: int, oldest_first: bool
) -> list[Row]:
    """``(id, status, created_at, updated_at)``, the newest first; None for no time."""
    return view.all(_LIST_REVERSED if oldest_first else _LIST, (workflow, status, limit, offset))


RECORDS = (
    Records(
        "workflows",
        "workflow_instances",
        "workflow_name",
        ("id",),
        "output",
        time="created_at",
        kind="instance",
        volatile=("bunflare_due",),
    ),
)
