"""Workflows as a library, beside bare APSW that writes the same rows, each its own commit."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import apsw

import bunflare
from bunflare import WorkflowEntrypoint
from bunflare.store.schema import migrate
from bunflare.store.systems import SCHEMAS
from bunflare.store.transaction import Transaction

from .peers import dbos_workflows
from .report import Report, seconds

_AT_ONCE = 256
_STEPS = 1_000
_SLEEPERS = 100_000
_PAIRS = 7

_CREATE = """
INSERT INTO workflow_instances (id, workflow_name, class_name, params, status, created_at,
  updated_at, bunflare_run, bunflare_due) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_STEP = """
INSERT INTO bunflare_workflow_log (instance, number, kind, name, count, attempt, started_at, at,
  value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FINISH = """
UPDATE workflow_instances SET status = ?, output = ?, updated_at = ?, bunflare_due = NULL,
  bunflare_expires = ? WHERE id = ?
"""
_BULK = """
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?1)
INSERT INTO workflow_instances (id, workflow_name, class_name, params, status, created_at,
  updated_at, bunflare_run, bunflare_due)
SELECT printf('sleeper-%06d', n), 'Sleeper', 'Sleeper', '{}', 'waiting', ?2, ?2, n, ?2 + 86400000
FROM numbers
"""
_BULK_LOG = """
INSERT INTO bunflare_workflow_log (instance, number, kind, name, count, started_at, at, due)
SELECT id, 1, 'sleep_started', 'long', 1, created_at, created_at, bunflare_due
FROM workflow_instances
"""


class Five(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        total = 0
        for number in range(5):

            async def one(number: int = number) -> int:
                return number

            total += await step.do("step", one)
        return total


class Long(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        for number in range(_STEPS):
            await step.do("step", lambda number=number: {"number": number})
        self.env["reached"]()
        await step.wait_for_event("end", "end")


class Sleeper(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        await step.sleep("long", "1 day")


class _Floor:
    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path))
        assert self.connection.pragma("journal_mode", "wal") == "wal"
        self.connection.pragma("synchronous", "full")
        with self.connection:
            migrate(Transaction(self.connection), SCHEMAS)
        self._execute = self.connection.cursor().execute
        self._made = 0

    def five(self, count: int) -> int:
        execute = self._execute
        for _ in range(count):
            self._made += 1
            key, now = f"instance-{self._made}", self._made
            execute(_CREATE, (key, "Five", "Five", "{}", "running", now, now, 1, -1))
            for number in range(1, 6):
                entry = (key, number, "step_completed", "step", number, 1, now, now, str(number))
                execute(_STEP, entry)
            execute(_FINISH, ("complete", "10", now, now, key))
        return count


async def _one_after_another(workflow: bunflare.Workflow, count: int) -> int:
    for _ in range(count):
        await (await workflow.create()).wait()
    return count


async def _at_once(workflow: bunflare.Workflow, count: int) -> int:
    async def one() -> None:
        await (await workflow.create()).wait()

    await asyncio.gather(*[one() for _ in range(count)])
    return count


async def measure(scratch: Path) -> Report:
    report = Report()
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(bunflare.open(scratch / "ours"))
        workflow = state.workflow(Five)
        floor = _Floor(scratch / "floor.sqlite")
        stack.enter_context(closing(floor.connection))
        await report.compare(
            "workflow of 5 durable steps, one at a time",
            0.5,
            lambda: 20,
            floor.five,
            lambda count: _one_after_another(workflow, count),
        )
        await report.compare(
            f"workflow of 5 durable steps, {_AT_ONCE} at once",
            8,
            lambda: 20,
            floor.five,
            lambda _: _at_once(workflow, _AT_ONCE),
        )
        dbos = dbos_workflows.start(scratch / "dbos", stack)
        await report.compare(
            "workflow of 5 durable steps, 64 at once",
            None,
            lambda: 20,
            floor.five,
            lambda _: _at_once(workflow, 64),
            {dbos_workflows.NAME: None if dbos is None else lambda _: dbos.at_once(64)},
        )
        await _replay(report, state)
    await _sleepers(report, scratch)
    return report


async def _replay(report: Report, state: bunflare.State) -> None:
    """From the call that resumes a paused instance to the end of its replay."""
    reached = asyncio.Event()
    workflow = state.workflow(Long, env={"reached": reached.set})
    instance = await workflow.create()
    await reached.wait()
    times = []
    for _ in range(15):
        await asyncio.sleep(0.1)
        await instance.pause()
        await asyncio.sleep(0.1)
        assert (await instance.status()).status == "paused"
        reached.clear()
        started = time.perf_counter()
        await instance.resume()
        await reached.wait()
        times.append(time.perf_counter() - started)
    took = median(times)
    report.at_most(
        f"replay of {_STEPS:,} finished steps", 0.02, 0.02, took, "at most 20 ms", seconds
    )


_OPENER = """
import asyncio, json, resource, sys, time
import bunflare
from benchmarks.workflows import Sleeper

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

async def main():
    before = resident()
    started = time.process_time()
    async with bunflare.open(sys.argv[1]) as state:
        workflow = state.workflow(Sleeper)
        await workflow._host.settled()
        await asyncio.sleep(0)
        took = time.process_time() - started
        await asyncio.sleep(0.2)
        print(json.dumps([took, resident() - before]))
asyncio.run(main())
"""


async def _sleepers(report: Report, scratch: Path) -> None:
    """What a process pays that opens a state in which many instances sleep."""
    for name, count in (("few", 0), ("many", _SLEEPERS)):
        async with bunflare.open(scratch / name) as state:
            await state.kv("K").put("a", "b")
            path = state.directory / "data.sqlite"
        now = int(time.time() * 1000)
        with closing(apsw.Connection(str(path))) as connection, connection:
            if count:
                connection.execute(_BULK, (count, now))
                connection.execute(_BULK_LOG)
    took: dict[str, list[float]] = {"few": [], "many": []}
    grown = 0.0
    for _ in range(_PAIRS):
        for name in took:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _OPENER, str(scratch / name)),
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[1],
            )
            told, _ = await process.communicate()
            cost, memory = json.loads(told)
            took[name].append(cost)
            if name == "many":
                grown = max(grown, memory / 2**20)
    few, many = median(took["few"]), median(took["many"])
    report.at_most(
        f"opening a state with {_SLEEPERS:,} sleeping instances (floor: with none)",
        2 * few,
        few,
        many,
        "at most 2 x",
        seconds,
    )
    report.at_most(
        f"memory of {_SLEEPERS:,} sleeping instances",
        100,
        100,
        max(grown, 0.01),
        "100 MiB",
        lambda mib: f"{mib:.0f} MiB",
    )
