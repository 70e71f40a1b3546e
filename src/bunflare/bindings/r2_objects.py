"""What R2 answers with: objects, with and without their bytes, and pages of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import R2TypeError, ValueCorrupt
from ..quick_json import stored_object
from ..store.blobs import OpenFile
from ..store.r2 import ObjectRow
from ..store.threads import on_thread
from ..web import Blob, Headers
from ..web.body import Body, BodyStream
from ..web.streams import Sized
from .r2_options import (
    R2Checksums,
    R2HTTPMetadata,
    R2Range,
    from_iso,
    load_http_metadata,
)
from .r2_ssec import Keystream, Ssec

# A chunk stays in the processor's cache while the next one is read.
_CHUNK = 512 * 1024
# Chunks that were at hand after which others have their turn.
_TURN = 8
# Bytes that are read in one go where they are wanted as a whole.
_AT_ONCE = 16 * 1024 * 1024

_NO_HEADERS = Headers()


@dataclass(frozen=True, slots=True)
class R2Object:
    """An object's metadata.

    ``http_metadata`` and ``custom_metadata`` are None in a listing that did not ask for them;
    ``range`` is the part that was read, and None where nothing was.
    """

    key: str
    #: Another one for each time that the key is written.
    version: str
    #: Bytes.
    size: int
    #: Hexadecimal MD5 of the bytes; ``…-N`` of an object that was uploaded in N parts.
    etag: str
    #: `etag` in the quotes that HTTP wants.
    http_etag: str
    checksums: R2Checksums
    uploaded: datetime
    http_metadata: R2HTTPMetadata | None
    custom_metadata: dict[str, str] | None
    range: R2Range | None
    #: "Standard" or "InfrequentAccess".
    storage_class: str
    #: Hexadecimal MD5 of the customer's key that it is encrypted with, if it is.
    ssec_key_md5: str | None

    def write_http_metadata(self, headers: Headers) -> None:
        """Set the headers that are kept with the object (``Content-Type`` and its like)."""
        metadata = self.http_metadata
        if metadata is None:
            raise R2TypeError(
                f"HTTP metadata unknown for key `{self.key}`. Did you forget to add 'httpMetadata' "
                "to `include` when listing?"
            )
        for name in (
            "content_type",
            "content_language",
            "content_disposition",
            "content_encoding",
            "cache_control",
        ):
            value = getattr(metadata, name)
            if value is not None:
                headers.set(name.replace("_", "-"), value)
        if metadata.cache_expiry is not None:
            from email.utils import format_datetime

            headers.set("expires", format_datetime(metadata.cache_expiry, usegmt=True))


class R2ObjectBody(R2Object):
    """An object with its bytes, which can be read once and stay those of this version."""

    __slots__ = ("_content",)

    _content: Content

    @property
    def body(self) -> BodyStream:
        """The bytes as a stream; as the body of a `Response` they are sent as they are read."""
        stream = self._content.body
        assert stream is not None
        return stream

    @property
    def body_used(self) -> bool:
        """Whether somebody has begun to read."""
        return self._content.body_used

    def take(self) -> bytes | AsyncIterator[bytes]:
        """Use the body up: its bytes if they are known, or their stream."""
        return self._content.take()

    async def bytes(self) -> bytes:
        """All bytes."""
        return await self._content.bytes()

    async def array_buffer(self) -> memoryview:
        """All bytes as what Python has for an ArrayBuffer."""
        return memoryview(await self._content.bytes())

    async def text(self) -> str:
        """The bytes as UTF-8; what is invalid becomes U+FFFD, a byte order mark is dropped."""
        return await self._content.text()

    async def json(self) -> Any:
        """The bytes as JSON."""
        return json.loads(await self._content.text())

    async def blob(self) -> Blob:
        """The bytes as a `Blob` of the object's content type."""
        metadata = self.http_metadata
        kind = metadata.content_type if metadata is not None else None
        return Blob(await self._content.bytes(), kind or "")


@dataclass(frozen=True, slots=True)
class R2Objects:
    """A page of a listing. ``cursor`` is None on the last one."""

    objects: list[R2Object]
    truncated: bool
    cursor: str | None
    delimited_prefixes: list[str]


@dataclass(frozen=True, slots=True)
class R2UploadedPart:
    """A part of a multipart upload, as `complete` wants it back."""

    part_number: int
    etag: str


class Content(Body):
    """The bytes of an object, to be read once."""

    __slots__ = ()

    def __init__(self, content: bytes | FileStream) -> None:
        self._body = content
        self._used = False
        self._reader = None
        self._headers = _NO_HEADERS

    async def bytes(self) -> bytes:
        content = self.take()
        return await content.read() if isinstance(content, FileStream) else await _all(content)


async def _all(content: bytes | AsyncIterator[bytes]) -> bytes:
    if isinstance(content, bytes):
        return content
    return b"".join([chunk async for chunk in content])


class FileStream(Sized):
    """A range of a file as chunks, read on a thread where the disk would have to be waited for."""

    __slots__ = ("_at_hand", "_file", "_keystream", "_offset", "left")

    def __init__(
        self, file: OpenFile, offset: int, length: int, keystream: Keystream | None
    ) -> None:
        self._file = file
        self._offset = offset
        self.left = length
        self._keystream = keystream
        self._at_hand = 0

    def __aiter__(self) -> FileStream:
        return self

    async def __anext__(self) -> bytes:
        if self.left <= 0:
            self._file.close()
            raise StopAsyncIteration
        length = min(self.left, _CHUNK)
        chunk = self._now(length)
        if chunk is None:
            return await self._later(length)
        self._at_hand += 1
        if self._at_hand % _TURN == 0:
            await asyncio.sleep(0)
        return chunk

    def _now(self, length: int) -> bytes | None:
        """The next bytes, if they are at hand."""
        if self._keystream is not None or not self._file.cached(self._offset, length):
            return None
        return self._taken(self._file.read(self._offset, length))

    async def _later(self, length: int) -> bytes:
        return self._taken(await on_thread(self._read, self._offset, length))

    def _taken(self, chunk: bytes) -> bytes:
        if not chunk:
            raise OSError("the file of an object has become shorter while it was read")
        self._offset += len(chunk)
        self.left -= len(chunk)
        return chunk

    def _read(self, offset: int, length: int) -> bytes:
        chunk = self._file.read(offset, length)
        return chunk if self._keystream is None else self._keystream.apply(chunk)

    def plain(self) -> tuple[OpenFile, int, int] | None:
        """The file, and which range of it, if its bytes are what is to be read."""
        return None if self._keystream is not None else (self._file, self._offset, self.left)

    async def read(self) -> bytes:
        """All that is left."""
        chunks = []
        while self.left > 0:
            length = min(self.left, _AT_ONCE)
            chunks.append(self._now(length) or await self._later(length))
        self._file.close()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aclose(self) -> None:
        self.left = 0
        self._file.close()


_ALL_METADATA = frozenset({"http_metadata", "custom_metadata"})


def object_of(
    key: str,
    row: ObjectRow,
    range: R2Range | None = None,
    include: frozenset[str] = _ALL_METADATA,
) -> R2Object:
    return R2Object(*_fields(key, row, range, include))


def object_body_of(
    key: str, row: ObjectRow, range: R2Range, content: bytes | FileStream
) -> R2ObjectBody:
    found = R2ObjectBody(*_fields(key, row, range, _ALL_METADATA))
    object.__setattr__(found, "_content", Content(content))
    return found


def _fields(
    key: str, row: ObjectRow, range: R2Range | None, include: frozenset[str]
) -> tuple[Any, ...]:
    size, etag, uploaded, http, custom, version, own_etag, _, checksums, storage_class, ssec = row
    if own_etag != etag or version is None:
        # What stands here is not about this object: another program has written over it.
        checksums = storage_class = ssec = None
    return (
        key,
        version or f"{etag}-{uploaded}",
        size,
        etag,
        f'"{etag}"',
        _checksums(etag, checksums),
        from_iso(uploaded),
        load_http_metadata(http)
        if include is _ALL_METADATA or "http_metadata" in include
        else None,
        _custom(custom) if include is _ALL_METADATA or "custom_metadata" in include else None,
        range,
        storage_class or "Standard",
        None if ssec is None else Ssec.load(ssec).key_md5,
    )


def _custom(text: str | None) -> dict[str, str]:
    return {} if text is None else stored_object(text, "the custom metadata")


def _checksums(etag: str, stored: str | None) -> R2Checksums:
    md5 = None
    if len(etag) == 32:
        try:
            md5 = bytes.fromhex(etag)
        except ValueError:
            md5 = None
    if stored is None:
        return R2Checksums(md5)
    try:
        given = {
            name: bytes.fromhex(digest)
            for name, digest in stored_object(stored, "the checksums").items()
        }
        return R2Checksums(**{"md5": md5, **given})
    except (TypeError, ValueError) as error:
        raise ValueCorrupt(f"the checksums that are stored cannot be read: {error}") from error
