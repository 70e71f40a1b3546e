"""Where a namespace's objects run: at any time in one process, which the store names.

The first process that needs a namespace becomes its owner, and runs every object of it; so there is
one live instance of each. Others send their calls to the owner's socket (`object_link`). When the
owner ends, however suddenly, its lock on its presence is gone, and whoever needs the namespace next
takes it over, with its alarms.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectTypeError, StateError
from ..store import object_history
from ..store import objects as store
from ..store.gate import output_gate, restrained
from ..store.pending import Pending
from . import object_ids as ids
from .actor import Actor
from .object_alarms import AlarmClock
from .object_calls import Call, actor_here, begin_fetch
from .object_commits import Commits
from .object_data import ObjectData
from .object_events import Event, Turns
from .object_files import SqlFiles
from .object_flush import Flusher
from .object_ids import DurableObjectId
from .object_sockets import HostSockets
from .object_state import DurableObjectState
from .rpc import carried

if TYPE_CHECKING:
    from ..clock import Clock
    from ..clock import Timer as Wakeup
    from ..store.database import Database
    from ..store.object_history import Kept
    from ..store.transaction import Transaction
    from ..timer import Timer
    from ..web import Request, Response
    from .object_link import LinkClient, LinkServer

_log = logging.getLogger("bunflare")

#: How long an object stays in memory when nothing happens, in seconds.
IDLE_SECONDS = 10.0
#: How many objects stay in memory as long as that; of more, those that are idle leave earlier.
MOST_AWAKE = 10_000
# How many are looked at together, once there are so many more.
_ROUND = 1024
_MORE = 128
# How long the end waits for what is under way, in seconds.
_GRACE = 5.0

#: What sends a call, once it is known where the namespace's objects run, and its reply.
_Waiting = tuple[Callable[[], object], asyncio.Future[Any]]


class ObjectHost:
    """One state's hold on a namespace."""

    def __init__(
        self,
        database: Database,
        namespace: str,
        made: Callable[[DurableObjectState, Any], object],
        env: Any,
        clock: Clock,
        timer: Timer,
        idle_seconds: float = IDLE_SECONDS,
        sqlite: bool = True,
    ) -> None:
        self.database = database
        self.namespace = namespace
        self.unique = store.unique_key(database.view, namespace)
        self.clock = clock
        self.made = made
        #: Whether its class is not one of `new_classes`.
        self.sqlite = sqlite
        self._env = env
        self._idle_ms = int(idle_seconds * 1000)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.actors: dict[str, Actor] = {}
        self._landing: dict[str, ObjectData] = {}
        self._sweeper: Wakeup | None = None
        self._most = MOST_AWAKE
        self._server: LinkServer | None = None
        self._client: LinkClient | None = None
        self._waiting: deque[_Waiting] = deque()
        self._settling: asyncio.Task[None] | None = None
        self._forget_ends: Callable[[], None] | None = None
        #: Whether this is where the objects run.
        self.owner = False
        # The event loop of which calls go straight to them: none of earlier ones waits.
        self._running_in: asyncio.AbstractEventLoop | None = None
        #: What is kept of the objects' earlier states, once that is known.
        self.history: Kept | None = None
        self._closed = False
        self.has_alarm = callable(getattr(made, "alarm", None))
        self.alarms = AlarmClock(self, timer)
        self.flusher = Flusher(self)
        self._turns: Turns | None = None
        self.commits = Commits()
        self.files = SqlFiles(self)
        self.sql_directory = str(database.directory.path / "do-sql" / namespace)
        self.sockets = HostSockets(self)

    def open(self) -> None:
        """Take the namespace if it is free, for its alarms, where an event loop runs already."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self.settle()

    def replace(
        self, made: Callable[[DurableObjectState, Any], object], env: Any, sqlite: bool = True
    ) -> None:
        """Make instances of another class from now on; those that are at work end it first."""
        self.made = made
        self.sqlite = sqlite
        self._env = env
        self.has_alarm = callable(getattr(made, "alarm", None))
        for digits, actor in list(self.actors.items()):
            self.sockets.restart(actor)
            if actor.idle:
                self.evict(digits)
            else:
                actor.outdated = True

    # -- ids -------------------------------------------------------------------------------

    def find(self, name: str, jurisdiction: str | None) -> str:
        """The digits of the object of a name; other programs', if they have made such an object."""
        if jurisdiction is None:
            seed = ids.of_seed(name)
            if store.known(self.database.view, self.namespace, seed):
                return seed
            # Only what was imported, or renamed, is bound to something else than its name.
            if self.unique != self.namespace:
                other = ids.of_platform(self.unique, name)
                if store.known(self.database.view, self.namespace, other):
                    return other
        return ids.from_name(self.unique, name, jurisdiction)

    def parse(self, text: object) -> DurableObjectId:
        """The id of 64 digits. Raises `DurableObjectTypeError` if they are not this namespace's."""
        found = ids.parse(self.unique, text)
        if found is not None:
            return DurableObjectId(found[0], None, found[1])
        assert isinstance(text, str)
        if store.known(self.database.view, self.namespace, text.lower()):
            return DurableObjectId(text.lower())
        raise DurableObjectTypeError("Durable Object ID is not valid for this namespace.")

    # -- calls -----------------------------------------------------------------------------

    def call(
        self, id: DurableObjectId, method: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any]
    ) -> Pending[Any]:
        """Have a method called; no ``args`` ask for a property."""
        loop = self._running_in
        if (
            loop is None
            or loop is not get_running_loop()
            or (restrained.get() and self.database.hindered)
        ):
            return self._call_later(id, method, args, kwargs)
        reply: Pending[Any] = Pending(loop=loop)
        actor = self.actors.get(id.digits)
        if actor is None:
            self.run(id, Call(method, args, kwargs, reply))
        else:
            actor.deliver(Call(method, args, kwargs, reply))
        return reply

    def _call_later(
        self,
        id: DurableObjectId,
        method: str,
        args: tuple[Any, ...] | None,
        kwargs: dict[str, Any],
    ) -> Pending[Any]:
        reply: Pending[Any] = Pending(loop=self._own_loop())
        here = actor_here()

        def send() -> None:
            if self.owner:
                self.run(id, Call(method, args, kwargs, reply))
            else:
                assert self._client is not None
                self._client.call(id, method, args, kwargs, reply, here)

        self._leave(send, reply)
        return reply

    def fetch(self, id: DurableObjectId, request: Request) -> Pending[Response]:
        """Have a request answered."""
        reply: Pending[Any] = Pending(loop=self._own_loop())

        def send() -> None:
            if self.owner:
                self.run(id, Event(lambda instance: begin_fetch(instance, request), reply))
            else:
                assert self._client is not None
                self._client.fetch(id, request, reply)

        self._leave(send, reply)
        return reply

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise StateError("the state is closed")
        if self.database.in_transaction:
            raise StateError(
                "a call of an object inside of a transaction would wait for the transaction's end; "
                "call it before or after, or begin the transaction with it: "
                "state.transaction(objects=[stub])"
            )
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise StateError(
                "a Durable Object namespace belongs to the event loop that used it first; open "
                "the directory once more in this one"
            )
        return loop

    def _leave(self, send: Callable[[], object], reply: asyncio.Future[Any]) -> None:
        """Send a call once its caller's output gate is open and its way is known."""
        gate = output_gate.get()
        waiting = None if gate is None else gate()
        if waiting is None:
            self._when_settled(send, reply)
            return

        def opened(done: asyncio.Future[Any]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is None:
                self._when_settled(send, reply)
            else:
                _refuse(reply, error)

        asyncio.ensure_future(waiting).add_done_callback(opened)

    # -- objects ---------------------------------------------------------------------------

    def run(self, id: DurableObjectId, event: Event) -> None:
        """Run an event of the object, here."""
        actor = self.actors.get(id.digits)
        if actor is None:
            try:
                actor = self._construct(id)
            except Exception as error:
                _refuse(event.reply, carried(error))
                return
        actor.deliver(event)

    def turns(self) -> Turns:
        """What runs the events of all objects."""
        if self._turns is None:
            self._turns = Turns(asyncio.get_running_loop())
        return self._turns

    def actor(self, id: DurableObjectId) -> Actor:
        """The running object, made if it is not there. Raises what its constructor raises."""
        return self.actors.get(id.digits) or self._construct(id)

    async def found(self) -> None:
        """Return once it is known where the objects run."""
        known: asyncio.Future[None] = self._own_loop().create_future()

        def tell() -> None:
            if not known.done():
                known.set_result(None)

        self._when_settled(tell, known)
        await known

    def _construct(self, id: DurableObjectId) -> Actor:
        digits = str(id)
        name = id.name
        if name is None:
            row = store.describe(self.database.view, self.namespace, digits)
            name = row[0] if row else None
        if len(self.actors) >= self._most:
            self._make_room()
        actor = Actor(self, digits)
        actor.data = ObjectData(self, actor, name, self._landing.pop(digits, None))
        self.actors[digits] = actor
        own = DurableObjectId(digits, name, id.jurisdiction)
        state = DurableObjectState(actor, own, self.sockets, self.sqlite)
        try:
            actor.construct(lambda: self.made(state, self._env))
        except Exception as error:
            # Its clients stay connected, for the next try.
            self.actors.pop(digits, None)
            self.sockets.hibernate(digits)
            actor.reset(error)
            raise
        if self._sweeper is None:
            self._sweep_later()
        return actor

    def gone(self, actor: Actor) -> None:
        """An instance was reset."""
        digits = actor.digits
        if self.actors.get(digits) is actor:
            del self.actors[digits]
            self.sockets.reset(digits, actor)
        if actor.data.flying:
            self._landing[digits] = actor.data

    def _sweep_later(self) -> None:
        # Looked at twice within the time, an object stays for one time and a half at the most.
        when = self.clock.now() + self._idle_ms // 2
        self._sweeper = self.clock.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Evict the objects of which nothing was seen for a while."""
        self._sweeper = None
        now = self.clock.now()
        for digits, actor in list(self.actors.items()):
            if actor.outdated and actor.idle:
                self.evict(digits)
            elif actor.used:
                actor.used = False
                actor.seen = now
            elif actor.idle and now - actor.seen >= self._idle_ms:
                self.evict(digits)
        for digits, data in list(self._landing.items()):
            if not data.flying:
                del self._landing[digits]
        if self.actors or self._landing:
            self._sweep_later()

    def _make_room(self) -> None:
        """Evict some of the idle objects, those of which nothing was seen since the last time."""
        now = self.clock.now()
        for digits in list(islice(self.actors, _ROUND)):
            actor = self.actors[digits]
            if actor.used or not actor.idle:
                actor.used = False
                actor.seen = now
                # Behind all others, for the next round.
                self.actors[digits] = self.actors.pop(digits)
            else:
                self.evict(digits)
        self._most = max(MOST_AWAKE, len(self.actors) + _MORE)

    def evict(self, digits: str) -> None:
        """Drop an idle instance; its next event makes another."""
        self.actors.pop(digits).leave()
        self.sockets.hibernate(digits)

    # -- ownership -------------------------------------------------------------------------

    def _when_settled(self, send: Callable[[], object], reply: asyncio.Future[Any]) -> None:
        """Call ``send`` once it is known where the objects run, in the order of asking."""
        if self._closed:
            _refuse(reply, StateError("the state is closed"))
            return
        if (self.owner or self._client is not None) and not self._waiting:
            send()
            return
        self._waiting.append((send, reply))
        self.settle()

    def settle(self) -> None:
        """Find the namespace's owner, or become it."""
        if self._closed or self.owner or self._client is not None:
            return
        if self._settling is None:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            # Whoever asks first lends it nothing: no gate, no open transaction.
            self._settling = self._loop.create_task(self._settle(), context=contextvars.Context())

    async def _settle(self) -> None:
        from .object_link import LinkClient, LinkServer

        try:
            while not self.owner and self._client is None:
                if self._server is None:
                    self._server = await LinkServer.start(self)
                presence = self.database.presence
                if self._forget_ends is None:
                    self._forget_ends = presence.subscribe(self._process_ended)
                owner, address, history = await self.database.write(
                    self._claim, self._server.address
                )
                if address == self._server.address:
                    self.history = history
                    self.owner = True
                    break
                client = await LinkClient.connect(address, self._lost)
                if client is not None:
                    self._client = client
                elif owner == presence.id or not presence.alive(owner):
                    # It closed its socket and is about to say so, or has died this moment.
                    await self.database.write(store.disown, self.namespace, address)
                else:
                    await asyncio.sleep(0.01)
        except Exception as error:
            self._fail_waiting(error)
            return
        finally:
            self._settling = None
        while self._waiting:
            send, _ = self._waiting.popleft()
            send()
        if self.owner:
            if not self._closed:
                self._running_in = self._loop
            self.alarms.start()

    def _claim(self, tx: Transaction, address: str) -> tuple[str, str, Kept | None]:
        found = store.owner(tx, self.namespace)
        presence = self.database.presence
        if found is not None and presence.alive(found[0]):
            return *found, None
        store.own(tx, self.namespace, presence.id, address)
        return presence.id, address, self.begin_history(tx)

    def begin_history(self, tx: Transaction) -> Kept | None:
        """Begin, or go on with, what is kept of the objects' earlier states."""
        if self.sqlite:
            return object_history.begin(tx, self.namespace, self.clock.now())
        # What is written without being kept makes an end of it.
        object_history.end(tx, self.namespace)
        return None

    def _fail_waiting(self, error: Exception) -> None:
        _log.error("the objects of %s cannot be reached: %s", self.namespace, error)
        while self._waiting:
            _refuse(self._waiting.popleft()[1], error)

    def _lost(self) -> None:
        """The owner has closed its socket."""
        self._client = None
        self.settle()

    def _process_ended(self) -> None:
        if not self.owner and self._client is None:
            self.settle()

    # -- the end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Wait a little for what is under way, and give the namespace back."""
        if self._closed:
            return
        self._closed = True
        self._running_in = None
        if self._forget_ends is not None:
            self._forget_ends()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        while self._waiting:
            _refuse(self._waiting.popleft()[1], StateError("the state was closed"))
        self.alarms.close()
        self.sockets.close(self.actors.values())
        if self._client is not None:
            await self._client.close()
        deadline = None if self._loop is None else self._loop.time() + _GRACE
        while (busy := [actor for actor in self.actors.values() if not actor.idle]) and (
            deadline is not None and (left := deadline - asyncio.get_running_loop().time()) > 0
        ):
            under_way = [one for actor in busy for one in actor.under_way()]
            await asyncio.wait(under_way, timeout=left)
        ended = StateError("the state was closed")
        for actor in list(self.actors.values()):
            if actor.idle:
                actor.leave()
            else:
                actor.reset(ended)
        self.actors.clear()
        self.commits.close()
        if self._server is not None:
            address = self._server.address
            await self._server.close()
            if self.owner:
                self.owner = False
                await self.database.write(store.disown, self.namespace, address)


def _refuse(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
