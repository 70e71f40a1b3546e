"""Following what changes in a state, in this process and in others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from ..errors import StateError
from ..store import changes as store
from ..store.changes import LIMIT, Change

if TYPE_CHECKING:
    from ..store.database import Database

_PAGE = 1000


class Changes:
    """The change log of a state: ``state.changes``.

    It is off until somebody switches it on, for all processes and for good. A change is written to
    it in its own commit, so it is in the log if, and only if, it happened. Rows of KV, R2, the
    cache, Durable Objects' key-value storage and alarms, queues and workflows are in it; the SQL
    tables of D1 and of objects are files of their own and are not.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def enabled(self) -> bool:
        """Whether the log is switched on."""
        return store.enabled(self._database.view)

    @property
    def position(self) -> int:
        """The position of the last change; 0 if there was none."""
        return store.latest(self._database.view)

    async def enable(self, limit: int = LIMIT) -> None:
        """Write a log from now on, of which about the last ``limit`` changes are kept."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise StateError(f"limit must be a positive number of changes, not {limit!r}")
        await self._database.write(store.switch_on, limit)

    async def disable(self) -> None:
        """Write no log any more. What is in it stays."""
        await self._database.write(store.switch_off)

    def read(self, after: int = 0, limit: int = _PAGE) -> list[Change]:
        """At most ``limit`` changes behind a position.

        Raises `StateError` where changes behind it were removed already, or where the position
        is of another log (a state that was restored, for one).
        """
        view = self._database.view
        found = store.read(view, after, limit)
        if not found and after > (latest := store.latest(view)):
            raise StateError(f"there is no position {after}: the log ends at {latest}")
        # Position 0 is that of whoever wants all that there is.
        if found and 0 < after < found[0].position - 1:
            raise StateError(
                f"the changes between {after} and {found[0].position} are no longer kept"
            )
        return found

    def follow(self, after: int | None = None) -> AsyncIterator[Change]:
        """All changes behind a position, by default from now on, for ever; they wake it.

        Raises `StateError` as `read` does, and where the log is off.
        """
        # From the moment of the call, not of the first look.
        return self._follow(self.position if after is None else after)

    async def _follow(self, position: int) -> AsyncIterator[Change]:
        while True:
            found = self.read(position)
            for change in found:
                position = change.position
                yield change
            if not found:
                if not self.enabled:
                    raise StateError("the change log is off: `await state.changes.enable()`")
                await self._database.watch.wait(partial(self._news, position))

    def _news(self, position: int) -> bool:
        return self.position != position or not self.enabled
