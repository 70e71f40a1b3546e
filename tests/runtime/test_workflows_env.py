"""Workflows in a Worker: its spellings, its values, its classes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.config import load_config
from bunflare.errors import WorkerError
from bunflare.runtime.program import Program
from bunflare.runtime.services import unknown
from bunflare.runtime.worker import Worker
from tests.bindings.workflow_tools import finish

CONFIG = """
name = "flows"
main = "entry.py"
compatibility_date = "2026-11-01"
kv_namespaces = [{ binding = "KV" }]

[[workflows]]
name = "job"
binding = "JOB"
class_name = "Job"
limits = { steps = 50 }

[[workflows]]
name = "hourly"
binding = "HOURLY"
class_name = "Hourly"
schedules = ["0 * * * *"]
"""

# Written as for the platform: its spellings, options in a dict, numbers in milliseconds.
ENTRY = """
from datetime import datetime
from workers import WorkerEntrypoint, WorkflowEntrypoint
from workers.workflows import NonRetryableError

class Job(WorkflowEntrypoint):
    async def run(self, event, step):
        seen = [event.payload.n, event["payload"]["n"], event.instanceId, event.workflowName]
        seen.append([type(event.timestamp) is datetime, event.timestamp.tzinfo])

        @step.do("first")
        async def first():
            await self.env.KV.put("ran", "1")
            return {"deep": {"value": 1}, "raw": b"x"}

        @step.do("second", depends=[first], config={"retries": {"limit": 1, "delay": 1000}})
        async def second(given, ctx):
            if ctx.attempt == 1:
                raise ValueError("once more")
            return [given.deep.value, ctx.step.name, ctx.attempt, ctx.config.retries.delay]

        seen.append(await second())
        result = await first()
        seen.append([result.deep.value, type(result.raw).__name__])
        await step.sleep("ms", 1500)
        await step.sleepUntil("moment", datetime(2025, 1, 1))
        got = await step.wait_for_event("wait", "go", timeout="1 hour")
        seen.append([got.payload.x, got["type"]])
        other = await step.waitForEvent("wait", {"type": "stop", "timeout": 60000})
        seen.append(other.payload)
        return seen

class Hourly(WorkflowEntrypoint):
    async def run(self, event, step):
        return [event.schedule.cron, event.schedule.scheduledTime]

class Default(WorkerEntrypoint):
    async def fetch(self, request): ...

    async def begin(self):
        job = await self.env.JOB.create({"id": "a", "params": {"n": 5},
                                         "retention": {"successRetention": "1 day"}})
        batch = await self.env.JOB.createBatch([
            {"id": "b", "params": {"n": 1}}, {"id": "a"}])
        told = await self.env.JOB.createBatch({"instances": [{"id": "a"}]})
        for one in batch:
            await one.terminate({"rollback": False})
        again = await self.env.JOB.get("a")
        status = await again.status()
        return [job.id, [one.id for one in batch], told.errors[0].index, status["status"],
                status.output]

    async def send(self):
        job = await self.env.JOB.get("a")
        await job.sendEvent({"type": "stop", "payload": "s"})
        await job.send_event(type="go", payload={"x": 1})

    async def look(self):
        job = await self.env.JOB.get("a")
        subscription = await job.subscribe({"filter": ["step_completed", "workflow_completed"]})
        first = await subscription.next()
        rest = [event.type async for event in subscription]
        last = await subscription.next()
        return [(await job.status()).output, first.done, first.value.stepName, rest, last.done]

    async def over(self):
        job = await self.env.JOB.get("a")
        await job.restart({"from": {"name": "wait", "count": 2, "type": "waitForEvent"}})
        await job.sendEvent({"type": "stop", "payload": "again"})

    async def wrong(self):
        found = []
        for call in (self.env.JOB.get("none"), self.env.JOB.create({"id": "a"})):
            try:
                await call
            except Exception as error:
                found.append(str(error))
        return found
"""


def make(path: Path, state: bunflare.State, entry: str = ENTRY, config: str = CONFIG) -> Worker:
    (path / "entry.py").write_text(textwrap.dedent(entry))
    (path / "wrangler.toml").write_text(config)
    loaded = load_config(path / "wrangler.toml")

    def find(name: str) -> Worker:
        raise unknown(name, {})

    program = Program(loaded, state.caches, resident=False)
    return Worker(loaded, state, find, program)


async def call(worker: Worker, method: str) -> Any:
    return await getattr(worker.instance(), method)()


async def test_a_worker_uses_workflows_as_on_the_platform(
    tmp_path: Path, state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    worker = make(tmp_path, state)
    await worker.bind(state)
    assert await call(worker, "begin") == ["a", ["b"], 0, "running", None]
    for _ in range(3):
        await clock.advance(seconds=1)
    assert await state.kv("KV").get("ran") == "1"
    await call(worker, "send")
    await finish(await state.workflow("job").get("a"), clock)
    output, done, name, rest, over = await call(worker, "look")
    assert output == [
        *(5, 5, "a", "job", [True, None], [1, "second", 2, 1000], [1, "memoryview"]),
        *([1, "go"], "s"),
    ]
    assert (done, name, over) == (False, "first-1", True)
    assert rest == ["step_completed", "step_completed", "workflow_completed"]
    await call(worker, "over")
    assert (await finish(await state.workflow("job").get("a"), clock)).output[-1] == "again"
    missing, taken = await call(worker, "wrong")
    assert "instance.not_found" in missing
    assert "already exists" in taken
    await worker.close(1)


async def test_schedules_create_instances_once_each(
    tmp_path: Path, state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    worker = make(tmp_path, state)
    await worker.bind(state)
    start = clock.now()
    await clock.advance(hours=2, seconds=1)
    rows = state.database.view.all(
        "SELECT output FROM workflow_instances WHERE workflow_name = 'hourly' ORDER BY id"
    )
    hour = 3_600_000
    assert rows == [(f'["0 * * * *",{start + number * hour}]',) for number in (1, 2)]
    await worker.close(1)


async def test_a_newer_version_goes_on_with_what_the_earlier_began(
    tmp_path: Path, state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    code = """
        from workers import WorkerEntrypoint, WorkflowEntrypoint

        class Job(WorkflowEntrypoint):
            async def run(self, event, step):
                await step.do("a", lambda: 1)
                await step.sleep("s", "1 minute")
                return await step.do("last", lambda: "VERSION")

        class Hourly(WorkflowEntrypoint): ...

        class Default(WorkerEntrypoint): ...
    """
    first = make(tmp_path, state, code.replace("VERSION", "first"))
    await first.bind(state)
    job = await state.workflow("job").create("a")
    await clock.advance(seconds=1)
    second = make(tmp_path, state, code.replace("VERSION", "second"))
    await second.bind(state)
    await first.close(1)
    assert (await finish(job, clock)).output == "second"
    await second.close(1)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG.replace('"Job"', '"Jobs"'), "has no class Jobs"),
        (CONFIG.replace('"0 * * * *"', '"0 * *"'), "five fields"),
        (CONFIG.replace("steps = 50", "steps = 0"), "limits.steps"),
        (CONFIG.replace("steps = 50", "steps = 25001"), "limits.steps"),
    ],
)
async def test_what_is_wrong_in_the_configuration_is_said(
    tmp_path: Path, state: bunflare.State, config: str, said: str
) -> None:
    worker = make(tmp_path, state, config=config)
    with pytest.raises(WorkerError, match=said):
        await worker.bind(state)
    await worker.close(0)


async def test_a_workflow_of_another_worker_is_bound_by_its_name(
    tmp_path: Path, state: bunflare.State
) -> None:
    config = CONFIG.replace('class_name = "Job"', 'class_name = "Job"\nscript_name = "other"')
    worker = make(tmp_path, state, config=config)
    await worker.bind(state)
    await call(worker, "begin")
    assert (await (await state.workflow("job").get("a")).status()).status == "queued"
    await worker.close(0)
