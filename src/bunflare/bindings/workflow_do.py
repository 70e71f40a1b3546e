"""A step: its callback, tried until it has succeeded or failed for good, and then never again."""

from __future__ import annotations

import logging
from asyncio import CancelledError, current_task
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import (
    DatabaseError,
    NonRetryableError,
    StateError,
    ValueNotSerializable,
    WorkflowFatalError,
)
from ..values import dumps, loads
from .workflow_attempt import Attempt, begin, wants_context
from .workflow_errors import revive, text_of
from .workflow_options import (
    LARGEST,
    LONGEST_WAIT_MS,
    USUAL,
    StepConfig,
    about,
    milliseconds,
)
from .workflow_replay import Record
from .workflow_scope import Use, current
from .workflow_scope import use as next_use
from .workflow_streams import WorkflowStream, is_stream, keep_stream
from .workflow_types import WorkflowStepContext, WorkflowStepInfo
from .workflow_under_way import Begun, watched

if TYPE_CHECKING:
    from .workflow_run import Run

_log = logging.getLogger("bunflare")

# What needs no copy.
_COPIED = frozenset({type(None), bool, int, float, str})
#: The entries of an attempt that succeeds, fails and is repeated, fails for good.
_STEP = ("step_completed", "attempt_errored", "step_errored")


@dataclass(slots=True)
class Rollback:
    """How a step that was begun is undone."""

    use: Use
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
    run.steps += 1
    if run.steps > run.host.most_steps:
        run.too_many_steps()
    use = next_use(run, "do", name)
    if run.replay is None and use.parent is None and rollback is None:
        if config is USUAL and run.modifiers is None and callback.__class__ is FunctionType:
            return _usual(run, use, callback)
        return attempts(run, use, config, callback, None, _STEP)
    return _do(run, use, config, callback, rollback, rollback_config)


async def _do(
    run: Run,
    use: Use,
    config: StepConfig,
    callback: Callable[..., Any],
    rollback: Callable[..., Any] | None,
    rollback_config: StepConfig,
) -> Any:
    """`do`, for a step that the log may have, or that others are about."""
    record = await run.recall(use)
    undo = None
    if rollback is not None:
        undo = Rollback(use, rollback, rollback_config, config)
        run.rollbacks.append(undo)
    if record is not None and record.row is not None:
        row = record.row
        if row[1] == "step_errored":
            raise revive(row[9], _names(run, callback))
        output = _given(run, use, row[9])
        if undo is not None:
            undo.output, undo.attempt = output, row[5]
        return output
    output = await attempts(run, use, config, callback, record, _STEP, undo)
    if undo is not None:
        undo.output = output
    if use.parent is not None:
        # If the step around it is tried again, this one is not.
        done = Record(use.count)
        text = None if isinstance(output, WorkflowStream) else dumps(output)
        done.row = (
            *(0, "step_completed", use.name, use.count, use.parent, 1, 0, 0, None),
            *(text, None, use.place),
        )
        run.nested.setdefault(use.parent, {})[use.key] = done
    return output


def _given(run: Run, use: Use, text: str | None) -> Any:
    """What a step gives: a copy, made from what is on disk."""
    if text is None:
        return run.host.shown(WorkflowStream(run.database, run.id, use.path))
    return run.host.shown(loads(text))


def _names(run: Run, callback: Callable[..., Any]) -> Mapping[str, Any]:
    """Where the classes of a step's errors are looked for."""
    function = getattr(callback, "__wrapped__", callback)
    return {**run.host.names, **getattr(function, "__globals__", {})}


async def _usual(run: Run, use: Use, callback: FunctionType) -> Any:
    """`attempts` as it is nearly always: the first one succeeds."""
    task = current_task(run.host.loop)
    if task is not run.task:
        run.join()
    if run.halted and not run.rolling:
        await run.go_on()
    if run.row_parked is not None:
        run.unpark()
    clock = run.clock
    run.active += 1
    try:
        started = clock.now()
        try:
            told = None
            if callback.__code__.co_argcount and wants_context(callback):
                told = run.host.shown(context_of(use, 1, USUAL))
            use.attempted(task)
            last, place = run.last, run.starts
            run.starts = place + 1
            token = current.set(use)
            try:
                value = begin(callback, told, USUAL.timeout, clock)
                if value.__class__ is Attempt:
                    begun = Begun(last, place, False, use, 1, started, USUAL)
                    value = await watched(run, begun, value)
            finally:
                current.reset(token)
            plain = value.__class__ in _COPIED
            text = _result(value, use) if plain else await _text(run, use, value)
        except Exception as error:
            failed = error
        else:
            if run.over:
                raise CancelledError
            try:
                kept = await run.host.journal.add(
                    run.entry("step_completed", use, 1, started, clock.now(), None, text)
                )
            except (DatabaseError, StateError) as error:
                run.stall(error)
                kept = False
            if not kept:
                run.drop()
                raise CancelledError
            if run.turns.branched:
                await run.handed()
            return value if plain else _given(run, use, text)
        due = await _failed(run, use, 1, started, USUAL, failed, _STEP, callback)
    finally:
        run.active -= 1
        if run.parked or run.halted:
            run.consider()
    again = Record(use.count)
    again.attempts, again.due = 1, due
    return await attempts(run, use, USUAL, callback, again, _STEP)


async def attempts(
    run: Run,
    use: Use,
    config: StepConfig,
    callback: Callable[..., Any],
    record: Record | None,
    kinds: tuple[str, str, str],
    undo: Rollback | None = None,
    context: Callable[[int], Any] | None = None,
) -> Any:
    """Try a callback until it succeeds, or has failed for good."""
    task = current_task(run.host.loop)
    if task is not run.task:
        run.join()
    attempt = 1
    if record is not None:
        attempt += record.attempts
        if record.due is not None:
            await run.until(record.due, "retry")
    clock = run.clock
    wants = wants_context(callback)
    while True:
        if run.halted and not run.rolling:
            await run.go_on()
        if run.row_parked is not None:
            run.unpark()
        if undo is not None:
            undo.attempt = attempt
        run.active += 1
        try:
            started = clock.now()
            try:
                told = None
                if wants:
                    told = run.host.shown(
                        context_of(use, attempt, config) if context is None else context(attempt)
                    )
                use.attempted(task)
                undoing = kinds is not _STEP
                begun = Begun(run.last, run.starts, undoing, use, attempt, started, config)
                run.starts += 1
                token = current.set(use)
                try:
                    if run.modifiers is None:
                        value = begin(callback, told, config.timeout, clock)
                    else:
                        value = run.modifiers.call(
                            use.name, use.count, callback, told, config.timeout, clock
                        )
                    if value.__class__ is Attempt or run.modifiers is not None:
                        value = await watched(run, begun, value)
                finally:
                    current.reset(token)
                text = await _text(run, use, value)
            except Exception as failed:
                error = failed
            else:
                now = clock.now()
                await run.record(
                    run.entry(kinds[0], use, attempt, started, now, None, text, about(config))
                )
                if run.turns.branched and use.parent is None:
                    await run.handed()
                return value if value.__class__ in _COPIED else _given(run, use, text)
            waiting = await _failed(run, use, attempt, started, config, error, kinds, callback)
        finally:
            run.active -= 1
            if run.parked or run.halted:
                run.consider()
        attempt += 1
        if waiting is not None:
            await run.until(waiting, "retry")


async def _failed(
    run: Run,
    use: Use,
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
            pause = await _pause(run, use, attempt, config, error)
        except Exception as wrong:
            _log.exception('the delay of step "%s" failed', use.name)
            error, final = wrong, True
    now = run.clock.now()
    text = text_of(error)
    due = None if pause is None else now + int(pause)
    kind = kinds[2] if final else kinds[1]
    await run.record(run.entry(kind, use, attempt, started, now, due, text, about(config)))
    if final:
        if run.turns.branched and use.parent is None:
            await run.handed()
        raise revive(text, _names(run, callback)) from error
    return due if pause else None


async def _pause(run: Run, use: Use, attempt: int, config: StepConfig, error: Exception) -> float:
    if run.modifiers is not None and run.modifiers.skips_delay(use.name, use.count):
        return 0
    if not callable(config.delay):
        return config.pause(attempt)
    told = {"ctx": context_of(use, attempt, config), "error": error}
    given = config.delay(run.host.shown(told))
    if isawaitable(given):
        given = await given
    return min(milliseconds(given, "delay", run.host.unit), LONGEST_WAIT_MS)


def context_of(use: Use, attempt: int, config: StepConfig) -> WorkflowStepContext:
    """What a step's callback is told."""
    return WorkflowStepContext(WorkflowStepInfo(use.name, use.count), attempt, config.shown or {})


async def _text(run: Run, use: Use, value: Any) -> str | None:
    """The text of a step's result; None for a stream, which is kept elsewhere."""
    if not is_stream(value):
        return _result(value, use)
    await keep_stream(run.database, run.id, use.path, value)
    return None


def _result(value: Any, use: Use) -> str:
    """The text of a step's result."""
    try:
        text = dumps(value)
    except ValueNotSerializable as error:
        raise WorkflowFatalError(
            f'Value returned from step "{use.name}" is not serialisable: {error}'
        ) from error
    if len(text) > LARGEST // 4 and len(text.encode()) > LARGEST:
        raise WorkflowFatalError(
            f"Step {use.name}-{use.count} output is too large. Maximum allowed size is 1MiB."
        )
    return text
