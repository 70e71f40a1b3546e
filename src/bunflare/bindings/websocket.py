"""`WebSocket` and `WebSocketPair`, as Workers have them.

https://developers.cloudflare.com/workers/runtime-apis/websockets/

A WebSocket speaks to a `Wire`: the other end of its pair, or a connection of the network. What
comes from there lies in a mailbox until somebody takes it: the listeners after ``accept()``, or the
handlers of a Durable Object. To put an end of a pair into a response is to join the wires on both
of its sides (`WebSocket.couple`); from then on nothing passes through it.
"""

from __future__ import annotations

import weakref
from asyncio import _get_running_loop
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..errors import FetchError, FetchSyntaxError, FetchTypeError
from ..values import dumps, loads
from .socket_events import (
    CloseEvent,
    ErrorEvent,
    EventTarget,
    MessageEvent,
    OpenEvent,
    WebSocketFailed,
    entrance,
)
from .wire import Mailbox, Receiver, Wire, Word, say, say_after_writes

#: Bytes that an attachment may have.
MAX_ATTACHMENT = 16_384
_LONGEST_REASON = 123
_NO_CODES = frozenset({1004, 1005, 1006, 1015})

_CONNECTING, _FRESH, _ACCEPTED, _RELEASED = range(4)


class WebSocket(EventTarget):
    """One end of a WebSocket, of a `WebSocketPair` or of a connection that was made.

    Read it by ``accept()`` and listeners ("message", "close", "error", "open"), or give it to
    ``ctx.accept_web_socket`` of a Durable Object. What a Durable Object sends leaves it when its
    writes before are on disk.
    """

    __slots__ = (
        *("__weakref__", "_aborted", "_attachment", "_closed_in", "_closed_out", "_error"),
        *("_half_open", "_loop", "_mailbox", "_peer", "_state", "auto_response_time"),
        *("binaryType", "extensions", "protocol", "tags", "url"),
    )

    CONNECTING: ClassVar[int] = 0
    OPEN: ClassVar[int] = 1
    CLOSING: ClassVar[int] = 2
    CLOSED: ClassVar[int] = 3
    READY_STATE_CONNECTING: ClassVar[int] = 0
    READY_STATE_OPEN: ClassVar[int] = 1
    READY_STATE_CLOSING: ClassVar[int] = 2
    READY_STATE_CLOSED: ClassVar[int] = 3

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self._mailbox = Mailbox()
        self._state = _FRESH
        self._closed_in = False
        self._closed_out = False
        self._aborted = False
        self._half_open = False
        self._error: BaseException | None = None
        self._attachment: str | None = None
        self._peer: weakref.ref[WebSocket] | None = None
        self._loop = _get_running_loop()
        self.url = url
        #: The subprotocol and the extensions that the server has chosen.
        self.protocol: str | None = None
        self.extensions: str | None = None
        self.binaryType = "arraybuffer"
        #: What a Durable Object has accepted it with; None before.
        self.tags: list[str] | None = None
        #: When its last automatic response was sent, in epoch milliseconds.
        self.auto_response_time: int | None = None

    @classmethod
    def over(cls, wire: Wire, url: str | None = None) -> Self:
        """The near end of a connection that stands."""
        socket = cls(url)
        socket.attach(wire)
        return socket

    def attach(self, wire: Wire) -> None:
        """Speak to ``wire``, and hear what it says."""
        self._mailbox.far = wire
        wire.connect(self._mailbox)

    # -- reading ---------------------------------------------------------------------------

    def accept(self, options: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Begin to read: what comes is told to the listeners.

        With ``allow_half_open`` the end that is told "close" is not closed by that.
        """
        if self._state == _CONNECTING:
            raise FetchTypeError(
                "Websockets obtained from the 'new WebSocket()' constructor cannot call accept"
            )
        if self._state == _RELEASED:
            raise FetchTypeError("Can't accept() WebSocket that was already used in a response.")
        if self.tags is not None:
            raise FetchTypeError("Can't accept() WebSocket after enabling hibernation.")
        if self._state == _ACCEPTED:
            return
        given = {**(options or {}), **more}
        self._half_open = bool(given.get("allowHalfOpen", given.get("allow_half_open")))
        self._begin()

    def _begin(self) -> None:
        self._state = _ACCEPTED
        self._keep_awake()
        self._mailbox.open(self._received)

    def _keep_awake(self) -> None:
        """From now on what happens here is an event of the object whose code is running."""
        self.settle_here()
        if self._entrance is not None:
            if self._entrance.sockets is None:
                self._entrance.sockets = set()
            self._entrance.sockets.add(self)

    def _received(self, kind: str, first: Any, second: Any) -> None:
        event = self.note(kind, first, second)
        if event is not None:
            self.dispatch(event)
        if self._closed_in:
            self._release()

    def note(self, kind: str, first: Any, second: Any) -> Any:
        """The event of something that has come in, after which this socket's state says so."""
        if self._closed_in:
            return None
        if kind == "send":
            data = first if isinstance(first, str) else self.buffer(first)
            return MessageEvent(data, self)
        self._closed_in = True
        if kind == "close":
            if not self._closed_out and not self._half_open:
                self._closed_out = True
                self._put(("close", first, second))
            return CloseEvent(first, second, True, self)
        self._aborted = True
        if first is None:
            reason = "WebSocket disconnected without sending Close frame."
            return CloseEvent(1006, reason, False, self)
        self._error = WebSocketFailed(first)
        return ErrorEvent(first, self._error, self)

    @staticmethod
    def buffer(data: bytes) -> Any:
        """Bytes as they are handed over."""
        return data

    # -- speaking --------------------------------------------------------------------------

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message. Does nothing if the connection is gone."""
        if self._closed_out:
            raise FetchTypeError("Can't call WebSocket send() after close().")
        if self._aborted or self._state == _RELEASED:
            return
        self._check_accepted()
        if isinstance(message, str):
            if not message.isascii():
                message = _well_formed(message)
        elif isinstance(message, bytes | bytearray | memoryview):
            message = bytes(message)
        else:
            raise FetchTypeError(f"send() takes a str or bytes, not {type(message).__name__}")
        self._put(("send", message, None))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """End the conversation. A second call does nothing."""
        if self._state == _CONNECTING:
            self._state = _RELEASED
            self._closed_in = self._closed_out = True
            self._release()
            return
        if self._closed_out or self._aborted or self._state == _RELEASED:
            return
        self._check_accepted()
        if code is not None and not (
            isinstance(code, int) and 1000 <= code < 5000 and code not in _NO_CODES
        ):
            raise FetchTypeError(f"Invalid WebSocket close code: {code}.")
        if reason is not None:
            if code is None:
                raise FetchTypeError(
                    "If you specify a WebSocket close reason, you must also specify a code."
                )
            if len(reason.encode("utf-8", "replace")) > _LONGEST_REASON:
                raise FetchSyntaxError(
                    "WebSocket close reason must not be longer than 123 bytes when UTF-8 encoded."
                )
        self._closed_out = True
        self._put(("close", 1005 if code is None else code, reason or ""))
        if self._closed_in:
            self._release()

    def _check_accepted(self) -> None:
        if self._state != _ACCEPTED:
            raise FetchTypeError(
                "You must call one of accept() or state.acceptWebSocket() on this WebSocket "
                "before sending messages."
            )

    def _put(self, word: Word) -> None:
        owner = entrance.get()
        if owner is not None:
            say_after_writes(owner, self._mailbox, word)
        elif self._mailbox.far is not None:
            say(self._mailbox.far, word)

    async def drain(self) -> None:
        """Wait until the other side takes more."""
        drained = self._mailbox.drained
        if drained is not None:
            await drained.wait()

    def cut(self, code: int | None = None, reason: str = "") -> None:
        """End it from outside: with a close frame, or with none. Nobody here is told."""
        far = self._mailbox.far
        if far is not None and not self._closed_out:
            if code is None:
                far.abort()
            else:
                far.close(code, reason)
        self._closed_in = self._closed_out = self._aborted = True
        self._release()

    def _release(self) -> None:
        if not (self._closed_out or self._aborted):
            return
        if self._entrance is not None and self._entrance.sockets is not None:
            self._entrance.sockets.discard(self)
        if self._state == _ACCEPTED:
            self._state = _RELEASED

    # -- passing it on ---------------------------------------------------------------------

    def check_coupling(self) -> None:
        """Refuse what cannot be put into a response."""
        if self._state == _CONNECTING:
            raise FetchTypeError(
                "Can't return WebSocket in a Response if it was created with `new WebSocket()`"
            )
        if self._state == _RELEASED:
            raise FetchTypeError("Can't return WebSocket that was already used in a response.")
        if self._state == _ACCEPTED:
            called = "accept" if self.tags is None else "acceptWebSocket"
            raise FetchTypeError(f"Can't return WebSocket in a Response after calling {called}().")

    def couple(self, wire: Wire) -> None:
        """Join ``wire`` to what this end speaks to."""
        self.check_coupling()
        self._state = _RELEASED
        mailbox, self._mailbox, self._peer = self._mailbox, Mailbox(), None
        far = mailbox.far
        if far is None:
            wire.abort()
            return
        wire.connect(far)
        far.connect(wire)
        # From here on the wire itself says when it has enough.
        far.pause(False)
        mailbox.empty_into(wire)

    @property
    def can_hibernate(self) -> bool:
        return self._state == _FRESH

    @property
    def peer_is_free(self) -> bool:
        """Whether the other end of its pair has been neither accepted nor used."""
        if self._peer is None:
            return True
        peer = self._peer()
        return peer is None or peer._state == _FRESH

    def hibernate(self, receiver: Receiver, tags: list[str]) -> None:
        """Have what comes in taken by a Durable Object's handlers."""
        self._state = _ACCEPTED
        self.tags = tags
        self._peer = None
        self._mailbox.open(receiver)

    def renewed(self) -> Self:
        """The same socket for the next instance of its Durable Object; this one is of no use."""
        socket = type(self)(self.url)
        for name in (
            *("_mailbox", "_state", "_closed_in", "_closed_out", "_aborted", "_attachment"),
            *("protocol", "extensions", "tags", "auto_response_time"),
        ):
            setattr(socket, name, getattr(self, name))
        self._state = _RELEASED
        self._mailbox = Mailbox()
        return socket

    def pause(self, on: bool) -> None:
        """Have the other side say no more, or go on."""
        if self._mailbox.far is not None:
            self._mailbox.far.pause(on)

    def answer(self, message: str) -> None:
        """Send an automatic response, which waits for nothing."""
        if self._mailbox.far is not None and not self._closed_out:
            self._mailbox.far.send(message)

    def __del__(self) -> None:
        # Nobody can read it any more, and the other side would wait for ever. This may be said in
        # the middle of anything, and on any thread.
        if getattr(self, "_state", None) != _FRESH or self._loop is None:
            return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._mailbox.leave)

    # -- connecting ------------------------------------------------------------------------

    def begin_connecting(self) -> None:
        """It was made by ``WebSocket(url)``: `connected` or `failed` follows."""
        self._state = _CONNECTING
        self._keep_awake()
        self.protocol = self.extensions = ""

    def connected(self, wire: Wire) -> None:
        if self._state != _CONNECTING:
            wire.abort()
            return
        self.attach(wire)
        self._begin()
        self.dispatch(OpenEvent(self))

    def failed(self, error: BaseException) -> None:
        if self._state != _CONNECTING:
            return
        self._state = _RELEASED
        self._closed_in = self._closed_out = True
        self._error = error
        self.dispatch(ErrorEvent(str(error), error, self))
        reason = "Failed to establish websocket connection"
        self.dispatch(CloseEvent(1006, reason, False, self))
        self._release()

    # -- what there is to know -------------------------------------------------------------

    @property
    def ready_state(self) -> int:
        """0 connecting, 1 open, 2 closing, 3 closed."""
        if (self._closed_in and (self._closed_out or self._aborted)) or self._error is not None:
            return 3
        if self._closed_in or self._closed_out:
            return 2
        return 0 if self._state == _CONNECTING else 1

    @property
    def buffered_amount(self) -> int:
        """Bytes that were sent and have not left the process."""
        far = self._mailbox.far
        return 0 if far is None else far.buffered

    def serialize_attachment(self, value: Any) -> None:
        """Keep a copy of ``value`` with the socket, through hibernation.

        Takes what the storage of a Durable Object takes, 16,384 bytes at most.
        """
        text = dumps(value)
        size = len(text.encode())
        if size > MAX_ATTACHMENT:
            raise FetchError(
                f"A WebSocket 'attachment' cannot be larger than {MAX_ATTACHMENT} bytes."
                f"'attachment' was {size} bytes."
            )
        self._attachment = text

    def deserialize_attachment(self) -> Any:
        """A copy of what `serialize_attachment` was given last; None if nothing."""
        return None if self._attachment is None else loads(self._attachment)

    def __repr__(self) -> str:
        state = ("connecting", "open", "closing", "closed")[self.ready_state]
        return f"<{type(self).__name__} {state}>"

    # The standard's own spellings.
    serializeAttachment = serialize_attachment
    deserializeAttachment = deserialize_attachment
    readyState = ready_state
    bufferedAmount = buffered_amount


def _well_formed(text: str) -> str:
    """The text, with U+FFFD for surrogates that are alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class WebSocketPair:
    """Two ends of one WebSocket: ``client, server = WebSocketPair()``."""

    __slots__ = ("_ends",)

    kind: ClassVar[type[WebSocket]] = WebSocket

    def __init__(self) -> None:
        first, second = self.kind(), self.kind()
        first._mailbox.far = second._mailbox
        second._mailbox.far = first._mailbox
        first._peer, second._peer = weakref.ref(second), weakref.ref(first)
        self._ends = (first, second)

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(self._ends)

    def __getitem__(self, index: int | str) -> WebSocket:
        return self._ends[int(index)]

    def object_values(self) -> list[WebSocket]:
        return list(self._ends)

    def object_keys(self) -> list[str]:
        return ["0", "1"]

    values, keys = object_values, object_keys


@dataclass(frozen=True, slots=True)
class WebSocketRequestResponsePair:
    """A message, and what a Durable Object's socket answers to it without the object."""

    request: str
    response: str

    def __post_init__(self) -> None:
        if not isinstance(self.request, str) or not isinstance(self.response, str):
            raise FetchTypeError("a WebSocketRequestResponsePair is made of two strings")


__all__ = [
    "CloseEvent",
    "ErrorEvent",
    "MessageEvent",
    "WebSocket",
    "WebSocketPair",
    "WebSocketRequestResponsePair",
]
