"""What takes long shows on a terminal how far it is, how fast, and how long still."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import bunflare
from tests.cli.process import on_terminal, run


@pytest.fixture
async def large(tmp_path: Path) -> Path:
    async with bunflare.open(tmp_path / ".bunflare", durability="normal") as state:
        for number in range(3):
            await state.d1(f"db{number}").exec("CREATE TABLE t (a)")
            insert = state.d1(f"db{number}").prepare("INSERT INTO t VALUES (?)")
            await state.d1(f"db{number}").batch(
                [insert.bind(os.urandom(1_000_000)) for _ in range(3)]
            )
            await state.r2("files").put(f"{number}", os.urandom(5_000_000))
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "state check",
        "state repair",
        "state vacuum",
        "state snapshot create {}",
        "state branch {}",
        "state backup {}",
        "r2 object get files/0 --file {}",
        "r2 bucket verify files --digests",
    ],
)
def test_a_bar_with_a_rate(large: Path, line: str) -> None:
    shown = on_terminal(large, *line.format("one").split())
    assert re.search(r"\[#*-*\] +\d+%", shown), shown
    assert re.search(r"\d [kMG]?B/s", shown), shown
    # Who does not look sees none of it.
    out, told = run(large, *line.format("two").split())
    assert "B/s" not in out + told
