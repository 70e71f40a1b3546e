"""What requests and responses share: a body that can be read once."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from ..errors import BodyUsedError, FetchTypeError
from . import formdata
from .blob import Blob
from .formdata import FormData
from .headers import Headers

BodyInit = str | bytes | bytearray | memoryview | Blob | FormData | AsyncIterable[bytes]

_USED = (
    "Body has already been used. It can only be used once. Use tee() first if you need to read it "
    "twice."
)
_BOM = "\ufeff"


def extract(body: object) -> tuple[bytes | None, AsyncIterator[bytes] | None, str | None]:
    """What a body given by a user is: its bytes or its stream, and its Content-Type."""
    match body:
        case str():
            return body.encode("utf-8", "replace"), None, "text/plain;charset=UTF-8"
        case bytes():
            return body, None, None
        case None:
            return None, None, None
        case bytearray() | memoryview():
            return bytes(body), None, None
        case Blob():
            return body.known(), None, body.type or None
        case FormData():
            data, content_type = body.encode()
            return data, None, content_type
        case AsyncIterable():
            return None, aiter(body), None
        case _:
            raise FetchTypeError(f"a body cannot be a {type(body).__name__}")


class Body:
    """A body that is known bytes, or a stream of them, or nothing; read once."""

    __slots__ = ("_data", "_headers", "_stream", "_used")

    _headers: Headers
    _data: bytes | None
    _stream: AsyncIterator[bytes] | None
    _used: bool

    @property
    def headers(self) -> Headers:
        return self._headers

    @property
    def body(self) -> AsyncIterator[bytes] | None:
        """The body as a stream, or None if there is none."""
        if self._stream is not None:
            return _Reading(self)
        return None if self._data is None else _Reading(self)

    @property
    def body_used(self) -> bool:
        """Whether somebody has begun to read."""
        return self._used

    def take(self) -> bytes | AsyncIterator[bytes]:
        """Use the body up: its bytes if they are known (b"" for no body), or its stream."""
        if self._used:
            raise BodyUsedError(_USED)
        if self._stream is not None:
            self._used = True
            return self._stream
        if self._data is None:
            return b""
        self._used = True
        return self._data

    async def bytes(self) -> bytes:
        """The whole body."""
        body = self.take()
        if isinstance(body, bytes):
            return body
        data = bytearray()
        async for chunk in body:
            data += _checked(chunk)
        return bytes(data)

    async def buffer(self) -> memoryview:
        """The whole body as what Python has for an ArrayBuffer."""
        return memoryview(await self.bytes())

    array_buffer = buffer

    async def text(self) -> str:
        """The body as UTF-8; what is invalid becomes U+FFFD, a byte order mark is dropped."""
        text = (await self.bytes()).decode("utf-8", "replace")
        return text.removeprefix(_BOM)

    async def form_data(self) -> FormData:
        """The body as a form. Raises `FetchTypeError` if it is none."""
        return formdata.parse(self.headers.get("content-type"), await self.bytes())

    async def blob(self) -> Blob:
        return Blob([await self.bytes()], type=self.headers.get("content-type", ""))

    async def _json(self, **options: Any) -> Any:
        return json.loads(await self.text(), **options)

    def _share(self, other: Body) -> None:
        """Give ``other`` the same body, each to be read once."""
        if self._used:
            raise BodyUsedError(_USED)
        other._used = False
        other._data = self._data
        other._stream = None
        if self._stream is not None:
            self._stream, other._stream = _tee(self._stream)

    # The standard's own spellings.
    bodyUsed = body_used
    arrayBuffer = buffer
    formData = form_data


class _Reading:
    """The stream of a body, which counts as used with the first read."""

    __slots__ = ("_body", "_source")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._source: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._source is None:
            body = self._body.take()
            self._source = _once(body) if isinstance(body, bytes) else body
        return _checked(await anext(self._source))

    async def aclose(self) -> None:
        """Stop reading; the source may let go of what it holds."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _checked(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise FetchTypeError(f"a body's stream must give bytes, not {type(chunk).__name__}")


def _tee(source: AsyncIterator[bytes]) -> tuple[AsyncIterator[bytes], AsyncIterator[bytes]]:
    """Two streams of one. What only one of them has read yet is held in memory for the other."""
    queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())

    async def branch(mine: deque[bytes]) -> AsyncIterator[bytes]:
        while True:
            if not mine:
                try:
                    chunk = await anext(source)
                except StopAsyncIteration:
                    return
                for queue in queues:
                    queue.append(chunk)
            yield mine.popleft()

    return branch(queues[0]), branch(queues[1])
