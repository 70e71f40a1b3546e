"""``run_sync``: waiting for something asynchronous from synchronous code inside the event loop.

The platform switches stacks there, and so does this: a task whose code may call `run_sync` runs on
a greenlet, which is left when the code has to wait and entered again with the result. Tasks pay for
that only in a process where `run_sync` is used: asking for it (`enable`) makes the loop start all
further tasks that way. What was begun before waits for a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import greenlet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Errand:
    """What a stack that waits is to do for another one meanwhile."""

    of: greenlet.greenlet
    work: Callable[[], Any]

    def run(self) -> tuple[bool, Any]:
        try:
            return True, self.work()
        except BaseException as error:
            return False, error


class Stack(greenlet.greenlet):
    """The stack of code that may stop in the middle."""

    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__(run)
        # Context variables are the task's on both sides.
        self.gr_context = greenlet.getcurrent().gr_context

    def leave(self, told: tuple[str, Any]) -> Any:
        """Let the code that entered this stack go on; returns when it enters again."""
        assert self.parent is not None
        given = self.parent.switch(told)
        while isinstance(given, _Errand):
            given = given.of.switch(given.run())
        return given

    def call(self, work: Callable[[], T]) -> T:
        """Run a function on this stack, which may be waiting: what is below it stays in place."""
        here: greenlet.greenlet | None = greenlet.getcurrent()
        current = here
        while here is not None:
            if here is self:
                return work()
            here = here.parent
        done, result = self.switch(_Errand(cast(greenlet.greenlet, current), work))
        if not done:
            raise result
        return cast(T, result)


class _OnStack:
    """Awaiting it runs a function or a coroutine on a stack of its own."""

    def __init__(self, work: Callable[[], Any] | Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        stack = Stack(self._run)
        told = stack.switch()
        while True:
            kind, value = told
            if kind == "ended":
                return value
            if kind == "raised":
                raise value
            try:
                given = (yield value) if kind == "yielded" else (yield from value.__await__())
            except BaseException as error:
                told = stack.throw(error)
            else:
                told = stack.switch(given)

    def _run(self) -> tuple[str, Any]:
        work = self._work
        try:
            if not inspect.iscoroutine(work) and not isinstance(work, Coroutine):
                return "ended", work()
            return "ended", drive(work)
        except BaseException as error:
            return "raised", error


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on this very stack, which is left whenever it waits."""
    stack = current_stack()
    given: Any = None
    step: Callable[[Any], Any] = coroutine.send
    while True:
        try:
            waiting = step(given)
        except StopIteration as end:
            return cast(T, end.value)
        try:
            given, step = stack.leave(("yielded", waiting)), coroutine.send
        except BaseException as error:
            given, step = error, coroutine.throw


def current_stack() -> Stack:
    """The stack that this code runs on. `on_stack` has entered it."""
    stack = greenlet.getcurrent()
    assert isinstance(stack, Stack)
    return stack


async def on_stack(work: Callable[[], T] | Coroutine[Any, Any, T]) -> T:
    """Run a function or a coroutine in which `run_sync` may be called."""
    result: T = await _OnStack(work)
    return result


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(on_stack(coroutine), loop=loop, **options)


def enable() -> None:
    """Let `run_sync` work in all tasks that begin from now on in the running loop, if any."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if loop.get_task_factory() is None:
        loop.set_task_factory(_task)


def run_sync(awaitable: Awaitable[T]) -> T:
    """The result of ``awaitable``, for code that is not asynchronous. Other tasks go on."""
    stack = greenlet.getcurrent()
    if isinstance(stack, Stack):
        result: T = stack.leave(("awaited", _awaitable(awaitable)))
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_of(awaitable))
    enable()
    if isinstance(awaitable, asyncio.Future):
        if awaitable.done():
            return cast(T, awaitable.result())
        raise RuntimeError("Cannot stack switch: this task began before run_sync was imported")
    return _on_thread(awaitable)


def can_run_sync() -> bool:
    """Whether `run_sync` may be called here."""
    return isinstance(greenlet.getcurrent(), Stack)


def _awaitable(value: Any) -> Any:
    if not inspect.isawaitable(value):
        raise TypeError(f"object {type(value).__name__} can't be used in run_sync")
    return value if hasattr(value, "__await__") else _of(value)


async def _of(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _on_thread(awaitable: Awaitable[T]) -> T:
    """Drive what suspends on a loop of its own, while this one stands still."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(_of(awaitable)), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="bunflare-run-sync")
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return cast(T, result)
