"""Content-Encoding of answers: the platform compresses a body as the header says.

Bodies are plain inside: what `fetch` received was decompressed, and its header is still there.
Brotli is the extra ``bunflare[brotli]``; with it, what `fetch` receives may be of it, too.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Protocol

from ..web import Response

_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_LEVEL = 6
# Higher ones are for what is compressed once and sent often.
_BROTLI_QUALITY = 4

Raw = list[tuple[bytes, bytes]]


def encode(response: Response, body: Any, raw: Raw, asked: Raw) -> tuple[Raw, Any]:
    """The headers and the body as the client gets them, of a response that has the header.

    Where the client does not take that encoding, or it is not one of ours, the body stays plain.
    """
    if response.__dict__.get("encode_body") == "manual" or body == b"":
        return raw, body
    names = [value.strip().lower() for name, value in raw if name == b"content-encoding"]
    accepted = b",".join(value for name, value in asked if name == b"accept-encoding").lower()
    kept = [pair for pair in raw if pair[0] != b"content-encoding"]
    [encoding, *more] = names
    work = None if more or not _takes(accepted, encoding) else _compressor(encoding)
    if work is None:
        return kept, body
    headers = [pair for pair in kept if pair[0] != b"content-length"]
    headers.append((b"content-encoding", encoding))
    if isinstance(body, bytes):
        return headers, work.compress(body) + work.end()
    return headers, _stream(body, work)


class _Compressor(Protocol):
    """One body, part by part."""

    def compress(self, data: bytes, /) -> bytes: ...
    def sync(self) -> bytes:
        """What is left of the parts so far, so that they can be read."""

    def end(self) -> bytes: ...


class _Zlib:
    def __init__(self, bits: int) -> None:
        work = zlib.compressobj(_LEVEL, wbits=bits)
        self.compress = work.compress
        self.end = work.flush
        self._flush = work.flush

    def sync(self) -> bytes:
        return self._flush(zlib.Z_SYNC_FLUSH)


class _Brotli:
    def __init__(self, module: Any) -> None:
        work = module.Compressor(quality=_BROTLI_QUALITY)
        self.compress = work.process
        self.sync = work.flush
        self.end = work.finish


def _compressor(encoding: bytes) -> _Compressor | None:
    """None of an encoding that is not ours."""
    if encoding == b"br":
        module = _brotli()
        return None if module is None else _Brotli(module)
    bits = _BITS.get(encoding)
    return None if bits is None else _Zlib(bits)


@cache
def _brotli() -> Any:
    try:
        import brotli
    except ImportError:
        return None
    return brotli


def _takes(accepted: bytes, encoding: bytes) -> bool:
    for one in accepted.split(b","):
        name, _, quality = one.strip().partition(b";")
        if name.strip() in (encoding, b"*"):
            return quality.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return False


async def _stream(body: AsyncIterator[bytes], work: _Compressor) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            # Each part is sent at once, as it would be without.
            if data := work.compress(chunk) + work.sync():
                yield data
        yield work.end()
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
