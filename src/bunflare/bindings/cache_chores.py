"""What has to be done for the cache without being asked. It needs nothing of messages."""

from __future__ import annotations

from ..store import blobs
from ..store import cache as store
from ..store.database import Database
from ..store.threads import on_thread
from ..timer import Chore

_SWEEP = 200


def cache_chore(database: Database) -> Chore:
    """Removes expired entries with their files, which nobody sees any more."""

    def due() -> float | None:
        return store.next_expiration(database.view)

    async def act(now: int) -> None:
        directory = database.directory.cache_bodies
        while await database.write(store.remove_expired, directory, now, _SWEEP) == _SWEEP:
            pass

    return Chore("the removal of expired cache entries", due, act)


def sweep_chore(database: Database) -> Chore:
    """Removes, once after opening, the files that a crash left without an entry."""
    directory = database.directory.cache_bodies
    swept = not directory.is_dir()

    def due() -> float | None:
        return None if swept else 0.0

    async def act(_: int) -> None:
        nonlocal swept
        for name in await on_thread(blobs.leftovers, directory):
            if not store.names_file(database.view, name):
                await on_thread(blobs.remove, directory / name)
        swept = True

    return Chore("the removal of left-over bodies of cache entries", due, act)
