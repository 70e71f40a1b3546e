"""What tests change about the instances of a workflow, while this process runs them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowTimeoutError
from .workflow_attempt import call

if TYPE_CHECKING:
    from ..clock import Clock

#: A step's name, and which of its uses; None: all of them.
Which = tuple[str, int | None]


class Modifiers:
    """Sleeps that are over at once, results that are given, errors and time-outs that are made."""

    def __init__(self) -> None:
        self.sleeps: set[Which] | None = set()
        self.delays: set[Which] | None = set()
        self.results: dict[Which, Any] = {}
        #: What is raised, and how often still; None: always.
        self.errors: dict[Which, tuple[Exception, int | None]] = {}
        self.late: dict[Which, int | None] = {}
        self.no_events: set[Which] = set()
        #: Types and payloads that each instance finds when it first waits for one.
        self.events: list[tuple[str, Any]] = []
        self._found: set[tuple[str, int]] = set()

    def skips_sleep(self, name: str, count: int) -> bool:
        return self.sleeps is None or _find(self.sleeps, name, count) is not None

    def skips_delay(self, name: str, count: int) -> bool:
        return self.delays is None or _find(self.delays, name, count) is not None

    def times_out(self, name: str, count: int) -> bool:
        """Whether the waiting for an event is over at once, if there is none."""
        return _find(self.no_events, name, count) is not None

    def event(self, instance: str, type: str) -> list[Any]:
        """The payload of an event that an instance is to find, if there is one."""
        for number, (kind, payload) in enumerate(self.events):
            if kind == type and (instance, number) not in self._found:
                self._found.add((instance, number))
                return [payload]
        return []

    async def call(
        self,
        name: str,
        count: int,
        callback: Callable[..., Any],
        told: Any,
        timeout: float,
        clock: Clock,
    ) -> Any:
        """In the place of a step's callback."""
        which = _find(self.errors, name, count)
        if which is not None:
            error, times = self.errors[which]
            if _use(self.errors, which, times, lambda left: (error, left)):
                raise error
        which = _find(self.late, name, count)
        if which is not None and _use(self.late, which, self.late[which], lambda left: left):
            raise WorkflowTimeoutError(f"Execution timed out after {timeout:.0f}ms")
        which = _find(self.results, name, count)
        if which is not None:
            return copy.deepcopy(self.results[which])
        return await call(callback, told, timeout, clock)


def _find(known: Any, name: str, count: int) -> Which | None:
    for which in ((name, count), (name, None)):
        if which in known:
            return which
    return None


def _use(
    known: dict[Which, Any], which: Which, times: int | None, left: Callable[[int], Any]
) -> bool:
    """Use one of the times that are left."""
    if times is None:
        return True
    if times <= 1:
        del known[which]
    else:
        known[which] = left(times - 1)
    return times > 0
