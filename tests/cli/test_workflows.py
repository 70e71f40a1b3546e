"""``bunflare workflows``, as a process beside the one that runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import run
from tests.support import Child, child

RUNNER = """
import asyncio, sys
import bunflare

class Order(bunflare.WorkflowEntrypoint):
    async def run(self, event, step):
        async def pay(ctx):
            if ctx.attempt == 1:
                raise ValueError("the bank is busy")
            return {"paid": event.payload["amount"]}
        await step.do("pay", pay, retries={"delay": 0})
        await step.do("secret", lambda: "hidden", sensitive="output")
        got = await step.wait_for_event("approval", "approve", timeout="1 hour")
        return got.payload

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        orders = state.workflow(Order, "order")
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, wanted = line.split()
            instance = await orders.get(name)
            async def reached():
                return (await instance.status()).status == wanted
            async with asyncio.timeout(30):
                while not await reached():
                    await asyncio.sleep(0.002)
            print(json.dumps((await instance.status()).output), flush=True)
import json
asyncio.run(main())
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Child]:
    (tmp_path / "wrangler.toml").write_text(
        'name = "w"\nmain = "e.py"\n[[workflows]]\nname = "order"\nbinding = "O"\n'
        'class_name = "Order"\n[[workflows]]\nname = "unused"\nbinding = "U"\nclass_name = "U"\n'
    )
    with child(RUNNER, tmp_path / ".bunflare") as process:
        assert process.line() == "ready"
        yield process


def reach(process: Child, instance: str, status: str) -> str:
    process.tell(f"{instance} {status}")
    return process.line()


def test_an_instance_is_triggered_followed_and_finished(tmp_path: Path, runner: Child) -> None:
    words = ("workflows", "trigger", "order")
    told, _ = run(tmp_path, *words, '{"amount": 5}', "--id", "a")
    assert told == "Created the instance a of order\n"
    _, told = run(tmp_path, *words, "--id", "a", code=1)
    assert "already exists" in told
    _, told = run(tmp_path, *words, "{amount", code=2)
    assert "not JSON" in told
    _, told = run(tmp_path, "workflows", "trigger", "ordr", code=1)
    assert "there is no workflow \"ordr\". Did you mean 'order'?" in told
    reach(runner, "a", "waiting")
    told, _ = run(tmp_path, "workflows", "instances", "describe", "order", "latest")
    assert "waiting" in told
    assert "pay" in told
    assert "2 attempts" in told
    assert "attempt 1 failed after" in told
    assert "ValueError: the bank is busy" in told
    assert '→ {"paid": 5}' in told
    assert "hidden" not in told
    assert "[REDACTED]" in told
    assert "waitForEvent approval  until" in told
    found = json.loads(run(tmp_path, "workflows", "instances", "describe", "order", "--json")[0])
    assert [step["name"] for step in found["steps"]] == ["pay", "secret", "approval"]
    send = ("workflows", "instances", "send-event", "order", "a", "--type", "approve")
    run(tmp_path, *send, "--payload", '{"by": "me"}')
    assert json.loads(reach(runner, "a", "complete")) == {"by": "me"}
    _, told = run(tmp_path, *send, code=1)
    assert "it is complete" in told


def test_instances_are_paused_resumed_restarted_terminated_and_deleted(
    tmp_path: Path, runner: Child
) -> None:
    instances = ("workflows", "instances")
    run(tmp_path, "workflows", "trigger", "order", '{"amount": 5}', "--id", "a")
    reach(runner, "a", "waiting")
    run(tmp_path, *instances, "pause", "order", "a")
    reach(runner, "a", "paused")
    run(tmp_path, *instances, "resume", "order")
    reach(runner, "a", "waiting")
    restart = (*instances, "restart", "order", "a")
    run(tmp_path, *restart, "--from-step-name", "secret", "--from-step-type", "do")
    reach(runner, "a", "waiting")
    _, told = run(tmp_path, *restart, "--from-step-name", "none", code=1)
    assert "not found in execution history" in told
    run(tmp_path, *restart, "--from-step-count", "2", code=2)
    run(tmp_path, *instances, "terminate", "order", "a")
    reach(runner, "a", "terminated")
    listed = json.loads(run(tmp_path, *instances, "list", "order", "--json")[0])
    assert [(one["id"], one["status"]) for one in listed] == [("a", "terminated")]
    assert run(tmp_path, *instances, "list", "order", "--status", "complete")[0] == "nothing\n"
    assert "terminated" in run(tmp_path, "workflows", "describe", "order")[0]
    workflows = json.loads(run(tmp_path, "workflows", "list", "--json")[0])
    assert [(one["name"], one["instances"]) for one in workflows] == [("order", 1), ("unused", 0)]
    run(tmp_path, *instances, "delete", "order", "a")
    _, told = run(tmp_path, *instances, "describe", "order", "a", code=1)
    assert "instance.not_found" in told
