"""`URLSearchParams`: names and values as ``application/x-www-form-urlencoded``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote_plus, unquote_to_bytes

from ..errors import FetchTypeError
from . import text
from .multimap import Multimap

URLSearchParamsInit: TypeAlias = str | Mapping[str, str] | Multimap[str] | Iterable[tuple[str, str]]

# More fields than a program needs, and few enough to be held: what a hostile sender may ask for.
MOST_FIELDS = 10_000


class URLSearchParams(Multimap[str]):
    """The query of a URL, or the fields of a form that has no files.

    https://developer.mozilla.org/docs/Web/API/URLSearchParams
    """

    __slots__ = ()

    def __init__(self, init: URLSearchParamsInit = "") -> None:
        super().__init__()
        if isinstance(init, str):
            self._entries = parse(text.encode(init.removeprefix("?")))
            return
        for name, value in init.items() if isinstance(init, Mapping | Multimap) else init:
            self.append(name, value)

    def append(self, name: str, value: str) -> None:
        """Add a value, beside those that the name has."""
        self._entries.append((_text(name), _text(value)))

    def set(self, name: str, value: str) -> None:
        """Give the name this value only."""
        self._put(_text(name), _text(value))

    def sort(self) -> None:
        """Order the entries by name; those of one name stay as they are."""
        # JavaScript compares UTF-16 code units.
        self._entries.sort(key=lambda entry: entry[0].encode("utf-16-be", "surrogatepass"))

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __str__(self) -> str:
        return serialize(self._entries)

    # The standard's own spellings.
    toString = __str__

    @property
    def size(self) -> int:
        return len(self._entries)


def parse(data: bytes) -> list[tuple[str, str]]:
    """The fields in their order. Raises `FetchTypeError` if there are more than `MOST_FIELDS`."""
    if data.count(b"&") >= MOST_FIELDS:
        raise FetchTypeError(f"the form has more than {MOST_FIELDS} fields")
    fields: list[tuple[str, str]] = []
    for piece in data.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            fields.append((_decoded(name), _decoded(value)))
    return fields


def serialize(fields: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in fields)


def _decoded(piece: bytes) -> str:
    return unquote_to_bytes(piece.replace(b"+", b" ")).decode("utf-8", "replace")


def _encoded(value: str) -> str:
    # Python never encodes a tilde, the standard always does.
    return quote_plus(text.encode(value), safe="*").replace("~", "%7E")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FetchTypeError(f"a field must be a str, not {type(value).__name__}")
    return value
