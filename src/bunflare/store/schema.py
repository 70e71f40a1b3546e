"""Bringing a ``data.sqlite`` of any age, made by any program, to the present form.

Each system's module owns its tables and says, in its `Schema`, by what steps they came to be. How
far a file has come is kept for each system. A file that follows the seed, or that a relative of it
wrote with tables, columns and value types of its own, is at step 0: our steps only ever add what
is missing, under names that are not theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .directory import FORMAT_VERSION
from .transaction import Transaction

#: A step is a script of statements, or a function where it takes a look at what is there.
Step = str | Callable[[Transaction], None]

VERSIONS_TABLE = """
CREATE TABLE IF NOT EXISTS bunflare_versions (
  system TEXT PRIMARY KEY,   -- kv, r2, d1, objects, queues, workflows, cache
  version INTEGER NOT NULL   -- how many of the system's steps this file has seen
)
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """One system's tables, as the steps that make them."""

    system: str
    steps: tuple[Step, ...]


def is_current(tx: Transaction, schemas: Sequence[Schema]) -> bool:
    """Whether nothing has to be done, found out without taking the write lock."""
    row = tx.one("PRAGMA user_version")
    if row != (FORMAT_VERSION,):
        return False
    if tx.one("SELECT 1 FROM sqlite_master WHERE name = 'bunflare_versions'") is None:
        return False
    versions = _versions(tx)
    return all(versions.get(schema.system, 0) >= len(schema.steps) for schema in schemas)


def migrate(tx: Transaction, schemas: Sequence[Schema]) -> None:
    """Take every system through the steps that the file has not seen, in one transaction."""
    tx.run(VERSIONS_TABLE)
    versions = _versions(tx)
    for schema in schemas:
        seen = versions.get(schema.system, 0)
        for step in schema.steps[seen:]:
            if isinstance(step, str):
                tx.run(step)
            else:
                step(tx)
        if seen < len(schema.steps):
            tx.run(
                "INSERT INTO bunflare_versions (system, version) VALUES (?, ?)"
                " ON CONFLICT (system) DO UPDATE SET version = excluded.version",
                (schema.system, len(schema.steps)),
            )
    tx.run(f"PRAGMA user_version = {FORMAT_VERSION}")


def _versions(tx: Transaction) -> dict[str, int]:
    versions: dict[str, int] = dict(tx.all("SELECT system, version FROM bunflare_versions"))
    return versions


def add_columns(tx: Transaction, table: str, **columns: str) -> None:
    """Add the columns that ``table`` does not have yet."""
    present = {row[1] for row in tx.all(f"PRAGMA table_info({table})")}
    for name, declaration in columns.items():
        if name not in present:
            tx.run(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")
