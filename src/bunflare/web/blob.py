"""`Blob` and `File`: immutable bytes with a media type, and with a name."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Literal, TypeAlias

from ..errors import FetchTypeError

BlobPart: TypeAlias = "str | bytes | bytearray | memoryview | Blob"

_CHUNK = 64 * 1024


class Blob:
    """Bytes with a media type: https://developer.mozilla.org/docs/Web/API/Blob"""

    __slots__ = ("_data", "_type")

    def __init__(
        self,
        parts: Iterable[BlobPart] | BlobPart = (),
        *,
        type: str = "",
        content_type: str | None = None,
        endings: Literal["transparent", "native"] = "transparent",
    ) -> None:
        if isinstance(parts, str | bytes | bytearray | memoryview | Blob):
            parts = [parts]
        data = b"".join(map(_bytes, parts))
        if endings == "native":
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._data = data
        media_type = type if content_type is None else content_type
        self._type = media_type.lower() if media_type.isascii() and media_type.isprintable() else ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    @property
    def type(self) -> str:
        """The media type in lower case, or ""."""
        return self._type

    content_type = type

    def slice(self, start: int = 0, end: int | None = None, content_type: str = "") -> Blob:
        """A part; negative positions count from the end."""
        return Blob([self._data[start:end]], type=content_type)

    async def array_buffer(self) -> memoryview:
        return memoryview(self._data)

    async def text(self) -> str:
        return self._data.decode("utf-8", "replace")

    async def stream(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), _CHUNK):
            yield self._data[start : start + _CHUNK]

    arrayBuffer = array_buffer

    def known(self) -> bytes:
        """The bytes at once."""
        return self._data

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, type={self._type!r})"

    # Last, because from here on `bytes` means this method in the class.
    async def bytes(self) -> bytes:
        return self._data


class File(Blob):
    """A `Blob` with a name: https://developer.mozilla.org/docs/Web/API/File"""

    __slots__ = ("_last_modified", "_name")

    def __init__(
        self,
        parts: Iterable[BlobPart] | BlobPart,
        name: str,
        *,
        type: str = "",
        content_type: str | None = None,
        endings: Literal["transparent", "native"] = "transparent",
        last_modified: int | None = None,
    ) -> None:
        super().__init__(parts, type=type, content_type=content_type, endings=endings)
        self._name = name
        self._last_modified = (
            time.time_ns() // 1_000_000 if last_modified is None else last_modified
        )

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


def _bytes(part: object) -> bytes:
    match part:
        case str():
            return part.encode("utf-8", "replace")
        case bytes():
            return part
        case bytearray() | memoryview():
            return bytes(part)
        case Blob():
            return part.known()
        case _:
            raise FetchTypeError(f"a part of a Blob cannot be a {type(part).__name__}")
