"""`Uint8Array`: bytes as JavaScript has them."""

from __future__ import annotations

from typing import Any, Self


class Uint8Array(bytearray):
    """Bytes that can be changed."""

    @classmethod
    def new(cls, source: Any = b"") -> Self:
        return cls(source)

    @property
    def length(self) -> int:
        return len(self)

    byteLength = length

    @property
    def buffer(self) -> Self:
        return self

    def to_bytes(self) -> bytes:
        return bytes(self)

    # As a memoryview has it.
    tobytes = to_bytes

    def to_memoryview(self) -> memoryview:
        return memoryview(self)

    def to_py(self, **_: Any) -> memoryview:
        return memoryview(self)

    def to_string(self, encoding: str = "utf-8") -> str:
        return bytes(self).decode(encoding)

    def slice(self, start: int | None = None, end: int | None = None) -> Self:
        return type(self)(self[start:end])
