"""What an object knows to be on disk: the texts of the keys that it has read or written.

They stay true until somebody else writes (`Reader.life`), and are read anew then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..store import objects as store
from ..store.reader import LENT_BYTES, LENT_LARGEST

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.object_history import Earlier

# So few of them the reader need not hear of.
_MANY = 32
_UNKNOWN: Any = object()


class Known:
    """The texts of one object, None for a key that it does not have."""

    __slots__ = ("_count", "_database", "_digits", "_life", "_namespace", "_texts")

    def __init__(self, database: Database, namespace: str, digits: str) -> None:
        self._database = database
        self._namespace = namespace
        self._digits = digits
        self._life = -1
        self._texts: dict[str, str | None] = {}
        #: How many the reader does not know of yet.
        self._count = 0

    def get(self, key: str) -> str | None:
        """The text of a key, or None."""
        life = self._database.reader.life()
        if life != self._life:
            self._life = life
            self.clear()
        text = self._texts.get(key, _UNKNOWN)
        return self._read(key) if text is _UNKNOWN else text

    def _read(self, key: str) -> str | None:
        text = store.get(self._database.reader, self._namespace, self._digits, key)
        self.learn({key: text})
        return text

    def learn(self, entries: dict[str, str | None]) -> None:
        """That is on disk now."""
        texts = self._texts
        for key, text in entries.items():
            if text is None or len(text) <= LENT_LARGEST:
                texts[key] = text
            else:
                texts.pop(key, None)
        self._count += len(entries)
        if self._count > _MANY:
            self._database.reader.weigh(self._count * LENT_BYTES)
            self._count = 0

    def clear(self) -> None:
        """Forget everything."""
        self._texts.clear()
        self._count = 0

    def differing(self, entries: dict[str, str | None]) -> Earlier:
        """The keys, each with its text or None, that are something else than in ``entries``."""
        found: Earlier = []
        for key, text in entries.items():
            present = self.get(key)
            if present != text:
                found += (key, present)
        return found
