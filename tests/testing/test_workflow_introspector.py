"""Testing aids of workflows."""

from __future__ import annotations

from typing import Any

import pytest

import bunflare
from bunflare.testing import WorkflowIntrospector
from tests.bindings.workflow_tools import workflow
from tests.support import PATIENCE


async def order(event: Any, step: Any) -> Any:
    async def pay(ctx: Any) -> str:
        raise RuntimeError("no bank in tests")

    paid = await step.do("pay", pay, retries={"limit": 3, "delay": "1 hour"})
    await step.sleep("a week", "1 week")
    try:
        approved = (await step.wait_for_event("approval", "approve")).payload
    except TimeoutError as error:
        approved = str(error)
    return [paid, approved, await step.do("ship", lambda: "shipped")]


async def test_sleeps_results_and_events_are_made_up(state: bunflare.State) -> None:
    orders = workflow(state, order)
    with WorkflowIntrospector(orders, "a") as test:
        test.disable_sleeps()
        test.mock_step_result("pay", {"receipt": 1})
        test.mock_event("approve", "yes")
        await orders.create("a")
        assert await test.wait_for_step_result("ship") == "shipped"
        await test.wait_for_status("complete")
        assert await test.get_output() == [{"receipt": 1}, "yes", "shipped"]


async def test_failures_and_timeouts_are_made_up(state: bunflare.State) -> None:
    orders = workflow(state, order)
    with WorkflowIntrospector(orders) as all_of_them:
        all_of_them.disable_sleeps("a week")
        all_of_them.disable_retry_delays()
        all_of_them.mock_step_error("pay", ValueError("once"), times=1)
        all_of_them.force_step_timeout("pay", times=1)
        all_of_them.mock_step_result("pay", "third time")
        all_of_them.force_event_timeout("approval")
        instance = await orders.create("a")
        status = await instance.wait(PATIENCE)
        assert status.output[0] == "third time"
        assert status.output[1] == "Execution timed out after 86400000ms"
        test = WorkflowIntrospector(orders, "a")
        errors = [one.error for one in test.history().steps[0].attempts]
        assert [one and one.name for one in errors] == ["ValueError", "WorkflowTimeoutError", None]


async def test_what_a_test_has_changed_ends_with_it(state: bunflare.State) -> None:
    orders = workflow(state, order)
    with WorkflowIntrospector(orders, "b") as test:
        test.mock_step_error("pay", bunflare.NonRetryableError("never"))
        await orders.create("b")
        assert (await test.get_error()).message == "never"
        with pytest.raises(bunflare.WorkflowError, match="failed"):
            await test.wait_for_step_result("pay")
    assert orders._host.modifiers == {}
    with pytest.raises(TypeError):
        WorkflowIntrospector(object())
    with pytest.raises(bunflare.WorkflowError, match="which instance"):
        WorkflowIntrospector(orders).history()
