"""Several processes on one directory: no errors, nothing lost, everybody gets a turn."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import bunflare
from tests.support import child

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
SECONDS = 60.0 if LONG else 5.0
# On a machine that does other things besides, the scheduler adds waits of its own.
LONGEST_WAIT = 0.25 if LONG else 1.0

PROGRAM = (Path(__file__).parent / "contender.py").read_text()


@pytest.mark.parametrize("processes", [2, 8])
async def test_processes_share_a_directory(directory: Path, processes: int) -> None:
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(child(PROGRAM, directory, me, processes, SECONDS))
            for me in range(processes)
        ]
        for contender in contenders:
            assert contender.line() == "ready"
        for contender in contenders:
            contender.tell("go")
        reports = [json.loads(contender.line(SECONDS)) for contender in contenders]
        for contender in contenders:
            assert contender.process.wait(30) == 0
    for report in reports:
        sys.stderr.write(json.dumps(report) + "\n")  # shown when the test fails
    async with bunflare.open(directory) as state:
        kv = state.kv("shared")
        for me, report in enumerate(reports):
            assert await kv.get(f"counter{me}") == str(report["writes"] - 1)
        assert int(await kv.get("total")) == sum(report["increments"] for report in reports)
        assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
    fair = sum(report["writes"] for report in reports) / processes
    assert min(report["writes"] for report in reports) >= fair / 2
    assert max(report["longest"] for report in reports) < LONGEST_WAIT
