"""Workflows as a Worker sees them: the binding in ``env``, and what ``run`` is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..bindings.workflow_events import WorkflowInstanceSubscription
from ..bindings.workflow_options import MOST_STEPS_EVER
from ..bindings.workflow_steps import WorkflowStep
from ..bindings.workflow_types import WorkflowEvent, WorkflowInstanceEvent, WorkflowStepEvent
from ..bindings.workflows import Workflow, WorkflowEntrypoint, WorkflowInstance
from ..errors import WorkerError
from ..timer import Chore
from ..web.objects import JsDict
from .context import Background, ExecutionContext
from .cron import Cron
from .facade import BindingFacade, Edge, camel

if TYPE_CHECKING:
    from ..clock import Clock
    from ..config import Config, WorkflowConfig
    from ..state import State
    from .env import Env

_EDGE = Edge(
    options_at={"create": 0, "terminate": 0, "restart": 0, "subscribe": 0, "send_event": 0},
    undefined={WorkflowEvent: frozenset({"schedule"})},
)


class WorkflowFacade(BindingFacade):
    """``env.ORDERS``, and its instances."""

    def _result(self, value: Any) -> Any:
        if isinstance(value, WorkflowInstance):
            return _InstanceFacade(value, self._edge)
        return super()._result(value)


class _InstanceFacade(WorkflowFacade):
    """One instance."""

    def restart(self, options: Any = None, **given: Any) -> Awaitable[Any]:
        instance: Any = self._binding
        named = {**(options or {}), **given}
        return self._awaited(instance.restart(named.get("from", named.get("from_"))))

    async def subscribe(self, options: Any = None, **given: Any) -> _Subscription:
        instance: Any = self._binding
        return _Subscription(await instance.subscribe(**{**(options or {}), **given}))


class _Subscription:
    """``next()`` as an iterator of JavaScript's has it, and ``async for``."""

    def __init__(self, subscription: WorkflowInstanceSubscription) -> None:
        self._subscription = subscription
        self.close = subscription.close

    async def next(self) -> JsDict:
        event = await self._subscription.next()
        return JsDict(done=event is None, value=None if event is None else _flat(event))

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> JsDict:
        return _flat(await self._subscription.__anext__())


def _flat(event: WorkflowInstanceEvent) -> JsDict:
    detail = {camel(name): shown(value) for name, value in event.detail.items()}
    return JsDict(
        type=event.type,
        instanceId=event.instance_id,
        eventId=event.event_id,
        timestamp=event.timestamp,
        **detail,
    )


def shown(value: Any) -> Any:
    """A plain value as the SDK shows it to a Worker."""
    return _values._result(value)


_values = BindingFacade(None, _EDGE)


class StepFacade:
    """``step``, in both spellings."""

    def __init__(self, step: WorkflowStep) -> None:
        self._step = step
        self.do = step.do
        self.sleep = step.sleep

    def sleep_until(self, name: str, timestamp: Any) -> Awaitable[None]:
        return self._step.sleep_until(name, timestamp)

    async def wait_for_event(
        self, name: str, event_type: Any = None, /, timeout: Any = None, **options: Any
    ) -> Any:
        kind = options.get("type", options.get("event_type", event_type))
        event: WorkflowStepEvent = await self._step.wait_for_event(name, kind, timeout)
        return shown(event)

    sleepUntil = sleep_until
    waitForEvent = wait_for_event


class WorkflowMaker:
    """Makes a Worker's workflows with the context that Workers expect."""

    #: Numbers are milliseconds, as in the platform's types.
    unit = 1

    def __init__(self, made: type, background: Background) -> None:
        self.made = made
        self.shown: Callable[[Any], Any] = shown
        self._background = background

    def __call__(self, env: Any) -> _Running:
        return _Running(self.made(ExecutionContext(self._background), env))

    def run(self, event: Any, step: Any) -> None:
        """Its instances have one."""


class _Running:
    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def run(self, event: WorkflowEvent, step: WorkflowStep) -> Any:
        return self._instance.run(shown(event), StepFacade(step))


@dataclass(frozen=True, slots=True)
class Definition:
    """What a Worker says of a workflow of its own."""

    maker: WorkflowMaker
    crons: dict[str, Cron]
    max_steps: int | None


def workflow_classes(
    config: Config, module: ModuleType, background: Background
) -> dict[str, Definition]:
    """The Worker's own workflows by their names. Raises where a class is missing."""
    found: dict[str, Definition] = {}
    for one in config.workflows:
        crons, steps = _crons(one), _steps(one)
        if one.script_name not in (None, config.name):
            continue
        made = getattr(module, one.class_name, None)
        if not (isinstance(made, type) and issubclass(made, WorkflowEntrypoint)):
            raise WorkerError(
                f"{config.main} has no class {one.class_name}(WorkflowEntrypoint), which the "
                f'workflow "{one.binding}" names'
            )
        found[one.name] = Definition(WorkflowMaker(made, background), crons, steps)
    return found


def bind_workflows(
    config: Config, state: State, env: Env, definitions: Mapping[str, Definition]
) -> list[Chore]:
    """Put the workflows of the configuration into ``env``; what is to be done in time for them."""
    chores: list[Chore] = []
    for one in config.workflows:
        defined = definitions.get(one.name)
        if defined is None:
            # Another Worker's, which may be in this process too.
            workflow = state.workflow(one.name)
        else:
            workflow = state.workflow(
                defined.maker, one.name, env, max_steps=defined.max_steps, replace=True
            )
            if defined.crons:
                chores.append(_Schedule(workflow, defined.crons, state.clock).chore)
        env.add(one.binding, WorkflowFacade(workflow, _EDGE))
    return chores


def _crons(config: WorkflowConfig) -> dict[str, Cron]:
    given = config.schedules
    if given is None:
        return {}
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise WorkerError(f'workflow "{config.name}": schedules are cron expressions')
    return {text: Cron(text) for text in texts}


def _steps(config: WorkflowConfig) -> int | None:
    steps = config.limits.get("steps") if isinstance(config.limits, Mapping) else None
    if steps is None:
        return None
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS_EVER:
        raise WorkerError(
            f'workflow "{config.name}": limits.steps is a number from 1 to {MOST_STEPS_EVER}'
        )
    return steps


class _Schedule:
    """Creates instances when cron expressions are due."""

    def __init__(self, workflow: Workflow, crons: dict[str, Cron], clock: Clock) -> None:
        self._workflow = workflow
        self._crons = crons
        self._looked = clock.now()
        self.chore = Chore(f"the schedules of the workflow {workflow.name}", self._due, self._act)

    def _due(self) -> float | None:
        times = [cron.next_after(self._looked) for cron in self._crons.values()]
        return min((time for time in times if time is not None), default=None)

    async def _act(self, now: int) -> None:
        looked, self._looked = self._looked, now
        for text, cron in self._crons.items():
            # What fell due while the process could not look happens once.
            time = cron.next_after(looked)
            if time is not None and time <= now:
                await self._workflow.create_scheduled(text, time)
