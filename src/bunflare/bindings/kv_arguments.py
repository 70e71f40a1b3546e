"""What Workers KV takes: its limits, and the platform's words for what is beyond them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import NoReturn

from ..errors import KVTypeError, KVValueError
from .text import decode_cursor, scalar, utf8_length


@dataclass(frozen=True, slots=True)
class KVLimits:
    """What the platform allows. Sizes in bytes, times in seconds."""

    key_size: int = 512
    value_size: int = 25 * 1024 * 1024
    metadata_size: int = 1024
    bulk_keys: int = 100
    bulk_size: int = 25 * 1024 * 1024
    list_keys: int = 1000
    expiration_ttl: int = 60
    cache_ttl: int = 30


LIMITS = KVLimits()

# Beyond this the platform's numbers are no integers any more.
_LATEST = 2**53 - 1


class KVArguments:
    """Checks arguments before anything is read or written, and gives them their stored form."""

    __slots__ = ("limits",)

    def __init__(self, limits: KVLimits) -> None:
        self.limits = limits

    def known(self, value: object) -> bytes | None:
        """The bytes of the commonest kinds of values; None for what `value` has to look at."""
        if isinstance(value, bytes):
            data = value
        elif isinstance(value, str) and value.isascii():
            data = value.encode()
        else:
            return None
        return data if len(data) <= self.limits.value_size else None

    def text(self, key: object, what: str = "a key") -> str:
        if not isinstance(key, str):
            raise KVTypeError(f"{what} must be a str, not {name_of(key)}")
        # Surrogates are the only characters that UTF-8 refuses.
        return key if key.isascii() else scalar(key)

    def key(self, key: object, verb: str) -> str:
        if isinstance(key, str) and key.isascii() and 2 < len(key) <= self.limits.key_size:
            return key
        name = self.text(key)
        if not name:
            raise KVTypeError("Key name cannot be empty.")
        if name in (".", ".."):
            raise KVTypeError(f'"{name}" is not allowed as a key name.')
        self.length(name, verb)
        return name

    def length(self, name: str, verb: str) -> None:
        length = utf8_length(name)
        if length > self.limits.key_size:
            refuse(
                verb,
                414,
                f"UTF-8 encoded length of {length} exceeds key length limit of "
                f"{self.limits.key_size}.",
            )

    def cache_ttl(self, cache_ttl: object, verb: str = "GET") -> None:
        if cache_ttl is None:
            return
        least = self.limits.cache_ttl
        if isinstance(cache_ttl, bool) or not isinstance(cache_ttl, int | float):
            raise KVTypeError(f"cache_ttl must be a number of seconds, not {name_of(cache_ttl)}")
        if not cache_ttl >= least:
            refuse(
                verb,
                400,
                f"Invalid cache_ttl of {cache_ttl}. Cache TTL must be at least {least}.",
            )

    def expiration(self, expiration: object, expiration_ttl: object, now: int) -> int | None:
        least = self.limits.expiration_ttl
        if expiration_ttl is not None:
            ttl = _integer(expiration_ttl, "expiration_ttl", "integer greater than 0")
            if ttl <= 0:
                refuse(
                    "PUT",
                    400,
                    f"Invalid expiration_ttl of {expiration_ttl}. "
                    "Please specify integer greater than 0.",
                )
            if ttl < least:
                refuse(
                    "PUT",
                    400,
                    f"Invalid expiration_ttl of {expiration_ttl}. "
                    f"Expiration TTL must be at least {least}.",
                )
            if now + ttl > _LATEST:
                refuse(
                    "PUT",
                    400,
                    f"Invalid expiration_ttl of {expiration_ttl}. Please specify a smaller one.",
                )
            return now + ttl
        if expiration is None:
            return None
        later = "integer greater than the current number of seconds since the UNIX epoch"
        until = _integer(expiration, "expiration", later)
        if until <= now or until > _LATEST:
            refuse("PUT", 400, f"Invalid expiration of {expiration}. Please specify {later}.")
        if until < now + least:
            refuse(
                "PUT",
                400,
                f"Invalid expiration of {expiration}. "
                f"Expiration times must be at least {least} seconds in the future.",
            )
        return until

    def metadata(self, metadata: object) -> str | None:
        if metadata is None:
            return None
        try:
            text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            length = len(text.encode())
        except UnicodeEncodeError:
            text = json.dumps(metadata, allow_nan=False, separators=(",", ":"))
            length = len(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise KVTypeError(f"metadata must be a value that JSON can say: {error}") from error
        if length > self.limits.metadata_size:
            refuse(
                "PUT",
                413,
                f"Metadata length of {length} exceeds limit of {self.limits.metadata_size}.",
            )
        return text

    async def value(self, value: object) -> bytes:
        match value:
            case bytes():
                data = value
            case str():
                data = value.encode() if value.isascii() else scalar(value).encode()
            case bytearray() | memoryview():
                data = bytes(value)
            case bool():
                data = b"true" if value else b"false"
            case int() | float():
                data = str(value).encode()
            case AsyncIterable():
                return await self._collected(value)
            case _:
                raise KVTypeError(
                    "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and "
                    "ReadableStreams as values (in Python: str, bytes, bytearray, memoryview and "
                    f"async iterables of bytes), not {name_of(value)}."
                )
        self._size(len(data))
        return data

    async def _collected(self, stream: AsyncIterable[object]) -> bytes:
        data = bytearray()
        async for chunk in stream:
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise KVTypeError(f"a stream must give bytes, not {name_of(chunk)}")
            data += chunk
            # The rest is not read: it may have no end.
            self._size(len(data))
        return bytes(data)

    def _size(self, size: int) -> None:
        if size > self.limits.value_size:
            refuse("PUT", 413, f"Value length of {size} exceeds limit of {self.limits.value_size}.")

    def limit(self, limit: object) -> int:
        most = self.limits.list_keys
        if limit is None:
            return most
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise KVTypeError(f"limit must be an int, not {name_of(limit)}")
        if limit > most:
            refuse(
                "GET",
                400,
                f"Invalid key_count_limit of {limit}. Please specify an integer less than {most}.",
            )
        # The platform's runtime leaves a limit out of its request that is not positive.
        return limit if limit > 0 else most


def _integer(number: object, name: str, wanted: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise KVTypeError(f"{name} must be a number of seconds, not {name_of(number)}")
    if isinstance(number, float) and not number.is_integer():
        refuse("PUT", 400, f"Invalid {name} of {number}. Please specify {wanted}.")
    return int(number)


def after_cursor(cursor: object) -> str:
    """The first key that a page from this cursor may hold."""
    if not isinstance(cursor, str):
        raise KVTypeError(f"a cursor must be a str, not {name_of(cursor)}")
    last = decode_cursor(cursor)
    if last is None:
        refuse("GET", 400, "Invalid cursor. Please use the cursor of the page before.")
    # Nothing lies between a text and the same with a NUL behind.
    return last + "\0"


def refuse(verb: str, status: int, message: str) -> NoReturn:
    """Raise what the platform answers."""
    raise KVValueError(f"KV {verb} failed: {status} {message}", status)


def name_of(value: object) -> str:
    """The name of a value's type, for a message."""
    return type(value).__name__
