"""Pages of any encoding as UTF-8, and back.

What cannot be decoded keeps its bytes: each is a character of its own meanwhile, of Unicode's last
private range, and comes out as it was. What an encoding has no bytes for comes out as a character
reference, as HTML has it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator

from ..web.streams import close

_KEPT = 0x10FF00
_BYTES = re.compile(f"([{chr(_KEPT)}-{chr(_KEPT + 0xFF)}])")
_NAME = "bunflare.kept"


def _keep(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    byte = error.object[error.start]
    # Byte by byte: what follows may be a part of the page's markup.
    return (chr(byte) if byte < 0x80 else chr(_KEPT + byte)), error.start + 1


codecs.register_error(_NAME, _keep)


async def decoded(chunks: AsyncIterator[bytes], codec: str) -> AsyncIterator[bytes]:
    """A page as UTF-8."""
    decoder = codecs.getincrementaldecoder(codec)(_NAME)
    async for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode()
    if text := decoder.decode(b"", True):
        yield text.encode()


async def encoded(chunks: AsyncIterator[bytes], codec: str) -> AsyncIterator[bytes]:
    """The same page again, of UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    encoder = codecs.getincrementalencoder(codec)("xmlcharrefreplace")

    def encode(text: str, last: bool = False) -> bytes:
        parts = []
        for place, piece in enumerate(_BYTES.split(text)):
            if place % 2:
                parts += [encoder.encode("", True), bytes([ord(piece) - _KEPT])]
            else:
                parts.append(encoder.encode(piece))
        return b"".join([*parts, encoder.encode("", last)])

    try:
        async for chunk in chunks:
            if data := encode(decoder.decode(chunk)):
                yield data
        if data := encode(decoder.decode(b"", True), True):
            yield data
    finally:
        await close(chunks)
