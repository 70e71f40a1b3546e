"""Sleeping, and waiting for an event. Both are over at a time that is on disk before they begin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import WorkflowTimeoutError
from ..store import workflow_log as log
from ..values import dumps, loads
from .workflow_scope import use as next_use
from .workflow_types import WorkflowStepEvent

if TYPE_CHECKING:
    from .workflow_run import Run


async def sleep(run: Run, name: str, due: Callable[[int], int]) -> None:
    """A sleep: until ``due(now)``, which is asked once for all runs."""
    use = next_use(run, "sleep", name)
    record = await run.recall(use)
    if record is not None and record.row is not None:
        return
    if run.halted and not run.rolling:
        await run.go_on()
    now = run.clock.now()
    if record is None or record.due is None:
        until = due(now)
        if run.modifiers is not None and run.modifiers.skips_sleep(name, use.count):
            until = now
        await run.record(run.entry("sleep_started", use, None, now, now, until))
    else:
        until = record.due
    await run.until(until, "sleep")
    await run.record(run.entry("sleep_completed", use, None, until, run.clock.now()))
    if run.turns.branched and use.parent is None:
        await run.handed()


async def wait_for_event(run: Run, name: str, type: str, timeout: int) -> WorkflowStepEvent:
    """The oldest event of a type that nobody has had, once there is one."""
    run.steps += 1
    if run.steps > run.host.most_steps:
        run.too_many_steps()
    use = next_use(run, "wait", name)
    record = await run.recall(use)
    if record is not None and record.row is not None:
        row = record.row
        return _event(row[1], type, row[9], row[8], timeout)
    if run.halted and not run.rolling:
        await run.go_on()
    now = run.clock.now()
    begun: tuple[object, ...] | None = None
    late: tuple[object, ...] | None
    if record is None or record.due is None:
        due = now + timeout
        if run.modifiers is not None and run.modifiers.times_out(name, use.count):
            due = now
        about = dumps({"type": type, "timeout": timeout})
        begun = run.entry("wait_started", use, None, now, now, due, None, about)
    else:
        due = record.due
    if run.modifiers is not None:
        for payload in run.modifiers.event(run.instance, type):
            await run.database.submit(log.send, run.id, type, dumps(payload), now)
    while True:
        now = run.clock.now()
        # Of an event's entry the end is missing: when it was sent, and its payload.
        done = run.entry("wait_completed", use, at=now)[:-3]
        late = run.entry("wait_timed_out", use, at=now) if now >= due else None
        heard = run.heard
        kind, text, at = await run.look(log.Awaited(run.id, type, begun, done, late))
        if kind is not None:
            if run.turns.branched and use.parent is None:
                await run.handed()
            return _event(kind, type, text, at, timeout)
        begun = None
        if run.heard == heard:
            # Else an event came while this was on its way to say that there is none.
            await run.until(due, "wait")


def _event(
    kind: str, type: str, text: str | None, at: int | None, timeout: int
) -> WorkflowStepEvent:
    if kind == "wait_timed_out":
        raise WorkflowTimeoutError(f"Execution timed out after {timeout}ms")
    return WorkflowStepEvent(
        None if text is None else loads(text), datetime.fromtimestamp((at or 0) / 1000, UTC), type
    )
