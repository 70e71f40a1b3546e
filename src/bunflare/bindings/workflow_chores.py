"""What has to be done for finished workflows without being asked."""

from __future__ import annotations

from ..store import workflows as store
from ..store.database import Database
from ..timer import Chore

_AT_ONCE = 100


def workflow_chore(database: Database) -> Chore:
    """Removes finished instances whose retention is over, with all that belongs to them."""

    def due() -> float | None:
        return store.next_expiration(database.view)

    async def act(now: int) -> None:
        while await database.write(store.remove_expired, now, _AT_ONCE) == _AT_ONCE:
            pass

    return Chore("the removal of finished workflows", due, act)
