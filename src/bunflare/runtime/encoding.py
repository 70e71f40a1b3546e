"""Content-Encoding of answers: the platform compresses a body as the header says.

Bodies are plain inside: what `fetch` received was decompressed, and its header is still there.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

from ..web import Response

_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_LEVEL = 6

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
    if more or encoding not in _BITS or not _takes(accepted, encoding):
        return kept, body
    headers = [pair for pair in kept if pair[0] != b"content-length"]
    headers.append((b"content-encoding", encoding))
    work = zlib.compressobj(_LEVEL, wbits=_BITS[encoding])
    if isinstance(body, bytes):
        return headers, work.compress(body) + work.flush()
    return headers, _stream(body, work)


def _takes(accepted: bytes, encoding: bytes) -> bool:
    for one in accepted.split(b","):
        name, _, quality = one.strip().partition(b";")
        if name.strip() in (encoding, b"*"):
            return quality.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return False


async def _stream(body: AsyncIterator[bytes], work: Any) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            # Each part is sent at once, as it would be without.
            if data := work.compress(chunk) + work.flush(zlib.Z_SYNC_FLUSH):
                yield data
        yield work.flush()
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
