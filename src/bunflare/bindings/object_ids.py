"""Ids of Durable Objects: 64 hexadecimal digits, bound to their namespace.

The first half is random, or made from a name; the second half proves the namespace, since only its
key makes the two fit. https://developers.cloudflare.com/durable-objects/api/id/
"""

from __future__ import annotations

import hashlib
import re
import secrets
from functools import lru_cache
from hmac import digest

from ..errors import DurableObjectTypeError

_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")
_HALF = 16

JURISDICTIONS = ("eu", "fedramp", "fedramp-high", "us")


class DurableObjectId:
    """Which object is meant."""

    __slots__ = ("digits", "jurisdiction", "name")

    def __init__(
        self, digits: str, name: str | None = None, jurisdiction: str | None = None
    ) -> None:
        #: The 64 digits.
        self.digits = digits
        #: What the id was made from; None for a unique id.
        self.name = name
        self.jurisdiction = jurisdiction

    def __str__(self) -> str:
        return self.digits

    def to_string(self) -> str:
        """The 64 digits."""
        return self.digits

    def equals(self, other: DurableObjectId) -> bool:
        """Whether the other id means the same object."""
        return self == other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableObjectId) and self.digits == other.digits

    def __hash__(self) -> int:
        return hash(self.digits)

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"DurableObjectId({self.digits!r}{name})"


def check_jurisdiction(jurisdiction: object) -> str | None:
    if jurisdiction is None or (isinstance(jurisdiction, str) and jurisdiction in JURISDICTIONS):
        return jurisdiction
    raise DurableObjectTypeError(
        f"{jurisdiction!r} is not a jurisdiction; they are {', '.join(JURISDICTIONS)}"
    )


@lru_cache(maxsize=8192)
def from_name(namespace: str, name: str, jurisdiction: str | None) -> str:
    """The digits of the object of that name; ``namespace`` is what its ids are bound to."""
    key = _key(namespace)
    first = digest(key, f"{jurisdiction or ''}\0{name}".encode("utf-8", "surrogatepass"), "sha256")
    return _whole(key, first[:_HALF], jurisdiction)


def unique(namespace: str, jurisdiction: str | None) -> str:
    """Digits that no other object has."""
    return _whole(_key(namespace), secrets.token_bytes(_HALF), jurisdiction)


def of_seed(name: str) -> str:
    """The digits by which programs that follow the seed know an object, in every namespace."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def parse(namespace: str, text: object) -> tuple[str, str | None] | None:
    """The digits in lower case, and the jurisdiction; None if another namespace made them."""
    if not isinstance(text, str) or _HEX.match(text) is None:
        raise DurableObjectTypeError("Invalid Durable Object ID: must be 64 hex digits")
    digits = text.lower()
    key, first = _key(namespace), bytes.fromhex(digits[: 2 * _HALF])
    for jurisdiction in (None, *JURISDICTIONS):
        if _whole(key, first, jurisdiction) == digits:
            return digits, jurisdiction
    return None


@lru_cache(maxsize=8192)
def of_platform(namespace: str, name: str) -> str:
    """The digits that the platform's own local runtime makes of a name: those of imported ones."""
    key = _key(namespace)
    first = digest(key, name.encode("utf-8", "surrogatepass"), "sha256")
    return _whole(key, first[:_HALF], None)


@lru_cache(maxsize=256)
def _key(namespace: str) -> bytes:
    return hashlib.sha256(namespace.encode()).digest()


def _whole(key: bytes, first: bytes, jurisdiction: str | None) -> str:
    proof = digest(key, first + (jurisdiction or "").encode(), "sha256")
    return (first + proof[:_HALF]).hex()
