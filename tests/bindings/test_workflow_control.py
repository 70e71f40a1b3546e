"""What is done to instances from outside: pause, terminate, restart, roll back, follow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import ManualClock, NonRetryableError, WorkflowError
from bunflare.bindings.workflow_care import WorkflowCare
from bunflare.store import workflow_log as log
from tests.bindings.workflow_tools import entries, finish, forget_runs, rows, workflow
from tests.support import PATIENCE, eventually


async def three(event: Any, step: Any) -> Any:
    got = [await step.do(name, lambda name=name: name) for name in "ab"]
    await step.sleep("s", 60)
    return [*got, await step.do("c", lambda: "c")]


# -- pause and resume ----------------------------------------------------------------------


async def test_pause_waits_for_the_step_under_way(
    state: bunflare.State, clock: ManualClock
) -> None:
    going, ran = asyncio.Event(), []

    async def run(event: Any, step: Any) -> Any:
        await step.do("first", going.wait)
        await step.do("second", lambda: ran.append("second"))
        return "over"

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    await instance.pause()
    await instance.pause()
    assert (await instance.status()).status == "waitingForPause"
    going.set()
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "paused"
    assert entries(state, "a") == [("step_completed", "first", 1)]
    await instance.resume()
    assert (await instance.wait(PATIENCE)).output == "over"
    assert ran == ["second"]


async def test_a_pause_that_is_taken_back_in_time_changes_nothing(
    state: bunflare.State, clock: ManualClock
) -> None:
    going = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await asyncio.gather(step.do("first", going.wait), step.sleep("s", 1))
        return await step.do("second", lambda: 2)

    instance = await workflow(state, run).create("a")
    await clock.advance(milliseconds=10)
    await instance.pause()
    await instance.resume()
    assert (await instance.status()).status == "running"
    going.set()
    await clock.advance(seconds=2)
    assert (await instance.wait(PATIENCE)).output == 2


async def test_a_sleep_that_is_paused_goes_on_from_its_own_time(
    state: bunflare.State, clock: ManualClock
) -> None:
    instance = await workflow(state, three).create("a")
    await clock.advance(seconds=1)
    await instance.pause()
    assert (await instance.status()).status == "paused"
    with pytest.raises(WorkflowError, match="it is running|it is waiting|it is queued"):
        await (await workflow(state, three).create("b")).resume()
    await clock.advance(minutes=5)
    assert (await instance.status()).status == "paused"
    await instance.resume()
    await clock.advance(milliseconds=1)
    assert (await instance.wait(PATIENCE)).output == ["a", "b", "c"]
    for verb in (instance.pause, instance.resume):
        with pytest.raises(WorkflowError, match="it is complete"):
            await verb()


async def test_an_event_does_not_end_a_pause_and_is_used_once(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        first = (await step.wait_for_event("w", "x")).payload
        try:
            await step.wait_for_event("w", "x", timeout="1 minute")
        except TimeoutError:
            return first

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    await instance.pause()
    await instance.send_event("x", 1)
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "paused"
    await instance.resume()
    await clock.advance(minutes=2)
    assert (await instance.wait(PATIENCE)).output == 1


# -- terminate and restart -----------------------------------------------------------------


async def test_terminate_cancels_and_is_final(state: bunflare.State, clock: ManualClock) -> None:
    cancelled = []

    async def run(event: Any, step: Any) -> Any:
        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        await step.do("hang", hang)

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    waiting = asyncio.ensure_future(instance.wait(PATIENCE))
    await asyncio.sleep(0)
    await instance.terminate()
    assert (await waiting).status == "terminated"
    await clock.advance(seconds=1)
    assert cancelled == [1]
    with pytest.raises(WorkflowError, match="it is terminated"):
        await instance.terminate()
    assert entries(state, "a") == []


@pytest.mark.parametrize("how", ["sleeping", "paused", "queued"])
async def test_what_does_not_run_is_terminated_too(
    state: bunflare.State, clock: ManualClock, how: str
) -> None:
    made = workflow(state, three, concurrency=1)
    going = asyncio.Event()
    if how == "queued":
        workflow(state, lambda event, step: step.do("x", going.wait), concurrency=1)
        await made.create("first")
    instance = await made.create("a")
    await clock.advance(seconds=1)
    if how == "paused":
        await instance.pause()
    await instance.terminate()
    going.set()
    await clock.advance(hours=1)
    assert (await instance.status()).status == "terminated"


async def test_restart_runs_everything_anew_and_the_earlier_run_cannot_touch_it(
    state: bunflare.State, clock: ManualClock
) -> None:
    ran: list[str] = []
    going = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("a", lambda: ran.append("a"))
        first = len(ran) == 1

        async def stubborn() -> str:
            try:
                await going.wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "first" if first else "second"

        return await step.do("b", stubborn)

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    await instance.restart()
    await clock.advance(seconds=1)
    going.set()
    assert (await instance.wait(PATIENCE)).output == "second"
    assert ran == ["a", "a"]
    assert [name for _, name, _ in entries(state, "a")] == ["a", "b"]
    await instance.restart()
    assert (await instance.wait(PATIENCE)).output == "second"


async def test_restart_from_a_step_keeps_what_was_before(
    state: bunflare.State, clock: ManualClock
) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        for name in ["a", "b", "a", "c"]:

            async def work(name: str = name) -> int:
                ran.append(name)
                await step.do("inner", lambda: ran.append("inner"))
                return 1

            await step.do(name, work)
        await step.sleep("a", 1)
        return len(ran)

    instance = await workflow(state, run).create("a")
    await finish(instance, clock)
    assert [one for one in ran if one != "inner"] == ["a", "b", "a", "c"]
    starts: list[tuple[Any, list[str]]] = [
        ({"name": "a", "count": 2}, ["a", "c"]),
        ("c", ["c"]),
        ({"name": "a", "type": "sleep"}, []),
        ({"name": "b", "type": "do"}, ["b", "a", "c"]),
    ]
    for from_, expected in starts:
        ran.clear()
        await instance.restart(from_)
        assert (await finish(instance, clock)).status == "complete"
        assert [one for one in ran if one != "inner"] == expected
        assert ran.count("inner") == len(expected)
    with pytest.raises(WorkflowError, match='Step "x" not found in execution history'):
        await instance.restart({"name": "x"})
    with pytest.raises(WorkflowError, match="not found"):
        await instance.restart({"name": "c", "count": 2})
    for wrong in [{"name": "a", "count": 0}, {"name": "a", "type": "x"}, {}, 5]:
        with pytest.raises((TypeError, ValueError)):
            await instance.restart(wrong)  # type: ignore[arg-type]


# -- rolling back --------------------------------------------------------------------------


def saga(undone: list[Any]) -> Any:
    async def run(event: Any, step: Any) -> Any:
        async def undo(told: Any) -> None:
            undone.append((told.step_name, told.output, type(told.error).__name__))

        async def fail() -> None:
            raise NonRetryableError("no")

        await step.do("a", lambda: 1, rollback=undo)
        await step.do("plain", lambda: 2)
        await step.do("b", lambda: 3, rollback=undo, rollback_config={"retries": {"limit": 1}})
        if event.payload == "wait":
            await step.sleep("s", 60)
            await step.do("never", lambda: 4, rollback=undo)
        await step.do("fail", fail, rollback=undo)

    return run


async def test_a_failure_rolls_back_the_last_step_first(state: bunflare.State) -> None:
    undone: list[Any] = []
    status = await (await workflow(state, saga(undone)).create("a")).wait(PATIENCE)
    assert (status.status, status.error.message) == ("errored", "no")  # type: ignore[union-attr]
    assert undone == [
        ("fail-1", None, "NonRetryableError"),
        ("b-1", 3, "NonRetryableError"),
        ("a-1", 1, "NonRetryableError"),
    ]
    kinds = [kind for kind, *_ in entries(state, "a")]
    assert kinds[4:] == [
        "rollback_started",
        *["rollback_step_completed"] * 3,
        "rollback_completed",
    ]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_terminate_may_roll_back(
    state: bunflare.State, clock: ManualClock, forgotten: bool
) -> None:
    undone: list[Any] = []
    made = workflow(state, saga(undone))
    instance = await made.create("a", "wait")
    await clock.advance(seconds=1)
    if forgotten:
        forget_runs(state)
    await instance.terminate(rollback=True)
    assert (await instance.wait(PATIENCE)).status == "terminated"
    assert [one[0] for one in undone] == ["b-1", "a-1"]
    assert undone[0][1] == 3


async def test_a_rollback_is_retried_and_its_failure_does_not_stop_the_others(
    state: bunflare.State, clock: ManualClock
) -> None:
    undone: list[Any] = []

    async def run(event: Any, step: Any) -> Any:
        async def undo_a(told: Any) -> None:
            undone.append(("a", told.ctx.step.count))

        async def undo_b(told: Any) -> None:
            undone.append("b")
            raise ValueError("cannot")

        await step.do("a", {"timeout": 5}, lambda: 1, {"rollback": undo_a})
        config = {"retries": {"limit": 2, "delay": 60, "backoff": "constant"}}
        await step.do("b", lambda: 1, rollback=undo_b, rollback_config=config)
        raise ValueError("fails")

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "rollingBack"
    # Nothing that was undone is undone again.
    forget_runs(state)
    await clock.advance(seconds=65)
    forget_runs(state)
    await clock.advance(seconds=65)
    status = await instance.wait(PATIENCE)
    assert (status.status, status.error.message) == ("errored", "fails")  # type: ignore[union-attr]
    assert undone == ["b", "b", "b", ("a", 1)]
    assert entries(state, "a")[-1][0] == "rollback_errored"


# -- changed code --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "x", "s"], 'it asks for step "x" where step "b" had been recorded'),
        (["b", "a", "s"], 'it asks for step "b" where step "a" had been recorded'),
        (["a", "s"], 'it asks for sleep "s" where step "b" had been recorded'),
        (["a", "b", "x"], 'it asks for step "x" where sleep "s" had been recorded'),
        (["a"], 'it ended without asking for step "b"'),
        (["a", "b"], 'it ended without asking for sleep "s"'),
        (["a", "a", "b", "s"], 'it asks for step "a" (2) where step "b" had been recorded'),
    ],
)
async def test_code_that_has_changed_is_said_plainly(
    state: bunflare.State, clock: ManualClock, names: list[str], said: str
) -> None:
    ran: list[str] = []

    def code(names: list[str]) -> Any:
        async def run(event: Any, step: Any) -> Any:
            for name in names:
                if name == "s":
                    await step.sleep(name, 60)
                else:
                    await step.do(name, lambda name=name: ran.append(name))

        return run

    instance = await workflow(state, code(["a", "b", "s", "c"])).create("a")
    await clock.advance(seconds=1)
    ran.clear()
    workflow(state, code(names))
    await clock.advance(minutes=2)
    status = await instance.wait(PATIENCE)
    assert status.status == "errored"
    assert status.error is not None
    assert status.error.name == "WorkflowChangedError"
    assert said in status.error.message
    assert ran == []


async def test_changed_code_of_several_tasks_is_noticed_too(
    state: bunflare.State, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundred times what the code takes.
    monkeypatch.setattr("bunflare.bindings.workflow_replay._PATIENCE", 1.0)

    def code(names: str) -> Any:
        async def run(event: Any, step: Any) -> Any:
            async def lane(name: str) -> None:
                # What is no step takes its time, too.
                await asyncio.sleep(0.01)
                await step.do(name, lambda: None)
                await step.sleep(f"{name} nap", 60)

            await asyncio.gather(*[lane(name) for name in names])

        return run

    instance = await workflow(state, code("abc")).create("a")
    await eventually(lambda: len(entries(state, "a")) == 6)
    workflow(state, code("axc"))
    await clock.advance(minutes=2)
    status = await instance.wait(PATIENCE)
    assert status.error is not None
    assert 'it asks for step "x" where step "b" had been recorded' in status.error.message


async def test_code_that_goes_on_further_may_change(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def changed(event: Any, step: Any) -> Any:
        got = [await step.do(name, lambda: "?") for name in "ab"]
        await step.sleep("s", 60)
        return [*got, await step.do("new", lambda: "new")]

    instance = await workflow(state, three).create("a")
    await clock.advance(seconds=1)
    workflow(state, changed)
    await clock.advance(minutes=2)
    assert (await instance.wait(PATIENCE)).output == ["a", "b", "new"]


# -- following -----------------------------------------------------------------------------


async def test_subscribe_tells_everything_in_order_and_goes_on_from_a_cursor(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def work(ctx: Any) -> str:
            if ctx.attempt == 1:
                raise ValueError("no")
            return "secret"

        await step.do("work", work, retries={"delay": 1}, sensitive="output")
        await step.wait_for_event("w", "x")
        return "over"

    instance = await workflow(state, run).create("a", {"p": 1})
    following = await instance.subscribe()
    seen: list[Any] = []

    async def follow() -> None:
        async for one in following:
            seen.append(one)

    task = asyncio.ensure_future(follow())
    await clock.advance(seconds=5)
    await instance.send_event("x")
    await asyncio.wait_for(task, PATIENCE)
    assert [one.type for one in seen] == [
        *("workflow_queued", "workflow_started", "step_started", "attempt_started"),
        *("attempt_errored", "attempt_started", "attempt_completed", "step_completed"),
        *("wait_started", "workflow_waiting", "workflow_running", "wait_completed"),
        "workflow_completed",
    ]
    assert seen[1].detail == {"params": {"p": 1}}
    assert seen[4].detail["error"] == {"name": "ValueError", "message": "no"}
    assert seen[4].detail["retry_delay_ms"] == 1000
    assert seen[7].detail == {"step_name": "work-1", "output": "[REDACTED]"}
    ids = [one.event_id for one in seen]
    assert ids == sorted(set(ids))
    rest = await instance.subscribe(cursor=seen[6].event_id, filter=["step_completed"])
    assert [one.event_id async for one in rest] == [seen[7].event_id]
    assert await rest.next() is None
    with pytest.raises(ValueError, match="no events of the type"):
        await instance.subscribe(filter=["step_began"])
    with pytest.raises(TypeError):
        await instance.subscribe(cursor="x")  # type: ignore[arg-type]


async def test_the_history_names_the_step_around_a_step(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def lane(name: str) -> Any:
            return await step.do("in/ner", lambda: name)

        async def outer() -> Any:
            return await asyncio.gather(lane("x"), lane("y"))

        return await step.do("a/b: c", outer)

    instance = await workflow(state, run).create("a")
    assert (await instance.wait(PATIENCE)).output == ["x", "y"]
    steps = WorkflowCare(state.database).describe("Program", "a").steps
    told = [(one.name, one.within, one.output) for one in steps]
    assert sorted(told, key=str) == [
        ("a/b: c", None, ["x", "y"]),
        ("in/ner (2)", "a/b: c", "y"),
        ("in/ner", "a/b: c", "x"),
    ]


async def test_subscribe_tells_of_pauses(state: bunflare.State, clock: ManualClock) -> None:
    go = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("held", go.wait)
        await step.sleep("nap", 60)

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    await instance.pause()
    await instance.resume()
    await instance.pause()
    go.set()
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "paused"
    await instance.resume()
    await clock.advance(seconds=1)
    # From now on nothing of it is in memory.
    forget_runs(state)
    await instance.pause()
    await instance.pause()
    await clock.advance(seconds=1)
    await instance.resume()
    await clock.advance(minutes=2)
    following = await instance.subscribe()
    told = [one.type async for one in following]
    assert told == [
        *("workflow_queued", "workflow_started"),
        *("workflow_waiting_for_pause", "workflow_running", "workflow_waiting_for_pause"),
        *("step_started", "attempt_started", "attempt_completed", "step_completed"),
        *("workflow_paused", "workflow_running", "sleep_started", "workflow_waiting"),
        *("workflow_paused", "workflow_running", "workflow_waiting", "workflow_running"),
        *("sleep_completed", "workflow_completed"),
    ]


# -- the end of a state --------------------------------------------------------------------


async def test_what_a_closed_state_was_doing_goes_on_in_the_next(directory: Path) -> None:
    ran: list[str] = []
    held = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        await step.do("a", lambda: ran.append("a"))

        async def hang() -> str:
            ran.append("hang")
            await held.wait()
            return "done"

        return await step.do("hang", hang)

    async with bunflare.open(directory, durability="normal") as state:
        await workflow(state, run).create("a")
        while "hang" not in ran:
            await asyncio.sleep(0)
    held.set()
    async with bunflare.open(directory, durability="normal") as state:
        instance = await workflow(state, run).get("a")
        assert (await instance.wait(PATIENCE)).output == "done"
    assert ran == ["a", "hang", "hang"]


async def test_two_states_of_a_process_share_the_work(directory: Path) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        return await step.do("a", lambda: ran.append(event.instance_id))

    first = bunflare.open(directory, durability="normal")
    one = workflow(first, run)
    await (await one.create("a")).wait(PATIENCE)
    async with bunflare.open(directory, durability="normal") as second:
        other = second.workflow(one._host.made)
        instance = await other.create("b")
        assert (await instance.wait(PATIENCE)).status == "complete"
        await first.close()
        assert (await (await other.create("c")).wait(PATIENCE)).status == "complete"
    assert ran == ["a", "b", "c"]
    async with bunflare.open(directory) as third:
        assert rows(third, "SELECT * FROM bunflare_workflow_owners") == []


# -- adversity -----------------------------------------------------------------------------


async def test_only_so_many_that_sleep_stay_in_memory(
    state: bunflare.State, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.bindings.workflow_engine._MOST_ASLEEP", 3)
    made = workflow(state, three)
    instances = [await made.create(f"i{number}") for number in range(20)]
    await clock.advance(seconds=1)
    assert len(made._host.runs) == 3
    await clock.advance(minutes=2)
    assert [(await one.wait(PATIENCE)).output for one in instances] == [["a", "b", "c"]] * 20
    assert made._host.runs == {}


async def test_what_cannot_be_written_is_gone_on_with_later(
    state: bunflare.State, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, ran, full = log.record_all, [], [True]

    def refuse(tx: Any, entries: Any) -> Any:
        if full[0] and any(entry[4] == "b" for entry in entries):
            raise bunflare.DatabaseFull("the disk is full")
        return record(tx, entries)

    async def run(event: Any, step: Any) -> Any:
        return [await step.do(name, lambda name=name: ran.append(name)) for name in "abc"]

    monkeypatch.setattr(log, "record_all", refuse)
    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=30)
    assert (await instance.status()).status == "running"
    full[0] = False
    await clock.advance(seconds=40)
    assert (await instance.wait(PATIENCE)).status == "complete"
    assert ran == ["a", "b", "b", "c"]


@pytest.mark.parametrize("output", [object(), "x" * 2**21])
async def test_an_output_that_cannot_be_kept_is_an_error(
    state: bunflare.State, output: Any
) -> None:
    async def run(event: Any, step: Any) -> Any:
        return output

    status = await (await workflow(state, run).create("a")).wait(PATIENCE)
    assert status.status == "errored"
    assert status.error is not None
    assert "the output" in status.error.message


async def test_a_durable_object_creates_an_instance_when_its_writes_are_on_disk(
    state: bunflare.State,
) -> None:
    async def run(event: Any, step: Any) -> Any:
        return await step.do("a", lambda: event.payload)

    made = workflow(state, run)

    class Maker(bunflare.DurableObject):
        async def make(self) -> None:
            await self.ctx.storage.put("made", True)
            await self.env.create("a", "from an object")

    await state.durable_objects(Maker, env=made).get_by_name("x").make()
    assert (await (await made.get("a")).wait(PATIENCE)).output == "from an object"


async def test_a_newer_class_takes_over_after_the_step_under_way(
    state: bunflare.State, clock: ManualClock
) -> None:
    going, seen = asyncio.Event(), []

    def version(number: int) -> Any:
        async def run(event: Any, step: Any) -> Any:
            await step.do("hold", going.wait)
            seen.append(number)
            return await step.do("which", lambda: number)

        return run

    instance = await workflow(state, version(1)).create("a")
    await clock.advance(seconds=1)
    workflow(state, version(2))
    going.set()
    await clock.advance(seconds=1)
    assert (await instance.wait(PATIENCE)).output == 2
    assert entries(state, "a") == [
        ("step_completed", "hold", 1),
        ("step_completed", "which", 1),
    ]


async def test_a_long_log_is_followed_through_a_filter(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        for _ in range(600):
            await step.do("many", lambda: None)
        await step.sleep("last", 1)

    instance = await workflow(state, run).create("a")
    await finish(instance, clock)
    following = await instance.subscribe(filter=["sleep_completed"])
    assert [one.type async for one in following] == ["sleep_completed"]
    everything = [one async for one in await instance.subscribe()]
    assert len({one.event_id for one in everything}) == len(everything)
    assert sum(not one.type.startswith("workflow_") for one in everything) == 600 * 4 + 2


async def test_what_runs_and_what_sleeps_is_counted_right(
    state: bunflare.State, clock: ManualClock
) -> None:
    """Steps that begin while others sleep already, at times that are not those of steps."""
    going = asyncio.Event()

    async def run(event: Any, step: Any) -> Any:
        async def later(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await step.sleep(f"nap {turns}", 60)
            await step.do("hold", going.wait)

        await asyncio.gather(step.sleep("first", 30), *[later(turns) for turns in (20, 60, 90)])

    made = workflow(state, run, concurrency=1)
    instance = await made.create("a")
    await clock.advance(seconds=1)
    await eventually(lambda: made._host.free == 1)
    await clock.advance(seconds=1)
    assert made._host.free == 1
    assert (await instance.status()).status == "waiting"
    await clock.advance(seconds=70)
    assert made._host.free == 0
    assert (await instance.status()).status == "running"
    going.set()
    await finish(instance, clock, 60)
    assert made._host.free == 1


async def test_a_termination_with_rollback_is_one_whatever_the_code_makes_of_it(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        try:
            await step.sleep("s", 60)
        except asyncio.CancelledError:
            raise ValueError("stopped") from None

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    await instance.terminate(rollback=True)
    assert (await instance.wait(PATIENCE)).status == "terminated"
