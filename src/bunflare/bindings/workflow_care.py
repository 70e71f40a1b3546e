"""Looking at workflows from outside: what there is, and what an instance has done, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowError
from ..store import workflow_log as log
from ..store import workflows as store
from ..values import loads
from .workflow_events import error_detail, shown_output
from .workflow_replay import kind_of, name_of
from .workflow_types import WorkflowInstanceError

if TYPE_CHECKING:
    from ..store.connection import Row
    from ..store.database import Database

_TYPES = {"do": "step", "sleep": "sleep", "wait": "waitForEvent", "rollback": "rollback"}


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """One workflow that has instances.

    Times are epoch milliseconds, here and below; None is what another program has spoilt.
    """

    name: str
    class_name: str
    instances: int
    created_at: float | None
    updated_at: float | None


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    id: str
    status: str
    created_at: float | None
    updated_at: float | None


@dataclass(slots=True)
class AttemptInfo:
    start: float | None
    end: float | None
    error: WorkflowInstanceError | None = None


@dataclass(slots=True)
class StepInfo:
    """A step, a sleep, a wait or a rollback, as far as it has come."""

    name: str
    type: str
    start: float | None
    #: None while it goes on, too.
    end: float | None = None
    #: None while it goes on.
    success: bool | None = None
    output: Any = None
    #: The step within whose callback it is.
    within: str | None = None
    #: Until when it sleeps, or waits for an event, or for its next attempt.
    until: float | None = None
    attempts: list[AttemptInfo] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InstanceHistory:
    """An instance with all that its log tells."""

    id: str
    status: str
    params: Any
    output: Any
    error: WorkflowInstanceError | None
    created_at: float | None
    updated_at: float | None
    steps: list[StepInfo]
    #: Types of the events that were sent and not taken yet.
    events: list[str]


class WorkflowCare:
    """The workflows of a directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def workflows(self) -> list[WorkflowInfo]:
        return [WorkflowInfo(*row) for row in store.workflows(self._database.view)]

    def counts(self, workflow: str) -> dict[str, int]:
        """How many instances there are in each status."""
        return store.counts(self._database.view, workflow)

    def instances(
        self,
        workflow: str,
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
        oldest_first: bool = False,
    ) -> list[InstanceInfo]:
        """Instances, the newest first."""
        rows = store.instances(self._database.view, workflow, status, limit, offset, oldest_first)
        return [InstanceInfo(store.public_id(workflow, row[0]), *row[1:]) for row in rows]

    def latest(self, workflow: str) -> str:
        """The id of the newest instance."""
        found = self.instances(workflow, limit=1)
        if not found:
            raise WorkflowError(f'the workflow "{workflow}" has no instances')
        return found[0].id

    def describe(self, workflow: str, instance: str) -> InstanceHistory:
        """All that is known of an instance. Raises `WorkflowError` if there is none."""
        view = self._database.view
        key = store.row_id(view, workflow, instance)
        row = None if key is None else store.get(view, workflow, key)
        if key is None or row is None:
            raise WorkflowError(
                f'the workflow "{workflow}" has no instance "{instance}"', "instance.not_found"
            )
        _, params, status, output, message, name, created, updated, *_ = row
        error = None if message is None else WorkflowInstanceError(name or "Error", message)
        return InstanceHistory(
            instance,
            status,
            None if params is None else loads(params),
            None if output is None else loads(output),
            error,
            created or None,
            updated or None,
            _steps(log.entries(view, key)),
            [one[1] for one in log.buffered(view, key)],
        )


def _steps(rows: list[Row]) -> list[StepInfo]:
    steps: dict[tuple[str, str, int, str | None], StepInfo] = {}
    for row in rows:
        _, entry, name, count, parent, _, started, at, due, value, about, _ = row
        kind = kind_of(entry)
        if kind is None:
            continue
        key = (kind, name, count, parent)
        step = steps.get(key)
        if step is None:
            shown = name if count == 1 else f"{name} ({count})"
            within = None if parent is None else name_of(parent)
            start = at if started is None else started
            step = steps[key] = StepInfo(shown, _TYPES[kind], start, within=within)
        if kind in ("do", "rollback"):
            error = None
            if not entry.endswith("step_completed"):
                error = WorkflowInstanceError(**error_detail(value))
            step.attempts.append(AttemptInfo(started, at, error))
        if entry.endswith(("_started", "attempt_errored")):
            step.until = due
            continue
        step.end, step.until = at, None
        step.success = entry.endswith("_completed")
        if entry == "step_completed":
            step.output = shown_output(value, about)
        elif entry == "wait_completed":
            step.output = None if value is None else loads(value)
    # Of one that began at no time, what began before it is known from the log.
    began = -inf
    placed: list[tuple[float, StepInfo]] = []
    for step in steps.values():
        began = began if step.start is None else step.start
        placed.append((began, step))
    return [step for _, step in sorted(placed, key=lambda one: one[0])]
