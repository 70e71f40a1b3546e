"""What is asked of the writer, and how whoever asked learns what has become of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .loops import call_soon
from .told import Outcome, give, tell

_log = logging.getLogger("bunflare")

#: What is in the place of a result where something was not done on the spot.
LATER: Final[Any] = object()


class Operation:
    """Work for the writer, and one who waits for a future."""

    __slots__ = (
        "alone",
        "args",
        "error",
        "function",
        "future",
        "heavy",
        "loop",
        "ordered",
        "result",
        "unwanted",
    )

    def __init__(
        self,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        heavy: bool,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any] | None = None,
    ) -> None:
        #: None asks for the transaction itself.
        self.function = function
        self.args = args
        self.heavy = heavy
        self.loop = loop
        self.future: asyncio.Future[Any] = future or loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        #: What becomes of the result where nobody is there any more to take it.
        self.unwanted: Callable[[], None] | None = None
        #: Whether it shares its commit with nothing else.
        self.alone = heavy or function is None
        #: Whether it keeps its place among all others that do: none joins another beyond it.
        self.ordered = True

    def asker(self) -> object | None:
        """Who asks for it, which is called when they do."""
        return asyncio.current_task()

    @property
    def several(self) -> bool:
        """Whether more than one has asked for it until now."""
        return False

    def given_up(self) -> bool:
        """Whether nobody wants it any more."""
        return self.future.cancelled()

    def settle(self, told: list[Outcome]) -> None:
        """Add who waits, in their event loop or where that has ended, and what they are to hear."""
        future = self.future
        if future.done() or self.loop.is_closed():
            # The caller gave up, or went with its event loop, while this was on its way.
            if self.unwanted is not None:
                self.unwanted()
        else:
            told.append((future, self.result, self.error))


class Joint(Operation):
    """Work for several, whom `settle` knows."""

    __slots__ = ()

    def __init__(self, function: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.args = ()
        self.heavy = self.alone = self.ordered = False
        self.loop = loop
        self.result = None
        self.error = None

    @property
    def several(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing may join any more: something that keeps its place was asked for after this."""

    def given_up(self) -> bool:
        return False

    def settle(self, told: list[Outcome]) -> None:
        raise NotImplementedError


class Pause(Operation):
    """Work, if any, that wants the writer to stand still, outside of any transaction."""

    __slots__ = ()


def deliver(*operations: Operation) -> None:
    """Wake the callers with their results or errors."""
    try:
        current: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        current = None
    told: list[Outcome] = []
    for operation in operations:
        if operation.loop is current:
            _settle(operation, told)
        else:
            call_soon(operation.loop, partial(_settle_there, operation))
    if current is not None:
        tell(current, told)


def _settle(operation: Operation, told: list[Outcome]) -> None:
    try:
        operation.settle(told)
    except Exception:
        # The commit stands, and the writer goes on, whatever becomes of what follows it.
        _log.exception("what follows a write failed")


def _settle_there(operation: Operation) -> None:
    """In its event loop, or where that has ended."""
    told: list[Outcome] = []
    operation.settle(told)
    give(told)
