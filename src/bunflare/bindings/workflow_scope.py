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
from typing import Any


class Use:
    """One use of a name."""

    __slots__ = ("count", "key", "name", "parent", "place")

    def __init__(
        self,
        key: str,
        name: str,
        count: int,
        parent: str | None = None,
        place: str | None = None,
    ) -> None:
        #: What it is in the log of its scope: ``do:1:name``.
        self.key = key
        self.name = name
        #: How often the name has been used, by all tasks.
        self.count = count
        #: The `path` of the step around it; None for none.
        self.parent = parent
        #: Where it was used, if the count does not tell.
        self.place = place

    @property
    def path(self) -> str:
        """What it is in all of the log."""
        return self.key if self.parent is None else f"{self.parent}/{self.key}"

    def rollback(self) -> Use:
        """The undoing of a step."""
        key = f"rollback:{self.key.partition(':')[2]}"
        return Use(key, self.name, self.count, self.parent, self.place)


class Scope:
    """Where a task uses names."""

    __slots__ = ("_branches", "_counts", "_lane", "_path", "_used", "task")

    def __init__(self, path: str | None, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self._path = path
        self._lane = ""
        self._branches = 0
        # Most callbacks use no names.
        self._counts: dict[str, int] | None = None
        #: The uses in all tasks; the same thing while there is one.
        self._used: dict[str, int] | None = None

    def branch(self, task: asyncio.Task[Any] | None) -> Scope:
        """The scope of a task that was begun within this one's."""
        if self._used is self._counts:
            self._used = dict(self._counts or ())
        self._branches += 1
        scope = Scope(self._path, task)
        scope._lane = f"{self._lane}{self._branches}."
        scope._used = self._used
        return scope

    def use(self, kind: str, name: str) -> Use:
        """Count one more use of a name, of a step of this kind."""
        slot = f"{kind}:{name}"
        counts, used = self._counts, self._used
        if counts is None:
            counts = self._counts = {}
            if used is None:
                used = self._used = counts
        own = counts[slot] = counts.get(slot, 0) + 1
        if used is counts or used is None:
            return Use(f"{kind}:{own}:{name}", name, own, self._path, None)
        count = used[slot] = used.get(slot, 0) + 1
        place = f"{self._lane}{own}"
        told = None if place == str(count) else place
        return Use(f"{kind}:{place}:{name}", name, count, self._path, told)

    def reserve(self, taken: Mapping[str, set[int]]) -> None:
        """Give no numbers again that were given in an earlier run."""
        if self._used is None or self._used is self._counts:
            return
        for slot, counts in taken.items():
            self._used[slot] = max(self._used.get(slot, 0), *counts)


#: The scope of the running code.
current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar(
    "bunflare_workflow_scope", default=None
)
