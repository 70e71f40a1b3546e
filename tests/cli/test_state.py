"""``bunflare state``, as the processes that people start."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bunflare

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(directory: Path) -> Run:
    """Run a command on the directory of the test."""

    def run(
        *arguments: str, code: int = 0, where: Path = directory
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from bunflare.cli import main; main()", "state"]
            + [*arguments, "--persist-to", str(where)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
async def filled(directory: Path) -> Path:
    """A state with something of every system in it."""
    async with bunflare.open(directory, durability="normal") as state:
        await fill(state)
    return directory


async def fill(state: bunflare.State, text: str = "first") -> None:
    await state.kv("SETTINGS").put("colour", text)
    await state.kv("SETTINGS").put("size", "large", metadata={"a": 1}, expiration_ttl=3600)
    await state.r2("files").put("a/small.txt", text)
    await state.r2("files").put("large.bin", text.encode() * 40_000)
    db = state.d1("shop")
    await db.exec("CREATE TABLE IF NOT EXISTS items (name TEXT)")
    await db.prepare("INSERT INTO items VALUES (?)").bind(text).run()
    cache = state.caches.default
    for path, size in (("small", 1), ("large", 300_000)):
        response = bunflare.Response(text * size, headers={"cache-control": "max-age=3600"})
        await cache.put(f"https://example.com/{path}", response)


async def test_info_counts_every_system(filled: Path, run: Run) -> None:
    told = json.loads(run("info", "--json").stdout)
    counts = {(one["system"], one["kind"], one["name"]): one for one in told["figures"]}
    assert counts["kv", "key", "SETTINGS"]["count"] == 2
    assert counts["kv", "key", "SETTINGS"]["size"] == len("firstlarge")
    assert counts["r2", "object", "files"]["count"] == 2
    assert counts["r2", "object", "files"]["size"] == 5 * 40_001
    assert counts["d1", "database", "shop"]["size"] > 0
    assert counts["cache", "response", "default"]["count"] == 2
    assert told["cache_size"] > 300_000
    lines = run("info").stdout.splitlines()
    assert any(line.split()[:4] == ["kv", "key", "SETTINGS", "2"] for line in lines)


def test_a_directory_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    told = run("info", where=missing, code=1)
    assert told.stderr == f"error: there is no state at {missing}\n"
    assert not missing.exists()
    (tmp_path / "foreign").mkdir()
    told = run("info", where=tmp_path / "foreign", code=1)
    assert "holds no state of bunflare" in told.stderr
    assert not list((tmp_path / "foreign").iterdir())
    assert "No such command" in run("inof", code=2).stderr
