"""What may be bound to a statement of D1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import D1TypeError
from .text import encodable

_INT64 = 1 << 63


def parameter(value: Any) -> Any:
    """A parameter as SQLite takes it."""
    kind = value.__class__
    if value is None or kind is float or kind is bytes:
        # SQLite itself makes NULL of NaN.
        return value
    if kind is int and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            _refuse("bigint", value)
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        # The text itself: of a member of an enumeration, `str` tells something else.
        return encodable(str.__str__(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Sequence) and all(
        isinstance(one, int) and 0 <= one < 256 for one in value
    ):
        return bytes(value)
    return _refuse("object", value)


def _refuse(kind: str, value: object) -> NoReturn:
    try:
        text = str(value)
    except ValueError:
        # Python writes no integer of more than some thousand digits.
        text = object.__repr__(value)
    raise D1TypeError(f"D1_TYPE_ERROR: Type '{kind}' not supported for value '{text}'")
