"""An object's keys, values and alarm as they are now: changes in layers over what is on disk.

A write goes into the uppermost layer and costs no more than that. No reading waits: what is not in
a layer, nor known, is read from the disk on the spot.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..store import objects as store
from ..store.reader import LENT_BYTES, LENT_LARGEST
from .object_layer import Layer

if TYPE_CHECKING:
    from ..store.database import Database
    from .object_known import Known


class Values:
    """What is read and written of them. Where that goes is `ObjectData`'s matter."""

    __slots__ = (
        *("_database", "_failed", "_life", "_namespace", "_texts", "below", "digits", "flying"),
        *("ringing", "scheduled", "top"),
    )

    def __init__(
        self, database: Database, namespace: str, digits: str, flying: list[Layer] | None
    ) -> None:
        self._database = database
        self._namespace = namespace
        self.digits = digits
        #: The layer that takes what is written, and those below it while a transaction is open.
        self.top = Layer()
        self.below: list[Layer] = []
        #: Layers on their way to the disk, the oldest first: also those that the object's last
        #: instance had sent.
        self.flying: list[Layer] = [] if flying is None else flying
        #: The texts of keys as they are now, on disk or on their way, None for one that is not
        #: there: true for as long as nobody else writes (`Reader.life`).
        self._texts: dict[str, str | None] = {}
        self._life = -1
        #: Whether a flush is to come, of itself or at the end of an event's step.
        self.scheduled = False
        self._failed: BaseException | None = None
        #: The alarm whose handler is running is not set any more, for those who ask.
        self.ringing = False

    # -- key-value -------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """The text of a value."""
        if self._database.reader.life() == self._life:
            texts = self._texts
            if key in texts:
                return texts[key]
        return self._look(key)

    def _look(self, key: str) -> str | None:
        reader = self._database.reader
        life = reader.life()
        if life != self._life:
            self._life = life
            self._texts.clear()
        text: str | None = None
        for layer in (self.top, *reversed(self.below), *reversed(self.flying)):
            if key in layer.entries:
                text = layer.entries[key]
                break
            if layer.extra.cleared:
                break
        else:
            text = store.get(reader, self._namespace, self.digits, key)
            reader.weigh(LENT_BYTES)
        if text is None or len(text) <= LENT_LARGEST:
            self._texts[key] = text
        return text

    def before(self, key: str, known: Known) -> str | None:
        """What the text was before what has not been sent."""
        for layer in reversed(self.flying):
            if key in layer.entries:
                return layer.entries[key]
            if layer.extra.cleared:
                return None
        return known.get(key)

    def put(self, key: str, text: str) -> None:
        """Store the text of a value."""
        self.top.entries[key] = text
        if len(text) <= LENT_LARGEST:
            self._texts[key] = text
        else:
            self._texts.pop(key, None)
        if not self.scheduled:
            self._schedule()

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.top.more()
        self.top.entries[key] = None
        self._texts[key] = None
        if not self.scheduled:
            self._schedule()

    def rows(
        self, start: str, end: str | None, limit: int | None, reverse: bool
    ) -> list[tuple[str, str]]:
        """Keys with their texts from ``start`` on and below ``end``, in the order of UTF-8."""
        over: dict[str, str | None] = {}
        cleared = False
        for layer in (*self.flying, *self.below, self.top):
            if layer.extra.cleared:
                over.clear()
                cleared = True
            over.update(layer.entries)
        over = {
            key: text for key, text in over.items() if key >= start and (end is None or key < end)
        }
        rows: list[tuple[str, str]] = []
        if not cleared:
            most = -1 if limit is None else limit + len(over)
            rows = store.list_rows(
                self._database.view, self._namespace, self.digits, start, end, most, reverse
            )
        if over:
            merged: dict[str, str | None] = dict(rows)
            merged.update(over)
            rows = [
                (key, text)
                for key in sorted(merged, reverse=reverse)
                if (text := merged[key]) is not None
            ]
        return rows if limit is None else rows[:limit]

    # -- the alarm -------------------------------------------------------------------------

    def alarm(self) -> int | None:
        """When it is set for, in epoch milliseconds."""
        for layer in (self.top, *reversed(self.below), *reversed(self.flying)):
            if layer.extra.alarm != store.KEEP:
                return layer.extra.alarm
        if self.ringing:
            return None
        row = store.alarm(self._database.view, self._namespace, self.digits)
        return None if row is None else row[0]

    def stored_alarm(self) -> tuple[int, int] | None:
        """``(time, retries)`` of the alarm on disk, unless a change of it is under way."""
        layers = self.top, *self.below, *self.flying
        if any(layer.extra.alarm != store.KEEP for layer in layers):
            return None
        return store.alarm(self._database.view, self._namespace, self.digits)

    def set_alarm(self, time: int | None) -> None:
        self.top.more().alarm = time
        self.ringing = False
        self._schedule()

    # -- their way to the disk -------------------------------------------------------------

    def _schedule(self) -> None:
        if self._failed is not None:
            raise self._failed
        if not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what was written on its way, if no transaction is open."""
        raise NotImplementedError
