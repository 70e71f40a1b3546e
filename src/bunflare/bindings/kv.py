"""Workers KV: `KVNamespace`.

Follows https://developers.cloudflare.com/kv/api/, with the limits and the messages of the platform.
It departs in two points: a namespace is strongly consistent (the platform's is eventually so), and
`KVNamespace.put_many` and `KVNamespace.delete_many` exist, each one atomic commit.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast, overload

from ..clock import Clock, SystemClock
from ..errors import KVTypeError
from ..quick_json import stored
from ..store import kv as store
from ..store.connection import Row
from ..store.operation import LATER
from ..store.pending import Pending, begins
from ..store.session import Session
from ..timer import Chore, Timer
from .kv_arguments import (
    LIMITS,
    KVArguments,
    KVLimits,
    after_cursor,
    name_of,
    refuse,
)
from .text import after_prefix, encode_cursor

KVType = Literal["text", "json", "bytes", "arrayBuffer", "stream"]
KVValueInput = str | bytes | bytearray | memoryview | int | float | AsyncIterable[bytes]

_STREAM_CHUNK = 64 * 1024
_SWEEP = 500


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

    def __init__(self, row: Row) -> None:
        self.name, self.expiration, self.metadata = row


class _KVNameDraft:
    """A `KVKey` in the making that has no more than its name."""

    __slots__ = ("expiration", "metadata", "name")

    def __init__(self, row: tuple[str]) -> None:
        (self.name,) = row
        self.expiration = self.metadata = None


class KVNamespace:
    """A namespace of keys. Made by `State.kv`."""

    __slots__ = ("_check", "_clock", "_key_size", "_namespace", "_puts", "_session", "_timer")

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
        #: Puts that begin in the same turn.
        self._puts = session.gatherer(store.put_gathered)
        self._namespace = namespace
        self._clock = clock or SystemClock()
        self._timer = timer
        self._check = KVArguments(limits)
        self._key_size = limits.key_size

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
        if not (key.isascii() and 2 < len(key) <= self._key_size) or cache_ttl is not None:
            key = self._check.key(key, "GET")
            self._check.cache_ttl(cache_ttl)
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
        key = self._check.key(key, "GET")
        self._check.cache_ttl(cache_ttl)
        row = self._live(store.get(self._session.view, self._namespace, key))
        if row is None:
            return KVValue(None, None)
        return KVValue(_decoded(row[0], type), _metadata(row[1]))

    def _get_many(
        self, keys: object, type: str, cache_ttl: int | None
    ) -> dict[str, tuple[Any, str | None] | None]:
        """Decoded value and raw metadata of each key, in the order asked for."""
        if not isinstance(keys, Iterable) or isinstance(keys, bytes | bytearray | memoryview):
            raise KVTypeError(f"a key must be a str, or several a list of str, not {name_of(keys)}")
        names = [self._check.text(key) for key in keys]
        if type not in ("text", "json"):
            refuse("GET_BULK", 400, f'"{type}" is not a valid type. Use "json" or "text"')
        if len(names) > self._check.limits.bulk_keys:
            refuse(
                "GET_BULK", 400, f"You can request a maximum of {self._check.limits.bulk_keys} keys"
            )
        if not names:
            refuse("GET_BULK", 400, "You must request a minimum of 1 key")
        names = [self._check.key(name, "GET_BULK") for name in names]
        self._check.cache_ttl(cache_ttl, "GET_BULK")
        found: dict[str, tuple[Any, str | None] | None] = {}
        size = 0
        view = self._session.view
        for name in names:
            row = self._live(store.get(view, self._namespace, name))
            if row is None:
                found[name] = None
                continue
            size += len(row[0])
            if size > self._check.limits.bulk_size:
                megabytes = self._check.limits.bulk_size // (1024 * 1024)
                refuse("GET_BULK", 413, f"Total size of request exceeds the limit of {megabytes}MB")
            try:
                found[name] = _decoded(row[0], type), row[1]
            except ValueError:
                refuse(
                    "GET_BULK",
                    400,
                    f"At least one of the requested keys corresponds to a non-{type} value",
                )
        return found

    # -- put and delete --------------------------------------------------------------------

    @begins
    def put(
        self,
        key: str,
        value: KVValueInput,
        expiration: int | None = None,
        expiration_ttl: int | None = None,
        metadata: Any = None,
    ) -> Coroutine[Any, Any, None]:
        """Set ``key`` to ``value`` (at most 25 MiB; a number becomes its text).

        ``expiration`` (seconds since the epoch) and ``expiration_ttl`` (seconds from now) are at
        least 60 seconds away; where both are given, ``expiration_ttl`` counts. ``metadata`` is any
        JSON of at most 1,024 bytes. Nothing is written if anything is wrong.
        """
        if (
            self._session.joinable
            and expiration is None
            and expiration_ttl is None
            and metadata is None
        ):
            try:
                begun = self._begin(key, value)
            except Exception:
                # It is raised again where it is awaited.
                begun = None
            if begun is not None:
                return begun
        return self._put(key, value, expiration, expiration_ttl, metadata)

    def _begin(self, key: str, value: KVValueInput) -> Pending[None] | None:
        puts, data = self._puts, self._check.known(value)
        if puts is None or data is None or len(data) > store.HEAVY_VALUE:
            return None
        key = self._check.key(key, "PUT")
        return puts.begin((self._namespace, key, data, None, None))

    async def _put(
        self,
        key: str,
        value: KVValueInput,
        expiration: int | None,
        expiration_ttl: int | None,
        metadata: Any,
    ) -> None:
        check = self._check
        key = check.key(key, "PUT")
        until = None
        if expiration is not None or expiration_ttl is not None:
            until = check.expiration(expiration, expiration_ttl, self._now())
        beside = None if metadata is None else check.metadata(metadata)
        data = check.known(value)
        if data is None:
            data = await check.value(value)
        session, namespace = self._session, self._namespace
        row = namespace, key, data, beside, until
        heavy = len(data) > store.HEAVY_VALUE
        if heavy or session.run_now(store.PUT, row, (store.GET, (namespace, key))) is LATER:
            await session.write(store.put, *row, heavy=heavy)
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
            key = self._check.key(entry["key"], "PUT")
            until = self._check.expiration(
                entry.get("expiration"), entry.get("expiration_ttl"), self._now()
            )
            beside = self._check.metadata(entry.get("metadata"))
            data = await self._check.value(entry["value"])
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
        key = self._check.key(key, "DELETE")
        session, names = self._session, (self._namespace, key)
        if session.run_now(store.DELETE, names, (store.GET, names)) is LATER:
            await session.write(store.delete, *names)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Remove several keys in one commit, all or none."""
        if isinstance(keys, str):
            raise KVTypeError("delete_many takes several keys; use delete for one")
        names = [self._check.key(key, "DELETE") for key in keys]
        await self._session.write(store.delete_many, self._namespace, names)

    # -- list ------------------------------------------------------------------------------

    async def list(
        self, prefix: str | None = None, limit: int | None = 1000, cursor: str | None = None
    ) -> KVList:
        """A page of the keys that start with ``prefix``, in the order of their UTF-8 bytes.

        ``limit`` is at most 1,000 (0 or None: 1,000). ``cursor``, from the page before, tells
        where that ended, so keys that come or go in between neither repeat nor hide others.
        """
        prefix = "" if prefix is None else self._check.text(prefix, "a prefix")
        self._check.length(prefix, "GET")
        limit = self._check.limit(limit)
        start = prefix if not cursor else max(prefix, after_cursor(cursor))
        end = after_prefix(prefix) if prefix else None
        range_ = (self._namespace, start, end)
        view = self._session.view
        names = store.list_names(view, *range_, limit + 1)
        if names:
            complete = len(names) <= limit
            del names[limit:]
            keys = _named(names)
        else:
            rows = store.list_keys(view, *range_, self._clock.now() / 1000, limit + 1)
            complete = len(rows) <= limit
            del rows[limit:]
            keys = _described(rows)
        return KVList(keys, complete, None if complete else encode_cursor(keys[-1].name))

    async def scan(self, prefix: str | None = None) -> AsyncIterator[KVKey]:
        """All keys that start with ``prefix``, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list(prefix=prefix, limit=None, cursor=cursor)
            for key in page.keys:
                yield key
            cursor = page.cursor
            if cursor is None:
                return

    # -- time ------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._clock.now() // 1000

    def _expired(self, expiration: object) -> bool:
        until = store.seconds(expiration)
        return until is not None and until * 1000 <= self._clock.now()

    def _live(self, row: Row | None) -> Row | None:
        if row is None or (row[2] is not None and self._expired(row[2])):
            return None
        return row


def _named(rows: list[tuple[str]]) -> list[KVKey]:
    drafts = list(map(_KVNameDraft, rows))
    for draft in drafts:
        draft.__class__ = KVKey  # type: ignore[assignment]
    return cast("list[KVKey]", drafts)


def _described(rows: list[Row]) -> list[KVKey]:
    drafts = list(map(_KVKeyDraft, rows))
    for draft in drafts:
        if draft.metadata is not None:
            draft.metadata = _metadata(draft.metadata)
        if draft.expiration is not None:
            until = store.seconds(draft.expiration)
            draft.expiration = None if until is None else int(until)
        draft.__class__ = KVKey  # type: ignore[assignment]
    return cast("list[KVKey]", drafts)


_ENTRY_NAMES = {"key", "value", "expiration", "expiration_ttl", "metadata"}


def _decoded(value: bytes | str, type: str) -> Any:
    # Another program may have stored a text where the column says blob.
    data = value.encode() if isinstance(value, str) else value
    match type:
        case "text":
            return data.decode("utf-8", "replace")
        case "json":
            return _parsed(data.decode("utf-8", "replace"))
        case "bytes" | "arrayBuffer":
            return data
        case "stream":
            # Imported here because most programs ask for no stream, and need none of the web.
            from ..web.streams import Counted

            return Counted(_stream(data), len(data))
        case _:
            raise KVTypeError(
                'Unknown response type. Possible types are "text", "arrayBuffer", "json", and '
                '"stream".'
            )


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


# Python's own reads NaN and Infinity, which are no JSON.
_decode_json = json.JSONDecoder(parse_constant=_no_json).decode


def _parsed(text: str) -> Any:
    try:
        return _decode_json(text)
    except RecursionError as error:
        raise ValueError("the value is nested too deeply") from error


async def _stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _STREAM_CHUNK):
        yield data[start : start + _STREAM_CHUNK]


def _metadata(text: str | None) -> Any:
    return None if text is None else stored(text, "the metadata")


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


__all__ = ["KVKey", "KVLimits", "KVList", "KVNamespace", "KVValue", "kv_chore"]
