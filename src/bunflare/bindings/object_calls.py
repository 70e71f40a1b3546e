"""What an object is asked for: the call of a method, and a request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectError, DurableObjectTypeError
from .actor import Actor
from .object_events import Event
from .rpc import find_method, relaxed
from .socket_events import entrance

if TYPE_CHECKING:
    from ..web import Request


class Call(Event):
    """The call of a method, or the reading of a property."""

    __slots__ = ("_args", "_kwargs", "_method")

    def __init__(
        self,
        method: str,
        args: tuple[Any, ...] | None,
        kwargs: dict[str, Any],
        reply: asyncio.Future[Any],
    ) -> None:
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._coroutine = None
        self._held = None
        self.reply = reply
        self.task = None

    def begin(self, instance: Any) -> Any:
        member = find_method(instance, self._method)
        if self._args is None:
            return member
        if not callable(member):
            raise DurableObjectTypeError(
                f'The RPC receiver does not implement the method "{self._method}".'
            )
        return member(*self._args, **self._kwargs)


def actor_here() -> Actor | None:
    """The object whose code is running."""
    found = entrance.get()
    return found if isinstance(found, Actor) else None


def begin_fetch(instance: Any, request: Request) -> Any:
    """The instance's answer to a request: what `ObjectHost.run` begins."""
    fetch = getattr(instance, "fetch", None)
    if fetch is None:
        raise DurableObjectError("Handler does not export a fetch() function.")
    return relaxed(fetch, request)
