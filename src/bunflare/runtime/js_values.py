"""JavaScript's values, as far as Python Workers touch them: buffers, objects, dates, functions.

They are Python's own types with a few more names, so that what code made with `to_js` for the
platform is understood by every binding here, and what it got needs no conversion.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from datetime import date, datetime
from typing import Any, Self

from ..errors import JsError
from ..web.buffer import Uint8Array as Uint8Array
from ..web.objects import JsArray as JsArray
from ..web.objects import JsDict
from ..web.objects import jsnull as jsnull
from .js_dates import JsDate as JsDate

#: What ``pyodide.ffi`` calls it. Every error of a binding is one.
JsException = JsError


class JsMap(dict[Any, Any]):
    """A Map."""

    @classmethod
    def new(cls, entries: Any = ()) -> Self:
        return cls(entries)

    @property
    def size(self) -> int:
        return len(self)

    def set(self, key: Any, value: Any) -> Self:
        self[key] = value
        return self

    def has(self, key: Any) -> bool:
        return key in self

    def delete(self, key: Any) -> bool:
        return self.pop(key, jsnull) is not jsnull

    def entries(self) -> Iterable[tuple[Any, Any]]:
        return self.items()

    def to_py(self, **_: Any) -> dict[Any, Any]:
        return {key: to_py(value) for key, value in self.items()}


class JsSet(set[Any]):
    """A Set."""

    @classmethod
    def new(cls, items: Any = ()) -> Self:
        return cls(items)

    @property
    def size(self) -> int:
        return len(self)

    def has(self, value: Any) -> bool:
        return value in self

    def delete(self, value: Any) -> bool:
        there = value in self
        self.discard(value)
        return there

    def to_py(self, **_: Any) -> set[Any]:
        return set(self)


class PyProxy:
    """What `create_proxy` gives: the object itself, with a life that can be ended."""

    def __init__(self, value: Any, once: bool = False) -> None:
        self._value = value
        self._once = once
        self._gone = False

    def unwrap(self) -> Any:
        return self._value

    to_py = unwrap

    def destroy(self) -> None:
        self._gone = True

    def copy(self) -> PyProxy:
        return PyProxy(self._value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._gone:
            raise JsException("Error", "Object has already been destroyed")
        if self._once:
            self._gone = True
        return self._value(*args, **kwargs)

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Awaitable[Any] = self._value
        return value.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)


def to_js(
    value: Any,
    /,
    *,
    depth: int = -1,
    pyproxies: Any = None,
    create_pyproxies: bool = True,
    dict_converter: Callable[[Iterable[JsArray]], Any] | None = None,
    default_converter: Callable[[Any, Any, Any], Any] | None = None,
    **_: Any,
) -> Any:
    """A copy of ``value`` of the types that JavaScript has."""
    seen: dict[int, Any] = {}

    def convert(one: Any, left: int) -> Any:
        if one is None or isinstance(one, str | bool | int | float | Uint8Array | JsDate):
            return one
        if isinstance(one, bytes | bytearray | memoryview):
            return Uint8Array(one)
        if left == 0:
            return one
        if id(one) in seen:
            return seen[id(one)]
        if isinstance(one, list | tuple):
            array = seen[id(one)] = JsArray()
            array.extend(convert(item, left - 1) for item in one)
            return array
        if isinstance(one, dict):
            pairs = JsArray(JsArray((key, convert(item, left - 1))) for key, item in one.items())
            return JsMap(pairs) if dict_converter is None else dict_converter(pairs)
        if isinstance(one, set | frozenset):
            return JsSet(one)
        if default_converter is not None:
            return default_converter(one, lambda inner: convert(inner, left), lambda *_: None)
        return one

    return convert(value, depth)


def to_py(value: Any, *, depth: int = -1, default_converter: Any = None) -> Any:
    """Python's own types for what `to_js` made."""
    if value is jsnull:
        return None
    if isinstance(value, PyProxy):
        return value.unwrap()
    if isinstance(value, JsDate | Uint8Array | JsArray | JsMap | JsSet):
        return value.to_py()
    if isinstance(value, Mapping) and not isinstance(value, JsDict):
        return {key: to_py(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_py(item) for item in value]
    return value


def python_from_rpc(obj: Any) -> Any:
    """What a Worker gets of a value that came through RPC."""
    value = obj
    if value is jsnull:
        return None
    if isinstance(value, JsDate | datetime):
        # The SDK's dates are naive and local.
        return datetime.fromtimestamp(value.timestamp())
    if isinstance(value, Uint8Array | bytes | bytearray):
        return memoryview(value)
    if isinstance(value, JsSet):
        return set(value)
    if isinstance(value, dict):
        return JsDict({key: python_from_rpc(item) for key, item in value.items()})
    if isinstance(value, list):
        return [python_from_rpc(item) for item in value]
    return value


def python_to_rpc(value: Any) -> Any:
    """A value as it is sent through RPC. Raises as the SDK does for what cannot be."""
    if value is None:
        return jsnull
    _refuse(value)
    if isinstance(value, datetime):
        return JsDate.of(value)
    return to_js(value, dict_converter=from_entries)


def from_entries(pairs: Iterable[Iterable[Any]]) -> JsDict:
    """``Object.fromEntries``: of pairs, or of a Map, which is pairs in JavaScript."""
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    return JsDict({str(key): value for key, value in (tuple(pair) for pair in pairs)})


def _refuse(value: Any) -> None:
    if isinstance(value, tuple | bytearray) and not isinstance(value, Uint8Array):
        raise TypeError(f"{type(value)} cannot be sent over RPC.")
    if inspect.isawaitable(value) and not isinstance(value, PyProxy):
        raise TypeError(f"Awaitable {type(value)} cannot be sent over RPC.")
    if isinstance(value, dict):
        for item in value.values():
            _refuse(item)
    elif isinstance(value, list | set | frozenset):
        for item in value:
            _refuse(item)
    elif isinstance(value, date) and not isinstance(value, datetime):
        raise JsException("DataCloneError", f"{value!r} could not be cloned.")
