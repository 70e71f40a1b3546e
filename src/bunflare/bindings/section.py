"""A critical section of a Durable Object, as the actor opens and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Section:
    """A critical section: while it is open, only its own code runs in the object."""

    __slots__ = ("future", "limited", "over", "parent", "resets", "run", "task")

    def __init__(
        self,
        run: Callable[[], Awaitable[Any]],
        parent: Section | None,
        future: asyncio.Future[Any],
        resets: bool,
        limited: bool,
    ) -> None:
        self.run = run
        self.parent = parent
        self.future = future
        #: Whether its failure resets the object.
        self.resets = resets
        #: Whether it may only take so long, and its object is reset else.
        self.limited = limited
        self.task: asyncio.Task[Any] | None = None
        #: What it has started may go on after it.
        self.over = False
