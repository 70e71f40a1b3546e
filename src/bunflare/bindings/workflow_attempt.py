"""One attempt at a step: its callback, within its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from inspect import isawaitable, signature
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowTimeoutError

if TYPE_CHECKING:
    from ..clock import Clock


def wants_context(callback: Callable[..., Any]) -> bool:
    """Whether a callback takes the step's context: it has to be given something.

    An argument with a default is the callback's own (``lambda n=n: …``), unless its name is ctx.
    """
    if type(callback) is FunctionType:
        # Nearly always a closure made just now, of which `signature` would know nothing yet.
        code = callback.__code__
        count = code.co_argcount
        return count > len(callback.__defaults__ or ()) or (
            count > 0 and code.co_varnames[0] == "ctx"
        )
    try:
        parameters = signature(callback).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        and (one.default is one.empty or one.name == "ctx")
        for one in parameters
    )


class Attempt:
    """The rest of a coroutine that waits for something, for ``timeout`` milliseconds at most.

    It is awaited in the running task. What ends without waiting needs nobody to watch the time.
    """

    __slots__ = ("_clock", "_coroutine", "_expired", "_task", "_timeout", "_waiting")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], waiting: Any, timeout: float, clock: Clock
    ) -> None:
        self._coroutine = coroutine
        self._waiting = waiting
        self._timeout = timeout
        self._clock = clock
        self._expired = False
        self._task: asyncio.Task[Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        waiting = self._waiting
        task = self._task = asyncio.current_task()
        clock = self._clock
        timer = clock.call_at(clock.now() + int(self._timeout), self._expire)
        try:
            while True:
                try:
                    value = yield waiting
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:
                    waiting = coroutine.throw(error)
                else:
                    waiting = coroutine.send(value)
        except StopIteration as stop:
            if not self._expired:
                return stop.value
        except BaseException as error:
            if not self._expired or task is None:
                raise
            if not isinstance(error, asyncio.CancelledError) or task.cancelling() > 1:
                task.uncancel()
                raise
        finally:
            timer.cancel()
        if task is not None:
            task.uncancel()
        raise WorkflowTimeoutError(f"Execution timed out after {self._timeout:.0f}ms")

    def _expire(self) -> None:
        self._expired = True
        assert self._task is not None
        self._task.cancel()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def begin(callback: Callable[..., Any], context: Any, timeout: float, clock: Clock) -> Any:
    """Call a callback: what it gives, or the `Attempt` that is to be awaited for that."""
    result = callback() if context is None else callback(context)
    if result.__class__ is not CoroutineType:
        if not isawaitable(result):
            return result
        result = _awaited(result)
    try:
        waiting = result.send(None)
    except StopIteration as stop:
        return stop.value
    return Attempt(result, waiting, timeout, clock)


async def call(callback: Callable[..., Any], context: Any, timeout: float, clock: Clock) -> Any:
    """Call a callback and await what it gives."""
    result = begin(callback, context, timeout, clock)
    return await result if result.__class__ is Attempt else result
