"""What of an object is on disk: the texts of the keys that it has read or written.

That is looked at where earlier states are kept. They stay true until somebody else writes
(`Reader.life`), and are read anew then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..store import objects as store
from ..store.reader import LENT_BYTES, LENT_LARGEST

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.object_history import Earlier
    from .object_layer import Layer


class Known:
    """The texts of one object, None for a key that it does not have."""

    __slots__ = ("_database", "_digits", "_life", "_namespace", "_texts")

    def __init__(self, database: Database, namespace: str, digits: str) -> None:
        self._database = database
        self._namespace = namespace
        self._digits = digits
        self._life = -1
        self._texts: dict[str, str | None] = {}

    def get(self, key: str) -> str | None:
        """The text of a key, or None."""
        reader = self._database.reader
        life = reader.life()
        if life != self._life:
            self._life = life
            self._texts.clear()
        if key in self._texts:
            return self._texts[key]
        text = store.get(reader, self._namespace, self._digits, key)
        self._learn(key, text)
        return text

    def learn(self, layer: Layer) -> None:
        """It is on disk now."""
        if layer.extra.cleared:
            self._texts.clear()
        for key, text in layer.entries.items():
            self._learn(key, text)
        self._database.reader.weigh(len(layer.entries) * LENT_BYTES)

    def _learn(self, key: str, text: str | None) -> None:
        if text is None or len(text) <= LENT_LARGEST:
            self._texts[key] = text
        else:
            self._texts.pop(key, None)

    def differing(self, entries: dict[str, str | None]) -> Earlier:
        """The keys, each with its text or None, that are something else than in ``entries``."""
        found: Earlier = []
        for key, text in entries.items():
            present = self.get(key)
            if present != text:
                found += (key, present)
        return found
