"""Python values as JSON text and back, without loss.

What JSON can say is stored as plain JSON, so that any other program can read it. The rest becomes
an object with one key, ``{"$bunflare": [kind, …]}``, which nothing else can be mistaken for: a dict
of the user that has that key is itself stored as a ``map``.

| kind | holds |
|---|---|
| ``int`` | an integer beyond ±(2**53 - 1): decimal digits, hexadecimal if it is very long |
| ``float`` | ``nan``, ``inf`` or ``-inf`` |
| ``str`` | the pieces of a str in which two lone surrogates would read as one character |
| ``bytes``, ``bytearray`` | base64 |
| ``datetime`` | ISO 8601, the name of its time zone or null, and its fold |
| ``date`` | ISO 8601 |
| ``time`` | ISO 8601 and its fold |
| ``timedelta`` | days, seconds, microseconds |
| ``tuple``, ``set``, ``frozenset`` | an array |
| ``map`` | pairs, for a dict with other keys than str (or with the key above) |
| ``exception`` | one of Python's own: the name of its class, its arguments |
| ``error`` | any other exception: the name of its class, its message |
| ``regexp`` | a pattern and its flags |
| ``def`` | a container that occurs more than once, the first time: its number, and it |
| ``ref`` | such a container elsewhere: its number, and within itself also what it is |

Subclasses are stored as what they derive from (a namedtuple as a tuple, an IntEnum as an int, a
defaultdict as a dict), a memoryview as bytes. What can be changed is one thing again when read
back, where it was one: a list that occurs twice, or within itself. So is a tuple that holds such
things, but a tuple or an exception within itself is copied once. A time zone that the reading
machine does not know, or knows other rules of, becomes the offset that it had.

An exception keeps its class if that is one of Python's own, and comes back as `StoredError`
otherwise. If an argument cannot be stored, the message is its only one; notes, cause and traceback
are not kept. Instances of other classes (Decimal, UUID, a plain Enum), functions, modules and the
like are refused, as the platform's structured clone does, and so is JSON of over 400 levels.
"""

from __future__ import annotations

import base64
import builtins
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from itertools import chain
from math import inf, nan
from types import NoneType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import StoredError, ValueCorrupt, ValueNotSerializable
from .quick_json import DEEPEST, MOST, TAG, encode_flat, is_plain
from .quick_json import encode as readable

# Python reads and writes decimals only up to a number of digits that can be set: 640 at least.
_MOST_DECIMAL_BITS = 2048
_TOO_DEEP = "it is nested too deeply"

_ascii = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
# What `json.loads` comes to in the end.
_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]
_quoted = json.encoder.encode_basestring
_T = TypeVar("_T")


def dumps(value: Any) -> str:
    """The text of ``value``. Raises `ValueNotSerializable` for what cannot be stored."""
    # Most values are a number or a short text.
    if type(value) is int and -MOST <= value <= MOST:
        return repr(value)
    if type(value) is str and value.isascii():
        return _quoted(value)
    try:
        text = encode_flat(value) if type(value) is dict else None
        if text is None:
            text = readable(value if is_plain(value) else _Encoder().tree(value))
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                # UTF-8 has no lone surrogates. JSON's escapes do; the encoder minds their pairs.
                return _ascii(_Encoder().tree(value))
        return text
    except RecursionError:
        raise ValueNotSerializable(f"Could not serialize the value: {_TOO_DEEP}.") from None


def loads(text: str | bytes) -> Any:
    """The value of a text, by whatever program it was written. Raises `ValueCorrupt`."""
    try:
        # Nearly every text is plain. One character is found far faster than a string.
        if text.__class__ is str and "$" not in text:
            value, end = _scan(text, 0)
            if end == len(text):
                return value
    except (StopIteration, RecursionError, ValueError):
        pass  # blanks before it, or no JSON at all
    return _read(text)


def _read(text: str | bytes) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode()
        if TAG in text:
            return _Decoder().value(text)
        return json.loads(text)
    except RecursionError:
        raise ValueCorrupt(f"the stored text cannot be read: {_TOO_DEEP}") from None
    except ValueCorrupt:
        raise
    except (ValueError, TypeError) as error:
        raise ValueCorrupt(f"the stored text cannot be read: {error}") from error


# What has no parts: type -> JSON.


def _tagged(*content: Any) -> dict[str, Any]:
    return {TAG: list(content)}


# JSON's escapes of two surrogates in this order are one character.
_BETWEEN_SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def _from_str(value: str) -> Any:
    text = str.__str__(value)  # an Enum's own `__str__` says something else
    if not text.isascii() and _BETWEEN_SURROGATES.search(text):
        return _tagged("str", _BETWEEN_SURROGATES.split(text))
    return text


def _from_int(value: int) -> Any:
    number = int.__int__(value)
    if -MOST <= number <= MOST:
        return number
    long = number.bit_length() > _MOST_DECIMAL_BITS
    return _tagged("int", hex(number) if long else str(number))


def _from_float(value: float) -> Any:
    number = float.__float__(value)
    return number if -inf < number < inf else _tagged("float", repr(number))


def _from_bytes(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode()


def _from_datetime(value: datetime) -> Any:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return _tagged("datetime", datetime.isoformat(value), zone, value.fold)


def _from_time(value: time) -> Any:
    if value.tzinfo is not None and value.utcoffset() is None:
        # Its offset depends on a day that it does not have.
        raise _Refused("time with a time zone")
    return _tagged("time", time.isoformat(value), value.fold)


# The others print when a pattern is made, or are on their way out.
_FLAGS = int(re.A | re.I | re.L | re.M | re.S | re.U | re.X)


def _from_pattern(value: re.Pattern[Any]) -> Any:
    write = _from_str if isinstance(value.pattern, str) else _ATOMS[bytes]
    return _tagged("regexp", write(value.pattern), value.flags & _FLAGS)


_ATOMS: dict[type, Callable[[Any], Any]] = {
    NoneType: lambda value: value,
    bool: lambda value: value,
    str: _from_str,
    int: _from_int,
    float: _from_float,
    bytes: lambda value: _tagged("bytes", _from_bytes(value)),
    bytearray: lambda value: _tagged("bytearray", _from_bytes(value)),
    memoryview: lambda value: _tagged("bytes", _from_bytes(value.tobytes())),
    datetime: _from_datetime,
    date: lambda value: _tagged("date", date.isoformat(value)),
    time: _from_time,
    timedelta: lambda value: _tagged("timedelta", value.days, value.seconds, value.microseconds),
    re.Pattern: _from_pattern,
}


# What has parts, or can be changed and so is one thing wherever it occurs: type -> its parts. A
# subclass is not asked: what it makes up on the way has no identity.


def _arguments(error: Exception) -> tuple[Any, ...]:
    """What makes the exception again; nothing if it is not one of Python's own."""
    if getattr(builtins, type(error).__name__, None) is not type(error):
        return ()
    made_with: Any = error.__reduce__()  # unlike `args`, it knows the file name of an OSError
    return tuple(made_with[1])


_PARTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    dict: lambda value: chain(dict.keys(value), dict.values(value)),
    bytearray: lambda value: (),
    Exception: _arguments,
}
#: Those which can be made first and filled later, so that they may occur in themselves.
_FILLABLE: dict[str, type] = {"list": list, "dict": dict, "set": set}


class _Refused(Exception):
    """A part of the value cannot be stored."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.path: list[str] = []


def _base(value: Any) -> type | None:
    """As what a value is stored; None if it cannot be."""
    for base in type(value).__mro__:
        if base in _ATOMS or base in _PARTS:
            return base
    return None


class _Encoder:
    """Builds the tagged form. One for each value.

    The second time a container is met it is only named by its number (``ref``). Its first
    occurrence carries that number (``def``), so what occurs more than once is looked for before.
    """

    def __init__(self) -> None:
        self._twice: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._next = 0
        self._open: set[int] = set()

    def tree(self, value: Any) -> Any:
        self._find_shared(value)
        try:
            tree = self._encode(value)
        except _Refused as refused:
            where = "".join(reversed(refused.path))
            at = f" (at value{where})" if where else ""
            raise ValueNotSerializable(
                f'Could not serialize object of type "{refused.kind}". '
                f"This type does not support serialization.{at}"
            ) from None
        _measure(tree)
        return tree

    def _find_shared(self, root: Any) -> None:
        seen: set[int] = set()
        stack = [root]
        while stack:
            item = stack.pop()
            base = _base(item)
            if base not in _PARTS:
                continue
            parts = list(_PARTS[base](item))
            if id(item) not in seen:
                seen.add(id(item))
                stack += parts
            elif id(item) not in self._twice:
                if base in (tuple, frozenset) and not any(_base(part) in _PARTS for part in parts):
                    continue  # as good as its copy
                self._twice.add(id(item))
                if base.__name__ not in _FILLABLE:
                    # Walked once more: a circle that leads through it is closed further in.
                    stack += parts

    def _encode(self, value: Any, *, content: bool = False) -> Any:
        base = _base(value)
        if base is None:
            raise _Refused(type(value).__name__)
        if not content and id(value) in self._twice:
            return self._encode_shared(value, base.__name__)
        if base in _ATOMS:
            return _ATOMS[base](value)
        if base is dict:
            return self._dict(value)
        if base is Exception:
            return self._error(value)
        items = self._items(_PARTS[base](value))
        return items if base is list else _tagged(base.__name__, items)

    def _encode_shared(self, value: Any, kind: str) -> Any:
        if id(value) in self._open:
            if kind in _FILLABLE:
                return _tagged("ref", self._numbers[id(value)], kind)
        elif id(value) in self._numbers:
            return _tagged("ref", self._numbers[id(value)])
        # Also a tuple within itself: the copy has a number of its own, until the whole is done.
        number = self._numbers[id(value)] = self._next
        self._next += 1
        self._open.add(id(value))
        content = self._encode(value, content=True)
        self._open.discard(id(value))
        self._numbers[id(value)] = number
        return _tagged("def", number, content)

    def _items(self, items: Iterable[Any]) -> list[Any]:
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
        for key, item in dict.items(value):
            try:
                pairs.append([self._encode(key), self._encode(item)])
            except _Refused as refused:
                name = json.dumps(key, ensure_ascii=False) if type(key) is str else repr(key)
                refused.path.append(f"[{name}]")
                raise
        if all(type(key) is str and key != TAG for key, _ in pairs):
            return dict(pairs)
        return _tagged("map", pairs)

    def _error(self, error: Exception) -> Any:
        if isinstance(error, StoredError):
            return _tagged("error", _from_str(error.name), _from_str(error.message))
        kind = type(error)
        for arguments in (_arguments(error), (str(error),)):
            if type(_exception(kind.__name__, arguments)) is not kind:
                continue
            first = self._next
            try:
                return _tagged("exception", kind.__name__, self._items(arguments))
            except _Refused:
                # What was numbered in the arguments is not in the text.
                self._numbers = {at: n for at, n in self._numbers.items() if n < first}
                self._open &= self._numbers.keys()
        return _tagged("error", kind.__name__, _from_str(str(error)))


def _measure(tree: Any) -> None:
    level = [tree]
    for _ in range(DEEPEST + 1):
        level = [part for i in level if type(i) in _PARTS for part in _PARTS[type(i)](i)]
        if not level:
            return
    raise RecursionError


class _Decoder:
    """Undoes the tags. One for each text.

    JSON's parser hands over each object when its content is done, the innermost first. A ``ref``
    within its own ``def`` therefore comes first: it makes the container, which the ``def`` fills.
    """

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._begun: dict[int, Any] = {}

    def value(self, text: str) -> Any:
        value = json.loads(text, object_hook=self._object)
        if self._begun:
            raise ValueCorrupt("the stored text refers to a part that it does not have")
        return value

    def _object(self, found: dict[str, Any]) -> Any:
        if TAG not in found:
            return found
        content = found[TAG]
        if len(found) != 1 or type(content) is not list or not content:
            raise ValueCorrupt(f'the stored text has a "{TAG}" that is not a tag of this program')
        kind, *rest = content
        try:
            if kind == "def":
                return self._define(*rest)
            if kind == "ref":
                return self._refer(*rest)
            read = _READERS.get(kind)
            if read is not None:
                return read(*rest)
        except (ValueError, TypeError, LookupError, OverflowError, re.error) as error:
            raise ValueCorrupt(
                f'the stored text has a tag of the kind "{kind}" that cannot be read'
            ) from error
        raise ValueCorrupt(f'the stored text has a tag of an unknown kind, "{kind}"')

    def _define(self, number: int, value: Any) -> Any:
        if number in self._begun:
            begun = self._begun.pop(number)
            _checked(type(begun), value)
            if type(begun) is list:
                begun.extend(value)
            else:
                begun.update(value)
            value = begun
        self._made[number] = value
        return value

    def _refer(self, number: int, kind: str | None = None) -> Any:
        if number in self._made or kind is None:
            return self._made[number]
        return self._begun.setdefault(number, _FILLABLE[kind]())


def _checked(kind: type[_T], value: Any) -> _T:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


def _bytes(text: str) -> bytes:
    return base64.b64decode(_checked(str, text), validate=True)


def _datetime(text: str, zone: str | None, fold: int) -> datetime:
    moment = datetime.fromisoformat(text).replace(fold=fold)
    if zone is None:
        return moment
    try:
        zoned = moment.replace(tzinfo=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, OSError):
        return moment
    return zoned if zoned.utcoffset() == moment.utcoffset() else moment


def _exception(name: str, arguments: Iterable[Any]) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(*arguments)
        except (TypeError, ValueError):
            pass  # not what this version of Python makes it of
    return StoredError(name, ", ".join(map(str, arguments)))


def _pattern(pattern: str | bytes, flags: int) -> re.Pattern[Any]:
    if flags & ~_FLAGS:
        raise ValueError(flags)
    return re.compile(pattern, flags)


_READERS: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 0),
    "float": {"nan": nan, "inf": inf, "-inf": -inf}.__getitem__,
    "str": lambda pieces: "".join(_checked(list, pieces)),
    "bytes": _bytes,
    "bytearray": lambda text: bytearray(_bytes(text)),
    "datetime": _datetime,
    "date": date.fromisoformat,
    "time": lambda text, fold: time.fromisoformat(text).replace(fold=fold),
    "timedelta": lambda days, seconds, microseconds: timedelta(days, seconds, microseconds),
    "tuple": lambda items: tuple(_checked(list, items)),
    "set": lambda items: set(_checked(list, items)),
    "frozenset": lambda items: frozenset(_checked(list, items)),
    "map": lambda pairs: dict(_checked(list, pairs)),
    "exception": lambda name, arguments: _exception(name, _checked(list, arguments)),
    "error": lambda name, message: StoredError(_checked(str, name), _checked(str, message)),
    "regexp": _pattern,
}
