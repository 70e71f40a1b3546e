"""Queues: messages that wait to be delivered."""

from __future__ import annotations

from .records import Invariant, Records
from .schema import Schema

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

SCHEMA = Schema("queues", (QUEUE_MESSAGES,))

RECORDS = (
    Records(
        "queues",
        "queue_messages",
        "queue",
        ("id",),
        "body",
        time="created_at",
        kind="message",
    ),
)

INVARIANTS: tuple[Invariant, ...] = ()
