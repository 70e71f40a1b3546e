"""``step``: what a workflow's code is given to do its work with.

https://developers.cloudflare.com/workflows/build/workers-api/#workflowstep and, for the decorator,
https://developers.cloudflare.com/workflows/python/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from inspect import Parameter, isawaitable, signature
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowTypeError, WorkflowValueError
from .workflow_do import do
from .workflow_options import (
    DAY_MS,
    LONGEST_WAIT_MS,
    USUAL,
    Duration,
    StepConfig,
    check_step_name,
    check_type,
    moment_ms,
    step_config,
    wait_ms,
)
from .workflow_waits import sleep, wait_for_event

if TYPE_CHECKING:
    from .workflow_run import Run
    from .workflow_types import WorkflowStepEvent

Callback = Callable[..., Any]
#: What a decorated step is: awaiting its call runs it.
Decorated = Callable[[], Coroutine[Any, Any, Any]]


class WorkflowStep:
    """The steps of one run.

    ``await step.do("name", callback)`` runs a callback once, whatever happens, and gives its
    result; the callback takes nothing or the step's context. Durations are seconds, a timedelta or
    words like "5 minutes".
    """

    def __init__(self, run: Run, unit: float = 1000) -> None:
        self._run = run
        self._unit = unit
        self._decorated: dict[str, _Decorated] = {}

    def do(
        self,
        name: str | None = None,
        callback: Callback | Mapping[str, Any] | Sequence[Any] | None = None,
        *rest: Any,
        config: Mapping[str, Any] | None = None,
        retries: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        sensitive: str | None = None,
        rollback: Callback | None = None,
        rollback_config: Mapping[str, Any] | None = None,
        depends: Sequence[Any] | None = None,
        concurrent: bool = False,
    ) -> Any:
        """Run a step, or, without a callback, decorate the function that is one.

        ``retries`` is a dict with ``limit`` (5), ``delay`` ("10 seconds", or a function of the
        context and the error) and ``backoff`` ("exponential", "linear" or "constant");
        ``timeout`` ("10 minutes") is for each attempt; ``sensitive="output"`` has the result
        masked where it is shown. ``rollback`` is called with a `WorkflowRollbackContext` if the
        instance fails later, or is terminated with a rollback.

        The result is a copy, as a later run would read it: what JSON can say, bytes, datetimes,
        sets and so on, of 1 MiB at most; an async iterator of bytes is stored in pieces. Raises
        what the last attempt raised.
        """
        if callback.__class__ is FunctionType and not (
            rest or config or retries or timeout or sensitive or rollback
        ):
            # The commonest form.
            return do(self._run, check_step_name(name), callback, USUAL, None, USUAL)
        if isinstance(callback, Mapping):
            # As the platform has it: name, config, callback, rollback options.
            config, callback, *rest = callback, *rest, None  # type: ignore[assignment]
        if isinstance(callback, list | tuple):
            # The decorator's second argument, as the SDK had it first.
            depends, callback = callback, None
        if rest and isinstance(rest[0], Mapping):
            options = rest[0]
            rollback = options.get("rollback", rollback)
            rollback_config = options.get(
                "rollback_config", options.get("rollbackConfig", rollback_config)
            )
        if rest and isinstance(rest[0], bool):
            concurrent = rest[0]
        settings = self._config(name, config, retries, timeout, sensitive)
        if callback is None:
            return self._decorator(name, settings, depends, concurrent, rollback, rollback_config)
        if not callable(callback):
            raise WorkflowTypeError(
                f'step.do("{name}") takes a function, not {type(callback).__name__}'
            )
        undo = USUAL
        if rollback_config is not None:
            undo = step_config(rollback_config, str(name), self._unit)
        return do(self._run, check_step_name(name), callback, settings, rollback, undo)

    def _config(
        self,
        name: object,
        config: Mapping[str, Any] | None,
        retries: Mapping[str, Any] | None,
        timeout: Duration | None,
        sensitive: str | None,
    ) -> StepConfig:
        if config is None and retries is None and timeout is None and sensitive is None:
            return USUAL
        given = dict(config or {})
        if retries is not None:
            given["retries"] = retries
        if timeout is not None:
            given["timeout"] = timeout
        if sensitive is not None:
            given["sensitive"] = sensitive
        return step_config(given, str(name), self._unit)

    def sleep(self, name: str, duration: Duration) -> Awaitable[None]:
        """Do nothing for a while, 365 days at most; the process need not live so long."""
        length = wait_ms(duration, "the duration of a sleep", self._unit)
        return sleep(self._run, check_step_name(name), lambda now: now + length)

    def sleep_until(self, name: str, when: Any) -> Awaitable[None]:
        """Do nothing until ``when``: a datetime, or epoch milliseconds."""
        moment = moment_ms(when)

        def due(now: int) -> int:
            if moment > now + LONGEST_WAIT_MS:
                raise WorkflowValueError("a sleep cannot be longer than 365 days")
            return moment

        return sleep(self._run, check_step_name(name), due)

    def wait_for_event(
        self,
        name: str,
        type: str | Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, WorkflowStepEvent]:
        """The next event of a type, also one that was sent before.

        Raises `WorkflowTimeoutError` if there is none within ``timeout``: 24 hours if not given,
        1 second to 365 days.
        """
        awaited: Any = type
        if isinstance(awaited, Mapping):
            timeout = awaited.get("timeout", timeout)
            awaited = awaited.get("type")
        length = DAY_MS
        if timeout is not None:
            length = wait_ms(timeout, "the timeout of wait_for_event", self._unit)
            if length < 1000:
                raise WorkflowValueError("the timeout of wait_for_event is 1 second at least")
        return wait_for_event(self._run, check_step_name(name), check_type(awaited), length)

    # -- the decorator ---------------------------------------------------------------------

    def _decorator(
        self,
        name: str | None,
        config: StepConfig,
        depends: Sequence[Any] | None,
        concurrent: bool,
        rollback: Callback | None,
        rollback_config: Mapping[str, Any] | None,
    ) -> Callable[[Callback], Decorated]:
        if callable(name):
            raise WorkflowTypeError("write @step.do() with parentheses")

        def decorate(function: Callback) -> Decorated:
            step = name if name is not None else function.__name__
            options = {"rollback": rollback, "rollback_config": rollback_config}
            made = _Decorated(self, step, function, config, depends, concurrent, options)
            self._decorated[step] = made
            self._decorated.setdefault(function.__name__, made)
            return made

        return decorate

    def _dependency(self, name: str) -> _Decorated:
        if name not in self._decorated:
            raise WorkflowTypeError(
                f"Received unexpected parameter {name}: it names no step declared before"
            )
        return self._decorated[name]


class _Decorated:
    """A function that is a step, with the steps whose results it takes."""

    def __init__(
        self,
        step: WorkflowStep,
        name: str,
        function: Callback,
        config: StepConfig,
        depends: Sequence[Any] | None,
        concurrent: bool,
        options: Mapping[str, Any],
    ) -> None:
        self._step = step
        self._name = name
        self._step_name = name
        self._function = function
        self._config = config
        self._depends = depends
        self._concurrent = concurrent
        self._options = options
        self._running: asyncio.Future[Any] | None = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self) -> Coroutine[Any, Any, Any]:
        return self._call()

    async def _call(self) -> Any:
        running = self._running = asyncio.get_running_loop().create_future()
        try:
            result = await self._run()
        except BaseException as error:
            self._running = None
            if isinstance(error, asyncio.CancelledError):
                running.cancel()
            else:
                running.set_exception(error)
                running.exception()  # whoever depends on it asks again
            raise
        running.set_result(result)
        return result

    async def _run(self) -> Any:
        slots = self._slots()
        wanted = [slot for slot in slots if slot is not None]
        if self._concurrent:
            given = await asyncio.gather(*[one._result() for one in wanted])
        else:
            given = [await one._result() for one in wanted]

        async def callback(context: Any) -> Any:
            results = iter(given)
            value = self._function(*[context if slot is None else next(results) for slot in slots])
            return await value if isawaitable(value) else value

        callback.__wrapped__ = self._function  # type: ignore[attr-defined]
        step = self._step
        undo = USUAL
        if self._options["rollback_config"] is not None:
            undo = step_config(self._options["rollback_config"], self._name, step._unit)
        return await do(
            step._run,
            check_step_name(self._name),
            callback,
            self._config,
            self._options["rollback"],
            undo,
        )

    async def _result(self) -> Any:
        """What it gave, or gives when it has ended; runs it if that was not asked for yet."""
        if self._running is not None:
            return await asyncio.shield(self._running)
        return await self._call()

    def _slots(self) -> list[_Decorated | None]:
        """What each parameter is given: a step's result, or None for the context."""
        parameters = signature(self._function).parameters.values()
        named = [one for one in parameters if one.name != "ctx"]
        slots: list[_Decorated | None] = []
        if self._depends is None:
            for one in parameters:
                if one.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                    raise WorkflowTypeError(f"Received unexpected parameter {one.name}")
                slots.append(None if one.name == "ctx" else self._step._dependency(one.name))
            return slots
        if len(self._depends) != len(named):
            raise WorkflowTypeError(
                f"Step declares {len(named)} non-ctx parameter(s) but 'depends' has "
                f"{len(self._depends)} item(s)"
            )
        rest = iter(self._depends)
        for one in parameters:
            depended = None if one.name == "ctx" else next(rest)
            if one.name != "ctx" and not isinstance(depended, _Decorated):
                raise WorkflowTypeError(
                    f"'depends' entry for parameter {one.name!r} is not a function decorated with "
                    "step.do"
                )
            slots.append(depended)
        return slots
