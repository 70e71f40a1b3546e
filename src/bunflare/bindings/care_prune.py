"""Removing what nobody can see any more, and moments that are too old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..errors import BackupError
from ..store import blobs, cache, kv, object_history, object_log, r2_uploads, snapshots
from ..store.images import sweep
from ..store.layout import SNAPSHOTS
from ..store.threads import on_thread
from .r2_chores import UPLOAD_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..store.database import Database
    from ..store.r2_settle import Settler

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was removed."""

    #: Expired keys of KV, and expired responses.
    keys: int
    responses: int
    #: Uploads that were forgotten a week after they were begun.
    uploads: int
    #: Files and directories that killed programs have left.
    files: int
    #: Names of snapshots.
    snapshots: tuple[str, ...]
    #: Commits of Durable Objects' keys that one can no longer go back behind.
    changes: int


async def prune_state(
    database: Database,
    settler: Settler,
    clock: Clock,
    older: timedelta | None,
    keep: int | None,
    progress: Callable[[int], object] | None = None,
) -> Pruned:
    """See `State.prune`."""
    told = progress or (lambda done: None)
    if older is not None and older < timedelta(0):
        raise BackupError("snapshots cannot be older than a time that is to come")
    if keep is not None and keep < 0:
        raise BackupError(f"{keep} is no number of snapshots to keep")
    directory = database.directory
    now = clock.now()
    keys = responses = uploads = files = 0
    while (gone := await database.write(kv.remove_expired, now / 1000, _BATCH)) > 0:
        keys += gone
        told(keys)
    bodies, staging = directory.cache_bodies, directory.r2_staging
    while (gone := await database.write(cache.remove_expired, bodies, now, _BATCH)) > 0:
        responses += gone
        told(keys + responses)
    until = now - UPLOAD_LIFETIME
    while (gone := await database.write(r2_uploads.remove_expired, staging, until, _BATCH)) > 0:
        uploads += gone
        told(keys + responses + uploads)
    before = await on_thread(blobs.leftovers, staging)
    await settler.recover()
    files += len(before) - len(await on_thread(blobs.leftovers, staging))
    for name in await on_thread(blobs.leftovers, bodies):
        if not cache.names_file(database.view, name):
            await on_thread(blobs.remove, bodies / name)
            files += 1
    files += await on_thread(sweep, directory.path / SNAPSHOTS, "")
    files += await on_thread(sweep, directory.path.parent, directory.path.name)
    dropped = await on_thread(_drop_old, database, now, older, keep)
    changes = await _forget_history(database, now)
    return Pruned(keys, responses, uploads, files, dropped, changes)


async def _forget_history(database: Database, now: int) -> int:
    """Of objects: those that run do it as they write, the others never."""
    root = database.directory.path / "do-sql"
    changes = 0
    for namespace, chosen in object_history.all_settings(database.view):
        changes += await database.write(object_history.prune, namespace, now)
        await on_thread(object_log.trim_all, root / namespace, chosen, now)
    return changes


def _drop_old(
    database: Database, now: int, older: timedelta | None, keep: int | None
) -> tuple[str, ...]:
    root = database.directory.path
    kept = snapshots.kept(root)
    limit = None if older is None else now - older.total_seconds() * 1000
    dropped: list[str] = []
    for place, one in enumerate(kept):
        too_old = limit is not None and one.at < limit
        too_many = keep is not None and place < len(kept) - keep
        if too_old or too_many:
            snapshots.drop(root, one.name)
            dropped.append(one.name)
    return tuple(dropped)
