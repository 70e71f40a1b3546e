"""Undoing what an instance did: the handlers of its steps, those of the last one first.

Handlers are functions, which no disk can keep. If the process ends in the middle, the code is run
again from its log, names them once more, and what was undone by then is not undone again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowError
from ..store import workflow_log as log
from ..store import workflows as store
from .workflow_do import Rollback, attempts, context_of
from .workflow_errors import revive, text_of
from .workflow_types import WorkflowRollbackContext

if TYPE_CHECKING:
    from .workflow_run import Run

_log = logging.getLogger("bunflare")

UNDO = ("rollback_step_completed", "rollback_attempt_errored", "rollback_step_errored")


async def roll_back(run: Run, error: Exception | None) -> None:
    """Undo, the last step first, and end."""
    assert run.task is not None
    for task in list(run.tasks):
        if task is not run.task:
            task.cancel()
    now = run.clock.now()
    ending = run.ending or "errored"
    if run.why is None:
        why = error or WorkflowError("the instance was terminated")
        run.why = text_of(why)
        entry = run.entry("rollback_started", at=now, value=run.why)
        await run.write(_begin_rollback, (run.id, run.number, ending, now), entry)
    why = revive(run.why, run.host.names)
    run.rolling = True
    run.blocked = run.halted = run.pausing = run.outdated = False
    run.replay = None
    failed = False
    for undo in reversed(run.rollbacks):
        use = undo.use.rollback()
        record = run.undone.get(use.path)
        if record is not None and record.row is not None:
            failed = failed or record.row[1] == "rollback_step_errored"
            continue
        told = _told(undo, why)
        try:
            await attempts(
                *(run, use, undo.config, undo.handler, record, UNDO),
                context=lambda _, told=told: told,  # type: ignore[misc]
            )
        except Exception as wrong:
            _log.error('rolling back "%s" failed: %s', use.name, wrong)
            failed = True
    kind = "rollback_errored" if failed else "rollback_completed"
    await run.record(run.entry(kind, at=run.clock.now()))
    await run.end(ending, error=why if ending == "errored" else None)


def _begin_rollback(tx: Any, ends: tuple[Any, ...], entry: tuple[object, ...]) -> bool:
    return store.begin_rollback(tx, *ends) and log.record(tx, entry)


def _told(undo: Rollback, why: Exception) -> WorkflowRollbackContext:
    return WorkflowRollbackContext(
        context_of(undo.use, undo.attempt, undo.step),
        why,
        undo.output,
        f"{undo.use.name}-{undo.use.count}",
    )
