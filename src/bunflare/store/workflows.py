"""Workflows: instances and how far they have come."""

from __future__ import annotations

from .records import Invariant, Records
from .schema import Schema

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

SCHEMA = Schema("workflows", (WORKFLOW_INSTANCES,))

RECORDS = (
    Records(
        "workflows",
        "workflow_instances",
        "workflow_name",
        ("id",),
        "output",
        time="created_at",
        kind="instance",
    ),
)

INVARIANTS: tuple[Invariant, ...] = ()
