"""Migrations of classes: what becomes of a class's objects when its name changes or it goes.

Each is applied once for a Worker, by its tag, as one commit. The directories of the objects' SQL
files follow it; what a crash leaves of that is done the next time.
https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..store import objects as store

if TYPE_CHECKING:
    from ..config import MigrationConfig
    from ..store.database import Database
    from ..store.transaction import Transaction


async def apply_migrations(
    database: Database, worker: str, migrations: Sequence[MigrationConfig], now: int
) -> list[str]:
    """Apply those that the Worker has not behind it, in their order; their tags.

    To be called before any object of the classes runs.
    """
    applied: list[str] = await database.write(_apply, worker, migrations, now)
    await _move(database)
    return applied


def _apply(
    tx: Transaction, worker: str, migrations: Sequence[MigrationConfig], now: int
) -> list[str]:
    known = store.migrated(tx, worker)
    applied: list[str] = []
    for migration in migrations:
        if migration.tag in known:
            continue
        for renamed in migration.renamed_classes:
            store.rename(tx, renamed.from_, renamed.to)
        for transferred in migration.transferred_classes:
            if transferred.from_ != transferred.to:
                store.rename(tx, transferred.from_, transferred.to)
        for deleted in migration.deleted_classes:
            store.remove(tx, deleted)
        store.note_migration(tx, worker, migration.tag, now)
        applied.append(migration.tag)
    return applied


async def _move(database: Database) -> None:
    """Have the directories follow."""
    root = database.directory.path / "do-sql"
    for source, target in store.moves(database.view):
        old = root / source
        if target is None:
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.isdir(old):  # noqa: ASYNC240, PTH112 - once, at the start
            os.replace(old, root / target)  # noqa: PTH105
        await database.write(store.end_move, source)
