"""`Headers`: an ordered multimap whose names do not know case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from ..errors import FetchTypeError

T = TypeVar("T")

HeadersInit = Mapping[str, str] | Iterable[tuple[str, str]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00\r\n]")
_WHITESPACE = " \t\r\n"

# Names are few and come again and again: the checked, lower-case form of each that was seen.
_names: dict[str, str] = {}
_MOST_NAMES = 1024


class Headers:
    """Header names and values, as in the Fetch standard.

    Reads like a mapping from names to values (several values of one name joined by ", ") and
    iterates over names, in lower case and in order. ``Set-Cookie`` is never joined.
    """

    __slots__ = ("_immutable", "_pairs", "_raw")

    def __init__(self, init: HeadersInit | Headers | None = None) -> None:
        self._immutable = False
        self._raw: list[tuple[bytes, bytes]] | None = None
        self._pairs: list[tuple[str, str]] | None = []
        if init is None:
            return
        if isinstance(init, Headers):
            self._pairs = list(init.pairs)
            return
        pairs = init.items() if isinstance(init, Mapping) else init
        for pair in pairs:
            try:
                name, value = pair
            except (TypeError, ValueError):
                raise FetchTypeError("headers must be a mapping, or (name, value) pairs") from None
            self.append(name, value)

    @classmethod
    def from_raw(cls, raw: list[tuple[bytes, bytes]]) -> Headers:
        """Headers that a server received: names in lower case, and known to be valid."""
        headers = cls.__new__(cls)
        headers._immutable = False
        headers._raw = raw
        headers._pairs = None
        return headers

    @classmethod
    def from_pairs(cls, pairs: list[tuple[str, str]]) -> Headers:
        """Headers whose names are in lower case, and known to be valid. Keeps the list."""
        headers = cls.__new__(cls)
        headers._immutable = False
        headers._raw = None
        headers._pairs = pairs
        return headers

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names (in lower case) and values in the order in which they came. Not to be changed."""
        if self._pairs is None:
            assert self._raw is not None
            self._pairs = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw
            ]
        return self._pairs

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """What a server sends. Not to be changed."""
        if self._raw is None:
            self._raw = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in self.pairs
            ]
        return self._raw

    def freeze(self) -> Headers:
        """Refuse changes from now on, as the standard does for some."""
        self._immutable = True
        return self

    # -- the standard's methods --------------------------------------------------------------

    def append(self, name: str, value: str) -> None:
        """Add a value, beside those that the name has."""
        self._changing().append((_name(name), _value(value)))

    def set(self, name: str, value: str) -> None:
        """Give the name this value only."""
        name, value = _name(name), _value(value)
        pairs = self._changing()
        for position, (other, _) in enumerate(pairs):
            if other == name:
                rest = [pair for pair in pairs[position + 1 :] if pair[0] != name]
                pairs[position:] = [(name, value), *rest]
                return
        pairs.append((name, value))

    def delete(self, name: str) -> None:
        """Remove the name, if it is there."""
        name = _name(name)
        pairs = self._changing()
        pairs[:] = [pair for pair in pairs if pair[0] != name]

    def has(self, name: str) -> bool:
        name = _name(name)
        return any(other == name for other, _ in self.pairs)

    def get(self, name: str, default: T = cast(Any, None)) -> str | T:  # noqa: B008
        """The values of the name joined by ", ", or ``default``."""
        name = _name(name)
        values = [value for other, value in self.pairs if other == name]
        return ", ".join(values) if values else default

    def get_set_cookie(self) -> list[str]:
        """The values of ``Set-Cookie``, which must not be joined."""
        return [value for name, value in self.pairs if name == "set-cookie"]

    def get_all(self, name: str, default: T = cast(Any, None)) -> list[str] | T:  # noqa: B008
        """Each value of the name, or ``default`` (as `email.message.Message` has it)."""
        name = _name(name)
        return [value for other, value in self.pairs if other == name] or default

    getSetCookie = get_set_cookie

    # -- as a mapping ------------------------------------------------------------------------

    def items(self) -> list[tuple[str, str]]:
        """Names and joined values, ordered by name; each ``Set-Cookie`` by itself."""
        joined: dict[str, list[str]] = {}
        for name, value in self.pairs:
            joined.setdefault(name, []).append(value)
        found: list[tuple[str, str]] = []
        for name in sorted(joined):
            if name == "set-cookie":
                found += [(name, value) for value in joined[name]]
            else:
                found.append((name, ", ".join(joined[name])))
        return found

    entries = items

    def keys(self) -> list[str]:
        return [name for name, _ in self.items()]

    def values(self) -> list[str]:
        return [value for _, value in self.items()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if not self.has(name):
            raise KeyError(name)
        self.delete(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.items() == other.items()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    def _changing(self) -> list[tuple[str, str]]:
        """The pairs, to be changed."""
        if self._immutable:
            raise FetchTypeError("Can't modify immutable headers.")
        pairs = self.pairs
        self._raw = None
        return pairs


def _name(name: object) -> str:
    try:
        return _names[name]  # type: ignore[index]
    except (KeyError, TypeError):
        pass
    if not isinstance(name, str):
        raise FetchTypeError(f"a header's name must be a str, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise FetchTypeError(f"Invalid header name: {name!r}")
    lowered = name.lower()
    if len(_names) < _MOST_NAMES:
        _names[name] = lowered
    return lowered


def _value(value: object) -> str:
    if not isinstance(value, str):
        if isinstance(value, int | float):
            return str(value)
        raise FetchTypeError(f"a header's value must be a str, not {type(value).__name__}")
    value = value.strip(_WHITESPACE)
    if _FORBIDDEN_IN_VALUE.search(value):
        raise FetchTypeError(f"Invalid header value: {value!r}")
    if not value.isascii():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise FetchTypeError(
                f"a header's value must consist of characters below U+0100: {value!r}"
            ) from None
    return value
