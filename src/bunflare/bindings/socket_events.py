"""The events of a WebSocket, who listens to them, and where their code runs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Protocol

from ..errors import FetchError
from .wire import Speaker

_log = logging.getLogger("bunflare.worker")
_running: set[asyncio.Future[Any]] = set()


class Entrance(Speaker, Protocol):
    """A running Durable Object, seen from a WebSocket that its code has accepted."""

    sockets: set[Any] | None

    def enter(self, start: Callable[[Any], Any]) -> None:
        """Run ``start(instance)`` as an event of the object."""


#: The object whose code is running.
entrance: ContextVar[Entrance | None] = ContextVar("bunflare_entrance", default=None)


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message has come: ``data`` is a str or bytes."""

    data: Any
    target: Any = None
    type: str = "message"


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """The other side has ended the conversation; code 1006 says that it was cut."""

    code: int = 1005
    reason: str = ""
    was_clean: bool = True
    target: Any = None
    type: str = "close"

    @property
    def wasClean(self) -> bool:
        return self.was_clean


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The connection has failed."""

    message: str = ""
    error: BaseException | None = None
    target: Any = None
    type: str = "error"


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """The connection stands."""

    target: Any = None
    type: str = "open"


class WebSocketFailed(FetchError):
    """What an ``error`` event carries."""


class EventTarget:
    """Has listeners, and calls them where it was begun: in a Durable Object as an event of it."""

    __slots__ = (
        *("_context", "_entrance", "_listeners"),
        *("onclose", "onerror", "onmessage", "onopen"),
    )

    def __init__(self) -> None:
        self._listeners: dict[str, list[tuple[Any, bool]]] | None = None
        self._entrance: Entrance | None = None
        self._context: contextvars.Context | None = None
        self.onopen: Any = None
        self.onmessage: Any = None
        self.onclose: Any = None
        self.onerror: Any = None

    def settle_here(self) -> None:
        """Call the listeners as the code that is running now would."""
        self._context = contextvars.copy_context()
        self._entrance = entrance.get()

    def add_event_listener(
        self, kind: str, listener: Any, options: Any = None, **more: Any
    ) -> None:
        """Call ``listener(event)`` for each event: "open", "message", "close" or "error"."""
        given = dict(options) if isinstance(options, Mapping) else {}
        if self._listeners is None:
            self._listeners = {}
        listeners = self._listeners.setdefault(str(kind), [])
        if all(known is not listener for known, _ in listeners):
            listeners.append((listener, bool({**given, **more}.get("once"))))

    def remove_event_listener(self, kind: str, listener: Any, _options: Any = None) -> None:
        """Call it no more."""
        if self._listeners is not None:
            listeners = self._listeners.get(str(kind), [])
            listeners[:] = [one for one in listeners if one[0] != listener]

    def dispatch(self, event: Any) -> None:
        if self._entrance is not None:
            self._entrance.enter(lambda _: self._fire(event))
            return
        assert self._context is not None
        work = self._context.run(self._fire, event)
        if work is not None:
            task = self._context.run(asyncio.ensure_future, work)
            _running.add(task)
            task.add_done_callback(_running.discard)

    def _fire(self, event: Any) -> Awaitable[None] | None:
        """Call the listeners; what is given back has to be awaited."""
        listeners = (self._listeners or {}).get(event.type, [])
        called = [listener for listener, _ in listeners]
        listeners[:] = [one for one in listeners if not one[1]]
        own = getattr(self, f"on{event.type}", None)
        if own is not None:
            called.append(own)
        waiting = []
        for listener in called:
            try:
                result = getattr(listener, "handleEvent", listener)(event)
            except Exception:
                _log.exception('a listener of "%s" failed', event.type)
            else:
                if isawaitable(result):
                    waiting.append(result)
        return _all(waiting, event.type) if waiting else None

    addEventListener = add_event_listener
    removeEventListener = remove_event_listener


async def _all(waiting: list[Awaitable[Any]], kind: str) -> None:
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(result, Exception):
            _log.error('a listener of "%s" failed', kind, exc_info=result)
        elif isinstance(result, BaseException):
            raise result
