"""Delivering the messages of queues: claims, leases, and what becomes of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from .connection import Row
from .queues import METRICS, NEVER, Settings, bury, drop, settings
from .records import time_in
from .session import View
from .transaction import Transaction

_FIRST = """
SELECT visible_at FROM queue_messages INDEXED BY bunflare_queue_ready
WHERE queue = ? AND bunflare_holder IS NULL ORDER BY visible_at, id LIMIT 1 OFFSET ?
"""

# Another program may have put no time into a row (see `records.is_time`): text and blobs are behind
# all numbers, and nothing would come before them. Such a message counts as due, or as sent, when it
# is found; so `state repair` has it, too.
_NO_TIME = """
SELECT 1 FROM queue_messages INDEXED BY bunflare_queue_ready
WHERE queue = ?1 AND bunflare_holder IS NULL AND visible_at > 9e18
UNION ALL
SELECT 1 FROM queue_messages INDEXED BY bunflare_queue_ready
WHERE queue = ?1 AND bunflare_holder IS NULL AND visible_at IS NULL
LIMIT 1
"""

_MEND_DUE = """
UPDATE queue_messages INDEXED BY bunflare_queue_ready SET visible_at = ?
WHERE queue = ? AND bunflare_holder IS NULL AND (visible_at > 9e18 OR visible_at IS NULL)
"""

_MEND_SENT = f"""
UPDATE queue_messages SET created_at = {time_in("created_at", "?2")}, bunflare_expires =
  CASE WHEN bunflare_expires IS NULL THEN NULL ELSE {time_in("bunflare_expires", "?3")} END
WHERE id = ?1 RETURNING created_at, bunflare_expires
"""

_CLAIM = """
UPDATE queue_messages SET bunflare_holder = ?, visible_at = ?, attempts = attempts + 1,
  bunflare_lease = NULL
WHERE id IN (
  SELECT id FROM queue_messages INDEXED BY bunflare_queue_ready
  WHERE queue = ? AND bunflare_holder IS NULL AND visible_at <= ? ORDER BY visible_at, id LIMIT ?
) RETURNING created_at, id, body, content_type, attempts, bunflare_expires
"""

_PULL = """
UPDATE queue_messages SET visible_at = ?, attempts = attempts + 1,
  bunflare_lease = lower(hex(randomblob(16)))
WHERE id IN (
  SELECT id FROM queue_messages INDEXED BY bunflare_queue_ready
  WHERE queue = ? AND bunflare_holder IS NULL AND visible_at <= ? ORDER BY visible_at, id LIMIT ?
) RETURNING created_at, id, body, content_type, attempts, bunflare_expires, bunflare_lease
"""

_RETRY = """
UPDATE queue_messages SET bunflare_holder = NULL, bunflare_lease = NULL, visible_at = ?
WHERE id = ? AND bunflare_holder = ?
"""

_GIVE_BACK = """
UPDATE queue_messages SET bunflare_holder = NULL, visible_at = ?, attempts = attempts - 1
WHERE id = ? AND bunflare_holder = ?
"""

_GIVE_BACK_PULLED = """
UPDATE queue_messages SET bunflare_lease = NULL, visible_at = ?, attempts = attempts - 1
WHERE id = ? AND bunflare_lease = ? AND bunflare_holder IS NULL
"""

_STILL_HELD = "SELECT 1 FROM queue_messages WHERE id = ? AND bunflare_holder = ?"

_HELD = """
SELECT bunflare_holder, min(visible_at) FROM queue_messages INDEXED BY bunflare_queue_held
WHERE bunflare_holder IS NOT NULL GROUP BY bunflare_holder
"""

_HOLDERS = """
SELECT queue, bunflare_holder, count(*) FROM queue_messages INDEXED BY bunflare_queue_held
WHERE bunflare_holder IS NOT NULL GROUP BY queue, bunflare_holder
"""

_IN_FLIGHT = """
SELECT count(*) FROM queue_messages INDEXED BY bunflare_queue_held
WHERE queue = ? AND bunflare_holder IS NOT NULL
"""

_RELEASE = """
UPDATE queue_messages INDEXED BY bunflare_queue_held SET bunflare_holder = NULL, visible_at = ?
WHERE bunflare_holder IS NOT NULL AND bunflare_holder = ? RETURNING queue
"""

_EXTEND = """
UPDATE queue_messages INDEXED BY bunflare_queue_held SET visible_at = ?
WHERE bunflare_holder IS NOT NULL AND bunflare_holder = ?
"""

_LEASED = """
SELECT attempts, bunflare_expires, created_at FROM queue_messages
WHERE id = ? AND queue = ? AND bunflare_lease = ? AND bunflare_holder IS NULL
"""

_PUT_OFF = "UPDATE queue_messages SET bunflare_lease = NULL, visible_at = ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message that is not acknowledged."""

    #: How often it is delivered in all.
    deliveries: int
    dead_letter_queue: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a consumer takes."""

    queue: str
    holder: str
    size: int
    #: Milliseconds for which a batch may wait to be filled.
    patience: int
    fate: Fate


@dataclass(slots=True)
class Claimed:
    """What a consumer got."""

    #: created_at, id, body, content_type, attempts, bunflare_expires; in the order of time.
    rows: list[Row]
    #: When there is a batch next (ms epoch); None if nothing waits.
    due: int | None
    #: Whether messages went to the dead-letter queue.
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What a batch has come to."""

    acked: list[str]
    #: id and how often it was delivered, with the milliseconds it is put off.
    retried: list[tuple[str, int, int]]


def due(view: View, queue: str, size: int, patience: int) -> int | None:
    """When there is a batch: full, or its first message has waited for long enough."""
    first = view.one(_FIRST, (queue, 0))
    if first is None:
        return None
    if patience == 0 or size == 1:
        return _time(first[0])
    last = view.one(_FIRST, (queue, size - 1))
    late = _time(first[0]) + patience
    return late if last is None else min(late, _time(last[0]))


def _time(stored: object) -> int:
    if not isinstance(stored, int | float):
        return int(NEVER)
    # Of a fraction the next whole millisecond: at the one before it, nothing can be claimed yet.
    return math.ceil(min(max(stored, -NEVER), NEVER))


def has_no_time(view: View, queue: str) -> bool:
    """Whether messages wait that would never be due."""
    return view.one(_NO_TIME, (queue,)) is not None


def _mend_due(tx: Transaction, queue: str, now: int) -> bool:
    """Have all messages be due at some time; whether there were any that were not."""
    found = has_no_time(tx, queue)
    if found:
        tx.run(_MEND_DUE, (now, queue))
    return found


def claim(tx: Transaction, wanted: Wanted, now: int, until: int) -> Claimed:
    """Take a batch, if there is one, until it is settled, or until ``until`` at least.

    What was delivered often enough goes where its fate sends it, and what is too old goes.
    """
    found = settings(tx, wanted.queue)
    if found.paused:
        return Claimed([], None)
    result = Claimed([], None)
    key = (wanted.queue, wanted.size, wanted.patience)
    result.due = due(tx, *key)
    while result.due is not None and result.due <= now and not result.rows:
        rows = tx.all(_CLAIM, (wanted.holder, until, wanted.queue, now, wanted.size))
        result.rows = _deliverable(tx, wanted.queue, wanted.fate, found, rows, now, result)
        result.due = due(tx, *key)
    if not result.rows and result.due is not None and _mend_due(tx, wanted.queue, now):
        again = claim(tx, wanted, now, until)
        again.moved |= result.moved
        return again
    result.rows.sort()
    return result


def _deliverable(
    tx: Transaction,
    queue: str,
    fate: Fate,
    found: Settings,
    rows: list[Row],
    now: int,
    result: Claimed,
) -> list[Row]:
    """Those rows that are to be delivered; the others go."""
    oldest = now - found.retention_ms
    kept = []
    for row in rows:
        if type(row[0]) is not int or (row[5] is not None and type(row[5]) is not int):
            row = _mended(tx, row, now, found)
        if (row[0] <= oldest) if row[5] is None else (row[5] <= now):
            drop(tx, queue, row[1])
        elif row[4] > fate.deliveries:
            bury(tx, queue, fate.dead_letter_queue, row[1], now)
            result.moved = True
        else:
            kept.append(row)
    return kept


def _mended(tx: Transaction, row: Row, now: int, found: Settings) -> Row:
    """A claimed row with times, where another program has put something else."""
    mended = tx.one(_MEND_SENT, (row[1], now, now + found.retention_ms))
    assert mended is not None
    return (mended[0], *row[1:5], mended[1], *row[6:])


@cache
def _delete_held(count: int) -> str:
    places = ", ".join("?" * count)
    return f"DELETE FROM queue_messages WHERE id IN ({places}) AND bunflare_holder = ?"


def settle(tx: Transaction, wanted: Wanted, outcome: Settled, now: int) -> bool:
    """Do what a batch has come to. Whether messages went to the dead-letter queue.

    Messages that are no longer held (another took them over) are left alone.
    """
    holder, fate = wanted.holder, wanted.fate
    moved = False
    if outcome.acked:
        tx.run(_delete_held(len(outcome.acked)), (*outcome.acked, holder))
        tx.forget(METRICS, (wanted.queue,))
    for message, attempts, delay in outcome.retried:
        if attempts < fate.deliveries:
            tx.run(_RETRY, (now + delay, message, holder))
        elif tx.one(_STILL_HELD, (message, holder)) is not None:
            bury(tx, wanted.queue, fate.dead_letter_queue, message, now)
            moved = True
    return moved


def settle_and_claim(
    tx: Transaction, wanted: Wanted, outcome: Settled, now: int, until: int
) -> Claimed:
    """The end of a batch and the beginning of the next, in one commit."""
    moved = settle(tx, wanted, outcome, now)
    result = claim(tx, wanted, now, until)
    result.moved |= moved
    return result


def give_back(tx: Transaction, wanted: Wanted, messages: list[str], now: int) -> None:
    """What was claimed has reached no handler: it waits as before."""
    for message in messages:
        tx.run(_GIVE_BACK, (now, message, wanted.holder))


def held(view: View) -> list[tuple[str, int]]:
    """Who holds messages, and when the first of their leases ends."""
    return view.all(_HELD)


def in_flight(view: View, queue: str) -> int:
    """How many messages are held."""
    row = view.one(_IN_FLIGHT, (queue,))
    assert row is not None
    return int(row[0])


def release(tx: Transaction, holder: str, now: int) -> list[str]:
    """What ``holder`` held is visible again; the queues that it was of."""
    return sorted({row[0] for row in tx.all(_RELEASE, (now, holder))})


def extend(tx: Transaction, holder: str, until: int) -> None:
    """``holder`` goes on with what it holds."""
    tx.run(_EXTEND, (until, holder))


# -- pulling -----------------------------------------------------------------------------------


def pull(
    tx: Transaction, queue: str, fate: Fate, size: int, now: int, until: int
) -> tuple[list[Row] | None, bool]:
    """Lease messages until ``until``; None if the queue is paused. And whether some were buried.

    A row is created_at, id, body, content_type, attempts, bunflare_expires, bunflare_lease.
    """
    found = settings(tx, queue)
    if found.paused:
        return None, False
    result = Claimed([], None)
    while not result.rows:
        rows = tx.all(_PULL, (until, queue, now, size))
        if not rows and not _mend_due(tx, queue, now):
            break
        result.rows = _deliverable(tx, queue, fate, found, rows, now, result)
    result.rows.sort()
    return result.rows, result.moved


def give_back_pulled(tx: Transaction, rows: list[Row], now: int) -> None:
    """What was pulled has reached nobody: it waits as before."""
    for row in rows:
        tx.run(_GIVE_BACK_PULLED, (now, row[1], row[6]))


def settle_pulled(
    tx: Transaction,
    queue: str,
    fate: Fate,
    acks: list[tuple[str, str]],
    retries: list[tuple[str, str, int]],
    now: int,
) -> tuple[list[bool], list[bool], bool]:
    """Which leases were good, of those to acknowledge and of those to retry; and if some died."""
    acked = []
    for message, lease in acks:
        row = _end_lease(tx, queue, message, lease)
        acked.append(row is not None)
        if row is not None:
            drop(tx, queue, message)
    retried = []
    moved = False
    for message, lease, delay in retries:
        row = _end_lease(tx, queue, message, lease)
        retried.append(row is not None)
        if row is None:
            continue
        if row[0] >= fate.deliveries:
            bury(tx, queue, fate.dead_letter_queue, message, now)
            moved = True
        else:
            tx.run(_PUT_OFF, (now + delay, message))
    tx.forget(METRICS, (queue,))
    return acked, retried, moved


def _end_lease(tx: Transaction, queue: str, id: str, lease: str) -> Row | None:
    row = tx.one(_LEASED, (id, queue, lease))
    if row is not None:
        tx.run("UPDATE queue_messages SET bunflare_lease = NULL WHERE id = ?", (id,))
    return row


def holders(view: View) -> list[Row]:
    """``(queue, holder, messages)`` of all that is being delivered."""
    return view.all(_HOLDERS)
