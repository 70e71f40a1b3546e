"""The Worker's edge: Pythonic bindings as the platform's SDK shows them to a Worker.

The bindings themselves know nothing of JavaScript. Here names are taken in both spellings, options
as keywords or as one trailing dict, and results become what the SDK returns: dicts whose keys are
attributes too, lists, None, and memoryviews for array buffers.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from inspect import isawaitable, iscoroutine
from typing import Any

from ..bindings.d1 import D1DatabaseSession, D1PreparedStatement
from ..bindings.d1_results import D1Meta, D1Timings
from ..bindings.kv import KVKey, KVList
from ..bindings.r2_multipart import R2MultipartUpload
from ..bindings.r2_objects import R2Object, R2Objects
from ..bindings.r2_options import R2Checksums, R2HTTPMetadata, R2Range
from ..errors import JsError
from ..store.pending import Pending
from ..web.objects import JsArray, JsDict, without_null
from ..web.readable import SizedStream, Stream
from ..web.streams import Counted
from .js_dates import LocalDate

_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


@dataclass(frozen=True, slots=True)
class Edge:
    """What the generic facade has to know of one kind of binding."""

    #: For each method that takes options: how many arguments come before them.
    options_at: Mapping[str, int]
    #: Names that the platform itself spells with an underscore.
    wire_names: frozenset[str] = frozenset()
    #: Fields that JavaScript leaves undefined, where Python says None.
    undefined: Mapping[type, frozenset[str]] = field(default_factory=dict)
    #: Whether its arguments are looked at as the SDK does before it sends them.
    checked: bool = False
    #: Results that have methods, or can be read once: they are shown as the binding itself is.
    shown: tuple[type, ...] = ()
    #: Whether the SDK leaves some dates as JavaScript's.
    javascript_dates: bool = False
    #: Whether bytes in a result come as a list of numbers, not as a buffer.
    numbers: bool = False


class BindingFacade:
    """One binding as a Worker sees it."""

    # Whether what is looked up is kept. With what a call has returned that would be a circle of
    # references, which holds on to it: a cursor, say, that is to end with its last use.
    _lasting = True

    def __init__(self, binding: object, edge: Edge) -> None:
        self._binding = binding
        self._edge = edge

    def __getattr__(self, name: str) -> Any:
        method_name = snake(name)
        if method_name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(self._binding, method_name)
        if not callable(attribute):
            return self._result(attribute)
        call = self._call(attribute, self._edge.options_at.get(method_name))
        if self._lasting:
            # The next look-up finds it without coming here.
            self.__dict__[name] = call
        return call

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    # Or Python would try `__getitem__` with numbers.
    __iter__: Any = None

    def _call(self, method: Callable[..., Any], options_at: int | None) -> Callable[..., Any]:
        checked = self._edge.checked

        def prepared(value: Any) -> Any:
            if value.__class__ in _PLAIN:
                return value
            if checked:
                refuse_unsendable(value)
            return without_null(value)

        def call(*args: Any, **kwargs: Any) -> Any:
            for one in args:
                if one.__class__ not in _PLAIN:
                    args = tuple([prepared(value) for value in args])
                    break
            if kwargs:
                kwargs = {snake(name): prepared(value) for name, value in kwargs.items()}
            if options_at is not None and len(args) > options_at:
                last = args[-1]
                if last is None:
                    args = args[:-1]
                elif isinstance(last, Mapping):
                    args = args[:-1]
                    kwargs.update({snake(name): value for name, value in last.items()})
            if args and isinstance(args[0], list):
                # What was handed out in a facade comes back without it.
                args = ([_bare(one) for one in args[0]], *args[1:])
            result = method(*args, **kwargs)
            if iscoroutine(result) or isinstance(result, Pending):
                # What is over and has no result needs nobody to await it.
                return result if _done(result) else self._awaited(result)
            return self._result(result)

        return call

    async def _awaited(self, result: Any) -> Any:
        value = await result
        # What most calls return passes as it is.
        return value if value is None or value.__class__ is str else self._result(value)

    def _result(self, value: Any) -> Any:
        if isinstance(value, self._edge.shown):
            return ResultFacade(value, self._edge)
        if isinstance(value, bytes | bytearray):
            return JsArray(value) if self._edge.numbers else memoryview(value)
        if isinstance(value, Mapping):
            return JsDict({name: self._result(item) for name, item in value.items()})
        if isinstance(value, list):
            return JsArray([self._result(item) for item in value])
        if isinstance(value, Counted):
            return SizedStream(value, value.left)
        if isinstance(value, AsyncGenerator):
            return Stream(value)
        if isinstance(value, datetime):
            local = value.astimezone().replace(tzinfo=None)
            return LocalDate.of(local) if self._edge.javascript_dates else local
        if is_dataclass(value) and not isinstance(value, type):
            return self._object(value)
        return value

    def _object(self, value: Any) -> JsDict:
        undefined = self._edge.undefined.get(type(value), frozenset())
        result = JsDict()
        for one in fields(value):
            item = getattr(value, one.name)
            if item is not None or one.name not in undefined:
                name = one.name if one.name in self._edge.wire_names else camel(one.name)
                result[name] = self._result(item)
        return result

    def __repr__(self) -> str:
        return f"<{type(self._binding).__name__} binding>"


class ResultFacade(BindingFacade):
    """What a call has returned, where that has methods itself."""

    _lasting = False


_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


def refuse_unsendable(value: Any) -> None:
    """Raise what the SDK raises for values that a binding is not given."""
    if isinstance(value, tuple) or value.__class__ is bytearray:
        raise TypeError(f"{type(value)} cannot be sent over RPC.")
    if isawaitable(value) and not isinstance(value, BindingFacade):
        if iscoroutine(value):
            value.close()
        raise TypeError(f"Awaitable {type(value)} cannot be sent over RPC.")
    if isinstance(value, dict):
        for one in value.values():
            if one.__class__ not in _PLAIN:
                refuse_unsendable(one)
    elif isinstance(value, list | set | frozenset):
        for one in value:
            if one.__class__ not in _PLAIN:
                refuse_unsendable(one)
    elif value.__class__ is object:
        raise not_cloned(value)


def not_cloned(value: object) -> JsError:
    """What becomes of an object that has no counterpart on the other side."""
    return JsError(
        "DataCloneError",
        f'Could not serialize object of type "{type(value).__name__}". This type does not support '
        "serialization.",
    )


def _done(result: Any) -> bool:
    return (
        isinstance(result, Pending)
        and result.done()
        and result.exception() is None
        and result.result() is None
    )


def _bare(value: Any) -> Any:
    return value._binding if isinstance(value, BindingFacade) else value


@cache
def snake(name: str) -> str:
    """``expirationTtl`` as ``expiration_ttl``."""
    return _HUMP.sub(r"_\1", name).lower() if not name.isupper() else name


@cache
def camel(name: str) -> str:
    """``expiration_ttl`` as ``expirationTtl``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _names(kind: type) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind))


KV = Edge(
    checked=True,
    options_at={"get": 1, "get_with_metadata": 1, "put": 2, "list": 0},
    wire_names=frozenset({"list_complete"}),
    undefined={
        KVKey: frozenset({"expiration", "metadata"}),
        KVList: frozenset({"cursor"}),
    },
)

R2 = Edge(
    checked=True,
    options_at={"get": 1, "put": 2, "list": 0, "create_multipart_upload": 1, "upload_part": 2},
    undefined={
        R2Objects: frozenset({"cursor"}),
        R2Range: _names(R2Range),
        R2HTTPMetadata: _names(R2HTTPMetadata),
    },
    shown=(R2Object, R2Checksums, R2MultipartUpload),
    javascript_dates=True,
)

D1 = Edge(
    checked=True,
    options_at={"raw": 0},
    wire_names=_names(D1Meta) | _names(D1Timings),
    numbers=True,
    shown=(D1PreparedStatement, D1DatabaseSession),
)
