"""Turns at writing: one at a time, waited for, and given back by whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bunflare.store.turnstile import Turnstile
from tests.support import child

HOLD = """
import sys
from pathlib import Path
from bunflare.store.turnstile import Turnstile
turnstile = Turnstile(Path(sys.argv[1]))
assert turnstile.try_enter()
print("in", flush=True)
sys.stdin.readline()
turnstile.leave()
print("out", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "writer.lock"


@pytest.fixture
def turnstile(path: Path) -> Iterator[Turnstile]:
    turnstile = Turnstile(path)
    yield turnstile
    turnstile.close()


def test_one_is_in_at_a_time(path: Path, turnstile: Turnstile) -> None:
    other = Turnstile(path)
    assert turnstile.try_enter()
    assert not other.try_enter()
    assert not other.enter(0.01)
    turnstile.leave()
    assert other.try_enter()
    assert not turnstile.try_enter()
    other.close()
    assert turnstile.try_enter()


def test_other_processes_are_waited_for(path: Path, turnstile: Turnstile) -> None:
    with child(HOLD, path) as other:
        assert other.line() == "in"
        assert not turnstile.try_enter()
        assert not turnstile.enter(0.01)
        other.tell("leave")
        assert turnstile.enter(30)


def test_whoever_dies_inside_lets_the_others_in(path: Path, turnstile: Turnstile) -> None:
    with child(HOLD, path) as other:
        assert other.line() == "in"
        assert not turnstile.try_enter()
        other.kill()
        assert turnstile.enter(30)


def test_its_file_is_for_its_owner_alone_and_empty(path: Path, turnstile: Turnstile) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b""
