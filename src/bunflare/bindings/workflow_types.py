"""What workflows are told and what they tell: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..values import loads

if TYPE_CHECKING:
    from .workflows import WorkflowInstance


@dataclass(frozen=True, slots=True)
class WorkflowCronSchedule:
    """Which cron expression created an instance, and for when (epoch milliseconds)."""

    cron: str
    scheduled_time: int


@dataclass(frozen=True, slots=True)
class WorkflowEvent:
    """What ``run`` is given: the parameters of the instance, and when it was created."""

    payload: Any
    timestamp: datetime
    instance_id: str
    workflow_name: str
    schedule: WorkflowCronSchedule | None = None


@dataclass(frozen=True, slots=True)
class WorkflowStepEvent:
    """What ``step.wait_for_event`` gives."""

    payload: Any
    timestamp: datetime
    type: str


@dataclass(frozen=True, slots=True)
class WorkflowStepInfo:
    name: str
    #: How often the name had been used, this time included.
    count: int


@dataclass(frozen=True, slots=True)
class WorkflowStepContext:
    """What a step's callback is told."""

    step: WorkflowStepInfo
    #: 1 for the first attempt.
    attempt: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowRollbackContext:
    """What a rollback handler is told."""

    ctx: WorkflowStepContext
    #: Why the instance is rolled back.
    error: BaseException
    #: What the step gave; None if it has failed.
    output: Any
    step_name: str


@dataclass(frozen=True, slots=True)
class WorkflowInstanceError:
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """Where an instance stands.

    ``status`` is queued, running, paused, errored, terminated, complete, waiting, waitingForPause,
    rollingBack or unknown.
    """

    status: str
    output: Any = None
    error: WorkflowInstanceError | None = None


#: The end of an instance as it is stored: status, output, the error's message and name.
End = tuple[str, str | None, str | None, str | None]


def status_of(
    status: str, output: str | None, message: str | None, name: str | None
) -> InstanceStatus:
    """A status from what is stored of it."""
    if status == "complete":
        return InstanceStatus(status, None if output is None else loads(output))
    if status == "errored":
        return InstanceStatus(status, None, WorkflowInstanceError(name or "Error", message or ""))
    return InstanceStatus(status)


@dataclass(frozen=True, slots=True)
class WorkflowBatchError:
    """One instance of a batch that was refused. ``code`` is an HTTP status."""

    code: int
    message: str
    id: str | None = None
    #: Its place in the batch; None where ids tell.
    index: int | None = None


@dataclass(frozen=True, slots=True)
class WorkflowBatchCreateResult:
    created: list[WorkflowInstance]
    errors: list[WorkflowBatchError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WorkflowDeleted:
    id: str


@dataclass(frozen=True, slots=True)
class WorkflowBatchDeleteResult:
    deleted: list[WorkflowDeleted]
    errors: list[WorkflowBatchError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WorkflowInstanceEvent:
    """One thing that has happened to an instance, as `WorkflowInstance.subscribe` tells it.

    ``type`` is the platform's (``step_completed``, ``workflow_errored``, …); ``detail`` has what it
    tells beside: step_name, attempt, output, error, config, duration_ms, event_type, params.
    """

    type: str
    instance_id: str
    event_id: int
    #: Epoch milliseconds.
    timestamp: int
    detail: Mapping[str, Any]
