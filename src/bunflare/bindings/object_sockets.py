"""The WebSockets that Durable Objects have accepted, which outlive the objects' instances.

https://developers.cloudflare.com/durable-objects/best-practices/websockets/

They are kept here, not in the object: while nothing happens it can be evicted ("hibernate"), and
reloading can put another class in its place. What comes in is an event of the object, which is made
anew if it is not there. Messages of one socket are handled one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectError, DurableObjectTypeError, DurableObjectValueError
from .object_events import Event
from .rpc import relaxed
from .websocket import WebSocket, WebSocketRequestResponsePair

if TYPE_CHECKING:
    from .actor import Actor
    from .object_host import ObjectHost
    from .object_ids import DurableObjectId

_log = logging.getLogger("bunflare")

MAX_SOCKETS = 32_768
MAX_TAGS = 10
MAX_TAG_LENGTH = 256
#: Bytes of each half of an automatic response.
MAX_AUTO_RESPONSE = 2048
#: Milliseconds that a handler may be given.
MAX_EVENT_TIMEOUT = 604_800_000
# How many messages of one socket wait for its handler before the client is asked to stop.
_MOST_WAITING = 16

_HANDLERS = {
    "message": ("web_socket_message", "webSocketMessage"),
    "close": ("web_socket_close", "webSocketClose"),
    "error": ("web_socket_error", "webSocketError"),
}


class HostSockets:
    """The sockets of all objects of a namespace."""

    def __init__(self, host: ObjectHost) -> None:
        self._host = host
        self._objects: dict[str, ObjectSockets] = {}

    def of(self, id: DurableObjectId) -> ObjectSockets:
        """Those of an object."""
        digits = str(id)
        found = self._objects.get(digits)
        if found is None:
            found = self._objects[digits] = ObjectSockets(self._host, id)
        return found

    def hibernate(self, digits: str) -> None:
        """The object's instance is gone; the next one sees other `WebSocket` objects."""
        found = self._objects.get(digits)
        if found is not None and not found.hibernate():
            del self._objects[digits]

    def reset(self, digits: str, actor: Actor) -> None:
        """The object was reset, which disconnects its clients."""
        for socket in list(actor.sockets or ()):
            socket.cut()
        found = self._objects.pop(digits, None)
        if found is not None:
            found.cut()

    def restart(self, actor: Actor) -> None:
        """Close what would keep an instance of an older version: its clients connect anew."""
        for socket in list(actor.sockets or ()):
            socket.cut(1012, "Service Restart")

    def close(self, actors: Iterable[Actor]) -> None:
        """The state is closed: so are all of them."""
        for actor in actors:
            for socket in list(actor.sockets or ()):
                socket.cut(1001, "Going Away")
        for found in self._objects.values():
            found.cut(1001, "Going Away")
        self._objects.clear()


class ObjectSockets:
    """The hibernatable sockets of one object."""

    def __init__(self, host: ObjectHost, id: DurableObjectId) -> None:
        self._host = host
        self._id = id
        self._all: dict[_Held, None] = {}
        self._tagged: dict[str, dict[_Held, None]] = {}
        self.auto: WebSocketRequestResponsePair | None = None
        #: Milliseconds that a handler may take; None for any time.
        self.timeout: int | None = None

    def accept(self, socket: WebSocket, tags: Iterable[str] | None) -> None:
        if not isinstance(socket, WebSocket):
            raise DurableObjectTypeError(
                f"acceptWebSocket() takes a WebSocket, not {type(socket).__name__}"
            )
        if not socket.can_hibernate:
            raise DurableObjectError(
                "Cannot call `acceptWebSocket()` if the WebSocket was already used in a Response "
                "or accepted with `accept()`"
            )
        if not socket.peer_is_free:
            raise DurableObjectError(
                "Cannot call `acceptWebSocket()` on this WebSocket because its pair has already "
                "been accepted or used in a Response."
            )
        distinct = _check_tags(tags)
        if len(self._all) >= MAX_SOCKETS:
            raise DurableObjectError(
                f"only {MAX_SOCKETS} websockets can be accepted on a single Durable Object instance"
            )
        held = _Held(self, socket)
        self._all[held] = None
        for tag in distinct:
            self._tagged.setdefault(tag, {})[held] = None
        socket.hibernate(held.receive, distinct)

    def get(self, tag: str | None) -> list[WebSocket]:
        found = self._all if tag is None else self._tagged.get(str(tag), {})
        return [held.active() for held in found]

    def drop(self, held: _Held) -> None:
        if held not in self._all:
            return
        del self._all[held]
        for tag in held.socket.tags or ():
            tagged = self._tagged[tag]
            del tagged[held]
            if not tagged:
                del self._tagged[tag]

    def hibernate(self) -> bool:
        """Whether there is something to be kept."""
        for held in self._all:
            held.stale = True
        return bool(self._all) or self.auto is not None or self.timeout is not None

    def cut(self, code: int | None = None, reason: str = "") -> None:
        for held in self._all:
            held.waiting.clear()
            held.socket.cut(code, reason)
        self._all.clear()
        self._tagged.clear()

    # -- events ----------------------------------------------------------------------------

    def run(self, begin: Callable[[Any], Any], done: Callable[[], object]) -> None:
        """Run ``begin(instance)`` as an event of the object."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def ended(reply: asyncio.Future[Any]) -> None:
            if not reply.cancelled() and (error := reply.exception()) is not None:
                _log.error(
                    "a WebSocket's handler of %s %s failed",
                    self._host.namespace,
                    self._id,
                    exc_info=error,
                )
            done()

        reply.add_done_callback(ended)
        self._host.run(self._id, Event(begin, reply))

    def limited(self, result: Any) -> Any:
        """What is left to be awaited of a handler, with an end to it."""
        if not isawaitable(result):
            return None
        return self._limited(result, self.timeout)

    async def _limited(self, result: Any, timeout: int | None) -> None:
        if timeout is None:
            await result
            return
        clock = self._host.clock
        task = asyncio.current_task()
        assert task is not None
        timer = clock.call_at(clock.now() + timeout, task.cancel)
        try:
            await result
        finally:
            timer.cancel()

    def now(self) -> int:
        return self._host.clock.now()

    def missing(self, handler: str) -> None:
        _log.warning(
            "%s has accepted a WebSocket and has no %s() handler", self._host.namespace, handler
        )


class _Held:
    """One socket that an object has accepted."""

    __slots__ = ("_object", "busy", "socket", "stale", "waiting")

    def __init__(self, object: ObjectSockets, socket: WebSocket) -> None:
        self._object = object
        self.socket = socket
        #: Whether it was handed to an instance that is gone.
        self.stale = False
        self.busy = False
        self.waiting: deque[tuple[str, Any, Any]] = deque()

    def active(self) -> WebSocket:
        """The socket as this instance of the object knows it."""
        if self.stale:
            self.stale = False
            self.socket = self.socket.renewed()
        return self.socket

    def receive(self, kind: str, first: Any, second: Any) -> None:
        auto = self._object.auto
        if auto is not None and kind == "send" and first == auto.request:
            self.socket.auto_response_time = self._object.now()
            self.socket.answer(auto.response)
            return
        self.waiting.append((kind, first, second))
        if not self.busy:
            self._next()
        elif len(self.waiting) == _MOST_WAITING:
            self.socket.pause(True)

    def _next(self) -> None:
        if not self.waiting:
            return
        if len(self.waiting) == _MOST_WAITING:
            self.socket.pause(False)
        word = self.waiting.popleft()
        self.busy = True
        self._object.run(lambda instance: self._begin(instance, word), lambda: self._done(word))

    def _begin(self, instance: Any, word: tuple[str, Any, Any]) -> Any:
        socket = self.active()
        event = socket.note(*word)
        if event is None:
            return None
        names = _HANDLERS[event.type]
        handler = getattr(instance, names[0], None) or getattr(instance, names[1], None)
        if handler is None:
            if event.type == "message":
                self._object.missing(names[1])
            return None
        if event.type == "message":
            result = relaxed(handler, socket, event.data)
        elif event.type == "close":
            result = relaxed(handler, socket, event.code, event.reason, event.was_clean)
        else:
            result = relaxed(handler, socket, event.error)
        return self._object.limited(result)

    def _done(self, word: tuple[str, Any, Any]) -> None:
        self.busy = False
        if word[0] != "send":
            self._object.drop(self)
            self.waiting.clear()
        self._next()


class SocketMethods:
    """What ``ctx`` of a Durable Object has for WebSockets.

    https://developers.cloudflare.com/durable-objects/api/state/
    """

    __slots__ = ()

    def _sockets(self) -> ObjectSockets:
        raise NotImplementedError

    def accept_web_socket(self, web_socket: WebSocket, tags: Iterable[str] | None = None) -> None:
        """Have what comes in handled by ``web_socket_message``, ``web_socket_close`` and
        ``web_socket_error``, also after the object was evicted in between.

        At most 10 ``tags`` of 256 characters each find it again; an object holds 32,768 sockets.
        """
        self._sockets().accept(web_socket, tags)

    def get_web_sockets(self, tag: str | None = None) -> list[WebSocket]:
        """The sockets that were accepted, all or those with a tag."""
        return self._sockets().get(tag)

    def get_tags(self, web_socket: WebSocket) -> list[str]:
        """What a socket was accepted with."""
        if web_socket.tags is None:
            raise DurableObjectError(
                "you must call 'acceptWebSocket()' before attempting to access the tags of a "
                "WebSocket."
            )
        return list(web_socket.tags)

    def set_web_socket_auto_response(
        self, pair: WebSocketRequestResponsePair | None = None
    ) -> None:
        """Have a message answered without waking the object; None ends that.

        Request and response have 2,048 bytes at most.
        """
        if pair is None:
            self._sockets().auto = None
            return
        if not isinstance(pair, WebSocketRequestResponsePair):
            raise DurableObjectTypeError(
                "setWebSocketAutoResponse() takes a WebSocketRequestResponsePair, not "
                f"{type(pair).__name__}"
            )
        for what, text in (("request", pair.request), ("response", pair.response)):
            size = len(text.encode("utf-8", "replace"))
            if size > MAX_AUTO_RESPONSE:
                raise DurableObjectValueError(
                    f"{what.capitalize()} cannot be larger than {MAX_AUTO_RESPONSE} bytes. "
                    f"A {what} of size {size} was provided."
                )
        self._sockets().auto = pair

    def get_web_socket_auto_response(self) -> WebSocketRequestResponsePair | None:
        """What was set."""
        return self._sockets().auto

    def get_web_socket_auto_response_timestamp(self, web_socket: WebSocket) -> datetime | None:
        """When a socket last answered by itself."""
        time = web_socket.auto_response_time
        return None if time is None else datetime.fromtimestamp(time / 1000, UTC)

    def set_hibernatable_web_socket_event_timeout(self, timeout_ms: int | None = None) -> None:
        """How many milliseconds a handler may take, 604,800,000 at most; None or 0 ends that."""
        if timeout_ms is None or timeout_ms == 0:
            self._sockets().timeout = None
            return
        if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int) or timeout_ms < 0:
            raise DurableObjectTypeError("the timeout is a number of milliseconds")
        if timeout_ms > MAX_EVENT_TIMEOUT:
            raise DurableObjectError(f"Event timeout should not exceed {MAX_EVENT_TIMEOUT} ms.")
        self._sockets().timeout = timeout_ms

    def get_hibernatable_web_socket_event_timeout(self) -> int | None:
        """What was set, in milliseconds."""
        return self._sockets().timeout


def _check_tags(tags: Iterable[str] | None) -> list[str]:
    if tags is None:
        return []
    if isinstance(tags, str):
        raise DurableObjectTypeError("tags are a list of strings")
    distinct: dict[str, None] = {}
    for tag in tags:
        text = str(tag)
        if len(distinct) >= MAX_TAGS:
            raise DurableObjectError(
                f"a Hibernatable WebSocket cannot have more than {MAX_TAGS} tags"
            )
        if len(text) > MAX_TAG_LENGTH:
            raise DurableObjectError(
                f'"{text}" is longer than the max tag length ({MAX_TAG_LENGTH} characters).'
            )
        distinct[text] = None
    return list(distinct)
