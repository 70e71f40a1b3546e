"""Values that pass between two processes: copies, and references to what stays where it is.

A value is sent with what is to be put at which places in it. Functions and targets stay in their
process and get a number there; the other one has a stub, whose calls are frames of the same
connection. It is let go of when the stub is disposed of, or nobody has it any more, or the
connection ends. Streams are read over it (`link_streams`), and so are the bodies of requests and
responses. Both sides do the same, so calls go back and forth.

What an object has given away is called as an event of that object: its gates hold, and it stays in
memory until it is let go of.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..errors import DurableObjectError, DurableObjectTypeError, ValueNotSerializable
from ..store.gate import output_gate
from ..web.readable import Readable, SizedStream
from ..web.streams import Counted, Sized
from .actor import Actor
from .link_frames import lost, packed, unpacked
from .link_streams import PIECE, RemoteStream, Sender, pieces_of
from .link_stubs import DISPOSED, Args, Handle, Remote, RemoteFunction, RemoteTarget, call, home
from .object_calls import actor_here
from .object_events import Event
from .rpc import SCALARS, RpcTarget, by_reference, carried, copy, find_method, has_reference

if TYPE_CHECKING:
    from ..web import Request, Response


#: What the codec can send, if all that is in it can be.
_COPIES = SCALARS | {list, dict, set, frozenset}


class _Hold:
    """Keeps an object in memory, as an open WebSocket does, while others have something of it."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        if actor.sockets is None:
            actor.sockets = set()
        actor.sockets.add(self)

    def cut(self, code: int = 1006, reason: str = "") -> None:
        """Let go of it; the object may ask for that, too."""
        if self._actor.sockets is not None:
            self._actor.sockets.discard(self)


class _Export:
    """What this process has given to the other."""

    def __init__(self, value: Any, actor: Actor | None) -> None:
        self.value = value
        self.actor = actor

    def run(self, method: str | None, args: Args, kwargs: dict[str, Any]) -> Any:
        value = self.value
        if isinstance(value, Remote):
            return call(value, method, args, kwargs)
        if method is not None:
            value = find_method(value, method)
        if args is None:
            return value
        if not callable(value):
            raise DurableObjectTypeError(
                f'The RPC receiver does not implement the method "{method}".'
            )
        return value(*args, **kwargs)


class Passing:
    """What passes over one connection, at one of its ends."""

    def __init__(self, writer: asyncio.StreamWriter, write: Callable[[list[Any]], object]) -> None:
        self._writer = writer
        self._send = write
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._exports: dict[int, _Export] = {}
        self._holds: dict[int, _Hold] = {}
        self._senders: dict[int, Sender] = {}
        self._streams: WeakValueDictionary[int, RemoteStream] = WeakValueDictionary()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: deque[tuple[Callable[[], None], asyncio.Future[Any]]] = deque()
        self.closed = False
        self._kinds: Mapping[str, Callable[..., None]] = {
            "invoke": self._invoked,
            "returned": self._returned,
            "raised": self._raised,
            "release": self._released,
            "pull": self._pulled,
            "cancel": self._cancelled,
            "item": self._given,
            "over": self._over,
            "broke": self._broke,
        }

    def take(self, kind: str, rest: list[Any]) -> bool:
        """Hear a frame; False if it is of another kind."""
        known = self._kinds.get(kind)
        if known is None:
            return False
        known(*rest)
        return True

    def _write(self, frame: list[Any]) -> None:
        if not self.closed and not self._writer.is_closing():
            self._send(frame)

    # -- values ----------------------------------------------------------------------------

    def send(self, head: list[Any], value: Any, actor: Actor | None) -> None:
        """Send a frame that ends with a copied value; what of it is called is called in ``actor``.

        Raises what the platform raises for what cannot be sent.
        """
        if value.__class__ in _COPIES:
            try:
                # Most values have nothing in them that the codec does not know.
                self._send([*head, value])
            except ValueNotSerializable:
                if not has_reference(value):
                    raise
            else:
                return
        references: list[Any] = []
        tree = self._strip(value, [], references, actor)
        self._send([*head, tree, references])

    def _strip(self, value: Any, path: list[Any], found: list[Any], actor: Actor | None) -> Any:
        if by_reference(value):
            found.append([path, self._describe(value, actor)])
            return None
        if isinstance(value, dict):
            return {key: self._strip(one, [*path, key], found, actor) for key, one in value.items()}
        if isinstance(value, list):
            return [self._strip(one, [*path, at], found, actor) for at, one in enumerate(value)]
        return value

    def _describe(self, value: Any, actor: Actor | None) -> list[Any]:
        from ..web import Request, Response

        if isinstance(value, Request):
            return ["request", value.method, value.url, _pairs(value), self._body(value, actor)]
        if isinstance(value, Response):
            if value.web_socket is not None:
                raise DurableObjectTypeError(
                    "a response with a WebSocket cannot be part of a value for another process"
                )
            return ["response", value.status, _pairs(value), self._body(value, actor)]
        if isinstance(value, Remote) and (number := home(value, self)) is not None:
            return ["own", number]
        if isinstance(value, AsyncIterator):
            return ["stream", *self._offer(value, actor)]
        number = self._number(actor)
        self._exports[number] = _Export(value, actor)
        target = isinstance(value, RpcTarget) and not isinstance(value, RemoteFunction)
        return ["target" if target else "function", number]

    def _number(self, actor: Actor | None) -> int:
        """The number of what is given away, perhaps by an object."""
        number = next(self._numbers)
        if actor is not None:
            self._holds[number] = _Hold(actor)
        return number

    def _let_go(self, number: int) -> None:
        hold = self._holds.pop(number, None)
        if hold is not None:
            hold.cut()

    def _body(self, message: Request | Response, actor: Actor | None) -> Any:
        if message.body is None:
            return None
        body = message.take()
        if isinstance(body, bytes):
            if len(body) <= PIECE:
                return body
            body = Counted(pieces_of(body), len(body))
        return self._offer(body, actor)

    def _offer(self, source: AsyncIterator[Any], actor: Actor | None) -> list[int | None]:
        """Give a stream away: its number, and how many bytes it has if that is known."""
        left = source.left if isinstance(source, Sized) else None
        number = self._number(actor)
        self._senders[number] = Sender(number, source, self._write, self._writer.drain, self._ended)
        return [number, left]

    def _ended(self, number: int) -> None:
        self._senders.pop(number, None)
        self._let_go(number)

    def unpack(self, value: Any, references: list[Any] | None = None) -> Any:
        """The value that a frame ends with."""
        for path, described in references or ():
            one = self._made(*described)
            if not path:
                return one
            place = value
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = one
        return value

    def _made(self, kind: str, *rest: Any) -> Any:
        from ..web import Request, Response

        if kind == "own":
            return self._exports[rest[0]].value
        if kind == "stream":
            return self._stream(*rest)
        if kind == "target":
            return RemoteTarget(Handle(self, rest[0]))
        if kind == "function":
            return RemoteFunction(Handle(self, rest[0]))
        *about, headers, body = rest
        if isinstance(body, list):
            body = self._stream(*body)
        pairs = [(name, text) for name, text in headers]
        if kind == "request":
            method, url = about
            return Request(url, method=method, headers=pairs, body=body)
        return Response(body, status=about[0], headers=pairs)

    # -- calls -----------------------------------------------------------------------------

    def invoke(
        self, number: int, method: str | None, args: Args, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        """Call what the other process has given. The call leaves when its caller's writes are on
        disk, as the first of those that wait."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        actor = actor_here()
        args = None if args is None else [copy(one) for one in args]
        kwargs = {key: copy(one) for key, one in kwargs.items()}

        def send() -> None:
            if self.closed:
                raise lost()
            call = next(self._numbers)
            self.send(["invoke", call, number, method], [args, kwargs], actor)
            self._replies[call] = reply

        gate = output_gate.get()
        waiting = None if gate is None else gate()
        if waiting is None and not self._held:
            _sent(send, reply)
            return reply
        ready: asyncio.Future[Any]
        if waiting is None:
            ready = self._loop.create_future()
            ready.set_result(None)
        else:
            ready = asyncio.ensure_future(waiting)

        def later() -> None:
            if not ready.cancelled() and (error := ready.exception()) is not None:
                reply.set_exception(error)
            else:
                _sent(send, reply)

        self._held.append((later, ready))
        ready.add_done_callback(self._let_out)
        return reply

    def _let_out(self, _ready: object) -> None:
        while self._held and self._held[0][1].done():
            self._held.popleft()[0]()

    def _invoked(self, call: int, number: int, method: str | None, *given: Any) -> None:
        reply: asyncio.Future[Any] = self._loop.create_future()
        export = self._exports.get(number)
        actor = None if export is None else export.actor
        reply.add_done_callback(lambda done: self._reply(call, done, actor))
        try:
            args, kwargs = self.unpack(*given)
            if export is None:
                raise DurableObjectError(DISPOSED)
            if actor is not None and (actor.broken is not None or actor.host is None):
                raise actor.broken or lost()
        except Exception as error:
            reply.set_exception(error)
            return
        run = export.run
        if actor is not None:
            actor.deliver(Event(lambda _: run(method, args, kwargs), reply))
            return
        task = self._loop.create_task(_run(lambda: run(method, args, kwargs), reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reply(self, call: int, done: asyncio.Future[Any], actor: Actor | None) -> None:
        if self.closed or self._writer.is_closing():
            return
        error = done.exception()
        try:
            if error is None:
                self.send(["returned", call], done.result(), actor)
                return
        except Exception as refused:
            error = refused
        self._write(["raised", call, packed(error)])

    def _returned(self, call: int, *result: Any) -> None:
        reply = self._replies.pop(call, None)
        try:
            # Where nobody waits for it any more, it is let go of at once.
            value = self.unpack(*result)
        except Exception as error:
            if reply is not None and not reply.done():
                reply.set_exception(error)
        else:
            if reply is not None and not reply.done():
                reply.set_result(value)

    def _raised(self, call: int, error: Any) -> None:
        reply = self._replies.pop(call, None)
        if reply is not None and not reply.done():
            reply.set_exception(unpacked(error))

    def release(self, number: int) -> None:
        """Nobody here has a stub for it any more. May be called on any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._write(["release", number]))

    def _released(self, number: int) -> None:
        self._exports.pop(number, None)
        self._let_go(number)

    # -- streams ---------------------------------------------------------------------------

    def _stream(self, number: int, left: int | None) -> Readable:
        stream = RemoteStream(number, self._write, lambda one: self._streams.pop(one, None))
        if self.closed:
            stream.end(lost())
        else:
            self._streams[number] = stream
        return stream if left is None else SizedStream(stream, left)

    def _pulled(self, number: int, count: int) -> None:
        if number in self._senders:
            self._senders[number].pull(count)

    def _cancelled(self, number: int) -> None:
        sender = self._senders.pop(number, None)
        self._let_go(number)
        if sender is not None:
            sender.stop()

    def _given(self, number: int, item: Any) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.give(item)

    def _over(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.end()

    def _broke(self, number: int, error: Any) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.end(unpacked(error))

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """The other process is gone, or no longer spoken to."""
        self.closed = True
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_exception(lost())
        for stream in list(self._streams.values()):
            stream.end(lost())
        self._exports.clear()
        for number in list(self._holds):
            self._let_go(number)
        senders, self._senders = self._senders, {}
        for sender in senders.values():
            sender.stop()


def _sent(send: Callable[[], None], reply: asyncio.Future[Any]) -> None:
    try:
        send()
    except Exception as error:
        if not reply.done():
            reply.set_exception(error)


async def _run(call: Callable[[], Any], reply: asyncio.Future[Any]) -> None:
    try:
        result = call()
        if isawaitable(result):
            result = await result
        reply.set_result(copy(result))
    except Exception as error:
        reply.set_exception(carried(error))
    except BaseException:
        reply.set_exception(lost())
        raise


def _pairs(message: Request | Response) -> list[list[str]]:
    return [[name.decode("latin-1"), text.decode("latin-1")] for name, text in message.headers.raw]
