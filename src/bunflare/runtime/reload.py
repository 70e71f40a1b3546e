"""Reloading: a changed source, configuration or ``.dev.vars`` makes a new Worker.

The new one is loaded beside the old one and takes its place only when that has succeeded; requests
and tasks of the old one go on to their end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from .front import Front
from .traces import shortened
from .worker import Worker

_log = logging.getLogger("bunflare")
_SUFFIXES = (".py", ".toml", ".json", ".jsonc")


class Reloader:
    """Keeps the Worker of a `Front` that of the files."""

    def __init__(
        self,
        front: Front,
        make: Callable[[], Awaitable[Worker]],
        grace: float,
        told: Callable[[str], object],
    ) -> None:
        self._front = front
        self._make = make
        self._grace = grace
        self._told = told
        self._closing: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Look at the files until cancelled."""
        import watchfiles

        while True:
            directories = self._directories()
            async for changes in watchfiles.awatch(
                *directories, recursive=False, step=20, debounce=100, watch_filter=_matters
            ):
                await self.reload(sorted({Path(path).name for _, path in changes}))
                if self._directories() != directories:
                    break

    async def reload(self, changed: list[str]) -> None:
        """Take over what the files say now, or keep what there is and tell why."""
        old = self._front.worker
        old.forget()
        try:
            new = await self._make()
        except (Exception, SystemExit) as error:
            _log.error("not reloaded: %s", ", ".join(changed), exc_info=shortened(error))
            return
        self._front.worker = new
        self._told(f"Reloaded ({', '.join(changed)})")
        task = asyncio.ensure_future(old.close(self._grace))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Wait for the ends of earlier Workers."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _directories(self) -> list[Path]:
        worker = self._front.worker
        found = {
            worker.config.root,
            *(Path(file).parent for file in worker.loaded.modules.sources()),
        }
        return sorted(path for path in found if path.is_dir())


def _matters(_change: object, path: str) -> bool:
    name = Path(path).name
    return name.endswith(_SUFFIXES) or name.startswith(".dev.vars")
