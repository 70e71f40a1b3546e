"""The Workers of a process: each can be replaced by a newer version of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..config import Config
from ..errors import WorkerError
from ..state import State
from .program import Program
from .services import unknown
from .worker import Worker

#: Reads the configuration of a Worker.
Source = Callable[[], Config]


class Workers:
    """The Workers of a process, found by their names; the first one answers requests."""

    def __init__(self, sources: Sequence[Source], state: State) -> None:
        self._sources = sources
        self._state = state
        self.running: list[Worker] = []
        #: When their files began to be read, in seconds since the epoch.
        self.started = 0.0

    async def start(self) -> None:
        """Load them all."""
        self.started = time.time()
        for at in range(len(self._sources)):
            self.running.append(await self._make(at))

    @property
    def first(self) -> Worker:
        return self.running[0]

    def find(self, name: str) -> Worker:
        for worker in self.running:
            if worker.name == name:
                return worker
        raise unknown(name, [worker.name for worker in self.running])

    async def replace(self, at: int) -> Worker:
        """Load one anew; the earlier version is returned, with what it is still doing.

        If that fails, the earlier one stays as it was.
        """
        old = self.running[at]
        old.program.suspend()
        try:
            self.running[at] = await self._make(at, old)
        except BaseException:
            old.program.resume()
            raise
        return old

    async def _make(self, at: int, old: Worker | None = None) -> Worker:
        config = self._sources[at]()
        program = Program(config, self._state.caches, resident=at == 0)
        try:
            worker = Worker(config, self._state, self.find, program)
            try:
                self._refuse_doubles(worker, at)
                await worker.bind(self._state)
            except BaseException:
                # Its consumers and cron triggers would go on beside those of the earlier version.
                await worker.close(0)
                if worker.in_charge and old is not None:
                    old.take_over(self._state)
                raise
        except BaseException:
            program.suspend()
            raise
        return worker

    def _refuse_doubles(self, worker: Worker, at: int) -> None:
        """Raise for a class of objects that another Worker has too: both would be one namespace."""
        for other_at, other in enumerate(self.running):
            if other_at != at and (both := worker.classes.keys() & other.classes.keys()):
                raise WorkerError(
                    f'the Workers "{other.name}" and "{worker.name}" both have a Durable Object '
                    f"class {min(both)}, whose objects would lie in one place; name one otherwise, "
                    "or run them with a --persist-to of their own"
                )

    async def close(self, timeout: float) -> None:
        """Wait for what they are doing."""
        for worker in self.running:
            await worker.close(timeout)
