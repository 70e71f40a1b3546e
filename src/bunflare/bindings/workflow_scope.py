"""Which step is which: by its name, and how often the name had been used, as on the platform.

Where code runs in several tasks at once (`asyncio.gather`), who comes first may differ from one run
to the next. So each task counts for itself, and a step's place says which of them it was in:
``2.1.3`` is the third use of the name in the first task begun in the second task. The number that
people are shown counts the uses in all tasks.

A step's callback is a scope of its own, for the steps that are within it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .workflow_run import Run


class Use:
    """One use of a name."""

    __slots__ = ("_kind", "_scope", "_task", "_token", "count", "name", "parent", "place")

    def __init__(
        self,
        kind: str,
        token: int | str,
        name: str,
        count: int,
        parent: str | None = None,
        place: str | None = None,
    ) -> None:
        self._kind = kind
        self._token = token
        self.name = name
        #: How often the name has been used, by all tasks.
        self.count = count
        #: The `path` of the step around it; None for none.
        self.parent = parent
        #: Where it was used, if the count does not tell.
        self.place = place

    @property
    def key(self) -> str:
        """What it is in the log of its scope: ``do:1:name``."""
        return f"{self._kind}:{self._token}:{self.name}"

    def attempted(self, task: asyncio.Task[Any] | None) -> None:
        """The step's callback is about to be called in a task."""
        self._task = task
        self._scope: Scope | None = None

    def within(self) -> Scope:
        """The scope of the callback; most callbacks need none."""
        if self._scope is None:
            self._scope = Scope(self.path, self._task)
        return self._scope

    @property
    def path(self) -> str:
        """What it is in all of the log."""
        return self.key if self.parent is None else f"{self.parent}/{self.key}"

    def rollback(self) -> Use:
        """The undoing of a step."""
        return Use("rollback", self._token, self.name, self.count, self.parent, self.place)


def slot_of(kind: str, name: str) -> str:
    """What uses of a name are counted by; no name has such a character."""
    return name if kind == "do" else f"\0{kind}:{name}"


class Scope:
    """Where a task uses names."""

    __slots__ = ("_branches", "_counts", "_lane", "_path", "_used", "task")

    def __init__(self, path: str | None, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self._path = path
        self._lane = ""
        self._branches = 0
        self._counts: dict[str, int] = {}
        #: The uses in all tasks; the same thing while there is one.
        self._used = self._counts

    @property
    def outermost(self) -> bool:
        """Whether it is within no step's callback."""
        return self._path is None

    def branch(self, task: asyncio.Task[Any] | None) -> Scope:
        """The scope of a task that was begun within this one's."""
        if self._used is self._counts:
            self._used = self._counts.copy()
        self._branches += 1
        scope = Scope(self._path, task)
        scope._lane = f"{self._lane}{self._branches}."
        scope._used = self._used
        return scope

    def use(self, kind: str, name: str) -> Use:
        """Count one more use of a name, of a step of this kind."""
        slot = name if kind == "do" else slot_of(kind, name)
        counts, used = self._counts, self._used
        own = counts[slot] = counts.get(slot, 0) + 1
        if used is counts:
            return Use(kind, own, name, own, self._path)
        count = used[slot] = used.get(slot, 0) + 1
        place = f"{self._lane}{own}"
        told = None if place == str(count) else place
        return Use(kind, place, name, count, self._path, told)

    def reserve(self, taken: Mapping[str, set[int]]) -> None:
        """Give no numbers again that were given in an earlier run."""
        if self._used is self._counts:
            return
        for slot, counts in taken.items():
            self._used[slot] = max(self._used.get(slot, 0), *counts)


#: Where the running code is: a scope, or the step whose callback it is.
current: contextvars.ContextVar[Scope | Use | None] = contextvars.ContextVar(
    "bunflare_workflow_scope", default=None
)


def use(run: Run, kind: str, name: str) -> Use:
    """The next use of a name in the running code."""
    scope = current.get()
    if scope.__class__ is not Scope:
        # None: in a task that was not begun by the code.
        scope = run.scope if scope is None else cast(Use, scope).within()
    task = asyncio.current_task(run.host.loop)
    turns = run.turns
    turns.progress += 1
    if scope.task is not task:
        turns.branched = turns.branched or scope.outermost
        scope = scope.branch(task)
        current.set(scope)
    return scope.use(kind, name)
