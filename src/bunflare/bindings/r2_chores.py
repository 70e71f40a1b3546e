"""What has to be done for R2 without being asked: after a crash, and for forgotten uploads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..store import r2, r2_uploads
from ..store.database import Database
from ..timer import Chore

if TYPE_CHECKING:
    from ..store.r2_settle import Settler

#: Milliseconds that an upload may take before it is forgotten: seven days.
UPLOAD_LIFETIME = 7 * 24 * 3600 * 1000

_SWEEP = 20


def recovery_chore(database: Database, settler: Callable[[], Settler]) -> Chore:
    """Finishes, once after opening, what a crash has interrupted."""
    staging = database.directory.r2_staging
    recovered = not staging.is_dir() and not r2.unsettled(database.view, 1)

    def due() -> float | None:
        return None if recovered else 0.0

    async def act(_: int) -> None:
        nonlocal recovered
        await settler().recover()
        recovered = True

    return Chore("the recovery of R2's files", due, act)


def uploads_chore(database: Database) -> Chore:
    """Forgets uploads that are too old, with the parts of those that were never ended."""
    staging = database.directory.r2_staging

    def due() -> float | None:
        first = r2_uploads.oldest(database.view)
        return None if first is None else first + UPLOAD_LIFETIME

    async def act(now: int) -> None:
        until = now - UPLOAD_LIFETIME
        while await database.write(r2_uploads.remove_expired, staging, until, _SWEEP) == _SWEEP:
            pass

    return Chore("the removal of abandoned multipart uploads", due, act)
