"""A running object's changes that are not on disk, and who waits for them to be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from ..store import objects as store

if TYPE_CHECKING:
    from ..store.object_history import Earlier
    from ..store.told import Outcome
    from .object_data import ObjectData


class Waiter(Protocol):
    """Who has something to do when a write is on disk, or has failed."""

    def settle(self, error: BaseException | None) -> None: ...


class Extra:
    """What a layer may have beside its entries; most have nothing of it."""

    __slots__ = ("alarm", "cleared", "restores", "sequence")

    def __init__(self) -> None:
        #: Whether all that was before is deleted.
        self.cleared = False
        self.alarm: int | None = store.KEEP
        #: Whether it is what an object was to begin with.
        self.restores = False
        #: The number of the redo record that has them.
        self.sequence: int | None = None


#: What most layers have.
NOTHING = Extra()


class Layer:
    """Changes that are not on disk: texts by key, None for a deleted one."""

    __slots__ = ("data", "earlier", "entries", "extra", "outcome", "waiting")

    #: Whose they are, once they were sent.
    data: ObjectData

    def __init__(self) -> None:
        self.entries: dict[str, str | None] = {}
        #: To be read; for changes there is `more`. Something else where a key is deleted.
        self.extra = NOTHING
        #: What its keys were before, where that is kept.
        self.earlier: Earlier | None = None
        #: Who waits for it to be on disk, and what they hear then: mostly one.
        self.outcome: Outcome | None = None
        #: Those that are not, or not the first.
        self.waiting: list[Outcome | Waiter] | None = None

    def more(self) -> Extra:
        """What it has beside its entries, to be changed."""
        if self.extra is NOTHING:
            self.extra = Extra()
        return self.extra

    def __bool__(self) -> bool:
        extra = self.extra
        return bool(self.entries) or extra.cleared or extra.alarm != store.KEEP

    def put(self, other: Layer) -> None:
        """Lay another one over this."""
        if other.extra.cleared:
            self.more().cleared = True
            self.entries = dict(other.entries)
        else:
            self.entries.update(other.entries)
        if other.extra is not NOTHING:
            more = self.more()
            if other.extra.alarm != store.KEEP:
                more.alarm = other.extra.alarm

    def wait(self, one: Outcome | Waiter) -> None:
        """Tell one more what becomes of it, after those that wait already."""
        if self.waiting is None:
            self.waiting = [one]
        else:
            self.waiting.append(one)

    def settle(self, error: BaseException | None, told: list[Outcome]) -> None:
        """Add those that wait, and what they are to hear."""
        waiting = [*((self.outcome,) if self.outcome else ()), *(self.waiting or ())]
        self.outcome = self.waiting = None
        for one in waiting:
            if not isinstance(one, tuple):
                one.settle(error)
            elif error is None:
                told.append(one)
            else:
                told.append((one[0], None, error))

    def text(self) -> str:
        """For the redo record."""
        return json.dumps([self.extra.cleared, list(self.entries.items()), self.extra.alarm])
