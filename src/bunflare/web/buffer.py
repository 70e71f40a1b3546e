"""`Uint8Array`: bytes as JavaScript has them."""

from __future__ import annotations

from typing import Any, Self


class Uint8Array(bytearray):
    """Bytes that can be changed."""

    @classmethod
    def new(cls, source: Any = b"") -> Self:
        return cls(source)

    @classmethod
    def of(cls, *numbers: int) -> Self:
        return cls(numbers)

    def set(self, source: Any, offset: int = 0) -> None:
        """Copy bytes into this from ``offset`` on."""
        data = bytes(source)
        if offset + len(data) > len(self):
            raise ValueError("offset is out of bounds")
        self[offset : offset + len(data)] = data

    def subarray(self, start: int | None = None, end: int | None = None) -> Self:
        """A copy of a part; on the platform a view of it."""
        return type(self)(self[start:end])

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


for _name in ("from", "from_"):
    setattr(Uint8Array, _name, classmethod(lambda cls, numbers: cls(numbers)))
