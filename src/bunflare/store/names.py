"""KV namespaces and R2 buckets that were made by name, and may hold nothing yet.

None has to be: what is written to one that nobody made is there all the same. So this says only
which empty ones there are, and since when.
"""

from __future__ import annotations

from .schema import Schema
from .session import View
from .transaction import Transaction

NAMES = """
CREATE TABLE IF NOT EXISTS bunflare_names (
  system TEXT NOT NULL,          -- kv, r2
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL,   -- ms epoch
  PRIMARY KEY (system, name)
)
"""

SCHEMA = Schema("names", (NAMES,))

_ADD = """
INSERT INTO bunflare_names (system, name, created_at) VALUES (?, ?, ?)
ON CONFLICT (system, name) DO NOTHING
"""
_REMOVE = "DELETE FROM bunflare_names WHERE system = ? AND name = ?"
_ALL = "SELECT name, created_at FROM bunflare_names WHERE system = ? ORDER BY name"


def add(tx: Transaction, system: str, name: str, now: int) -> None:
    tx.run(_ADD, (system, name, now))


def remove(tx: Transaction, system: str, name: str) -> None:
    tx.run(_REMOVE, (system, name))


def created(view: View, system: str) -> dict[str, int]:
    """When each name was made, in epoch milliseconds."""
    found: dict[str, int] = dict(view.all(_ALL, (system,)))
    return found
