"""The fixtures, in a project that has a wrangler file."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..errors import BunflareError
from ..runtime.env import Env
from ..state import State
from .client import WorkerClient
from .clock import WorkerClock
from .harness import Harness, Run
from .modules import TestFinder


class Hooks:
    """What a project can add."""

    def pytest_bunflare_prepare(self, state: State, env: Env) -> Any:
        """Prepare the state that every test gets a copy of. May be asynchronous."""


def register(config: pytest.Config, files: Sequence[Path], environment: str | None) -> None:
    """Take part in this run of pytest."""
    try:
        harness = Harness([Path(path) for path in files], environment)
    except BunflareError as error:
        raise pytest.UsageError(f"bunflare: {error}") from error
    finder = TestFinder(harness.programs[0].modules, config.rootpath)
    sys.meta_path.insert(0, finder)
    config.add_cleanup(lambda: sys.meta_path.remove(finder))
    config.add_cleanup(harness.close)
    config.pluginmanager.add_hookspecs(Hooks)
    config.pluginmanager.register(_fixtures(harness), "bunflare-fixtures")


def _fixtures(harness: Harness) -> ModuleType:
    """The fixtures, as a plugin."""

    @pytest.fixture
    def env(_bunflare_run: Run) -> Env:
        """The Worker's bindings, variables and secrets."""
        return _bunflare_run.env

    @pytest.fixture
    def worker(_bunflare_run: Run) -> WorkerClient:
        """Sends events to the Worker: ``await worker.fetch("/")``."""
        return _bunflare_run.worker

    @pytest.fixture
    def state(_bunflare_run: Run) -> State:
        """The state that the bindings are of."""
        return _bunflare_run.state

    @pytest.fixture
    def clock(_bunflare_run: Run) -> WorkerClock:
        """The state's clock, which stands still: ``await clock.advance(minutes=5)``."""
        return _bunflare_run.clock

    @pytest.fixture
    def _bunflare_run(request: pytest.FixtureRequest) -> Run:
        harness.prepare(_preparation(request.config))
        run: Run = request.getfixturevalue(_started_by(request))
        return run

    @pytest.fixture
    async def _bunflare_anyio(anyio_backend_name: str) -> AsyncIterator[Run]:
        if anyio_backend_name != "asyncio":
            pytest.fail("Workers run on asyncio: choose that as anyio_backend", pytrace=False)
        async with harness.run() as run:
            yield run

    def pytest_report_header() -> str:
        return f"bunflare: {', '.join(str(config.path) for config in harness.configs)}"

    plugin = ModuleType("bunflare-fixtures", "Fixtures for tests of a Worker.")
    for one in (env, worker, state, clock, _bunflare_run, _bunflare_anyio, pytest_report_header):
        setattr(plugin, one.__name__, one)
    for scope in ("function", "class", "module", "package", "session"):
        setattr(plugin, f"_bunflare_{scope}", _by_loop(harness, scope))
    return plugin


def _by_loop(harness: Harness, scope: Any) -> Any:
    """A fixture of pytest-asyncio's, which runs in the loop of that scope; if it is installed."""
    try:
        import pytest_asyncio
    except ImportError:
        return None

    @pytest_asyncio.fixture(loop_scope=scope)
    async def started() -> AsyncIterator[Run]:
        async with harness.run() as run:
            yield run

    return started


def _preparation(config: pytest.Config) -> Callable[[State, Env], Any]:
    async def prepare(state: State, env: Env) -> None:
        for result in config.hook.pytest_bunflare_prepare(state=state, env=env):
            if inspect.isawaitable(result):
                await result

    return prepare


def _started_by(request: pytest.FixtureRequest) -> str:
    """The fixture that runs in the event loop of this test."""
    item = request.node
    if "anyio_backend" in request.fixturenames:
        return "_bunflare_anyio"
    marker = item.get_closest_marker("asyncio")
    if marker is None:
        pytest.fail(
            "a test of a Worker is asynchronous: `async def`, run by pytest-asyncio or anyio",
            pytrace=False,
        )
    if not item.config.pluginmanager.hasplugin("asyncio"):
        pytest.fail(
            "the test is marked for pytest-asyncio, which is not there: pip install pytest-asyncio",
            pytrace=False,
        )
    scope = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
    return f"_bunflare_{scope or item.config.getini('asyncio_default_test_loop_scope')}"
