"""Who follows an instance is told of an attempt when it begins, and not when it has ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import bunflare
from bunflare import ManualClock
from tests.bindings.workflow_tools import workflow
from tests.support import PATIENCE, child, eventually


class Follower:
    """Takes events of a subscription."""

    def __init__(self, following: bunflare.WorkflowInstanceSubscription) -> None:
        self.following = following
        self.seen: list[bunflare.WorkflowInstanceEvent] = []

    async def told(self, until: str) -> list[str]:
        """The next events, up to one."""
        told: list[str] = []
        while not told or told[-1] != until:
            event = await asyncio.wait_for(self.following.next(), PATIENCE)
            assert event is not None
            self.seen.append(event)
            told.append(f"{event.type} {event.detail.get('step_name', '')}".strip())
        return told


async def test_begins_and_ends_are_told_as_they_happen(
    state: bunflare.State, clock: ManualClock
) -> None:
    gates = {name: asyncio.Event() for name in ("a", "b", "inner", "undo")}

    async def run(event: Any, step: Any) -> Any:
        async def a(ctx: Any) -> None:
            if ctx.attempt == 1:
                await asyncio.sleep(0)
                raise ValueError("once")
            await gates["a"].wait()

        async def b() -> None:
            await step.do("inner", gates["inner"].wait)
            await gates["b"].wait()

        async def undo(_: Any) -> None:
            await gates["undo"].wait()

        await asyncio.gather(
            step.do("a", a, retries={"delay": 0}),
            step.do("b", b, timeout=5, rollback=undo),
        )
        await step.do("at once", lambda: None)
        raise ValueError("the end")

    instance = await workflow(state, run).create("x")
    follower = Follower(await instance.subscribe())
    assert await follower.told("attempt_errored a-1") == [
        *("workflow_queued", "workflow_started", "step_started a-1", "attempt_started a-1"),
        *("step_started b-1", "attempt_started b-1", "step_started inner-1"),
        *("attempt_started inner-1", "attempt_errored a-1"),
    ]
    assert follower.seen[4].detail["config"]["timeout"] == 5
    assert await follower.told("attempt_started a-1") == ["attempt_started a-1"]
    assert follower.seen[-1].detail["attempt"] == 2
    gates["inner"].set()
    assert await follower.told("step_completed inner-1") == [
        *("attempt_completed inner-1", "step_completed inner-1")
    ]
    gates["b"].set()
    assert await follower.told("step_completed b-1") == [
        *("attempt_completed b-1", "step_completed b-1")
    ]
    gates["a"].set()
    assert await follower.told("rollback_attempt_started b-1") == [
        *("attempt_completed a-1", "step_completed a-1"),
        *("step_started at once-1", "attempt_started at once-1"),
        *("attempt_completed at once-1", "step_completed at once-1", "rollback_started"),
        *("rollback_step_started b-1", "rollback_attempt_started b-1"),
    ]
    gates["undo"].set()
    assert await follower.told("workflow_errored") == [
        *("rollback_attempt_completed b-1", "rollback_step_completed b-1"),
        *("rollback_completed", "workflow_errored"),
    ]
    assert await follower.following.next() is None
    numbers = [one.event_id for one in follower.seen]
    assert numbers == sorted(set(numbers))
    # Who comes later is told of the same, each begin together with its end.
    later = [one async for one in await instance.subscribe()]
    assert sorted((one.type, one.timestamp, str(one.detail)) for one in later) == sorted(
        (one.type, one.timestamp, str(one.detail)) for one in follower.seen
    )


async def test_who_comes_in_the_middle_is_told_what_is_under_way(state: bunflare.State) -> None:
    gate = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("first", lambda: 1)
        await asyncio.gather(step.do("a", gate.wait), step.do("b", gate.wait))

    instance = await workflow(state, run).create("x")
    early = Follower(await instance.subscribe())
    await early.told("attempt_started b-1")
    # What is behind a cursor, and nothing twice.
    at = next(one.event_id for one in early.seen if one.detail.get("step_name") == "b-1")
    late = [
        Follower(await instance.subscribe(cursor=cursor))
        for cursor in (at - 1, at, early.seen[-1].event_id)
    ]
    assert await late[0].told("attempt_started b-1") == [
        *("step_started b-1", "attempt_started b-1")
    ]
    assert await late[1].told("attempt_started b-1") == ["attempt_started b-1"]
    waiting = asyncio.ensure_future(late[2].told("workflow_completed"))
    await asyncio.sleep(0)
    gate.set()
    ends = [
        *("attempt_completed a-1", "step_completed a-1"),
        *("attempt_completed b-1", "step_completed b-1", "workflow_completed"),
    ]
    assert await waiting == ends
    assert await late[0].told("workflow_completed") == ends
    assert await late[1].told("workflow_completed") == ends


async def test_a_filter_and_a_close(state: bunflare.State) -> None:
    gate = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("a", gate.wait)

    instance = await workflow(state, run).create("x")
    async with await instance.subscribe(filter=["attempt_started"]) as following:
        event = await asyncio.wait_for(following.next(), PATIENCE)
        assert event is not None
        assert event.type == "attempt_started"
        waiting = asyncio.ensure_future(following.next())
        await asyncio.sleep(0)
        following.close()
        assert await asyncio.wait_for(waiting, PATIENCE) is None
    assert state._services.workflows["Program"].followers == {}
    gate.set()
    assert (await instance.wait(PATIENCE)).status == "complete"


async def test_a_pause_comes_behind_the_begin_of_what_it_waits_for(
    state: bunflare.State, clock: ManualClock
) -> None:
    gate = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("held", gate.wait)
        await step.do("next", lambda: None)

    instance = await workflow(state, run).create("x")
    follower = Follower(await instance.subscribe())
    await follower.told("attempt_started held-1")
    await instance.pause()
    assert await follower.told("workflow_waiting_for_pause") == ["workflow_waiting_for_pause"]
    gate.set()
    assert await follower.told("workflow_paused") == [
        *("attempt_completed held-1", "step_completed held-1", "workflow_paused")
    ]
    await instance.resume()
    await follower.told("workflow_completed")


# -- from another process ----------------------------------------------------------------------

OWNER = """
import asyncio, sys, bunflare

class Work(bunflare.WorkflowEntrypoint):
    async def run(self, event, step):
        async def line(ctx):
            if ctx.attempt < 2 and ctx.step.name == "second":
                await asyncio.sleep(0)
                raise ValueError("once")
            return (await asyncio.to_thread(sys.stdin.readline)).strip()
        await step.do("first", line)
        await step.do("second", line, retries={"limit": 7, "delay": 0})

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        instance = await state.workflow(Work).create("x")
        print("created", flush=True)
        await instance.wait(600)

asyncio.run(main())
"""


async def test_another_process_hears_of_a_begin_when_it_happens(directory: Path) -> None:
    with child(OWNER, directory) as owner:
        assert owner.line() == "created"
        async with bunflare.open(directory) as state:
            instance = await state.workflow("Work").get("x")
            # What is under way already, and what begins afterwards.
            follower = Follower(await instance.subscribe())
            assert await follower.told("attempt_started first-1") == [
                *("workflow_queued", "workflow_started"),
                *("step_started first-1", "attempt_started first-1"),
            ]
            owner.tell("go on")
            await follower.told("attempt_errored second-1")
            assert await follower.told("attempt_started second-1") == ["attempt_started second-1"]
            second = next(one for one in follower.seen if one.type == "attempt_errored")
            assert second.detail["attempt"] == 1
            assert follower.seen[-1].detail["attempt"] == 2
            # Who goes on behind a cursor is told nothing twice.
            late = Follower(await instance.subscribe(cursor=second.event_id))
            assert await late.told("attempt_started second-1") == ["attempt_started second-1"]
            begins = [one for one in follower.seen if one.type == "step_started"]
            assert [one.detail["config"]["retries"]["limit"] for one in begins] == [5, 7]
            owner.tell("and on")
            ends = [
                *("attempt_completed second-1", "step_completed second-1", "workflow_completed"),
            ]
            assert await follower.told("workflow_completed") == ends
            assert await late.told("workflow_completed") == ends
            assert await follower.following.next() is None
            assert await late.following.next() is None
            numbers = [one.event_id for one in follower.seen]
            assert numbers == sorted(set(numbers))
            later = [one async for one in await instance.subscribe()]
            assert sorted((one.type, one.timestamp, str(one.detail)) for one in later) == sorted(
                (one.type, one.timestamp, str(one.detail)) for one in follower.seen
            )
            assert [one.name for one in (directory / "processes").glob("*.*")] == []


FOLLOWER = """
import asyncio, sys, bunflare

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        async for event in await (await state.workflow("Program").get("x")).subscribe():
            print(event.type, flush=True)

asyncio.run(main())
"""


async def test_who_has_ended_is_told_nothing_any_more(
    state: bunflare.State, directory: Path
) -> None:
    gate = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("a", gate.wait)

    instance = await workflow(state, run).create("x")
    host = state._services.workflows["Program"]
    with child(FOLLOWER, directory) as other:
        told = [await asyncio.to_thread(other.line) for _ in range(4)]
        assert told[2:] == ["step_started", "attempt_started"]
        assert len(host.elsewhere) == 1
        other.kill()
        await eventually(lambda: host.elsewhere == {})
    gate.set()
    assert (await instance.wait(PATIENCE)).status == "complete"
    # What it has left is removed by the next that comes.
    with child(FOLLOWER, directory) as other:
        told = await asyncio.to_thread(other.rest)
        assert told[-1] == "workflow_completed"
    assert [one.name for one in (directory / "processes").glob("*.*")] == []
