"""`Headers`: a multimap whose names do not know case.

What a server received stays as it came (pairs of bytes) until somebody asks for more than one
name, and what it sends is encoded once. Neither list is ever changed, only replaced: copies share
them, and none of the cheap constructors has to copy what it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

from ..errors import FetchTypeError

T = TypeVar("T")

Pairs: TypeAlias = list[tuple[str, str]]
RawPairs: TypeAlias = list[tuple[bytes, bytes]]
Guard: TypeAlias = Literal["none", "immutable"]


class HasItems(Protocol):
    """A mapping, or an `http.client.HTTPMessage`."""

    def items(self) -> Iterable[tuple[str, str]]: ...


HeadersInit: TypeAlias = "Headers | HasItems | Iterable[tuple[str, str]]"

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\0\r\n]")
_WHITESPACE = " \t\r\n"

# Names are few and come again and again: the checked, lower-case form of those seen first.
_names: dict[str, str] = {}
_MOST_NAMES = 1024

_new = object.__new__


class Headers:
    """Header names and values, as in the Fetch standard.

    Reads like a mapping from names to values (several values of one name joined by ", ") and
    iterates over names, in lower case and in order. ``Set-Cookie`` appears once for each value
    when one iterates. With the guard "immutable" every change raises `FetchTypeError`.
    """

    __slots__ = ("_guard", "_pairs", "_raw")

    _guard: Guard
    # At least one of the two is there; both say the same.
    _pairs: Pairs | None
    _raw: RawPairs | None

    def __init__(self, init: HeadersInit | None = None, guard: Guard = "none") -> None:
        self._guard = guard
        self._raw = None
        if init is None:
            self._pairs = []
        elif init.__class__ is dict:
            self._pairs = [(_name(name), _value(value)) for name, value in init.items()]
        elif isinstance(init, Headers):
            self._pairs = init._pairs
            self._raw = init._raw
        else:
            self._pairs = _checked(init)

    @classmethod
    def from_raw(cls, raw: RawPairs, guard: Guard = "none") -> Headers:
        """Headers that a server received: names in lower case, all known to be valid."""
        headers = _new(cls)
        headers._guard = guard
        headers._pairs = None
        headers._raw = raw
        return headers

    @classmethod
    def from_pairs(cls, pairs: Pairs, guard: Guard = "none") -> Headers:
        """Headers whose names are in lower case, and which are known to be valid."""
        headers = _new(cls)
        headers._guard = guard
        headers._pairs = pairs
        headers._raw = None
        return headers

    @property
    def pairs(self) -> Pairs:
        """Names (in lower case) and values in the order in which they came."""
        return self._decoded().copy()

    @property
    def raw(self) -> RawPairs:
        """The same as a server sends it, in bytes."""
        raw = self._raw
        if raw is None:
            raw = self._raw = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in self._decoded()
            ]
        return raw.copy()

    @property
    def guard(self) -> Guard:
        return self._guard

    def freeze(self) -> Headers:
        """Refuse changes from now on."""
        self._guard = "immutable"
        return self

    # -- the standard's methods --------------------------------------------------------------

    def append(self, name: str, value: str) -> None:
        """Add a value, beside those that the name has."""
        self._replace([*self._decoded(), (_name(name), _value(value))])

    def set(self, name: str, value: str) -> None:
        """Give the name this value only, where its first one was or else at the end."""
        name, value = _name(name), _value(value)
        pairs = self._decoded()
        names = [other for other, _ in pairs]
        if name not in names:
            self._replace([*pairs, (name, value)])
            return
        first = names.index(name)
        rest = [pair for pair in pairs[first + 1 :] if pair[0] != name]
        self._replace([*pairs[:first], (name, value), *rest])

    def delete(self, name: str) -> None:
        """Remove the name, if it is there."""
        name = _name(name)
        self._replace([pair for pair in self._decoded() if pair[0] != name])

    def has(self, name: str) -> bool:
        return bool(self._values(_name(name)))

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: T) -> str | T: ...
    def get(self, name: str, default: T | None = None) -> str | T | None:
        """The values of the name joined by ", ", or ``default``."""
        values = self._values(_name(name))
        return ", ".join(values) if values else default

    def get_set_cookie(self) -> list[str]:
        """The values of ``Set-Cookie``, which mean nothing when they are joined."""
        return self._values("set-cookie")

    @overload
    def get_all(self, name: str) -> list[str] | None: ...
    @overload
    def get_all(self, name: str, default: T) -> list[str] | T: ...
    def get_all(self, name: str, default: T | None = None) -> list[str] | T | None:
        """Each value of the name, or ``default`` (as `http.client.HTTPMessage` has it)."""
        return self._values(_name(name)) or default

    # -- as a mapping ------------------------------------------------------------------------

    def items(self) -> Pairs:
        """Names and joined values, ordered by name; each ``Set-Cookie`` by itself."""
        joined: dict[str, str] = {}
        cookies: Pairs = []
        for name, value in self._decoded():
            if name == "set-cookie":
                cookies.append((name, value))
            else:
                joined[name] = f"{joined[name]}, {value}" if name in joined else value
        # The sort is stable, and compares names only: cookies stay in their order.
        return sorted([*joined.items(), *cookies], key=lambda pair: pair[0])

    def keys(self) -> list[str]:
        return [name for name, _ in self.items()]

    def values(self) -> list[str]:
        return [value for _, value in self.items()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __bool__(self) -> bool:
        # An object of JavaScript, which is true when it is empty too.
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.isascii() and bool(self._values(name.lower()))

    def __getitem__(self, name: str) -> Any:
        """None where there is none, as with `http.client.HTTPMessage`, which the SDK gives."""
        return self.get(name)

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

    @property
    def js_object(self) -> Headers:
        """Itself: what the platform's SDK wraps."""
        return self

    # The standard's own spellings.
    getSetCookie = get_set_cookie
    getAll = get_all
    entries = items

    # -- underneath --------------------------------------------------------------------------

    def with_default(self, name: str, value: str) -> Headers:
        """Add the pair, known to be valid, unless the name is there. For new headers only."""
        pairs = self._decoded()
        for other, _ in pairs:
            if other == name:
                return self
        self._pairs = [*pairs, (name, value)]
        self._raw = None
        return self

    def _values(self, name: str) -> list[str]:
        """Each value of a name in lower case. Looks one up without decoding the others."""
        if self._pairs is None:
            wanted = name.encode()
            assert self._raw is not None
            return [value.decode("latin-1") for other, value in self._raw if other == wanted]
        return [value for other, value in self._pairs if other == name]

    def _decoded(self) -> Pairs:
        pairs = self._pairs
        if pairs is None:
            assert self._raw is not None
            pairs = self._pairs = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw
            ]
        return pairs

    def _replace(self, pairs: Pairs) -> None:
        if self._guard != "none":
            raise FetchTypeError("Can't modify immutable headers.")
        self._pairs = pairs
        self._raw = None


def _checked(init: object) -> Pairs:
    items = getattr(init, "items", None)
    pairs: Any = init if items is None else items()
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise FetchTypeError("Received unexpected type for headers argument")
    checked: Pairs = []
    try:
        for pair in pairs:
            if isinstance(pair, str):
                raise TypeError("a str of two characters is no pair")
            name, value = pair
            checked.append((_name(name), _value(value)))
    except FetchTypeError:
        raise
    except (TypeError, ValueError):
        raise FetchTypeError("headers must be a mapping, or pairs of a name and a value") from None
    return checked


def _name(name: Any) -> str:
    try:
        return _names[name]
    except (KeyError, TypeError):
        pass
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FetchTypeError(f"Invalid header name: {name!r}")
    lowered = name.lower()
    if len(_names) < _MOST_NAMES:
        _names[str(name)] = lowered
    return lowered


def _value(value: Any) -> str:
    # Nearly all values are printable ASCII, which is known without looking at each character here.
    if value.__class__ is str and value.isascii() and value.isprintable():
        return value.strip(" ")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise FetchTypeError(f"Invalid header value: {value!r}")
    text = value.strip(_WHITESPACE)
    if _FORBIDDEN_IN_VALUE.search(text) or (not text.isascii() and max(text) > "\xff"):
        raise FetchTypeError(f"Invalid header value: {value!r}")
    return text
