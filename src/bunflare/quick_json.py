"""Plain values, and their JSON text by the C encoder that ``json`` makes anew each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from typing import Any

from .errors import ValueCorrupt

#: The one key of an object that is more than JSON: :mod:`bunflare.values`.
TAG = "$bunflare"
#: The integers that all programs read alike.
MOST = 2**53 - 1
# Each level counts as one frame of Python's stack when a text is read, and a stack has 1,000. A
# limit well below that lets what was stored from a shallow stack be read from a deep one.
DEEPEST = 400

_only_texts = frozenset({str}).issuperset
_quoted = json.encoder.encode_basestring
_words = {True: "true", False: "false", None: "null"}
# Of keys.
_FEW = 16


def _make() -> Callable[[Any], str]:
    # Circles are found before, so that looking for them again would only cost time.
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
    make = vars(json.encoder).get("c_make_encoder")
    if make is None:
        return encoder.encode
    chunks = make(None, encoder.default, _quoted, None, ":", ",", False, False, True)
    return lambda value: "".join(chunks(value, 0))


#: `json.JSONEncoder.encode` without blanks, and with characters as they are.
encode = _make()


def encode_flat(value: dict[Any, Any]) -> str | None:
    """`encode`, for a small dict without containers in it, as messages often are.

    None if it is no such, or if `is_plain` would say no.
    """
    if len(value) > _FEW or TAG in value:
        return None
    pieces = []
    for key, item in value.items():
        kind = type(item)
        if type(key) is not str:
            return None
        if kind is str:
            pieces.append(f"{_quoted(key)}:{_quoted(item)}")
        elif kind is int and -MOST <= item <= MOST:
            pieces.append(f"{_quoted(key)}:{item}")
        elif item is None or kind is bool:
            pieces.append(f"{_quoted(key)}:{_words[item]}")
        else:
            return None
    return f"{{{','.join(pieces)}}}"


def stored(text: str | bytes, what: str) -> Any:
    """A value that lies in a row. Raises `ValueCorrupt` where somebody else has spoilt it."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueCorrupt(f"{what} that is stored cannot be read: {error}") from error


def stored_object(text: str | bytes, what: str) -> dict[str, Any]:
    """`stored`, for an object or null."""
    value = stored(text, what) or {}
    if not isinstance(value, dict):
        raise ValueCorrupt(f"{what} that is stored cannot be read: it is not a JSON object")
    return value


def is_plain(value: Any) -> bool:
    """Whether JSON says the value exactly: no other types, and no container twice."""
    if type(value) is dict and _only_texts(map(type, value.values())):
        return _only_texts(map(type, value)) and TAG not in value
    seen: set[int] = set()
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str or item is None or kind is bool:
                continue
            if kind is int:
                if not -MOST <= item <= MOST:
                    return False
            elif kind is float:
                if not -inf < item < inf:
                    return False
            elif (kind is not dict and kind is not list) or id(item) in seen:
                return False
            else:
                seen.add(id(item))
                if kind is list:
                    below += item
                    continue
                if TAG in item:
                    return False
                for key in item:
                    if type(key) is not str:
                        return False
                below += item.values()
        if not below:
            return True
        level = below
    raise RecursionError
