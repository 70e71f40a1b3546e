"""A call that has begun before it is awaited, as every call of the platform has.

A coroutine begins when it is awaited, and to run several at once takes a task for each, which costs
as much as a small write. What has begun already needs none: `asyncio.gather` takes it as it is.
Where a task is asked for, it makes as good a one as any coroutine.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

_blocking: Any = asyncio.Future._asyncio_future_blocking
_is_blocking: Callable[[object], bool] = _blocking.__get__


class _Future(asyncio.Future[T]):
    """The result to come of a call, for one who has taken it for a future.

    It has what a task calls that was made of it before, step by step.
    """

    __slots__ = ()

    def send(self, _value: Any) -> Any:
        if self.done():
            raise StopIteration(self.result())
        # As a future's own __await__ does for the task.
        self._asyncio_future_blocking = True
        return self

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:
        if isinstance(error, type):
            error = value if isinstance(value, BaseException) else error()
        if isinstance(error, asyncio.CancelledError):
            # The task was cancelled before its first step.
            self.cancel()
        raise error.with_traceback(traceback) if traceback is not None else error


class Pending(_Future[T], Coroutine[Any, Any, T]):
    """The result to come of a call. To cancel it is to take back what has not been done yet.

    It is a future as well as a coroutine until one has taken it for the former: `asyncio.wait`
    refuses coroutines, also what `asyncio.ensure_future` has given for one.
    """

    __slots__ = ()

    @property
    def _asyncio_future_blocking(self) -> bool:
        # This is how asyncio asks whether something is a future.
        self.__class__ = _Future  # type: ignore[assignment]
        return _is_blocking(self)

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value: bool) -> None:
        _blocking.__set__(self, value)

    def close(self) -> None:
        """Nothing: what has begun goes on."""


async def ready(value: T) -> T:
    """A result that is there already."""
    return value


def finished(loop: asyncio.AbstractEventLoop) -> Pending[None]:
    """A call that has come to its end and has no result, which any number may await."""
    done: Pending[None] = Pending(loop=loop)
    done.set_result(None)
    return done


def failed(error: Exception) -> Pending[Any]:
    """A call that has failed, which is heard of where it is awaited."""
    future: Pending[Any] = Pending(loop=asyncio.get_running_loop())
    future.set_exception(error)
    return future


def at_once(function: Callable[P, T]) -> Callable[P, Pending[T]]:
    """Have a function done when it is called, and its result or its error awaited."""

    @begins
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        future: Pending[T] = Pending(loop=asyncio.get_running_loop())
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    return call


def begins(function: F) -> F:
    """Have a function that gives coroutines pass for one that was written as such.

    Frameworks ask that of what they are to call: one that is none they would call on a thread.
    """
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function
