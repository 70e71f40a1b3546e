"""Python values as JSON text and back, without loss.

What JSON can say is stored as plain JSON, so that any other program can read it. The rest becomes
an object with one key, ``{"$bunflare": [kind, …]}``, which nothing else can be mistaken for: a dict
of the user that has that key is itself stored as a ``map``.

| kind | holds |
|---|---|
| ``int`` | decimal digits, for integers beyond ±(2**53 - 1) |
| ``float`` | ``nan``, ``inf`` or ``-inf`` |
| ``bytes``, ``bytearray`` | base64 |
| ``datetime`` | ISO 8601, the name of its time zone or null, and its fold |
| ``date``, ``time`` | ISO 8601 (a time also its fold) |
| ``timedelta`` | days, seconds, microseconds |
| ``tuple``, ``set``, ``frozenset`` | an array |
| ``map`` | pairs, for a dict with keys that are not all str |
| ``error`` | an exception: its class's name, its arguments |
| ``regexp`` | a pattern and its flags |
| ``def``, ``ref`` | a mutable container that occurs more than once: its number and it; its number |

Subclasses of dict, list, tuple, set, str, int and float are stored as those; a memoryview as bytes.
A list or dict that occurs twice in a value, or in itself, does so again when read back; tuples are
copied. An exception that is not one of Python's own comes back as `StoredError`. Instances of other
classes, functions, modules and the like are refused, as the platform's structured clone does.
"""

from __future__ import annotations

import base64
import builtins
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from math import inf
from typing import Any
from zoneinfo import ZoneInfo

from .errors import StoredError, ValueCorrupt, ValueNotSerializable

TAG = "$bunflare"

_MOST = 2**53 - 1
_SHARED = (list, dict, set, bytearray)
_TOO_DEEP = "the value is nested too deeply"


def dumps(value: Any) -> str:
    """The text of ``value``. Raises `ValueNotSerializable` for what cannot be stored."""
    try:
        if not _is_plain(value):
            value = _Encoder().root(value)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                # UTF-8 has no lone surrogates; JSON's escapes do.
                text = json.dumps(value, separators=(",", ":"))
        return text
    except RecursionError:
        raise ValueNotSerializable(f"Could not serialize the value: {_TOO_DEEP}.") from None


def loads(text: str | bytes) -> Any:
    """The value of a text, by whatever program it was written. Raises `ValueCorrupt`."""
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(text)
        # Nearly every text is plain, and a search for the tag is far cheaper than a walk.
        return _Decoder().decode(value) if "$" in text and TAG in text else value
    except RecursionError:
        raise ValueCorrupt(f"the stored text cannot be read: {_TOO_DEEP}") from None
    except ValueCorrupt:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, re.error) as error:
        raise ValueCorrupt(f"the stored text cannot be read: {error}") from error


def _is_plain(value: Any) -> bool:
    """Whether JSON says the value exactly: no other types, and no container twice."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        kind = item.__class__
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not -_MOST <= item <= _MOST:
                return False
        elif kind is float:
            if not -inf < item < inf:
                return False
        elif kind is dict:
            if id(item) in seen:
                return False
            seen.add(id(item))
            for key in item:
                if key.__class__ is not str or key == TAG:
                    return False
            stack += item.values()
        elif kind is list:
            if id(item) in seen:
                return False
            seen.add(id(item))
            stack += item
        else:
            return False
    return True


class _Encoder:
    """Builds the tagged form. One for each value."""

    def __init__(self) -> None:
        self._twice: set[int] = set()
        self._numbers: dict[int, int] = {}

    def root(self, value: Any) -> Any:
        self._find_shared(value)
        try:
            return self._encode(value)
        except _Refused as refused:
            where = "".join(reversed(refused.path))
            at = f" (at value{where})" if where else ""
            raise ValueNotSerializable(
                f'Could not serialize object of type "{refused.kind}". '
                f"This type does not support serialization.{at}"
            ) from None

    def _find_shared(self, root: Any) -> None:
        """Note the mutable containers that can be reached in more than one way."""
        seen: set[int] = set()
        # Tuples and their like are walked at each occurrence unless they were before.
        stack = [root]
        while stack:
            item = stack.pop()
            if not isinstance(item, list | dict | set | frozenset | tuple | bytearray | Exception):
                continue
            if id(item) in seen:
                if isinstance(item, _SHARED):
                    self._twice.add(id(item))
                continue
            seen.add(id(item))
            if isinstance(item, dict):
                stack += item
                stack += item.values()
            elif isinstance(item, Exception):
                stack += item.args
            elif not isinstance(item, bytearray):
                stack += item

    def _encode(self, value: Any) -> Any:
        if id(value) not in self._twice:
            return self._encode_once(value)
        number = self._numbers.get(id(value))
        if number is not None:
            return _tagged("ref", number)
        number = self._numbers[id(value)] = len(self._numbers)
        return _tagged("def", number, self._encode_once(value))

    def _encode_once(self, value: Any) -> Any:
        match value:
            case None | bool():
                return value
            case str():
                return str(value)
            case int():
                value = int(value)
                return value if -_MOST <= value <= _MOST else _tagged("int", str(value))
            case float():
                value = float(value)
                return value if -inf < value < inf else _tagged("float", repr(value))
            case list():
                return self._items(value)
            case dict():
                return self._dict(value)
            case tuple():
                return _tagged("tuple", self._items(value))
            case set() | frozenset():
                kind = "set" if isinstance(value, set) else "frozenset"
                return _tagged(kind, self._items(value))
            case bytearray():
                return _tagged("bytearray", base64.b64encode(value).decode())
            case bytes() | memoryview():
                return _tagged("bytes", base64.b64encode(value).decode())
            case datetime():
                zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
                return _tagged("datetime", value.isoformat(), zone, value.fold)
            case date():
                return _tagged("date", value.isoformat())
            case time():
                if value.tzinfo is not None and value.utcoffset() is None:
                    raise _Refused("time with a time zone")
                return _tagged("time", value.isoformat(), value.fold)
            case timedelta():
                return _tagged("timedelta", value.days, value.seconds, value.microseconds)
            case Exception():
                return self._error(value)
            case re.Pattern():
                return _tagged("regexp", self._encode(value.pattern), value.flags)
            case _:
                raise _Refused(type(value).__name__)

    def _items(self, items: Any) -> list[Any]:
        encoded = []
        for index, item in enumerate(items):
            try:
                encoded.append(self._encode(item))
            except _Refused as refused:
                refused.path.append(f"[{index}]")
                raise
        return encoded

    def _dict(self, value: dict[Any, Any]) -> Any:
        pairs = []
        for key, item in value.items():
            try:
                pairs.append([self._encode(key), self._encode(item)])
            except _Refused as refused:
                refused.path.append(f"[{key!r}]")
                raise
        if all(type(key) is str and key != TAG for key in value):
            return dict(pairs)
        return _tagged("map", pairs)

    def _error(self, error: Exception) -> Any:
        if isinstance(error, StoredError):
            return _tagged("error", error.name, [error.message])
        name = type(error).__name__
        if getattr(builtins, name, None) is not type(error):
            return _tagged("error", name, [str(error)])
        return _tagged("error", name, self._items(error.args))


class _Refused(Exception):
    """A part of the value cannot be stored."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.path: list[str] = []


def _tagged(*content: Any) -> dict[str, Any]:
    return {TAG: list(content)}


class _Decoder:
    """Undoes the tags. One for each text."""

    def __init__(self) -> None:
        self._defined: dict[int, Any] = {}

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if isinstance(value, dict):
            if TAG in value:
                return self._untag(value)
            return {key: self.decode(item) for key, item in value.items()}
        return value

    def _untag(self, value: dict[str, Any]) -> Any:
        kind, content = _content(value)
        if kind == "def":
            number, inner = content
            return self._define(number, inner)
        if kind == "ref":
            return self._defined[content[0]]
        if kind in _SIMPLE:
            return _SIMPLE[kind](*content)
        if kind == "tuple":
            return tuple(self.decode(content[0]))
        if kind == "set":
            return set(self.decode(content[0]))
        if kind == "frozenset":
            return frozenset(self.decode(content[0]))
        if kind == "map":
            return {self.decode(key): self.decode(item) for key, item in content[0]}
        if kind == "error":
            return _error(content[0], self.decode(content[1]))
        if kind == "regexp":
            return re.compile(self.decode(content[0]), content[1])
        raise ValueCorrupt(f'the stored text has a tag of an unknown kind, "{kind}"')

    def _define(self, number: int, inner: Any) -> Any:
        """A container that its own content may refer to: it has to exist before that is read."""
        made: Any
        if isinstance(inner, list):
            made = self._defined[number] = []
            made.extend(map(self.decode, inner))
        elif TAG not in inner:
            made = self._defined[number] = {}
            for key, item in inner.items():
                made[key] = self.decode(item)
        elif _content(inner)[0] == "map":
            made = self._defined[number] = {}
            for key, item in _content(inner)[1][0]:
                made[self.decode(key)] = self.decode(item)
        else:
            made = self._defined[number] = self._untag(inner)
        return made


def _content(value: dict[str, Any]) -> tuple[str, list[Any]]:
    content = value[TAG]
    if len(value) != 1 or not isinstance(content, list) or not content:
        raise ValueCorrupt(f'the stored text has a "{TAG}" that is not a tag of this program')
    return content[0], content[1:]


def _float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueCorrupt(f'the stored text has a number "{text}" in a tag')
    return float(text)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _datetime(text: str, zone: str | None, fold: int) -> datetime:
    moment = datetime.fromisoformat(text)
    if zone is not None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.replace(fold=fold)


def _error(name: str, arguments: list[Any]) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(*arguments)
    return StoredError(name, *arguments)


_SIMPLE: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text),  # not `int` itself, which takes nothing as well
    "float": _float,
    "bytes": _bytes,
    "bytearray": lambda text: bytearray(_bytes(text)),
    "datetime": _datetime,
    "date": date.fromisoformat,
    "time": lambda text, fold: time.fromisoformat(text).replace(fold=fold),
    "timedelta": timedelta,
}
