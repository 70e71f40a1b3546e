"""Which process runs a workflow's instances: the first that can, for as long as it lives."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import StateError
from ..store import workflow_owners as store

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..store.transaction import Transaction

_log = logging.getLogger("bunflare")

#: Parts of this process that run workflows.
_tokens: set[str] = set()


class Ownership(ABC):
    """A claim on a workflow, which at most one part of one process has."""

    def __init__(self, database: Database, name: str, clock: Clock) -> None:
        self.database = database
        self.name = name
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop
        #: Whether this is where the instances run.
        self.owner = False
        self.closing = False
        self._started = False
        self._token = secrets.token_hex(8)
        self._settling: asyncio.Task[None] | None = None
        self._forget_ends: Callable[[], None] | None = None

    @property
    @abstractmethod
    def able(self) -> bool:
        """Whether instances could be run here."""

    @abstractmethod
    def _begin(self) -> None:
        """The workflow is this one's."""

    @abstractmethod
    def _rung(self) -> None:
        """A process has ended, or has changed something."""

    @property
    def here(self) -> bool:
        """Whether instances run in the running event loop, if they run in this process."""
        return self._started and asyncio.get_running_loop() is self.loop

    async def settled(self) -> None:
        """Return once it is known where the instances run."""
        if self.closing:
            raise StateError("the state is closed")
        if self._started and asyncio.get_running_loop() is not self.loop:
            raise StateError(
                "a workflow belongs to the event loop that used it first; open the directory once "
                "more in this one"
            )
        self.settle()
        if self._settling is not None:
            await asyncio.wait([self._settling])

    def settle(self) -> None:
        """Become the owner, if there is none."""
        if not self.able or self.owner or self.closing or self._settling is not None:
            return
        if not self._started:
            self.loop = asyncio.get_running_loop()
            self._started = True
            _tokens.add(self._token)
            self._forget_ends = self.database.presence.subscribe(self._rung)
        elif self._is_owned():
            return
        # Whoever asks first lends it nothing: no gate, no open transaction.
        self._settling = self.loop.create_task(self._claim(), context=contextvars.Context())

    def _is_owned(self) -> bool:
        found = store.owner(self.database.view, self.name)
        return found is not None and self._lives(found)

    def _lives(self, owner: tuple[str, str]) -> bool:
        presence = self.database.presence
        return owner[1] in _tokens if owner[0] == presence.id else presence.alive(owner[0])

    async def _claim(self) -> None:
        try:
            self.owner = await self.database.write(self._take)
        except Exception as error:
            if not self.closing:
                _log.error("the workflow %s cannot be run: %s", self.name, error)
        finally:
            self._settling = None
        if self.owner:
            self._begin()

    def _take(self, tx: Transaction) -> bool:
        found = store.owner(tx, self.name)
        if found is not None and self._lives(found):
            return False
        store.own(tx, self.name, self.database.presence.id, self._token, self.clock.now())
        return True

    async def _stop_claiming(self) -> None:
        if self._forget_ends is not None:
            self._forget_ends()
        if self._settling is not None:
            await asyncio.wait([self._settling])

    async def _give_back(self) -> None:
        """Leave the workflow to others."""
        if self.owner:
            self.owner = False
            now = self.clock.now()
            await self.database.write(store.disown, self.name, self._token, now)
            self.database.presence.ring()
        _tokens.discard(self._token)
