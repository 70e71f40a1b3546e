"""What may pass between a Durable Object and its callers, and how it arrives: as a copy.

https://developers.cloudflare.com/workers/runtime-apis/rpc/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from datetime import date, datetime
from functools import lru_cache
from inspect import isawaitable, isfunction, ismethod, signature
from typing import Any

from ..errors import DurableObjectTypeError, DurableObjectValueError
from ..values import dumps, loads

#: What arrives as it is.
SCALARS = frozenset({type(None), bool, int, float, str, bytes, datetime, date})
_SIZED = frozenset({str, bytes})
_TEXT = frozenset({str})
#: Those that are never too large.
SMALL = SCALARS - _SIZED

#: Bytes of what is sent: a value of an argument, or a result.
MAX_BYTES = 32 * 1024 * 1024
# Some texts take two bytes a character.
_SUSPECT = MAX_BYTES // 2

_RESERVED = frozenset(
    {
        *("alarm", "constructor", "dup", "fetch", "connect"),
        *("webSocketMessage", "webSocketClose", "webSocketError"),
        *("web_socket_message", "web_socket_close", "web_socket_error"),
    }
)


class RpcTarget:
    """Base of objects that are passed by reference: the other side calls their methods."""


def copy(value: Any) -> Any:
    """The value as it arrives. Raises what the platform raises for what cannot be sent."""
    kind = value.__class__
    if kind in SCALARS:
        if kind in _SIZED and len(value) > _SUSPECT:
            _check_size(value)
        return value
    if kind is list or kind is dict:
        size = _flat_size(value)
        if size is not None:
            if size > _SUSPECT:
                _check_size(value)
            return value.copy()
    if has_reference(value):
        try:
            return _copy_around(value)
        except RecursionError:
            raise DurableObjectTypeError(
                "a value with functions, streams or targets in it cannot be circular"
            ) from None
    text = dumps(value)
    if len(text) > _SUSPECT:
        _check_size(value)
    return loads(text)


def _flat_size(value: list[Any] | dict[Any, Any]) -> int | None:
    """The length of all texts and bytes of a list or a dict; None if it holds more than scalars."""
    size = 0
    members: Collection[Any] = value
    if isinstance(value, dict):
        if not set(map(type, value)) <= _TEXT:
            return None
        size = sum(map(len, value))
        members = value.values()
    kinds = set(map(type, members))
    if not kinds <= SCALARS:
        return None
    if kinds <= _SIZED:
        return size + sum(map(len, members))
    if not kinds <= SMALL:
        size += sum([len(one) for one in members if type(one) in _SIZED])
    return size


def _check_size(value: Any) -> None:
    """Raise what the platform raises for what is too large, by about what its own format takes."""
    size = 0
    seen: set[int] = set()
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            size += len(one) * (1 if one.isascii() or max(one) <= "\xff" else 2)
        elif isinstance(one, bytes | memoryview):
            size += len(one)
        elif isinstance(one, dict | list | set | frozenset) and id(one) not in seen:
            seen.add(id(one))
            rest += one
            if isinstance(one, dict):
                rest += one.values()
    if size > MAX_BYTES:
        raise DurableObjectValueError(
            "Serialized RPC arguments or return values are limited to 32MiB, but the size of this "
            f"value was: {size} bytes."
        )


def has_reference(value: Any) -> bool:
    """Whether something in it is passed by reference, so that the codec alone cannot copy it.

    Raises for what the codec could copy and RPC does not.
    """
    found = False
    seen: set[int] = set()
    rest = [value]
    while rest:
        one = rest.pop()
        if one.__class__ in SCALARS or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, tuple | bytearray) or isawaitable(one):
            raise DurableObjectTypeError(
                f"a value of type {type(one).__name__} cannot be sent over RPC; "
                "send a list, bytes, or the awaited value"
            )
        if isinstance(one, dict):
            rest += one.keys()
            rest += one.values()
        elif isinstance(one, list | set | frozenset):
            rest += one
        else:
            found = found or by_reference(one)
    return found


def _copy_around(value: Any) -> Any:
    """A copy of the containers, with what is passed by reference as it is."""
    if isinstance(value, dict):
        return {_copy_around(key): _copy_around(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copy_around(one) for one in value]
    return value if by_reference(value) else loads(dumps(value))


def by_reference(value: object) -> bool:
    """Whether a value is not copied: streams, bodies, functions and targets."""
    from ..web import Request, Response

    return (
        isinstance(value, RpcTarget | Request | Response | AsyncIterator)
        or isfunction(value)
        or ismethod(value)
    )


def find_method(instance: object, name: str) -> Any:
    """The public method, or the value of a property, that a caller may reach."""
    if name in _RESERVED:
        raise DurableObjectTypeError(
            f"'{name}' is a reserved method and cannot be called over RPC."
        )
    # What the class has; an instance's own attributes are its private matter.
    if name[:1] == "_" or getattr(instance.__class__, name, None) is None:
        raise DurableObjectTypeError(f'The RPC receiver does not implement the method "{name}".')
    return getattr(instance, name)


def carried(error: BaseException) -> BaseException:
    """An exception as its caller sees it: its type, if that is Python's or ours, and its words."""
    from ..errors import BunflareError

    if isinstance(error, BunflareError) or not isinstance(error, Exception):
        return error
    try:
        copied = loads(dumps(error))
    except Exception:
        from ..errors import StoredError

        copied = StoredError(type(error).__name__, str(error))
    assert isinstance(copied, BaseException)
    copied.__cause__ = error
    return copied


def relaxed(function: Callable[..., Any], *args: Any) -> Any:
    """Call a handler with as many of the arguments as it takes, as the platform does."""
    return function(*args[: takes(function)])


def takes(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes, its object not counted."""
    bound = getattr(function, "__func__", None)
    return _takes(function) if bound is None else _takes(bound) - 1


@lru_cache(maxsize=256)
def _takes(function: Callable[..., Any]) -> int:
    count = 0
    for parameter in signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return 100
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += 1
    return count
