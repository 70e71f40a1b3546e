"""What is asked of the writer, and how whoever asked learns what has become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from .loops import call_soon


class Operation:
    __slots__ = (
        "alone",
        "args",
        "error",
        "function",
        "future",
        "heavy",
        "loop",
        "result",
        "unwanted",
    )

    def __init__(
        self,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        heavy: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        #: None asks for the transaction itself.
        self.function = function
        self.args = args
        self.heavy = heavy
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        #: What becomes of the result where nobody is there any more to take it.
        self.unwanted: Callable[[], None] | None = None
        #: Whether it shares its commit with nothing else.
        self.alone = heavy or function is None


class Pause(Operation):
    """Work, if any, that wants the writer to stand still, outside of any transaction."""

    __slots__ = ()


def deliver(*operations: Operation) -> None:
    """Wake the callers with their results or errors."""
    try:
        current: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        current = None
    for operation in operations:
        if operation.loop is current:
            _settle(operation)
        else:
            call_soon(operation.loop, partial(_settle, operation))


def _settle(operation: Operation) -> None:
    future = operation.future
    if future.done() or operation.loop.is_closed():
        # The caller gave up, or went with its event loop, while this was on its way.
        if operation.unwanted is not None:
            operation.unwanted()
    elif operation.error is not None:
        future.set_exception(operation.error)
    else:
        future.set_result(operation.result)
