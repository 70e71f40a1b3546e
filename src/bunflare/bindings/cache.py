"""The Cache API: `CacheStorage` and `Cache`.

Follows https://developers.cloudflare.com/workers/runtime-apis/cache/. What may be kept, for how
long, and what a request gets of it is decided in :mod:`bunflare.bindings.cache_rules`. As on the
platform, a response that may not be kept is dropped without an error.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import CacheTypeError, FetchTypeError
from ..store import blobs
from ..store import cache as store
from ..store.cache import CacheEntry
from ..store.session import Session
from ..store.threads import on_thread
from ..timer import Timer
from ..web import Request, Response, normalize
from ..web.streams import Counted
from . import cache_rules as rules

#: Bytes a body may have.
BODY_SIZE = 512 * 1024 * 1024
#: Bytes from which a body lives in a file of its own.
FILE_SIZE = 1024 * 1024
#: Bytes of the name of a cache, which must be fewer than this.
NAME_SIZE = 1024

_DEFAULT = "default"
_NAMED = "named:"
_CHUNK = 256 * 1024

_log = logging.getLogger("bunflare")


def stored_name(name: str) -> str:
    """What the table calls a cache that is opened by a name."""
    # A cache that is called "default" is not the default cache.
    reserved = name == _DEFAULT or name.startswith(_NAMED)
    return _NAMED + name if reserved else name


class CacheStorage:
    """``caches`` of a Worker: the default cache, and named ones."""

    __slots__ = ("_bodies", "_clock", "_session", "_timer")

    def __init__(self, session: Session, bodies: Path, clock: Clock, timer: Timer) -> None:
        self._session = session
        self._bodies = bodies
        self._clock = clock
        self._timer = timer

    @property
    def default(self) -> Cache:
        return self._cache(_DEFAULT)

    async def open(self, name: str) -> Cache:
        """The cache of that name (under 1,024 bytes). It need not exist before."""
        if not isinstance(name, str):
            raise CacheTypeError(f"a cache's name must be a str, not {type(name).__name__}")
        if len(name.encode("utf-8", "surrogatepass")) >= NAME_SIZE:
            raise CacheTypeError("Cache name is too long.")
        return self._cache(stored_name(name))

    def _cache(self, name: str) -> Cache:
        return Cache(self._session, self._bodies, name, self._clock, self._timer)


class Cache:
    """Responses by their URL. Made by `CacheStorage`."""

    __slots__ = ("_bodies", "_clock", "_name", "_session", "_timer")

    def __init__(
        self, session: Session, bodies: Path, name: str, clock: Clock, timer: Timer
    ) -> None:
        self._session = session
        # The directory of bodies that are files.
        self._bodies = bodies
        self._name = name
        self._clock = clock
        self._timer = timer

    # -- match -----------------------------------------------------------------------------

    async def match(self, request: Request | str, ignore_method: bool = False) -> Response | None:
        """The response kept for the URL of ``request``, or None.

        Only GET requests match, unless ``ignore_method``. Conditions (``If-None-Match``,
        ``If-Modified-Since``) are answered with 304, a ``Range`` with 206 or 416.
        """
        if isinstance(request, Request):
            if not ignore_method and request.method != "GET":
                return None
            wanted = dict(request.headers.pairs)
        else:
            wanted = {}
        url = _key(request)
        # A file that its entry names may go between the two looks, if the entry is replaced then.
        for _ in range(10):
            entry = store.match(self._session.view, self._name, url)
            if entry is None:
                return None
            now = self._clock.now()
            expires = entry.expires
            if expires is None and entry.stored is None:
                expires = rules.foreign_expiry(entry.headers)
            if expires is not None and expires <= now:
                return None
            if entry.file is None:
                return _answer(wanted, entry, url, now, _Bytes(entry.body))
            try:
                file = blobs.OpenFile(self._bodies / entry.file)
            except FileNotFoundError:
                continue
            return _answer(wanted, entry, url, now, _File(file))
        return None

    # -- put -------------------------------------------------------------------------------

    async def put(self, request: Request | str, response: Response) -> None:
        """Keep ``response`` for the URL of ``request``, for as long as its headers allow.

        Raises `CacheTypeError` for a request that is not a GET, a 206, ``Vary: *``, a network
        error or a WebSocket upgrade. What may not be kept, or is larger than 512 MB, is dropped.
        The body of ``response`` is used up in any case.
        """
        if not isinstance(response, Response):
            raise CacheTypeError(f"put() keeps a Response, not a {type(response).__name__}")
        if response.type == "error":
            raise CacheTypeError("Cache is unable to store an error response")
        if response.web_socket is not None:
            raise CacheTypeError("Cannot cache WebSocket upgrade response.")
        if isinstance(request, Request) and request.method != "GET":
            raise CacheTypeError("Cannot cache response to non-GET request.")
        if response.status == 206:
            raise CacheTypeError("Cannot cache response to a range request (206 Partial Content).")
        if "*" in response.headers.get("vary", ""):
            raise CacheTypeError("Cannot cache response with 'Vary: *' header.")
        url = _key(request)
        body = response.take()
        sent = request.headers.pairs if isinstance(request, Request) else []
        now = self._clock.now()
        fresh = rules.freshness(sent, response.status, response.headers.pairs, now)
        if fresh is None:
            if not isinstance(body, bytes):
                await _close(body)
            return
        if isinstance(body, bytes) and len(body) <= FILE_SIZE:
            await self._store(url, response.status, fresh, body, None)
        else:
            await self._put_large(url, response.status, fresh, body)
        self._timer.at(fresh.expires)

    async def _put_large(
        self, url: str, status: int, fresh: rules.Fresh, body: bytes | AsyncIterator[bytes]
    ) -> None:
        """Gather a body until it is known to be small, or write it to a file as it comes."""
        gathered = bytearray()
        draft: blobs.Draft | None = None
        size = 0
        try:
            async for chunk in _pieces(body):
                gathered += chunk
                size += len(chunk)
                if size > BODY_SIZE:
                    _log.warning("cache.put(%s): the body is larger than 512 MB; not kept", url)
                    return
                if len(gathered) > FILE_SIZE:
                    if draft is None:
                        draft = await on_thread(blobs.Draft, self._bodies)
                    await on_thread(draft.write, bytes(gathered))
                    gathered.clear()
            if draft is None:
                await self._store(url, status, fresh, bytes(gathered), None)
                return
            if gathered:
                await on_thread(draft.write, bytes(gathered))
            await on_thread(draft.sync)
            await self._store(url, status, fresh, b"", draft)
        finally:
            if not isinstance(body, bytes):
                await _close(body)
            if draft is not None:
                # It is swept away then, unless its row was committed.
                await self._session.when_over(partial(on_thread, draft.close))

    async def _store(
        self, url: str, status: int, fresh: rules.Fresh, body: bytes, draft: blobs.Draft | None
    ) -> None:
        entry = CacheEntry(
            status,
            fresh.headers,
            body,
            fresh.expires,
            fresh.born,
            None if draft is None else draft.name,
        )
        await self._session.write(
            store.put,
            self._bodies,
            self._name,
            url,
            entry,
            None if draft is None else draft.keep,
        )

    # -- delete ----------------------------------------------------------------------------

    async def delete(self, request: Request | str, ignore_method: bool = False) -> bool:
        """Drop what is kept for the URL of ``request``; whether there was something."""
        if isinstance(request, Request) and not ignore_method and request.method != "GET":
            return False
        return await self._session.write(
            store.delete,
            self._bodies,
            self._name,
            _key(request),
            self._clock.now(),
        )


def _key(request: Request | str) -> str:
    if isinstance(request, Request):
        key = request.cf and request.cf.get("cacheKey")
        return str(key) if key else request.url
    try:
        return normalize(request)
    except FetchTypeError as error:
        raise CacheTypeError(
            "Invalid URL. Cache API keys must be fully-qualified, valid URLs."
        ) from error


# -- answers -----------------------------------------------------------------------------------


class _Bytes:
    """A body that lies in the row."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def whole(self) -> bytes:
        return self._data

    def part(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class _File:
    """A body that lies in a file."""

    __slots__ = ("_file", "size")

    def __init__(self, file: blobs.OpenFile) -> None:
        self._file = file
        self.size = file.size

    def whole(self) -> AsyncIterator[bytes]:
        return self.part(0, self.size)

    def part(self, offset: int, length: int) -> AsyncIterator[bytes]:
        return Counted(self._chunks(offset, length), length)

    async def _chunks(self, offset: int, length: int) -> AsyncIterator[bytes]:
        end = offset + length
        while offset < end:
            chunk = await on_thread(self._file.read, offset, min(_CHUNK, end - offset))
            if not chunk:
                raise OSError("the file of a cached body is shorter than it was when it was opened")
            offset += len(chunk)
            yield chunk


def _answer(
    wanted: dict[str, str], entry: CacheEntry, url: str, now: int, body: _Bytes | _File
) -> Response:
    headers = list(entry.headers)
    if entry.stored is not None:
        headers.append(("age", str(max(0, (now - entry.stored) // 1000))))
    headers.append(("cf-cache-status", "HIT"))
    if wanted:
        kept = dict(entry.headers)
        if rules.not_modified(wanted, kept):
            return Response.from_parts(304, headers, None, url)
        ranges = rules.ranges(wanted, kept, body.size) if entry.status == 200 else None
        if ranges is not None:
            return _partial(ranges, headers, url, body)
    whole = body.whole()
    return Response.from_parts(entry.status, headers, whole or None, url)


def _partial(
    ranges: list[tuple[int, int]], headers: rules.Pairs, url: str, body: _Bytes | _File
) -> Response:
    """206 with one range or several, or 416 for none."""
    headers = [pair for pair in headers if pair[0] != "content-length"]
    if not ranges:
        headers.append(("content-range", f"bytes */{body.size}"))
        return Response.from_parts(416, headers, None, url)
    if len(ranges) == 1:
        [(offset, length)] = ranges
        headers += [
            ("content-range", f"bytes {offset}-{offset + length - 1}/{body.size}"),
            ("content-length", str(length)),
        ]
        return Response.from_parts(206, headers, body.part(offset, length), url)
    boundary = secrets.token_hex(16)
    kind = dict(headers).get("content-type")
    headers = [pair for pair in headers if pair[0] != "content-type"]
    headers.append(("content-type", f"multipart/byteranges; boundary={boundary}"))
    return Response.from_parts(206, headers, _multipart(ranges, boundary, kind, body), url)


async def _multipart(
    ranges: list[tuple[int, int]], boundary: str, kind: str | None, body: _Bytes | _File
) -> AsyncIterator[bytes]:
    for offset, length in ranges:
        head = f"--{boundary}\r\n"
        if kind is not None:
            head += f"Content-Type: {kind}\r\n"
        head += f"Content-Range: bytes {offset}-{offset + length - 1}/{body.size}\r\n\r\n"
        yield head.encode("latin-1")
        part = body.part(offset, length)
        if isinstance(part, bytes):
            yield part
        else:
            async for chunk in part:
                yield chunk
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


async def _pieces(body: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body in pieces that are no burden to memory."""
    if isinstance(body, bytes):
        for start in range(0, len(body), FILE_SIZE):
            yield body[start : start + FILE_SIZE]
        return
    async for chunk in body:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise CacheTypeError(f"a body's stream must give bytes, not {type(chunk).__name__}")
        yield bytes(chunk)


async def _close(stream: Any) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
