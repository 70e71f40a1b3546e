"""What may pass between a Durable Object and its callers, and how it arrives: as a copy.

https://developers.cloudflare.com/workers/runtime-apis/rpc/
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from inspect import isawaitable, isfunction, ismethod
from typing import Any

from ..errors import DurableObjectTypeError
from ..values import dumps, loads

_SCALARS = frozenset({type(None), bool, int, float, str, bytes, datetime, date})
_PLAIN = frozenset({int, float, str, bool, type(None), bytes})

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
    if value.__class__ in _SCALARS:
        return value
    if value.__class__ is list and all(one.__class__ in _PLAIN for one in value):
        return value[:]
    if value.__class__ is dict and all(
        key.__class__ is str and one.__class__ in _PLAIN for key, one in value.items()
    ):
        return value.copy()
    if _has_reference(value, set()):
        return _copy_around(value)
    return loads(dumps(value))


def _has_reference(value: Any, seen: set[int]) -> bool:
    """Whether the codec alone cannot copy it. Raises for what it could and RPC does not."""
    if value.__class__ in _SCALARS:
        return False
    if isinstance(value, tuple | bytearray) or isawaitable(value):
        raise DurableObjectTypeError(
            f"a value of type {type(value).__name__} cannot be sent over RPC; "
            "send a list, bytes, or the awaited value"
        )
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, dict):
        items: list[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, list | set | frozenset):
        items = list(value)
    else:
        return by_reference(value)
    # All are looked at, also behind the first that is a reference.
    found = [_has_reference(one, seen) for one in items]
    return any(found)


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
    if name.startswith("_") or getattr(type(instance), name, None) is None:
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
