"""`Blob` and `File`: immutable bytes with a media type, and with a name."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Literal, Self, TypeAlias

from ..errors import FetchTypeError
from . import text
from .readable import SizedStream

BlobPart: TypeAlias = "str | bytes | bytearray | memoryview | Blob"
BlobEnding: TypeAlias = Literal["transparent", "native"]

_CHUNK = 64 * 1024


class Blob:
    """Bytes with a media type: https://developer.mozilla.org/docs/Web/API/Blob

    Made of one part or several. ``content_type`` is the SDK's name for ``type``; a blob made of
    one blob alone (not of a list with one) has its type, unless another is given.
    """

    __slots__ = ("_data", "_type")

    def __init__(
        self,
        parts: Iterable[BlobPart] | BlobPart = (),
        type: str | None = None,
        endings: BlobEnding | None = None,
        *,
        content_type: str | None = None,
    ) -> None:
        self._data = _joined(parts, endings)
        kind = type or content_type or (parts.type if isinstance(parts, Blob) else "")
        self._type = kind.lower() if kind.isascii() and kind.isprintable() else ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    @property
    def type(self) -> str:
        """The media type in lower case, or ""."""
        return self._type

    content_type = type

    def slice(
        self, start: int | None = None, end: int | None = None, content_type: str | None = None
    ) -> Blob:
        """A part; negative positions count from the end. It has no type unless one is given."""
        return Blob([self._data[start:end]], content_type)

    async def array_buffer(self) -> memoryview:
        return memoryview(self._data)

    async def text(self) -> str:
        """The bytes as UTF-8; what is invalid becomes U+FFFD, a byte order mark is dropped."""
        return text.decode(self._data)

    def stream(self) -> SizedStream:
        """The bytes in chunks."""
        return SizedStream(_chunks(self._data), len(self._data))

    arrayBuffer = array_buffer

    @property
    def js_object(self) -> Self:
        """Itself: what the platform's SDK wraps."""
        return self

    def known(self) -> bytes:
        """The bytes at once."""
        return self._data

    def __repr__(self) -> str:
        return f"Blob(size={self.size}, type={self._type!r})"

    # Last, because from here on `bytes` means this method in the class.
    async def bytes(self) -> bytes:
        return self._data


class File(Blob):
    """A `Blob` with a name: https://developer.mozilla.org/docs/Web/API/File

    ``filename`` is the SDK's name for ``name``.
    """

    __slots__ = ("_last_modified", "_name")

    def __init__(
        self,
        parts: Iterable[BlobPart] | BlobPart,
        name: str | None = None,
        type: str | None = None,
        endings: BlobEnding | None = None,
        last_modified: int | None = None,
        *,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> None:
        super().__init__(parts, type, endings, content_type=content_type)
        name = filename if name is None else name
        if not isinstance(name, str):
            raise FetchTypeError(f"a File's name must be a str, not {name.__class__.__name__}")
        if last_modified is None:
            last_modified = (
                parts.last_modified if isinstance(parts, File) else time.time_ns() // 1_000_000
            )
        self._name = name
        self._last_modified = last_modified

    @property
    def name(self) -> str:
        return self._name

    @property
    def last_modified(self) -> int:
        """Epoch milliseconds."""
        return self._last_modified

    lastModified = last_modified

    def __repr__(self) -> str:
        return f"File({self._name!r}, size={self.size}, type={self.type!r})"


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _joined(parts: Iterable[BlobPart] | BlobPart, endings: BlobEnding | None) -> bytes:
    if isinstance(parts, str | bytes | bytearray | memoryview | Blob):
        parts = [parts]
    try:
        given = list(parts)
    except TypeError:
        given = [parts]  # type: ignore[list-item]
    return b"".join([_bytes(part, endings) for part in given])


def _bytes(part: BlobPart, endings: BlobEnding | None) -> bytes:
    if isinstance(part, Blob):
        return part.known()
    if isinstance(part, str):
        if endings == "native":
            part = part.replace("\r\n", "\n").replace("\r", "\n")
        return text.encode(part)
    try:
        return bytes(memoryview(part))
    except TypeError:
        raise FetchTypeError(f"Don't know how to handle {part.__class__} for Blob()") from None
