"""Looking after a whole data directory: what `State` offers beside the systems' bindings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..clock import Clock
from ..store.database import Database

if TYPE_CHECKING:
    from ..store.figures import StateInfo


class StateCare:
    """The state as one thing: counted, checked, copied, compared, followed."""

    _database: Database
    _clock: Clock

    async def info(self) -> StateInfo:
        """Counts, sizes and times of everything, by system and name."""
        from ..store.figures import state_info

        return await asyncio.to_thread(state_info, self._database.directory)
