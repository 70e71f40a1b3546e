"""Workers KV: `KVNamespace`.

Follows https://developers.cloudflare.com/kv/api/, with the limits and the messages of the platform.
It departs in two points: a namespace is strongly consistent (the platform's is eventually so), and
`KVNamespace.put_many` and `KVNamespace.delete_many` exist, each one atomic commit.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast, overload

from ..clock import Clock, SystemClock
from ..errors import KVError, KVTypeError, KVValueError
from ..store import kv as store
from ..store.connection import Row
from ..store.session import Session
from ..timer import Chore, Timer
from .text import after_prefix, scalar, utf8_length

KVType = Literal["text", "json", "bytes", "arrayBuffer", "stream"]
KVValueInput = str | bytes | bytearray | memoryview | int | float | AsyncIterable[bytes]

_STREAM_CHUNK = 64 * 1024
_SWEEP = 500


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


@dataclass(frozen=True, slots=True)
class KVValue:
    """A value with what is kept beside it. All three are None where there is no such key."""

    value: Any
    metadata: Any
    #: The platform's word on its edge cache; there is none here.
    cache_status: str | None = None


@dataclass(frozen=True, slots=True)
class KVKey:
    """A key of a listing."""

    name: str
    #: Seconds since the UNIX epoch, or None.
    expiration: int | None
    metadata: Any


@dataclass(frozen=True, slots=True)
class KVList:
    """One page of a listing. ``cursor`` is None on the last one."""

    keys: list[KVKey]
    list_complete: bool
    cursor: str | None
    cache_status: str | None = None


class _KVKeyDraft:
    """A `KVKey` in the making: a frozen dataclass takes three times as long to fill."""

    __slots__ = ("expiration", "metadata", "name")

    def __init__(self, name: str, expiration: int | None, metadata: Any) -> None:
        self.name = name
        self.expiration = expiration
        self.metadata = metadata


class KVNamespace:
    """A namespace of keys. Made by `State.kv`."""

    __slots__ = ("_clock", "_limits", "_namespace", "_session", "_timer")

    def __init__(
        self,
        session: Session,
        namespace: str,
        clock: Clock | None = None,
        timer: Timer | None = None,
        limits: KVLimits = LIMITS,
    ) -> None:
        if not isinstance(namespace, str) or not namespace:
            raise KVTypeError("a KV namespace needs a name (a non-empty str)")
        self._session = session
        self._namespace = namespace
        self._clock = clock or SystemClock()
        self._timer = timer
        self._limits = limits

    # -- get -------------------------------------------------------------------------------

    async def get(
        self, key: str | list[str], type: KVType = "text", cache_ttl: int | None = None
    ) -> Any:
        """The value of ``key``, or None if there is none; for several keys a dict of them.

        ``type`` is "text" (str, invalid UTF-8 replaced), "json", "bytes" (or "arrayBuffer"), or
        "stream" (an async iterator of bytes); several keys (1 to 100, at most 25 MiB in all) are
        "text" or "json". ``cache_ttl`` (seconds, at least 30) is checked and has no effect.
        """
        if not isinstance(key, str):
            many = self._get_many(key, type, cache_ttl)
            return {name: None if row is None else row[0] for name, row in many.items()}
        if not (key.isascii() and 2 < len(key) <= 512) or cache_ttl is not None:
            key = self._checked(key, "GET")
            self._check_cache_ttl(cache_ttl)
        row = store.get(self._session.view, self._namespace, key)
        if row is None:
            return None
        value, _, expiration = row
        if expiration is not None and self._expired(expiration):
            return None
        if type == "text" and value.__class__ is bytes:
            return value.decode("utf-8", "replace")
        return _decoded(value, type)

    @overload
    async def get_with_metadata(
        self, key: str, type: KVType = ..., cache_ttl: int | None = ...
    ) -> KVValue: ...
    @overload
    async def get_with_metadata(
        self, key: list[str], type: KVType = ..., cache_ttl: int | None = ...
    ) -> dict[str, KVValue]: ...
    async def get_with_metadata(
        self, key: str | list[str], type: KVType = "text", cache_ttl: int | None = None
    ) -> KVValue | dict[str, KVValue]:
        """`get`, together with the metadata that was put with the value."""
        if not isinstance(key, str):
            many = self._get_many(key, type, cache_ttl)
            return {
                name: KVValue(None, None) if row is None else KVValue(row[0], _metadata(row[1]))
                for name, row in many.items()
            }
        key = self._checked(key, "GET")
        self._check_cache_ttl(cache_ttl)
        row = self._live(store.get(self._session.view, self._namespace, key))
        if row is None:
            return KVValue(None, None)
        return KVValue(_decoded(row[0], type), _metadata(row[1]))

    def _get_many(
        self, keys: object, type: str, cache_ttl: int | None
    ) -> dict[str, tuple[Any, str | None] | None]:
        """Decoded value and raw metadata of each key, in the order asked for."""
        if not isinstance(keys, Iterable) or isinstance(keys, bytes | bytearray | memoryview):
            raise KVTypeError(
                f"a key must be a str, or several a list of str, not {_name_of(keys)}"
            )
        names = [self._text(key) for key in keys]
        if type not in ("text", "json"):
            _refuse("GET_BULK", 400, f'"{type}" is not a valid type. Use "json" or "text"')
        if len(names) > self._limits.bulk_keys:
            _refuse("GET_BULK", 400, f"You can request a maximum of {self._limits.bulk_keys} keys")
        if not names:
            _refuse("GET_BULK", 400, "You must request a minimum of 1 key")
        names = [self._checked(name, "GET_BULK") for name in names]
        self._check_cache_ttl(cache_ttl, "GET_BULK")
        found: dict[str, tuple[Any, str | None] | None] = {}
        size = 0
        view = self._session.view
        for name in names:
            row = self._live(store.get(view, self._namespace, name))
            if row is None:
                found[name] = None
                continue
            size += len(row[0])
            if size > self._limits.bulk_size:
                megabytes = self._limits.bulk_size // (1024 * 1024)
                _refuse(
                    "GET_BULK", 413, f"Total size of request exceeds the limit of {megabytes}MB"
                )
            try:
                found[name] = _decoded(row[0], type), row[1]
            except ValueError:
                _refuse(
                    "GET_BULK",
                    400,
                    f"At least one of the requested keys corresponds to a non-{type} value",
                )
        return found

    # -- put and delete --------------------------------------------------------------------

    async def put(
        self,
        key: str,
        value: KVValueInput,
        expiration: int | None = None,
        expiration_ttl: int | None = None,
        metadata: Any = None,
    ) -> None:
        """Set ``key`` to ``value`` (at most 25 MiB; a number becomes its text).

        ``expiration`` (seconds since the epoch) and ``expiration_ttl`` (seconds from now) are at
        least 60 seconds away; where both are given, ``expiration_ttl`` counts. ``metadata`` is any
        JSON of at most 1,024 bytes. Nothing is written if anything is wrong.
        """
        key = self._checked(key, "PUT")
        until = self._expiration(expiration, expiration_ttl)
        beside = self._metadata_text(metadata)
        data = await self._bytes(value)
        await self._session.write(
            store.put,
            self._namespace,
            key,
            data,
            beside,
            until,
            heavy=len(data) > store.HEAVY_VALUE,
        )
        if until is not None and self._timer is not None:
            self._timer.at(until * 1000)

    async def put_many(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Put several entries in one commit, all or none.

        Each is a mapping with ``key`` and ``value`` and, if wanted, ``expiration``,
        ``expiration_ttl`` and ``metadata``, as `put` takes them.
        """
        rows: list[tuple[str, bytes, str | None, int | None]] = []
        size = 0
        for entry in entries:
            unknown = entry.keys() - _ENTRY_NAMES
            if unknown or not {"key", "value"} <= entry.keys():
                raise KVTypeError(
                    "an entry of put_many has key, value and optionally expiration, "
                    f"expiration_ttl and metadata, not {sorted(entry)}"
                )
            key = self._checked(entry["key"], "PUT")
            until = self._expiration(entry.get("expiration"), entry.get("expiration_ttl"))
            beside = self._metadata_text(entry.get("metadata"))
            data = await self._bytes(entry["value"])
            size += len(data)
            rows.append((key, data, beside, until))
        await self._session.write(
            store.put_many, self._namespace, rows, heavy=size > store.HEAVY_VALUE
        )
        if self._timer is not None:
            for *_, end in rows:
                if end is not None:
                    self._timer.at(end * 1000)

    async def delete(self, key: str) -> None:
        """Remove ``key``. Nothing happens if there is none."""
        key = self._checked(key, "DELETE")
        await self._session.write(store.delete, self._namespace, key)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Remove several keys in one commit, all or none."""
        if isinstance(keys, str):
            raise KVTypeError("delete_many takes several keys; use delete for one")
        names = [self._checked(key, "DELETE") for key in keys]
        await self._session.write(store.delete_many, self._namespace, names)

    # -- list ------------------------------------------------------------------------------

    async def list(
        self, prefix: str | None = None, limit: int | None = 1000, cursor: str | None = None
    ) -> KVList:
        """A page of the keys that start with ``prefix``, in the order of their UTF-8 bytes.

        ``limit`` is at most 1,000 (0 or None: 1,000). ``cursor``, from the page before, tells
        where that ended, so keys that come or go in between neither repeat nor hide others.
        """
        prefix = "" if prefix is None else self._text(prefix, "a prefix")
        self._check_length(prefix, "GET")
        limit = self._limit(limit)
        start = prefix if not cursor else max(prefix, _after_cursor(cursor))
        rows = store.list_keys(
            self._session.view,
            self._namespace,
            start,
            after_prefix(prefix) if prefix else None,
            self._clock.now() / 1000,
            limit + 1,
        )
        complete = len(rows) <= limit
        del rows[limit:]
        drafts = [_KVKeyDraft(*row) for row in rows]
        for draft in drafts:
            if draft.metadata is not None:
                draft.metadata = _metadata(draft.metadata)
            if draft.expiration is not None:
                until = store.seconds(draft.expiration)
                draft.expiration = None if until is None else int(until)
            draft.__class__ = KVKey  # type: ignore[assignment]
        return KVList(
            cast("list[KVKey]", drafts), complete, None if complete else _cursor(rows[-1][0])
        )

    async def scan(self, prefix: str | None = None) -> AsyncIterator[KVKey]:
        """All keys that start with ``prefix``, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list(prefix=prefix, cursor=cursor)
            for key in page.keys:
                yield key
            cursor = page.cursor
            if cursor is None:
                return

    # -- arguments -------------------------------------------------------------------------

    def _text(self, key: object, what: str = "a key") -> str:
        if not isinstance(key, str):
            raise KVTypeError(f"{what} must be a str, not {_name_of(key)}")
        # Surrogates are the only characters that UTF-8 refuses.
        return key if key.isascii() else scalar(key)

    def _checked(self, key: object, verb: str) -> str:
        name = self._text(key)
        if not name:
            raise KVTypeError("Key name cannot be empty.")
        if name in (".", ".."):
            raise KVTypeError(f'"{name}" is not allowed as a key name.')
        self._check_length(name, verb)
        return name

    def _check_length(self, name: str, verb: str) -> None:
        length = utf8_length(name)
        if length > self._limits.key_size:
            _refuse(
                verb,
                414,
                f"UTF-8 encoded length of {length} exceeds key length limit of "
                f"{self._limits.key_size}.",
            )

    def _check_cache_ttl(self, cache_ttl: object, verb: str = "GET") -> None:
        if cache_ttl is None:
            return
        least = self._limits.cache_ttl
        if isinstance(cache_ttl, bool) or not isinstance(cache_ttl, int | float):
            raise KVTypeError(f"cache_ttl must be a number of seconds, not {_name_of(cache_ttl)}")
        if not cache_ttl >= least:
            _refuse(
                verb,
                400,
                f"Invalid cache_ttl of {cache_ttl}. Cache TTL must be at least {least}.",
            )

    def _expiration(self, expiration: object, expiration_ttl: object) -> int | None:
        least = self._limits.expiration_ttl
        now = self._clock.now() // 1000
        if expiration_ttl is not None:
            ttl = _integer(expiration_ttl, "expiration_ttl", "integer greater than 0")
            if ttl <= 0:
                _refuse(
                    "PUT",
                    400,
                    f"Invalid expiration_ttl of {expiration_ttl}. "
                    "Please specify integer greater than 0.",
                )
            if ttl < least:
                _refuse(
                    "PUT",
                    400,
                    f"Invalid expiration_ttl of {expiration_ttl}. "
                    f"Expiration TTL must be at least {least}.",
                )
            return now + ttl
        if expiration is None:
            return None
        later = "integer greater than the current number of seconds since the UNIX epoch"
        until = _integer(expiration, "expiration", later)
        if until <= now:
            _refuse("PUT", 400, f"Invalid expiration of {expiration}. Please specify {later}.")
        if until < now + least:
            _refuse(
                "PUT",
                400,
                f"Invalid expiration of {expiration}. "
                f"Expiration times must be at least {least} seconds in the future.",
            )
        return until

    def _metadata_text(self, metadata: object) -> str | None:
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
        if length > self._limits.metadata_size:
            _refuse(
                "PUT",
                413,
                f"Metadata length of {length} exceeds limit of {self._limits.metadata_size}.",
            )
        return text

    async def _bytes(self, value: object) -> bytes:
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
                    f"async iterables of bytes), not {_name_of(value)}."
                )
        self._check_size(len(data))
        return data

    async def _collected(self, stream: AsyncIterable[object]) -> bytes:
        data = bytearray()
        async for chunk in stream:
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise KVTypeError(f"a stream must give bytes, not {_name_of(chunk)}")
            data += chunk
            # The rest is not read: it may have no end.
            self._check_size(len(data))
        return bytes(data)

    def _check_size(self, size: int) -> None:
        if size > self._limits.value_size:
            _refuse(
                "PUT", 413, f"Value length of {size} exceeds limit of {self._limits.value_size}."
            )

    def _limit(self, limit: object) -> int:
        most = self._limits.list_keys
        if limit is None:
            return most
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise KVTypeError(f"limit must be an int, not {_name_of(limit)}")
        if limit > most:
            _refuse(
                "GET",
                400,
                f"Invalid key_count_limit of {limit}. Please specify an integer less than {most}.",
            )
        # The platform's runtime leaves a limit out of its request that is not positive.
        return limit if limit > 0 else most

    # -- expiry ----------------------------------------------------------------------------

    def _expired(self, expiration: object) -> bool:
        until = store.seconds(expiration)
        return until is not None and until * 1000 <= self._clock.now()

    def _live(self, row: Row | None) -> Row | None:
        if row is None or (row[2] is not None and self._expired(row[2])):
            return None
        return row


_ENTRY_NAMES = {"key", "value", "expiration", "expiration_ttl", "metadata"}


def _decoded(value: bytes | str, type: str) -> Any:
    # Another program may have stored a text where the column says blob.
    data = value.encode() if isinstance(value, str) else value
    match type:
        case "text":
            return data.decode("utf-8", "replace")
        case "json":
            return json.loads(data.decode("utf-8", "replace"))
        case "bytes" | "arrayBuffer":
            return data
        case "stream":
            return _stream(data)
        case _:
            raise KVTypeError(
                'Unknown response type. Possible types are "text", "arrayBuffer", "json", and '
                '"stream".'
            )


async def _stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _STREAM_CHUNK):
        yield data[start : start + _STREAM_CHUNK]


def _metadata(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _integer(number: object, name: str, wanted: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise KVTypeError(f"{name} must be a number of seconds, not {_name_of(number)}")
    if isinstance(number, float) and not number.is_integer():
        _refuse("PUT", 400, f"Invalid {name} of {number}. Please specify {wanted}.")
    return int(number)


def _cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _after_cursor(cursor: object) -> str:
    """The first key that a page from this cursor may hold."""
    if not isinstance(cursor, str):
        raise KVTypeError(f"a cursor must be a str, not {_name_of(cursor)}")
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        last = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        _refuse("GET", 400, "Invalid cursor. Please use the cursor of the page before.")
    # Nothing lies between a text and the same with a NUL behind.
    return last + "\0"


def _refuse(verb: str, status: int, message: str) -> NoReturn:
    raise KVValueError(f"KV {verb} failed: {status} {message}", status)


def _name_of(value: object) -> str:
    return type(value).__name__


def kv_chore(session: Session) -> Chore:
    """Removes expired keys, which nobody sees any more."""

    def due() -> float | None:
        first = store.next_expiration(session.view)
        return None if first is None else first * 1000

    async def act(now: int) -> None:
        # In small commits, so that nobody waits long behind one.
        while await session.write(store.remove_expired, now / 1000, _SWEEP) == _SWEEP:
            pass

    return Chore("the removal of expired keys", due, act)


__all__ = ["KVError", "KVKey", "KVLimits", "KVList", "KVNamespace", "KVValue", "kv_chore"]
