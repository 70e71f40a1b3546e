"""Queues: messages that wait to be delivered, and who has which of them.

A message that is claimed says by whom, and `visible_at` then is the end of that claim's lease; so
a program that knows of no claims leaves it alone until then. Whoever pulls gets a lease alone: the
message is visible again when that ends. A message that was acknowledged is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from .records import Invariant, Records, is_time, time_in
from .rows import RowStatement
from .schema import Schema, add_columns
from .session import View
from .transaction import UNKNOWN, Transaction

QUEUE_MESSAGES = """
CREATE TABLE IF NOT EXISTS queue_messages (
  id TEXT PRIMARY KEY,
  queue TEXT NOT NULL,
  body TEXT NOT NULL,        -- JSON-serialized
  content_type TEXT NOT NULL DEFAULT 'json',
  attempts INTEGER NOT NULL DEFAULT 0,
  visible_at INTEGER NOT NULL,  -- ms epoch (for delay)
  created_at INTEGER NOT NULL
)
"""

_TABLES = """
CREATE TABLE IF NOT EXISTS bunflare_queues (
  name TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL,         -- ms epoch
  paused INTEGER NOT NULL DEFAULT 0,
  delivery_delay INTEGER,              -- seconds, as the others; NULL is the platform's default
  retention INTEGER,
  max_retries INTEGER,                 -- these are for those who pull
  retry_delay INTEGER,
  visibility_timeout INTEGER,          -- ms
  dead_letter_queue TEXT
);
CREATE TABLE IF NOT EXISTS bunflare_queue_counts (
  queue TEXT PRIMARY KEY,
  messages INTEGER NOT NULL,           -- also those that are being delivered
  bytes INTEGER NOT NULL               -- of their bodies
) WITHOUT ROWID
"""

# Of a fresh message only the first has an entry; a claim moves that to the second. The others are
# for what was put off or moved, since for all else the time of its sending is when it was visible.
# Each has all columns that its condition names: SQLite then needs no rows, where those columns
# stand behind the body.
_INDEXES = """
CREATE INDEX IF NOT EXISTS bunflare_queue_ready
  ON queue_messages (queue, visible_at, id, bunflare_holder) WHERE bunflare_holder IS NULL;
CREATE INDEX IF NOT EXISTS bunflare_queue_held
  ON queue_messages (queue, created_at, bunflare_holder) WHERE bunflare_holder IS NOT NULL;
CREATE INDEX IF NOT EXISTS bunflare_queue_late
  ON queue_messages (queue, created_at, visible_at, bunflare_holder, bunflare_expires)
  WHERE visible_at > created_at AND bunflare_holder IS NULL AND bunflare_expires IS NULL;
CREATE INDEX IF NOT EXISTS bunflare_queue_moved
  ON queue_messages (queue, created_at, bunflare_expires) WHERE bunflare_expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS bunflare_queue_expiring
  ON queue_messages (bunflare_expires, bunflare_holder) WHERE bunflare_expires IS NOT NULL
"""

# Counting a million rows takes a while, so they are counted as they come and go: by triggers, which
# also see what other programs write.
_SIZE = """
CASE {0}content_type WHEN 'bytes' THEN length(rtrim({0}body, '=')) * 3 / 4
ELSE length(CAST({0}body AS BLOB)) END"""

_COUNT = f"""
  INSERT INTO bunflare_queue_counts (queue, messages, bytes)
  VALUES (NEW.queue, 1, {_SIZE.format("NEW.")})
  ON CONFLICT (queue) DO UPDATE SET
    messages = messages + 1, bytes = bytes + excluded.bytes;"""

_DISCOUNT = f"""
  UPDATE bunflare_queue_counts
  SET messages = messages - 1, bytes = bytes - {_SIZE.format("OLD.")}
  WHERE queue = OLD.queue;"""

_TRIGGERS = f"""
CREATE TRIGGER IF NOT EXISTS bunflare_queue_sent AFTER INSERT ON queue_messages
WHEN NEW.bunflare_counted IS NULL BEGIN{_COUNT}
END;
CREATE TRIGGER IF NOT EXISTS bunflare_queue_gone AFTER DELETE ON queue_messages BEGIN{_DISCOUNT}
END;
CREATE TRIGGER IF NOT EXISTS bunflare_queue_changed
AFTER UPDATE OF queue, body, content_type ON queue_messages BEGIN{_DISCOUNT}{_COUNT}
END
"""


def _extend(tx: Transaction) -> None:
    add_columns(
        tx,
        "queue_messages",
        # Who delivers the message just now: the id of a process and a number within it.
        bunflare_holder="TEXT DEFAULT NULL",
        # What whoever has pulled the message must know to acknowledge it.
        bunflare_lease="TEXT DEFAULT NULL",
        # Of what was moved: where it came from, and until when it is kept (ms epoch).
        bunflare_origin="TEXT DEFAULT NULL",
        bunflare_expires="INTEGER DEFAULT NULL",
        # 1 if whoever has put the message there has also counted it.
        bunflare_counted="INTEGER DEFAULT NULL",
    )
    if any(row[1] == "completed_at" for row in tx.all("PRAGMA table_info(queue_messages)")):
        # A relative of the seed keeps what was acknowledged for some days.
        tx.run("DELETE FROM queue_messages WHERE completed_at IS NOT NULL")
    tx.run(_TABLES)
    tx.run(_INDEXES)
    tx.run(
        "INSERT INTO bunflare_queue_counts (queue, messages, bytes) SELECT queue, count(*), "
        f"sum({_SIZE.format('')}) FROM queue_messages WHERE true GROUP BY queue "
        "ON CONFLICT (queue) DO NOTHING"
    )
    tx.run(_TRIGGERS)


SCHEMA = Schema("queues", (QUEUE_MESSAGES, _extend))


_NUMBERS = ("delivery_delay", "retention", "max_retries", "retry_delay", "visibility_timeout")


def _number_in(column: str) -> str:
    """What is set of a queue; what is no number counts as not set."""
    return f"CASE WHEN typeof({column}) = 'integer' AND {column} >= 0 THEN {column} END"


RECORDS = (
    Records(
        "queues",
        "queue_messages",
        "queue",
        ("id",),
        "body",
        time="created_at",
        kind="message",
        volatile=("attempts", "visible_at", "bunflare_holder", "bunflare_lease"),
    ),
)

INVARIANTS = (
    Invariant(
        "queues",
        "body",
        """
        SELECT queue, id, 'the body is not JSON' FROM queue_messages
        WHERE content_type IN ('json', 'v8') AND NOT json_valid(body)
        """,
        remedy="it is never delivered, and goes to the dead-letter queue after its retries",
    ),
    Invariant(
        "queues",
        "count",
        f"""
        SELECT queue, '', 'counted are ' || coalesce(max(counted), 0) || ' messages, there are '
          || sum(present)
        FROM (
          SELECT queue, 1 AS present, {_SIZE.format("")} AS size, NULL AS counted, 0 AS bytes
          FROM queue_messages
          UNION ALL SELECT queue, 0, 0, messages, bytes FROM bunflare_queue_counts
        ) GROUP BY queue HAVING sum(present) <> coalesce(max(counted), 0) OR sum(size) <> sum(bytes)
        """,
        f"""
        INSERT INTO bunflare_queue_counts (queue, messages, bytes)
        SELECT :name, count(*), coalesce(sum({_SIZE.format("")}), 0) FROM queue_messages
        WHERE queue = :name AND :key = ''
        ON CONFLICT (queue) DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes
        """,
        "the messages are counted anew",
    ),
    Invariant(
        "queues",
        "time",
        f"""
        SELECT queue, id, 'when it was sent or is due is no time, or how often it was delivered '
          || 'no number' FROM queue_messages
        WHERE NOT {is_time("visible_at")} OR NOT {is_time("created_at")}
          OR typeof(attempts) <> 'integer' OR attempts < 0
        """,
        f"""
        UPDATE queue_messages SET
          visible_at = {time_in("visible_at", "0")},
          created_at = {time_in("created_at", "unixepoch() * 1000")},
          attempts = CASE typeof(attempts) WHEN 'integer' THEN max(attempts, 0) ELSE 0 END
        WHERE queue = :name AND id = :key
        """,
        "it is due now, and counts as sent now, or as not delivered yet",
    ),
    Invariant(
        "queues",
        "lease",
        """
        SELECT queue, id, 'a consumer has it, and yet it is leased to somebody who pulls'
        FROM queue_messages INDEXED BY bunflare_queue_held
        WHERE bunflare_holder IS NOT NULL AND bunflare_lease IS NOT NULL
        """,
        "UPDATE queue_messages SET bunflare_lease = NULL WHERE queue = :name AND id = :key",
        "the consumer keeps it",
    ),
    Invariant(
        "queues",
        "setting",
        f"""
        SELECT name, '', 'when it was created is no time, or what is set of it no number'
        FROM bunflare_queues WHERE NOT {is_time("created_at")} OR typeof(paused) <> 'integer'
          OR {" OR ".join(f"{_number_in(one)} IS NOT {one}" for one in _NUMBERS)}
        """,
        f"""
        UPDATE bunflare_queues SET created_at = {time_in("created_at", "unixepoch() * 1000")},
          paused = coalesce({_number_in("paused")}, 0),
          {", ".join(f"{one} = {_number_in(one)}" for one in _NUMBERS)}
        WHERE name = :name AND :key = ''
        """,
        "it counts as created now, and what is no number as not set",
    ),
)

_SEND = RowStatement(
    """
INSERT INTO queue_messages
  (id, queue, body, content_type, visible_at, created_at, bunflare_counted)
VALUES""",
    "(?, ?, ?, ?, ?, ?, 1)",
)
#: One message, which the trigger counts: its writing is a single statement.
SEND_ALONE = """
INSERT INTO queue_messages (id, queue, body, content_type, visible_at, created_at)
VALUES (?, ?, ?, ?, ?, ?)
"""

_COUNT_SENT = """
INSERT INTO bunflare_queue_counts (queue, messages, bytes) VALUES (?, ?, ?)
ON CONFLICT (queue) DO UPDATE SET
  messages = messages + excluded.messages, bytes = bytes + excluded.bytes
"""

# A message that was never put off was sent when it became visible. So the oldest one is the first
# of those, or the oldest of the others.
METRICS = """
SELECT messages, bytes, min(9e18,
  coalesce((SELECT visible_at FROM queue_messages INDEXED BY bunflare_queue_ready
    WHERE queue = ?1 AND bunflare_holder IS NULL ORDER BY visible_at LIMIT 1), 9e18),
  coalesce((SELECT created_at FROM queue_messages INDEXED BY bunflare_queue_held
    WHERE queue = ?1 AND bunflare_holder IS NOT NULL ORDER BY created_at LIMIT 1), 9e18),
  coalesce((SELECT created_at FROM queue_messages INDEXED BY bunflare_queue_late
    WHERE queue = ?1 AND visible_at > created_at AND bunflare_holder IS NULL
      AND bunflare_expires IS NULL ORDER BY created_at LIMIT 1), 9e18),
  coalesce((SELECT created_at FROM queue_messages INDEXED BY bunflare_queue_moved
    WHERE queue = ?1 AND bunflare_expires IS NOT NULL ORDER BY created_at LIMIT 1), 9e18)
) FROM bunflare_queue_counts WHERE queue = ?1
"""

_SETTINGS = f"""
SELECT {time_in("created_at")}, {", ".join(map(_number_in, ("paused", *_NUMBERS)))},
  dead_letter_queue
FROM bunflare_queues WHERE name = ?
"""

_MOVE = """
UPDATE queue_messages SET queue = ?, bunflare_origin = ?, attempts = 0, visible_at = ?,
  bunflare_holder = NULL, bunflare_lease = NULL, bunflare_expires = ?
WHERE id = ?
"""

_DELETE = "DELETE FROM queue_messages WHERE id = ?"

_WAITING = "SELECT queue FROM bunflare_queue_counts WHERE messages > 0"

_QUEUES = """
SELECT name FROM bunflare_queues UNION SELECT queue FROM bunflare_queue_counts WHERE messages > 0
ORDER BY 1
"""

_CREATE = "INSERT INTO bunflare_queues (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING"

#: What may be set of a queue.
SETTABLE = frozenset(
    {
        *("paused", "delivery_delay", "retention", "max_retries", "retry_delay"),
        *("visibility_timeout", "dead_letter_queue"),
    }
)

#: Seconds that a message is kept.
RETENTION = 4 * 24 * 3600
#: How often a message is delivered again that was not acknowledged.
MAX_RETRIES = 3
#: Later than all times.
NEVER = 9e18

#: How many messages there are, the bytes of their bodies, and when the oldest was sent, or `NEVER`.
Metrics = tuple[int, int, int]
_NOTHING: Metrics = (0, 0, int(NEVER))

#: id, queue, body, content_type, visible_at, created_at
Sent = tuple[str, str, str, str, int, int]
#: One, and the bytes of its body.
Weighed = tuple[Sent, int]
#: What was known of a queue as of a mark (`Session.mark`, or nothing): the seconds that a message
#: waits of which nothing else is said, and the metrics, if somebody has looked at these.
Known = tuple[bytes, int, Metrics | None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set of a queue. Times are seconds where nothing else is said; None is not set."""

    #: Epoch milliseconds; None also where another program has put there what is no time.
    created_at: float | None = None
    paused: bool = False
    delivery_delay: int | None = None
    retention: int | None = None
    max_retries: int | None = None
    retry_delay: int | None = None
    #: Milliseconds.
    visibility_timeout: int | None = None
    dead_letter_queue: str | None = None

    @property
    def retention_ms(self) -> int:
        return 1000 * (RETENTION if self.retention is None else self.retention)


_NOT_SET = Settings()


# -- sending -----------------------------------------------------------------------------------


def send_many(tx: Transaction, rows: list[Sent], size: int) -> Metrics:
    """Several messages of one queue, whose bodies have ``size`` bytes together."""
    _, queue, _, _, _, created = rows[0]
    _SEND.run(tx, rows)
    # Counting each of them would take a third of the time.
    tx.run(_COUNT_SENT, (queue, len(rows), size))
    return _grown(tx, queue, len(rows), size, created)


def send_gathered(tx: Transaction, rows: list[Weighed]) -> list[Metrics]:
    """Messages of any queues. For each the metrics of its queue, once all of them are there."""
    by_queue: dict[str, list[Weighed]] = {}
    if len({row[1] for row, _ in rows}) == 1:
        by_queue[rows[0][0][1]] = rows
    else:
        for one in rows:
            by_queue.setdefault(one[0][1], []).append(one)
    _SEND.run(tx, [row for row, _ in rows])
    metrics: dict[str, Metrics] = {}
    for queue, several in by_queue.items():
        grown = queue, len(several), sum([size for _, size in several])
        tx.run(_COUNT_SENT, grown)
        metrics[queue] = _grown(tx, *grown, min([row[5] for row, _ in several]))
    if len(metrics) == 1:
        return [*metrics.values()] * len(rows)
    return [metrics[row[1]] for row, _ in rows]


def _grown(tx: Transaction, queue: str, count: int, size: int, created: int) -> Metrics:
    """The metrics after something was sent, for its sender and for whoever reads them next."""
    row = tx.known(METRICS, (queue,))
    if row is UNKNOWN:
        row = tx.one(METRICS, (queue,)) or _NOTHING
    else:
        # To look for the oldest would take as long as to send.
        messages, total, oldest = row or _NOTHING
        row = messages + count, total + size, min(oldest, created)
    tx.forget(METRICS, (queue,), row)
    return row


def metrics(view: View, queue: str) -> Metrics:
    """The same row as before, where nothing has changed."""
    return view.hot(METRICS, (queue,)) or _NOTHING


# -- settings ----------------------------------------------------------------------------------


def settings(view: View, queue: str) -> Settings:
    row = view.hot(_SETTINGS, (queue,))
    return _NOT_SET if row is None else Settings(row[0], bool(row[1]), *row[2:])


def delivery_delay(view: View, queue: str) -> int:
    """The seconds that a message waits of which nothing else is said."""
    row = view.hot(_SETTINGS, (queue,))
    return 0 if row is None else row[2] or 0


def queues(view: View) -> list[str]:
    """The names of those that were created, and of those with messages."""
    return [row[0] for row in view.all(_QUEUES)]


def create(tx: Transaction, queue: str, now: int) -> None:
    """Have the queue known by its name, if it is not yet."""
    tx.run(_CREATE, (queue, now))
    tx.forget(_SETTINGS, (queue,))


def configure(tx: Transaction, queue: str, now: int, changes: dict[str, object]) -> None:
    """Change some of `SETTABLE`."""
    create(tx, queue, now)
    for name, value in changes.items():
        assert name in SETTABLE
        tx.run(f"UPDATE bunflare_queues SET {name} = ? WHERE name = ?", (value, queue))


def delete(tx: Transaction, queue: str) -> None:
    """Remove what is known of a queue, which has no messages left."""
    tx.run("DELETE FROM bunflare_queues WHERE name = ?", (queue,))
    tx.run("DELETE FROM bunflare_queue_counts WHERE queue = ? AND messages = 0", (queue,))
    tx.forget(_SETTINGS, (queue,))
    tx.forget(METRICS, (queue,))


# -- moving ------------------------------------------------------------------------------------


def drop(tx: Transaction, queue: str, id: str) -> None:
    tx.run(_DELETE, (id,))
    tx.forget(METRICS, (queue,))


def bury(tx: Transaction, queue: str, dead_letter_queue: str | None, id: str, now: int) -> None:
    """A message is given up: it goes to the dead-letter queue, or for good."""
    if dead_letter_queue is None:
        drop(tx, queue, id)
    else:
        move(tx, id, queue, dead_letter_queue, now)
        tx.forget(METRICS, (queue,))


def move(tx: Transaction, id: str, source: str | None, target: str, now: int) -> None:
    """A message begins anew in another queue; its id and the time of its sending stay."""
    expires = now + settings(tx, target).retention_ms
    tx.run(_MOVE, (target, source, now, expires, id))
    tx.forget(METRICS, (target,))


def waiting(view: View) -> list[str]:
    """The queues that have messages."""
    return [row[0] for row in view.all(_WAITING)]
