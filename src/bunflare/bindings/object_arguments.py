"""What the storage of a Durable Object takes, and how it says no.

https://developers.cloudflare.com/durable-objects/platform/limits/
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ..errors import DurableObjectTypeError, DurableObjectValueError
from ..values import dumps
from .text import encodable

#: A key and its value together, in bytes.
MAX_BYTES = 2 * 1024 * 1024
#: What so many characters may take: the largest have four bytes.
SUSPECT = MAX_BYTES // 4


def check_key(key: object) -> str:
    return _text(key, "a key")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DurableObjectTypeError(f"{what} is a string, not {type(value).__name__}")
    if encodable(value) is not value:
        raise DurableObjectTypeError(f"{what} must be text that UTF-8 can encode")
    return value


def serialize(key: str, value: Any) -> str:
    """The text of a value. Raises `ValueNotSerializable` and `DurableObjectValueError`."""
    text = dumps(value)
    if len(text) + len(key) > SUSPECT:
        check_size(key, text)
    return text


def check_size(key: str, text: str) -> None:
    """Raise what the platform raises for a value that is too large with its key."""
    size = len(key.encode()) + len(text.encode())
    if size > MAX_BYTES:
        raise DurableObjectValueError("string or blob too big: SQLITE_TOOBIG")


def check_limit(limit: object) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise DurableObjectTypeError(f"limit is a number, not {type(limit).__name__}")
    if limit <= 0:
        raise DurableObjectTypeError("List limit must be positive.")
    return limit


def bounds(
    start: object, start_after: object, end: object, prefix: object
) -> tuple[str, str | None]:
    """The keys that a listing covers: from the first, and below the second."""
    for name, value in (
        ("start", start),
        ("start_after", start_after),
        ("end", end),
        ("prefix", prefix),
    ):
        if value is not None:
            _text(value, name)
    if start is not None and start_after is not None:
        raise DurableObjectTypeError(
            "list() cannot be called with both start and startAfter values."
        )
    low = start if isinstance(start, str) else ""
    if isinstance(start_after, str):
        low = start_after + "\0"
    high = end if isinstance(end, str) else None
    if isinstance(prefix, str) and prefix:
        low = max(low, prefix)
        above = _above(prefix)
        if above is not None and (high is None or above < high):
            high = above
    return low, high


def _above(prefix: str) -> str | None:
    """The first text behind all that begin with ``prefix``."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Surrogates are no characters, and are not to be compared with any.
            following = 0xE000 if last == 0xD7FF else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def check_time(time: object, now: int) -> int:
    """The time of an alarm in epoch milliseconds, not before now."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            time = time.astimezone(UTC)
        time = time.timestamp() * 1000
    if isinstance(time, bool) or not isinstance(time, int | float) or time != time:
        raise DurableObjectTypeError(
            "setAlarm() takes a time in epoch milliseconds or a datetime, "
            f"not {type(time).__name__}"
        )
    if time <= 0:
        raise DurableObjectTypeError("setAlarm() cannot be called with an alarm time <= 0")
    if time > 8_640_000_000_000_000:
        raise DurableObjectTypeError("setAlarm() takes no time that a Date cannot hold")
    return max(int(time), now)


def check_namespace(name: object) -> str:
    """Refuse what cannot be a namespace: it is the name of a directory, too."""
    if not isinstance(name, str) or re.fullmatch(r"[\w-]{1,200}", name) is None:
        raise DurableObjectTypeError(
            f"{name!r} cannot name Durable Objects: letters, digits, _ and - only"
        )
    return name
