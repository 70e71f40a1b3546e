"""Migrations of classes: what becomes of a class's objects when its name changes or it goes.

Each is applied once for a Worker, by its tag, as one commit. The directories of the objects' SQL
files follow it; what a crash leaves of that is done the next time.
https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import DurableObjectError
from ..store import objects as store

if TYPE_CHECKING:
    from ..config import MigrationConfig
    from ..config_rules import ExportConfig
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


async def apply_exports(database: Database, exports: Mapping[str, ExportConfig]) -> None:
    """Have objects follow classes that were renamed, and go with those that were deleted.

    What is there decides, so nothing is noted: to be called as `apply_migrations` is. A class keeps
    its objects when it is another Worker's, as they are told apart by its name.
    """
    await database.write(_reconcile, exports)
    await _move(database)


def _reconcile(tx: Transaction, exports: Mapping[str, ExportConfig]) -> None:
    there = set(store.namespaces(tx))
    for name, one in exports.items():
        if one.type != "durable-object" or name not in there:
            continue
        if one.state == "deleted":
            store.remove(tx, name)
        elif one.renamed_to is not None:
            if one.renamed_to in there:
                raise DurableObjectError(
                    f"{name} cannot be renamed to {one.renamed_to}: both have objects. Delete "
                    f'those of one ("state": "deleted") first'
                )
            store.rename(tx, name, one.renamed_to)
            there = {*there - {name}, one.renamed_to}


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
