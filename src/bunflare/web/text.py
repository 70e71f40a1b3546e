"""Text and bytes, as the web's standards convert them."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


def encode(text: str) -> bytes:
    """UTF-8. Lone surrogates, which UTF-8 cannot say, become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, where two surrogates that belong together are one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def decode(data: bytes) -> str:
    """UTF-8. What is invalid becomes U+FFFD, a byte order mark is dropped."""
    return data.removeprefix(_BOM).decode("utf-8", "replace")
