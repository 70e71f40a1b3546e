"""Testing workflows: sleeps that are over at once, results and failures that are made up, and
waiting for what an instance does.

The names are those of the platform's ``introspectWorkflow`` and ``introspectWorkflowInstance``.
https://developers.cloudflare.com/workers/testing/vitest-integration/test-apis/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ..bindings.workflow_care import InstanceHistory, WorkflowCare
from ..bindings.workflow_modifiers import Modifiers
from ..bindings.workflows import Workflow
from ..errors import WorkflowError

_TYPES = ("step", "sleep", "waitForEvent")


def _bare(workflow: Any) -> Workflow:
    """The workflow itself, of what a Worker has in ``env``."""
    found = getattr(workflow, "_binding", workflow)
    if callable(found):
        # What a module took from `env` when it was imported.
        found = getattr(found(), "_binding", None)
    if not isinstance(found, Workflow):
        raise TypeError(f"a workflow is needed, not {type(workflow).__name__}")
    return found


class WorkflowIntrospector:
    """Changes what a workflow's instances meet in this process, or one instance, until it is left.

    To be made before the instances are created, as a context manager. ``name`` is a step's name
    and ``count`` which of its uses is meant; by default all of them.
    """

    def __init__(self, workflow: Any, instance_id: str | None = None) -> None:
        self._workflow = _bare(workflow)
        self._host = self._workflow._host
        self._id = instance_id
        self._modifiers = Modifiers()

    def __enter__(self) -> Self:
        self._host.modify(self._id, self._modifiers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._host.modify(self._id, None)

    # -- what instances meet ---------------------------------------------------------------

    def disable_sleeps(self, *names: str) -> None:
        """Sleeps are over at once: those of these names, or all."""
        known = self._modifiers.sleeps
        self._modifiers.sleeps = _widened(known, names)

    def disable_retry_delays(self, *names: str) -> None:
        """Failed steps are tried again at once: those of these names, or all."""
        self._modifiers.delays = _widened(self._modifiers.delays, names)

    def mock_step_result(self, name: str, result: Any, count: int | None = None) -> None:
        """A step gives this; its callback is not called."""
        self._modifiers.results[name, count] = result

    def mock_step_error(
        self, name: str, error: Exception, times: int | None = None, count: int | None = None
    ) -> None:
        """A step fails with this, always or the first ``times``; its callback is not called."""
        self._modifiers.errors[name, count] = error, times

    def force_step_timeout(
        self, name: str, times: int | None = None, count: int | None = None
    ) -> None:
        """A step has taken too long, always or the first ``times``."""
        self._modifiers.late[name, count] = times

    def mock_event(self, type: str, payload: Any = None) -> None:
        """An event is there for each instance when it first waits for one of this type."""
        self._modifiers.events.append((type, payload))

    def force_event_timeout(self, name: str, count: int | None = None) -> None:
        """The waiting for an event is over at once if there is none."""
        self._modifiers.no_events.add((name, count))

    # -- waiting for what an instance does -------------------------------------------------

    @property
    def instance_id(self) -> str:
        if self._id is None:
            raise WorkflowError("which instance? Name it: WorkflowIntrospector(workflow, id)")
        return self._id

    def history(self) -> InstanceHistory:
        """What the instance has done so far. Raises `WorkflowError` if it does not exist."""
        return WorkflowCare(self._host.database).describe(self._workflow.name, self.instance_id)

    async def wait_for_step_result(self, name: str, count: int = 1, timeout: float = 10) -> Any:
        """What a step gave, or a wait for an event, once it has; ``timeout`` is in seconds.

        Raises `WorkflowError` if it failed.
        """
        shown = name if count == 1 else f"{name} ({count})"

        def done() -> bool:
            return self._step(shown) is not None

        await self._until(done, timeout)
        step = self._step(shown)
        assert step is not None
        if not step.success:
            error = step.attempts[-1].error if step.attempts else None
            raise WorkflowError(f'the step "{shown}" failed: {error}')
        return step.output

    def _step(self, shown: str) -> Any:
        try:
            steps = self.history().steps
        except WorkflowError:
            return None
        found = [one for one in steps if one.name == shown and one.type in _TYPES]
        return found[0] if found and found[0].end is not None else None

    async def wait_for_status(self, status: str, timeout: float = 10) -> None:
        """Return once the instance has a status; ``timeout`` is in seconds."""

        def reached() -> bool:
            try:
                return self.history().status == status
            except WorkflowError:
                return False

        await self._until(reached, timeout)

    async def get_output(self) -> Any:
        """What the instance gave, when it is complete."""
        await self.wait_for_status("complete")
        return self.history().output

    async def get_error(self) -> Any:
        """Name and message of the error with which the instance ended."""
        await self.wait_for_status("errored")
        return self.history().error

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._host.database.watch.wait(condition)


def _widened(known: Any, names: tuple[str, ...]) -> Any:
    if known is None or not names:
        return None
    return known | {(name, None) for name in names}
