"""Runs the Workers of a project once for each test, each time on a state of its own.

The Workers' modules are imported once. The state is prepared once as well: Durable Object and D1
migrations are applied, and what the project's ``pytest_bunflare_prepare`` does; each test gets a
copy of the directory.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import state as states
from ..clock import Clock, SystemClock
from ..config import Config, load_config
from ..errors import WorkerError
from ..runtime import fetching
from ..runtime.env import Env
from ..runtime.program import Program
from ..runtime.services import unknown
from ..runtime.worker import Worker
from ..state import State
from .client import WorkerClient
from .clock import WorkerClock

# How long a test's tasks may go on after it, in seconds.
_GRACE = 1.0
# ioctl of Linux: share the blocks of another file until one of the two is written to.
_FICLONE = 0x40049409

Prepare = Callable[[State, Env], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Run:
    """What one test has."""

    state: State
    clock: WorkerClock
    env: Env
    worker: WorkerClient


class Harness:
    """The Workers under test."""

    def __init__(self, files: Sequence[Path], environment: str | None) -> None:
        self.configs = [
            load_config(path, environment if at == 0 else None) for at, path in enumerate(files)
        ]
        self._caches = _Caches()
        self.programs = [
            Program(_with_main(config), self._caches, resident=at == 0)
            for at, config in enumerate(self.configs)
        ]
        self._base = Path(tempfile.mkdtemp(prefix="bunflare-tests-"))
        self._prepared: Path | None = None
        self._count = 0
        self._rest()

    def _rest(self) -> None:
        """Between tests there are variables only."""
        self._caches.current = None
        for config, program in zip(self.configs, self.programs, strict=True):
            values = dict(config.vars)
            values.update((name, _Later(program.env, name)) for name, _ in config.bindings())
            program.env.become(Env(values))

    def prepare(self, prepare: Prepare) -> None:
        """Make the state that every test begins with, if that has not been done."""
        if self._prepared is None:
            # What modules take from `env` while they are imported must outlive each test.
            for program in self.programs:
                program.load()
            directory = self._base / "prepared"
            asyncio.run(self._prepare(directory, prepare))
            self._prepared = directory

    async def _prepare(self, directory: Path, prepare: Prepare) -> None:
        async with self._running(directory, SystemClock()) as (state, workers):
            for config in self.configs:
                for one in config.d1_databases:
                    migrations = config.root / one.migrations_dir
                    if migrations.is_dir():
                        name = one.database_name or one.database_id or one.binding
                        await state.d1(name).migrate(
                            migrations, one.migrations_table, one.migrations_glob
                        )
            await prepare(state, workers[0].env)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Run]:
        """The Workers on a copy of the prepared state."""
        assert self._prepared is not None
        self._count += 1
        directory = self._base / str(self._count)
        _copy(self._prepared, directory)
        clock = WorkerClock()
        for program in self.programs:
            clock.wait_for(program.background)
        try:
            async with self._running(directory, clock) as (state, workers):
                first = workers[0]
                yield Run(state, clock, first.env, WorkerClient(first, _finder(workers)))
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @asynccontextmanager
    async def _running(
        self, directory: Path, clock: Clock
    ) -> AsyncIterator[tuple[State, list[Worker]]]:
        workers: list[Worker] = []
        find = _finder(workers)
        try:
            async with states.open(directory, durability="off", clock=clock) as state:
                self._caches.current = state.caches
                try:
                    for config, program in zip(self.configs, self.programs, strict=True):
                        workers.append(Worker(config, state, find, program))
                        await workers[-1].bind(state)
                    yield state, workers
                finally:
                    for worker in workers:
                        await worker.close(_GRACE)
                    await fetching.close()
        finally:
            self._rest()

    def close(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)


def _with_main(config: Config) -> Config:
    return config if config.main is not None else replace(config, main=_ASSETS_ONLY)


# A Worker without a main module has its assets and nothing else.
_ASSETS_ONLY = Path(__file__).with_name("assets_only.py")


def _finder(workers: list[Worker]) -> Callable[[str], Worker]:
    def find(name: str) -> Worker:
        for worker in workers:
            if worker.name == name:
                return worker
        raise unknown(name, [worker.name for worker in workers])

    return find


class _Caches:
    """``js.caches``, which modules import once: those of the state at work."""

    current: Any = None

    def __getattr__(self, name: str) -> Any:
        if self.current is None:
            raise WorkerError("caches can be used inside of a test only")
        return getattr(self.current, name)


class _Later:
    """A binding that a module took from ``env`` when it was imported: that of the test at work."""

    def __init__(self, env: Env, name: str) -> None:
        self.__dict__.update(_env=env, _name=name)

    def _binding(self) -> Any:
        binding = self._env.__dict__.get(self._name)
        if binding is None or isinstance(binding, _Later):
            raise WorkerError(f"env.{self._name} can be used inside of a test only")
        return binding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding(), name)

    def __getitem__(self, name: str) -> Any:
        return self._binding()[name]


def _copy(source: Path, target: Path) -> None:
    """Copy a directory, sharing the blocks of its files where the file system can."""
    shutil.copytree(source, target, copy_function=_clone, symlinks=True)


def _clone(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
    # Readers of a bucket know an object's file by its time.
    found = Path(source).stat()
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
