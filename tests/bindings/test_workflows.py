"""Instances of workflows: what can be created, asked and done with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    ManualClock,
    WorkflowEntrypoint,
    WorkflowError,
    WorkflowInstance,
    WorkflowTypeError,
    WorkflowValueError,
)
from tests.bindings.workflow_tools import Program, entries, rows, workflow
from tests.support import PATIENCE


class Greeter(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        name = await step.do("name", lambda: event.payload["name"])
        return f"{self.env or 'Hello'} {name}"


class Sleeper(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        await step.sleep("long", "1 day")
        return event.payload


class Other(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        return event.workflow_name


async def test_an_instance_runs_to_its_end_and_tells_its_output(state: bunflare.State) -> None:
    instance = await state.workflow(Greeter).create(params={"name": "world"})
    assert await instance.wait(PATIENCE) == bunflare.InstanceStatus("complete", "Hello world")
    assert (
        await (await state.workflow(Greeter).get(instance.id)).status() == await instance.status()
    )


async def test_the_class_is_given_env_and_the_workflow_a_name(state: bunflare.State) -> None:
    greet = state.workflow(Greeter, "greet", env="Ciao")
    assert (await (await greet.create(params={"name": "x"})).wait(PATIENCE)).output == "Ciao x"
    assert rows(state, "SELECT workflow_name, class_name FROM workflow_instances") == [
        ("greet", "Greeter")
    ]


async def test_the_event_has_what_the_platform_says(state: bunflare.State) -> None:
    seen: list[Any] = []

    async def run(event: Any, step: Any) -> None:
        seen.append(event)

    await (await workflow(state, run).create("a-1", {"x": [1]})).wait(PATIENCE)
    (event,) = seen
    assert (event.instance_id, event.workflow_name, event.payload) == ("a-1", "Program", {"x": [1]})
    assert event.timestamp.timestamp() * 1000 == state.clock.now()
    assert event.schedule is None


async def test_an_id_is_unique_within_its_workflow_only(state: bunflare.State) -> None:
    greeter, other = state.workflow(Greeter), state.workflow(Other)
    await greeter.create("same", {"name": "x"})
    with pytest.raises(WorkflowError, match="already exists") as error:
        await greeter.create("same", {"name": "y"})
    assert error.value.code == "instance.already_exists"
    second = await other.create("same")
    with pytest.raises(WorkflowError, match="already exists"):
        await other.create("same")
    assert (await second.wait(PATIENCE)).output == "Other"
    assert (await (await greeter.get("same")).wait(PATIENCE)).output == "Hello x"
    # The one that was there first has the plain key; when it is gone, the other is still found.
    await (await greeter.get("same")).delete()
    with pytest.raises(WorkflowError, match="already exists"):
        await other.create("same")
    assert (await (await other.get("same")).status()).output == "Other"
    with pytest.raises(WorkflowError, match="instance.not_found"):
        await greeter.get("same")


@pytest.mark.parametrize("id", ["", "-a", "a b", "a/b", "ü", "x" * 101, "a\n"])
async def test_an_id_that_the_platform_refuses_is_refused(state: bunflare.State, id: str) -> None:
    with pytest.raises(WorkflowValueError, match="invalid id"):
        await state.workflow(Other).create(id)
    assert rows(state, "SELECT 1 FROM workflow_instances") == []


async def test_wrong_arguments_are_refused_before_anything_is_written(
    state: bunflare.State,
) -> None:
    other = state.workflow(Other)
    with pytest.raises(WorkflowTypeError):
        await other.create(5)  # type: ignore[arg-type]
    with pytest.raises(WorkflowTypeError, match="params"):
        await other.create(params=object())
    with pytest.raises(WorkflowValueError, match="1 MiB"):
        await other.create(params="ü" * 600_000)
    with pytest.raises(WorkflowTypeError, match="retention"):
        await other.create(retention="1 day")  # type: ignore[arg-type]
    with pytest.raises(WorkflowValueError, match="no 'sucess'"):
        await other.create(retention={"sucess": 1})
    with pytest.raises(WorkflowValueError, match="5m"):
        await other.create(retention={"success_retention": "5m"})
    with pytest.raises(WorkflowTypeError, match="method run"):
        state.workflow(object)
    with pytest.raises(WorkflowValueError, match="cannot name"):
        state.workflow(Other, "a name")
    with pytest.raises(bunflare.StateError, match="another class"):
        state.workflow(Greeter, "Other")
    assert rows(state, "SELECT 1 FROM workflow_instances") == []


async def test_a_batch_leaves_out_the_ids_that_are_taken(state: bunflare.State) -> None:
    other = state.workflow(Other)
    await other.create("b")
    created = await other.create_batch([{"id": "a"}, {"id": "b"}, {"params": 1}, {"id": "a"}])
    assert [one.id for one in created][:1] == ["a"]
    assert len(created) == 2
    result = await other.create_batch({"instances": [{"id": "c"}, {"id": "b"}]})
    assert [one.id for one in result.created] == ["c"]
    (refused,) = result.errors
    assert (refused.index, refused.id, refused.code) == (1, "b", 409)
    assert "already exists" in refused.message
    counted = await other.create_batch({"count": 3, "params": {"n": 1}})
    assert len({one.id for one in counted.created}) == 3
    for wrong, kind in [
        ([], ValueError),
        ([{}] * 101, ValueError),
        ("abc", TypeError),
        ([1], TypeError),
        ([{"x": 1}], TypeError),
        ({"count": "3"}, TypeError),
        ({"count": 101}, ValueError),
        ({"count": 0}, ValueError),
        ({"instances": [{}], "params": 1}, TypeError),
    ]:
        with pytest.raises(kind):
            await other.create_batch(wrong)


async def test_delete_removes_everything_and_a_new_instance_of_that_id_begins_anew(
    state: bunflare.State,
) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        await step.do("once", lambda: ran.append("once"))
        return (await step.wait_for_event("wait", "go")).payload

    made = workflow(state, run)
    instance = await made.create("a")
    await instance.send_event("go", 1)
    await instance.send_event("go", 2)
    assert (await instance.wait(PATIENCE)).output == 1
    await instance.delete()
    for table in ("log", "events", "chunks"):
        assert rows(state, f"SELECT * FROM bunflare_workflow_{table}") == []
    with pytest.raises(WorkflowError, match="instance.not_found"):
        await instance.status()
    with pytest.raises(WorkflowError, match="instance.not_found"):
        await instance.delete()
    again = await made.create("a")
    await again.send_event("go", 3)
    assert (await again.wait(PATIENCE)).output == 3
    assert ran == ["once", "once"]


async def test_delete_batch_tells_what_was_not_there(state: bunflare.State) -> None:
    other = state.workflow(Other)
    await other.create_batch([{"id": "a"}, {"id": "b"}])
    result = await other.delete_batch(["a", "x", "a"])
    assert [one.id for one in result.deleted] == ["a", "a"]
    assert [(one.id, one.code) for one in result.errors] == [("x", 404)]
    with pytest.raises(WorkflowValueError):
        await other.delete_batch(["a"] * 101)
    with pytest.raises(WorkflowTypeError):
        await other.delete_batch("abc")


async def test_delete_all_ends_everything_that_a_workflow_has(
    state: bunflare.State, clock: ManualClock
) -> None:
    ended: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        await step.do("one", lambda: 1)
        try:
            await step.do("two", asyncio.Event().wait)
        finally:
            ended.append(event.instance_id)

    class Other(bunflare.WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            await step.sleep("nap", 60)
            return "slept"

    made = workflow(state, run)
    for _ in range(3):
        await made.create_batch({"count": 50})
    other = await state.workflow(Other).create("other")
    await clock.advance(seconds=1)
    assert await made.delete_all() == 150
    await clock.advance(seconds=1)
    assert len(ended) == 150
    assert made._host.runs == {}
    assert rows(state, "SELECT DISTINCT instance FROM bunflare_workflow_log") == [("other",)]
    assert await made.delete_all() == 0
    await clock.advance(minutes=2)
    assert (await other.wait(PATIENCE)).output == "slept"


async def test_an_instance_that_is_deleted_while_it_runs_writes_nothing_more(
    state: bunflare.State,
) -> None:
    going, begun = asyncio.Event(), asyncio.Event()

    async def run(event: Any, step: Any) -> None:
        async def wait() -> None:
            begun.set()
            await going.wait()

        await step.do("wait", wait)

    instance = await workflow(state, run).create("a")
    await begun.wait()
    await instance.delete()
    again = await workflow(state, run).create("a")
    going.set()
    assert (await again.wait(PATIENCE)).status == "complete"
    assert [kind for kind, *_ in entries(state, "a")] == ["step_completed"]


async def test_a_finished_instance_goes_when_its_retention_is_over(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.do("a", lambda: 1)
        if event.payload:
            raise bunflare.NonRetryableError("no")

    made = workflow(state, run)
    kept = {"success_retention": "1 hour", "error_retention": 2 * 3600}
    good = await made.create("good", retention=kept)
    bad = await made.create("bad", 1, retention=kept)
    usual = await made.create("usual")
    for one in (good, bad, usual):
        await one.wait(PATIENCE)
    await clock.advance(minutes=61)
    with pytest.raises(WorkflowError, match="not_found"):
        await good.status()
    assert (await bad.status()).status == "errored"
    await clock.advance(minutes=60)
    with pytest.raises(WorkflowError, match="not_found"):
        await bad.status()
    assert (await usual.status()).status == "complete"
    await clock.advance(days=30)
    assert rows(state, "SELECT * FROM bunflare_workflow_log") == []
    assert rows(state, "SELECT * FROM workflow_instances") == []


async def test_wait_ends_in_time(state: bunflare.State) -> None:
    instance = await state.workflow(Sleeper).create()
    with pytest.raises(TimeoutError):
        await instance.wait(0.01)


async def test_instances_and_events_of_a_transaction_come_with_its_commit(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        return (await step.wait_for_event("wait", "go")).payload

    made = workflow(state, run)
    with pytest.raises(ZeroDivisionError):
        async with state.transaction() as tx:
            await tx.workflow(Program).create("never")
            raise ZeroDivisionError
    async with state.transaction() as tx:
        instance = await tx.workflow(Program).create("a")
        await instance.send_event("go", "in the same commit")
        await tx.kv("K").put("order", "a")
        assert (await instance.status()).status == "queued"
    assert (await (await made.get("a")).wait(PATIENCE)).output == "in the same commit"
    with pytest.raises(WorkflowError, match="not_found"):
        await made.get("never")


async def test_at_most_so_many_run_at_once_and_the_others_in_their_order(
    state: bunflare.State, clock: ManualClock
) -> None:
    order: list[str] = []
    going = asyncio.Event()

    async def run(event: Any, step: Any) -> None:
        async def work() -> None:
            order.append(event.instance_id)
            await going.wait()

        await step.do("work", work)

    made = workflow(state, run, concurrency=2)
    instances: list[WorkflowInstance] = []
    for number in range(6):
        instances.append(await made.create(f"i{number}"))
        await clock.advance(milliseconds=1)
    found = [(await one.status()).status for one in instances]
    assert found == ["running"] * 2 + ["queued"] * 4
    assert order == ["i0", "i1"]
    going.set()
    for one in instances:
        assert (await one.wait(PATIENCE)).status == "complete"
    assert order == [f"i{number}" for number in range(6)]


async def test_those_that_sleep_leave_room_for_others(
    state: bunflare.State, clock: ManualClock
) -> None:
    made = state.workflow(Sleeper, concurrency=1)
    instances = [await made.create(f"s{number}", number) for number in range(5)]
    await clock.advance(seconds=1)
    assert {(await one.status()).status for one in instances} == {"waiting"}
    await clock.advance(days=1)
    assert [(await one.wait(PATIENCE)).output for one in instances] == list(range(5))


async def test_rows_of_the_seeds_own_program_are_found_and_gone_on_with(directory: Path) -> None:
    import sqlite3

    seed = (Path(__file__).parents[1] / "store" / "seed.sql").read_text()
    directory.mkdir()
    with sqlite3.connect(directory / "data.sqlite") as connection:
        connection.executescript(seed)
        connection.execute(
            "INSERT INTO workflow_instances VALUES ('old', 'Greeter', 'Greeter', "
            "'{\"name\": \"seed\"}', 'running', NULL, NULL, 5, 5), ('done', 'Greeter', 'Greeter', "
            "NULL, 'complete', '[1]', NULL, 5, 5), ('failed', 'Greeter', 'Greeter', NULL, "
            "'errored', NULL, 'it broke', 5, 5)"
        )
    connection.close()
    async with bunflare.open(directory, durability="normal") as state:
        greeter = state.workflow(Greeter)
        assert (await (await greeter.get("done")).status()).output == [1]
        failed = await (await greeter.get("failed")).status()
        assert failed.error == bunflare.bindings.workflow_types.WorkflowInstanceError(
            "Error", "it broke"
        )
        assert (await (await greeter.get("old")).wait(PATIENCE)).output == "Hello seed"
