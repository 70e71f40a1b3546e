"""The clock of a test."""

from __future__ import annotations

import asyncio
import time

from ..clock import ManualClock, settle
from ..runtime.context import Background

# Of real time, for what a moved clock has set off.
_PATIENCE_SECONDS = 1.0


class WorkerClock(ManualClock):
    """Stands still until it is moved. It begins at the time of the test, in whole seconds."""

    def __init__(self) -> None:
        super().__init__(int(time.time()) * 1000)
        self._backgrounds: list[Background] = []

    def wait_for(self, background: Background) -> None:
        """Let what falls due take effect also where it is a Worker's task."""
        self._backgrounds.append(background)

    async def settled(self) -> None:
        await super().settled()
        for background in self._backgrounds:
            if tasks := background.tasks():
                await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
                await settle()
