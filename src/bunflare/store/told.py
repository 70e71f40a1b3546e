"""Telling many who wait what has become of what they asked for, all at once.

A future asks the event loop for a turn for each who waits for it, and to be asked costs the loop
more than to call them. What was written together is heard of together: one turn calls them all, in
the order in which their futures came to their results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, TypeAlias

#: A future, and its result or its error.
Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"
# A callback, the future that it is for, and what it sees.
_Call: TypeAlias = "tuple[Callable[[Any], object], asyncio.Future[Any], Context]"


def tell(loop: asyncio.AbstractEventLoop, told: Sequence[Outcome]) -> None:
    """Give futures of ``loop``, which is running, their outcomes."""
    if len(told) < 2:
        give(told)
        return
    calls: list[_Call] = []
    # Before anything else that one of them may bring about.
    loop.call_soon(_call, loop, calls)
    for future, result, error in told:
        if future.done():
            continue  # given up
        # An event loop may have futures of its own, which ask it for turns themselves.
        waiting = getattr(future, "_callbacks", None)
        if waiting:
            for callback, context in tuple(waiting):
                future.remove_done_callback(callback)
                calls.append((callback, future, context))
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def give(told: Sequence[Outcome]) -> None:
    """The same for each by itself, wherever this runs."""
    for future, result, error in told:
        if future.done():
            continue  # given up
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _call(loop: asyncio.AbstractEventLoop, calls: list[_Call]) -> None:
    rest = iter(calls)
    for callback, future, context in rest:
        try:
            context.run(callback, future)
        except (SystemExit, KeyboardInterrupt):
            loop.call_soon(_call, loop, list(rest))
            raise
        except BaseException as error:
            loop.call_exception_handler(
                {
                    "message": f"Exception in callback {callback!r}",
                    "exception": error,
                    "future": future,
                }
            )
