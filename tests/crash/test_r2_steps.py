"""SIGKILL at every step of how an object and its file come to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.steps import SCENARIOS
from tests.support import PATIENCE

#: Every so many steps; all of them in the long run.
STRIDE = 1 if os.environ.get("BUNFLARE_CRASH") == "long" else 7


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_step_leaves_the_old_object_or_the_new_one(name: str, tmp_path: Path) -> None:
    before, _, after = SCENARIOS[name]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash.steps", str(tmp_path), name, str(STRIDE)],
        check=False,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    runs = [json.loads(line) for line in ran.stdout.splitlines()]
    whole = {None if value is None else value.hex() for value in (before, after)}
    for run in runs:
        assert run["value"] in whole, run["step"]
        if run["told"]:
            assert run["value"] == (None if after is None else after.hex()), run["step"]
        assert run["file"], f"step {run['step']}: the file is not that of the object"
        assert run["problems"] == run["strangers"] == run["staged"] == []
        assert run["integrity"] == ["ok"]
    assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]
    assert len(runs) > 20 // STRIDE
