"""Workflows for tests: a function is the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import bunflare
from bunflare.store import workflow_log as log
from bunflare.store import workflows as store

Code = Callable[[Any, Any], Awaitable[Any]]


class Program(bunflare.WorkflowEntrypoint):
    code: ClassVar[Code]

    async def run(self, event: Any, step: Any) -> Any:
        return await type(self).code(event, step)


def workflow(state: bunflare.State, run: Code, **options: Any) -> bunflare.Workflow:
    """The workflow `Program` with that code, also where it had another before."""
    Program.code = staticmethod(run)
    host = state._services.workflows.get("Program")
    if host is not None:
        host.replace(Program, None)
    return state.workflow(Program, **options)


def rows(state: bunflare.State, sql: str) -> list[Any]:
    return state.database.view.all(sql)


def entries(state: bunflare.State, instance: str) -> list[tuple[str, str, int]]:
    """``(kind, name, count)`` of the entries of an instance's log that are of steps."""
    key = store.row_id(state.database.view, "Program", instance)
    assert key is not None
    found = log.entries(state.database.view, key)
    return [(row[1], row[2], row[3]) for row in found if not row[1].startswith("workflow_")]


def forget_runs(state: bunflare.State) -> None:
    """Drop everything from memory that has a row to come back from, as the end of the process does.

    What sleeps or waits does so in its row; what is under way is left alone.
    """
    for run in list(state._services.workflows["Program"].runs.values()):
        if run.row_parked is not None:
            run.drop()


async def finish(
    instance: bunflare.WorkflowInstance, clock: bunflare.ManualClock, seconds: float = 5
) -> bunflare.InstanceStatus:
    """Let time pass until an instance has come to its end."""
    for _ in range(1000):
        status = await instance.status()
        if status.status in store.FINAL:
            return status
        await clock.advance(seconds=seconds)
    raise AssertionError(f"it does not end: {status}")
