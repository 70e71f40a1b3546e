"""Text as the platform takes it: strings of Unicode scalar values, ordered by their UTF-8 bytes."""

from __future__ import annotations

import base64
import binascii

_LAST = "\U0010ffff"
_BEFORE_SURROGATES = "\ud7ff"
_AFTER_SURROGATES = "\ue000"


def scalar(text: str) -> str:
    """``text`` with every lone surrogate replaced by U+FFFD, as JavaScript does at its border."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encodable(text: str) -> str:
    """`scalar`, for texts most of which are as they should be."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return scalar(text)
    return text


def utf8_length(text: str) -> int:
    """Bytes of ``text`` in UTF-8, counting a lone surrogate as what it is replaced by."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def after_prefix(prefix: str) -> str | None:
    """The least text that is greater than all texts with this prefix; None if there is none.

    The order of code points is the order of their UTF-8 bytes, so the last one is counted up,
    where it can be.
    """
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    last = stem[-1]
    following = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else chr(ord(last) + 1)
    return stem[:-1] + following


def encode_cursor(position: str) -> str:
    """A place in a listing, as whoever asked for a page gets it."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str | None:
    """The place that a cursor tells; None if it is not one of ours."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        return None
