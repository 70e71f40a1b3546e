"""Fixtures that all tests share."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import bunflare

pytest_plugins = ["pytester"]

# Most of what a process that a test starts would do is to compile what others have compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

# On a busy machine, or a disk that stands still for once, what a hand-moved clock has fired takes
# its time.
bunflare.clock._PATIENCE_SECONDS = 10.0


@pytest.fixture(autouse=True)
def _no_ambient_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNFLARE_DIR", raising=False)


@pytest.fixture
def clock() -> bunflare.ManualClock:
    return bunflare.ManualClock()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a hand-moved clock nor a closing state waits for long for what hangs on purpose."""
    monkeypatch.setattr("bunflare.clock._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("bunflare.bindings.object_host._GRACE", 0.1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a state may be made."""
    return tmp_path / ".bunflare"


@pytest.fixture(scope="session")
def new_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that is as a state makes it: to make all tables takes longer than most tests."""

    async def make() -> None:
        async with bunflare.open(path, durability="normal"):
            pass

    path = tmp_path_factory.mktemp("new") / ".bunflare"
    asyncio.run(make())
    return path


@pytest.fixture
async def state(
    directory: Path, new_directory: Path, clock: bunflare.ManualClock
) -> AsyncIterator[bunflare.State]:
    shutil.copytree(new_directory, directory)
    async with bunflare.open(directory, durability="normal", clock=clock) as state:
        yield state


@pytest.fixture
def kv(state: bunflare.State) -> bunflare.KVNamespace:
    return state.kv("TEST")
