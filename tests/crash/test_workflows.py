"""SIGKILL at any moment: what a step gave is kept, and every instance comes to its end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bunflare
from tests.crash.workflow_workload import INSTANCES, expected
from tests.support import PATIENCE, child, eventually

ROOT = Path(__file__).parents[2]
LONG = os.environ.get("BUNFLARE_CRASH") == "long"


@pytest.mark.parametrize("processes", [1, 2])
async def test_killed_again_and_again_workflows_end_as_if_nothing_had_happened(
    tmp_path: Path, processes: int
) -> None:
    killed = 0
    least, enough = (40, 1_000) if LONG else (2, 25)
    # Where they are quick, they may be done before they have been killed so often.
    for turn in itertools.count():
        if turn >= least and (killed >= enough or turn >= 10 * least):
            break
        directory = tmp_path / str(turn)
        directory.mkdir()
        module = "tests.crash.workflow_workload"
        arguments = (directory, turn, 40 if LONG else 14, processes)
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            # Of the long form each takes 40 kills and as many starts, beside whatever else runs.
            timeout=900 if LONG else 120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        killed += int(done.stdout)
        async with bunflare.open(directory / "state") as state:
            work = state.workflow("Work")
            for number in range(INSTANCES):
                status = await (await work.get(f"w{number}")).status()
                assert (status.status, status.output) == ("complete", expected(number))
            assert state.database.view.all("SELECT * FROM bunflare_workflow_events") == []
    assert killed >= enough


_RUNNER = """
import asyncio, sys
import bunflare

class Work(bunflare.WorkflowEntrypoint):
    async def run(self, event, step):
        async def hold():
            with open(self.env, "a") as file:
                file.write("held\\n")
            if event.payload == "first":
                await asyncio.Event().wait()
            return "done"
        await step.do("before", lambda: 1)
        return await step.do("hold", hold)

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        work = state.workflow(Work, env=sys.argv[2])
        if len(sys.argv) > 3:
            await work.create("a", sys.argv[3])
        await work._host.settled()
        print("owner" if work._host.owner else "other", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_dead_process_is_taken_over_from_at_once_and_never_two_run_one(
    tmp_path: Path,
) -> None:
    directory, held = tmp_path / "state", tmp_path / "held"
    with child(_RUNNER, directory, held, "first") as first:
        assert first.line() == "owner"
        with child(_RUNNER, directory, held) as second:
            assert second.line() == "other"
            await eventually(held.exists)
            async with bunflare.open(directory) as state:
                # A third one, which has no code: it may ask and look, and does not run anything.
                work = state.workflow("Work")
                instance = await work.get("a")
                assert (await instance.status()).status == "running"
                assert held.read_text() == "held\n"
                first.kill()
                await eventually(lambda: held.read_text() == "held\n" * 2)
                await instance.terminate()
                assert (await instance.wait(PATIENCE)).status == "terminated"
                other = await work.create("b", "second")
                assert (await other.wait(PATIENCE)).output == "done"
