"""What requests and responses share: headers, and a body that can be read once.

A body whose bytes are known stays bytes from beginning to end; only one that came as a stream
needs anything asynchronous.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Self, TypeAlias

from ..errors import BodyUsedError, FetchTypeError
from . import formdata, streams, text
from .blob import Blob
from .buffer import Uint8Array
from .formdata import FormData
from .headers import Headers
from .objects import JsArray, JsDict
from .readable import Readable
from .urlencoded import URLSearchParams

BodyInit: TypeAlias = (
    str
    | bytes
    | bytearray
    | memoryview
    | Blob
    | FormData
    | URLSearchParams
    | AsyncIterable[bytes | bytearray | memoryview]
)

TEXT = "text/plain;charset=UTF-8"

_USED = (
    "Body has already been used. It can only be used once. Use tee() first if you need to read it "
    "twice."
)


def extract(
    body: Any, owner: str = "Request"
) -> tuple[bytes | AsyncIterator[bytes] | None, str | None]:
    """What a body given by a user is: its bytes or its stream, and its Content-Type."""
    if body is None or body.__class__ is bytes:
        return body, None
    if isinstance(body, str):
        return text.encode(body), TEXT
    if isinstance(body, Blob):
        return body.known(), body.type or None
    if isinstance(body, FormData):
        return body.encode()
    if isinstance(body, URLSearchParams):
        return str(body).encode(), "application/x-www-form-urlencoded;charset=UTF-8"
    if isinstance(body, BodyStream):
        return body.detach(), None
    if isinstance(body, AsyncIterable):
        return streams.checked(aiter(body)), None
    try:
        return bytes(memoryview(body)), None
    except TypeError:
        raise FetchTypeError(f"Unsupported type in {owner}: {type(body).__name__}") from None


class Body:
    """A body that is known bytes, or a stream of them, or nothing; read once."""

    __slots__ = ("_body", "_headers", "_reader", "_used")

    _body: bytes | AsyncIterator[bytes] | None
    _headers: Headers
    _reader: BodyStream | None
    _used: bool

    @property
    def headers(self) -> Headers:
        return self._headers

    @property
    def body(self) -> BodyStream | None:
        """The body as a stream of bytes, or None if there is none."""
        if self._body is None:
            return None
        if self._reader is None:
            self._reader = BodyStream(self)
        return self._reader

    @property
    def body_used(self) -> bool:
        """Whether somebody has begun to read."""
        return self._used

    def take(self) -> bytes | AsyncIterator[bytes]:
        """Use the body up: its bytes if they are known (b"" for no body), or its stream."""
        body = self._body
        if body is None:
            return b""
        if self._used:
            raise BodyUsedError(_USED)
        self._used = True
        return body

    async def bytes(self) -> bytes:
        """The whole body."""
        body = self.take()
        if isinstance(body, bytes):
            return body
        return b"".join([chunk async for chunk in body])

    async def buffer(self) -> Uint8Array:
        """The whole body as an ArrayBuffer: bytes-like, with ``to_bytes()`` and ``to_py()``."""
        return Uint8Array(await self.bytes())

    array_buffer = buffer

    async def text(self) -> str:
        """The body as UTF-8; what is invalid becomes U+FFFD, a byte order mark is dropped."""
        return text.decode(await self.bytes())

    async def form_data(self) -> FormData:
        """The body as a form. Raises `FetchTypeError` if it is none."""
        data = await self.bytes()
        return formdata.parse(self._headers.get("content-type"), data)

    async def blob(self) -> Blob:
        """The body as a `Blob` of the type that the headers say."""
        return Blob(await self.bytes(), self._headers.get("content-type", ""))

    async def _json(self, **options: Any) -> Any:
        """The body as JSON. Keys of objects are attributes too, as Workers expect them to be."""
        if options:
            return json.loads(await self.text(), **options)
        value = json.loads(await self.text(), object_hook=JsDict)
        return JsArray(value) if isinstance(value, list) else value

    def _share(self, other: Body) -> None:
        """Give ``other`` the same body, each to be read once."""
        if self._used:
            raise BodyUsedError(_USED)
        body = self._body
        if body is not None and not isinstance(body, bytes):
            self._body, body = streams.tee(body)
        other._body = body
        other._reader = None
        other._used = False

    @property
    def js_object(self) -> Self:
        """Itself: what the platform's SDK wraps."""
        return self

    # The standard's own spellings.
    bodyUsed = body_used
    arrayBuffer = buffer
    formData = form_data


class BodyStream(Readable):
    """The body of a request or response as a stream. The first read uses the body.

    Who stops reading may go on later. It can be the body of another message, which uses it at
    once (the platform says so with the first read only) and keeps known bytes known.
    """

    __slots__ = ("_owner", "_source")

    def __init__(self, owner: Body) -> None:
        # None once it has been read from: what is being received is let go of as soon as nobody
        # has it any more, which a circle of references would put off.
        self._owner: Body | None = owner
        self._source: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._source is None:
            self._source = self._opened()
        return await self._source.__anext__()

    async def aclose(self) -> None:
        """Stop reading for good; the source may let go of what it holds."""
        if self._source is None:
            self._source = self._opened()
        await streams.close(self._source)

    def tee(self) -> tuple[AsyncIterator[bytes], AsyncIterator[bytes]]:
        """Two streams of it. What only one of them has read is held in memory for the other."""
        return streams.tee(self._opened())

    def detach(self) -> bytes | AsyncIterator[bytes]:
        """The bytes or the stream, for another message. Uses the body."""
        owner, self._owner = self._owner, None
        if owner is None:
            raise BodyUsedError(_USED)
        return owner.take()

    def _opened(self) -> AsyncIterator[bytes]:
        body = self.detach()
        return streams.once(body) if isinstance(body, bytes) else body
