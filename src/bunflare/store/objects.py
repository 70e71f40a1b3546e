"""Durable Objects: their key-value storage and their alarms."""

from __future__ import annotations

from .schema import Schema

DO_STORAGE = """
CREATE TABLE IF NOT EXISTS do_storage (
  namespace TEXT NOT NULL,   -- class name
  id TEXT NOT NULL,          -- DO instance ID
  key TEXT NOT NULL,
  value TEXT NOT NULL,       -- JSON-serialized
  PRIMARY KEY (namespace, id, key)
)
"""

DO_ALARMS = """
CREATE TABLE IF NOT EXISTS do_alarms (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  alarm_time INTEGER NOT NULL,  -- ms epoch
  PRIMARY KEY (namespace, id)
)
"""

SCHEMA = Schema("objects", (DO_STORAGE + ";" + DO_ALARMS,))
