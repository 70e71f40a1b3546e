"""A step: its callback, tried until it has succeeded or failed for good, and then never again."""

from __future__ import annotations

import contextvars
import logging
from asyncio import CancelledError, current_task
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ..errors import (
    DatabaseError,
    NonRetryableError,
    StateError,
    ValueNotSerializable,
    WorkflowFatalError,
)
from ..store import workflow_log as log
from ..values import dumps, loads
from .workflow_attempt import call, wants_context
from .workflow_errors import revive, text_of
from .workflow_options import LARGEST, USUAL, StepConfig, about, milliseconds
from .workflow_replay import Record
from .workflow_streams import WorkflowStream, is_stream, keep_stream
from .workflow_types import WorkflowStepContext, WorkflowStepInfo

if TYPE_CHECKING:
    from .workflow_run import Run

_log = logging.getLogger("bunflare")

# What needs no copy.
_COPIED = frozenset({type(None), bool, int, float, str})
#: The entries of an attempt that succeeds, fails and is repeated, fails for good.
_STEP = ("step_completed", "attempt_errored", "step_errored")


class Inside:
    """The step within whose callback code runs."""

    __slots__ = ("counts", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.counts: dict[str, int] = {}


inside: contextvars.ContextVar[Inside | None] = contextvars.ContextVar(
    "bunflare_workflow_step", default=None
)


@dataclass(slots=True)
class Rollback:
    """How a step that was begun is undone."""

    path: str
    name: str
    count: int
    parent: str | None
    handler: Callable[..., Any]
    config: StepConfig
    step: StepConfig
    output: Any = None
    attempt: int = 1


def do(
    run: Run,
    name: str,
    callback: Callable[..., Any],
    config: StepConfig,
    rollback: Callable[..., Any] | None,
    rollback_config: StepConfig,
) -> Coroutine[Any, Any, Any]:
    """A step: its result, from the log or from its callback."""
    run.count_step()
    key, count, parent = run.use("do", name)
    if run.replay is None and parent is None and rollback is None:
        return attempts(run, name, count, None, key, config, callback, None, _STEP)
    return _do(run, name, key, count, parent, config, callback, rollback, rollback_config)


async def _do(
    run: Run,
    name: str,
    key: str,
    count: int,
    parent: str | None,
    config: StepConfig,
    callback: Callable[..., Any],
    rollback: Callable[..., Any] | None,
    rollback_config: StepConfig,
) -> Any:
    """`do`, for a step that the log may have, or that others are about."""
    record = await run.recall(key, parent) if run.recalls(parent) else None
    path = key if parent is None else f"{parent}/{key}"
    undo = None
    if rollback is not None:
        undo = Rollback(path, name, count, parent, rollback, rollback_config, config)
        run.rollbacks.append(undo)
    if record is not None and record.row is not None:
        row = record.row
        if row[1] == "step_errored":
            raise revive(row[9], _names(run, callback))
        output = run.host.shown(_output(run, row[9], path))
        if undo is not None:
            undo.output, undo.attempt = output, row[5]
        return output
    output = await attempts(run, name, count, parent, path, config, callback, record, _STEP, undo)
    if undo is not None:
        undo.output = output
    if parent is not None:
        # If the step around it is tried again, this one is not.
        done = Record()
        text = None if isinstance(output, WorkflowStream) else dumps(output)
        done.row = (0, "step_completed", name, count, parent, 1, 0, 0, None, text, None)
        run.nested.setdefault(parent, {})[key] = done
    return output


def _output(run: Run, text: str | None, path: str) -> Any:
    if text is None:
        return WorkflowStream(run.database, run.id, path)
    return loads(text)


def _names(run: Run, callback: Callable[..., Any]) -> Mapping[str, Any]:
    """Where the classes of a step's errors are looked for."""
    function = getattr(callback, "__wrapped__", callback)
    return {**run.host.names, **getattr(function, "__globals__", {})}


async def attempts(
    run: Run,
    name: str,
    count: int,
    parent: str | None,
    path: str,
    config: StepConfig,
    callback: Callable[..., Any],
    record: Record | None,
    kinds: tuple[str, str, str],
    undo: Rollback | None = None,
    context: Callable[[int], Any] | None = None,
) -> Any:
    """Try a callback until it succeeds, or has failed for good."""
    if current_task(run.host.loop) is not run.task:
        run.join()
    attempt = 1
    if record is not None:
        attempt += record.attempts
        if record.due is not None:
            await run.until(record.due, "retry")
    clock = run.clock
    submit = run.database.submit
    wants = wants_context(callback)
    while True:
        if run.halted and not run.rolling:
            await run.go_on()
        if run.row_parked is not None:
            run.unpark()
        if undo is not None:
            undo.attempt = attempt
        run.active += 1
        started = clock.now()
        try:
            try:
                if wants:
                    told = run.host.shown(
                        context_of(name, count, attempt, config)
                        if context is None
                        else context(attempt)
                    )
                else:
                    told = None
                token = inside.set(Inside(path))
                try:
                    if run.modifiers is None:
                        value = await call(callback, told, config.timeout, clock)
                    else:
                        value = await run.modifiers.call(
                            name, count, callback, told, config.timeout, clock
                        )
                finally:
                    inside.reset(token)
                if value.__class__ not in _COPIED and is_stream(value):
                    await keep_stream(run.database, run.id, path, value)
                    text = None
                else:
                    text = _result(value, name, count)
            except Exception as failed:
                error = failed
            else:
                entry = run.entry(kinds[0])
                done = (name, count, parent, attempt, started, clock.now(), None, text)
                told_of = None if config is USUAL else about(config)
                try:
                    kept = await submit(log.record, (*entry, *done, told_of))
                except (DatabaseError, StateError) as failed:
                    run.stall(failed)
                    kept = False
                if not kept:
                    run.drop()
                    raise CancelledError
                if type(value) in _COPIED:
                    return value
                return run.host.shown(_output(run, text, path))
            waiting = await _failed(
                run, name, count, parent, attempt, started, config, error, kinds, callback
            )
        finally:
            run.active -= 1
            if run.parked or run.halted:
                run.consider()
        attempt += 1
        if waiting is not None:
            await run.until(waiting, "retry")


async def _failed(
    run: Run,
    name: str,
    count: int,
    parent: str | None,
    attempt: int,
    started: int,
    config: StepConfig,
    error: Exception,
    kinds: tuple[str, str, str],
    callback: Callable[..., Any],
) -> int | None:
    """Record that an attempt has failed: until when to wait, or raises for good."""
    pause: float | None = None
    final = (
        attempt > config.limit
        or isinstance(error, NonRetryableError | WorkflowFatalError)
        or type(error).__name__ == "NonRetryableError"
    )
    if not final:
        try:
            pause = await _pause(run, name, count, attempt, config, error)
        except Exception as wrong:
            _log.exception('the delay of step "%s" failed', name)
            error, final = wrong, True
    now = run.clock.now()
    text = text_of(error)
    due = None if pause is None else now + int(pause)
    entry = run.entry(kinds[2] if final else kinds[1])
    failed = (name, count, parent, attempt, started, now, due, text, about(config))
    await run.record((*entry, *failed))
    if final:
        raise revive(text, _names(run, callback)) from error
    return due if pause else None


async def _pause(
    run: Run, name: str, count: int, attempt: int, config: StepConfig, error: Exception
) -> float:
    if run.modifiers is not None and run.modifiers.skips_delay(name, count):
        return 0
    if not callable(config.delay):
        return config.pause(attempt)
    told = {"ctx": context_of(name, count, attempt, config), "error": error}
    given = config.delay(run.host.shown(told))
    if isawaitable(given):
        given = await given
    return milliseconds(given, "delay", run.host.unit)


def context_of(name: str, count: int, attempt: int, config: StepConfig) -> WorkflowStepContext:
    """What a step's callback is told."""
    return WorkflowStepContext(WorkflowStepInfo(name, count), attempt, config.shown or {})


def _result(value: Any, name: str, count: int) -> str:
    """The text of a step's result."""
    try:
        text = dumps(value)
    except ValueNotSerializable as error:
        raise WorkflowFatalError(
            f'Value returned from step "{name}" is not serialisable: {error}'
        ) from error
    if len(text) > LARGEST // 4 and len(text.encode()) > LARGEST:
        raise WorkflowFatalError(
            f"Step {name}-{count} output is too large. Maximum allowed size is 1MiB."
        )
    return text
