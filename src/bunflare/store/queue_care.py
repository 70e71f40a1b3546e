"""Looking after queues: what is in them, what is too old, and dead letters sent back."""

from __future__ import annotations

from .connection import Row
from .queues import METRICS, NEVER, move, settings
from .records import time_in
from .session import View
from .transaction import Transaction

_EXPIRE = (
    # What was never put off: visible since it was sent.
    """
DELETE FROM queue_messages WHERE id IN (
  SELECT id FROM queue_messages INDEXED BY bunflare_queue_ready
  WHERE queue = ?1 AND bunflare_holder IS NULL AND visible_at <= ?2 AND bunflare_expires IS NULL
  LIMIT ?3
) RETURNING id
""",
    """
DELETE FROM queue_messages WHERE id IN (
  SELECT id FROM queue_messages INDEXED BY bunflare_queue_late
  WHERE queue = ?1 AND created_at <= ?2 AND visible_at > created_at AND bunflare_holder IS NULL
    AND bunflare_expires IS NULL
  LIMIT ?3
) RETURNING id
""",
)

# When the first message is too old that was not moved and waits, less the time it is kept: the
# first that was never put off became visible when it was sent.
_OLDEST = """
SELECT min(9e18,
  coalesce((SELECT visible_at FROM queue_messages INDEXED BY bunflare_queue_ready
    WHERE queue = ?1 AND bunflare_holder IS NULL ORDER BY visible_at LIMIT 1), 9e18),
  coalesce((SELECT created_at FROM queue_messages INDEXED BY bunflare_queue_late
    WHERE queue = ?1 AND visible_at > created_at AND bunflare_holder IS NULL
      AND bunflare_expires IS NULL ORDER BY created_at LIMIT 1), 9e18)
)
"""

_NEXT_EXPIRY = """
SELECT bunflare_expires FROM queue_messages INDEXED BY bunflare_queue_expiring
WHERE bunflare_expires IS NOT NULL ORDER BY bunflare_expires LIMIT 1
"""

_EXPIRE_MOVED = """
DELETE FROM queue_messages WHERE id IN (
  SELECT id FROM queue_messages INDEXED BY bunflare_queue_expiring
  WHERE bunflare_expires IS NOT NULL AND bunflare_expires <= ? AND bunflare_holder IS NULL LIMIT ?
) RETURNING queue
"""

_PEEK = f"""
SELECT {time_in("created_at")}, id, body, content_type, attempts, {time_in("visible_at")},
  bunflare_holder, bunflare_lease, bunflare_origin, {time_in("bunflare_expires")}
FROM queue_messages INDEXED BY {{0}} WHERE queue = ? AND bunflare_holder IS {{1}}
ORDER BY {{2}} LIMIT ?
"""
_PEEK_HELD = _PEEK.format("bunflare_queue_held", "NOT NULL", "created_at")
_PEEK_READY = _PEEK.format("bunflare_queue_ready", "NULL", "visible_at, id")


_PURGE = """
DELETE FROM queue_messages WHERE id IN (
  SELECT id FROM queue_messages WHERE queue = ?1 AND {0} LIMIT ?2
) RETURNING id
"""
_PURGE_READY = _PURGE.format("bunflare_holder IS NULL")
_PURGE_HELD = _PURGE.format("bunflare_holder IS NOT NULL")

_ORIGINS = """
SELECT id, bunflare_origin FROM queue_messages INDEXED BY bunflare_queue_ready
WHERE queue = ? AND bunflare_holder IS NULL ORDER BY visible_at, id LIMIT ?
"""

_ORIGIN = """
SELECT id, bunflare_origin FROM queue_messages
WHERE id = ? AND queue = ? AND bunflare_holder IS NULL
"""


def peek(view: View, queue: str, limit: int) -> list[Row]:
    """Messages by when they may be delivered, also those that are being delivered.

    A row is created_at, id, body, content_type, attempts, visible_at, holder, lease, origin,
    expires; what another program has put there and is no time is None.
    """
    rows = view.all(_PEEK_READY, (queue, limit)) + view.all(_PEEK_HELD, (queue, limit))
    return sorted(rows, key=_turn)[:limit]


def _turn(row: Row) -> tuple[tuple[bool, float], ...]:
    """By what peeked rows are sorted; what has no time, last."""
    return (*((row[place] is None, row[place] or 0) for place in (5, 0)), row[1])


def purge(tx: Transaction, queue: str, limit: int) -> int:
    """Delete at most ``limit`` messages of a queue, whoever has them; how many there were."""
    count = len(tx.all(_PURGE_READY, (queue, limit)))
    if count < limit:
        count += len(tx.all(_PURGE_HELD, (queue, limit - count)))
    tx.forget(METRICS, (queue,))
    return count


def requeue(
    tx: Transaction, queue: str, target: str | None, ids: list[str] | None, now: int, limit: int
) -> dict[str, int]:
    """Send messages back to where they came from, or to ``target``; how many to which queue.

    Without ``ids`` as many as ``limit``. What came from nowhere stays.
    """
    if ids is None:
        rows = tx.all(_ORIGINS, (queue, limit))
    else:
        rows = [row for one in ids if (row := tx.one(_ORIGIN, (one, queue))) is not None]
    counts: dict[str, int] = {}
    for message, origin in rows:
        to = target or origin
        if to is not None and to != queue:
            move(tx, message, None, to, now)
            counts[to] = counts.get(to, 0) + 1
    tx.forget(METRICS, (queue,))
    return counts


def expire(tx: Transaction, queue: str, now: int, limit: int) -> int:
    """Delete at most ``limit`` messages that are older than the queue keeps them."""
    cutoff = now - settings(tx, queue).retention_ms
    gone = 0
    for statement in _EXPIRE:
        gone += len(tx.all(statement, (queue, cutoff, limit - gone)))
    tx.forget(METRICS, (queue,))
    return gone


def next_expiry(view: View, queues: list[str]) -> float:
    """When the first message is too old (ms epoch, or a number beyond all times)."""
    moved = view.one(_NEXT_EXPIRY)
    # Another program may have put something there that is no time.
    times = [float(moved[0]) if moved and isinstance(moved[0], int | float) else NEVER]
    for queue in queues:
        row = view.one(_OLDEST, (queue,))
        assert row is not None
        times.append(row[0] + settings(view, queue).retention_ms)
    return min(times)


def expire_moved(tx: Transaction, now: int, limit: int) -> int:
    """The same for messages that were moved, of all queues."""
    rows = tx.all(_EXPIRE_MOVED, (now, limit))
    for queue in {row[0] for row in rows}:
        tx.forget(METRICS, (queue,))
    return len(rows)
