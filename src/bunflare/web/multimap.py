"""`Multimap`: names with one value or several, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar, overload

V = TypeVar("V")
T = TypeVar("T")


class Multimap(Generic[V]):
    """What `FormData` and `URLSearchParams` share. Names know case.

    Reads like a mapping from names to the first value of each; iterating, ``keys``, ``values``
    and ``items`` give every entry.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[str, V]] = []

    @overload
    def get(self, name: str) -> V | None: ...
    @overload
    def get(self, name: str, default: T) -> V | T: ...
    def get(self, name: str, default: T | None = None) -> V | T | None:
        """The first value of the name, or ``default``."""
        for other, value in self._entries:
            if other == name:
                return value
        return default

    def get_all(self, name: str) -> list[V]:
        """Each value of the name."""
        return [value for other, value in self._entries if other == name]

    def has(self, name: str) -> bool:
        return any(other == name for other, _ in self._entries)

    def delete(self, name: str) -> None:
        """Remove the name, if it is there."""
        self._entries = [entry for entry in self._entries if entry[0] != name]

    def _put(self, name: str, value: V) -> None:
        """Give the name this value only, where its first one was or else at the end."""
        for position, (other, _) in enumerate(self._entries):
            if other == name:
                rest = [entry for entry in self._entries[position + 1 :] if entry[0] != name]
                self._entries[position:] = [(name, value), *rest]
                return
        self._entries.append((name, value))

    def items(self) -> list[tuple[str, V]]:
        return list(self._entries)

    def keys(self) -> list[str]:
        return [name for name, _ in self._entries]

    def values(self) -> list[V]:
        return [value for _, value in self._entries]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        # An object of JavaScript, which is true when it is empty too.
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __getitem__(self, name: str) -> V:
        for other, value in self._entries:
            if other == name:
                return value
        raise KeyError(name)

    def __delitem__(self, name: str) -> None:
        if not self.has(name):
            raise KeyError(name)
        self.delete(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._entries!r})"

    @property
    def js_object(self) -> Self:
        """Itself: what the platform's SDK wraps."""
        return self

    # The standard's own spellings.
    getAll = get_all
    entries = items
