"""JavaScript values as V8 serializes them, as Python values that `values.dumps` can store.

That is the form in which the platform's own runtime keeps the storage of Durable Objects. The
format is read by the library v8serialize, which is only needed for this.

A Date becomes an aware datetime, an object or a Map a dict, a Set a set, a BigInt an int, undefined
and a hole None, an ArrayBuffer, a DataView and arrays of bytes bytes, other typed arrays lists of
numbers, a RegExp a pattern, an Error a `StoredError`. What occurs twice, or in itself, still does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

from .errors import BunflareError, StoredError, ValueCorrupt


def reader() -> Callable[[bytes], Any]:
    """What makes values of bytes. Raises `BunflareError` if the library is not installed.

    The function raises `ValueCorrupt` for what is no such value, or one that Python has nothing
    for.
    """
    try:
        import v8serialize
    except ImportError:
        raise BunflareError(
            "values that V8 has serialized are read by the library v8serialize, which is not "
            "installed: pip install 'bunflare[import]'"
        ) from None

    def read(data: bytes) -> Any:
        try:
            return _Converter().convert(v8serialize.loads(data, default_timezone=UTC))
        except (ValueCorrupt, RecursionError) as error:
            raise ValueCorrupt(str(error)) from None
        except Exception as error:  # the library's errors, of many kinds
            raise ValueCorrupt(f"it cannot be read: {error}") from None

    return read


class _Converter:
    """One value, whose parts are converted once each."""

    def __init__(self) -> None:
        from v8serialize import jstypes

        self._types = jstypes
        self._done: dict[int, Any] = {}
        # What is kept here is not freed, and its number not used again.
        self._kept: list[Any] = []

    def convert(self, value: Any) -> Any:
        types = self._types
        if value is None or isinstance(value, bool | float | str):
            return value
        if isinstance(value, int):
            return int(value)
        if value is types.JSUndefined or value is types.JSHole:
            return None
        if id(value) in self._done:
            return self._done[id(value)]
        self._kept.append(value)
        made = self._made(value)
        self._done[id(value)] = made
        return made

    def _made(self, value: Any) -> Any:
        types = self._types
        made: Any
        if isinstance(value, types.JSArray):
            made = self._done[id(value)] = []
            made += map(self.convert, value.array)
            named = {key: item for key, item in value.items() if not isinstance(key, int)}
            if named:
                raise ValueCorrupt("an array with named properties")
            return made
        if isinstance(value, types.JSObject):
            made = self._done[id(value)] = {}
            for key, item in value.items():
                made[str(key)] = self.convert(item)
            return made
        if isinstance(value, types.JSMap):
            made = self._done[id(value)] = {}
            for key, item in value.items():
                made[self._hashable(key)] = self.convert(item)
            return made
        if isinstance(value, types.JSSet):
            made = self._done[id(value)] = set()
            made.update(map(self._hashable, value))
            return made
        if isinstance(value, types.JSTypedArray):
            with value.get_buffer() as items:
                if isinstance(value, types.JSUint8Array | types.JSUint8ClampedArray):
                    return bytes(items)
                return list(items)
        return self._atom(value)

    def _atom(self, value: Any) -> Any:
        types = self._types
        if hasattr(value, "astimezone"):
            return value.astimezone(UTC)
        if isinstance(value, types.JSArrayBuffer | types.JSSharedArrayBuffer):
            return bytes(value.data)
        if isinstance(value, types.JSDataView):
            with value.get_buffer() as view:
                return bytes(view)
        if isinstance(value, types.JSPrimitiveObject):
            return self.convert(value.value)
        if isinstance(value, types.JSRegExp):
            return _pattern(value)
        if isinstance(value, types.JSError):
            name = getattr(value.name, "value", value.name)
            message = value.message or ""
            return TypeError(message) if name == "TypeError" else StoredError(name, message)
        raise ValueCorrupt(f"nothing in Python is a {type(value).__name__}")

    def _hashable(self, value: Any) -> Any:
        made = self.convert(value)
        try:
            hash(made)
        except TypeError:
            raise ValueCorrupt("an object as the key of a Map, or in a Set") from None
        return made


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        pattern: re.Pattern[str] = value.as_python_pattern()
    except Exception as error:  # the library's, and those of `re`
        raise ValueCorrupt(f"a regular expression that Python does not read: {error}") from None
    return pattern
