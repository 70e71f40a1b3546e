"""Reloading: a changed source, configuration or ``.dev.vars`` makes a new Worker.

The new one is loaded beside the old one and takes its place only when that has succeeded; requests
and tasks of the old one go on to their end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from .looping import apart
from .traces import shortened
from .worker import Worker
from .workers import Workers

_log = logging.getLogger("bunflare")
# How far the times of files may lie behind the clock.
_COARSE_SECONDS = 0.02
_SUFFIXES = (".py", ".toml", ".json", ".jsonc")


#: What watchfiles tells: kinds of changes with paths.
Changes = set[tuple[Any, str]]


async def _following(watcher: AsyncIterator[Changes]) -> Changes:
    return await anext(watcher)


class Reloader:
    """Keeps Workers what their files say."""

    def __init__(self, workers: Workers, grace: float, told: Callable[[str], object]) -> None:
        self._workers = workers
        self._grace = grace
        self._told = told
        self._looked = workers.started - _COARSE_SECONDS
        self._closing: dict[asyncio.Task[None], Worker] = {}

    async def watch(self) -> None:
        """Look at the files until cancelled."""
        import watchfiles

        while True:
            directories = self._directories()
            watcher = watchfiles.awatch(
                *directories, recursive=False, step=20, debounce=100, watch_filter=_matters
            )
            following = apart(asyncio.create_task(_following(watcher)))
            try:
                await asyncio.sleep(0)
                # From here on nothing is missed; what changed before that is found by its time.
                if late := self._late(directories):
                    await self.reload(late)
                while self._directories() == directories:
                    changes = await following
                    following = apart(asyncio.create_task(_following(watcher)))
                    await self.reload({Path(path) for _, path in changes})
            finally:
                following.cancel()
                await asyncio.wait([following])
                await watcher.aclose()

    def _late(self, directories: set[Path]) -> set[Path]:
        return {
            file
            for directory in directories
            for file in _files(directory)
            if _matters(None, str(file)) and _changed(file) > self._looked
        }

    async def reload(self, changed: Iterable[Path]) -> None:
        """Take over what the files say now, or keep what there is and tell why."""
        self._looked = time.time() - _COARSE_SECONDS
        names: dict[int, list[str]] = {}
        for path in sorted(changed):
            for at, worker in enumerate(self._workers.running):
                if path.parent in _around(worker):
                    names.setdefault(at, []).append(path.name)
        for at, told in names.items():
            try:
                old = await self._workers.replace(at)
            except (Exception, SystemExit) as error:
                _log.error("not reloaded: %s", ", ".join(told), exc_info=shortened(error))
                continue
            self._told(f"Reloaded ({', '.join(told)})")
            task = asyncio.ensure_future(old.close(self._grace, replaced=True))
            self._closing[task] = old
            task.add_done_callback(self._closing.pop)

    async def close(self, grace: float) -> None:
        """Wait for the ends of earlier Workers, ``grace`` seconds for their WebSockets."""
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=grace)
            for task in late:
                # Then it ends the rest, for which it waits a bounded time.
                self._closing[task].background.hang_up()
            if late:
                await asyncio.wait(late)

    def _directories(self) -> set[Path]:
        return {path for worker in self._workers.running for path in _around(worker)}


def _around(worker: Worker) -> set[Path]:
    """The directories that a Worker is made of."""
    found = {worker.config.root, worker.program.main.parent.absolute()}
    found.update(Path(file).parent for file in worker.program.modules.sources())
    return {path for path in found if path.is_dir()}


def _files(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _changed(file: Path) -> float:
    """When; never, where it is only a name: editors leave some, and replace others just now."""
    try:
        return file.stat().st_mtime
    except OSError:
        return -math.inf


def _matters(_change: object, path: str) -> bool:
    name = Path(path).name
    return name.endswith(_SUFFIXES) or name.startswith((".dev.vars", ".env"))
