"""Who is to be told of what is sent, and what all consumers of a state share.

A consumer is woken by what this state itself sends, by the commits of other processes, and by the
state's timer when something becomes due. There is one of everything for all queues of a state, so
that a thousand idle ones cost nothing.

What a process claims is held under its id. Another process lets go of it when that process is seen
dead; or when the lease has ended, nobody has made it longer, and the same was so at an earlier
look, since the clock may have jumped. For a process that lives makes its leases longer in time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import DatabaseError, StateError
from ..store import queue_delivery as store
from ..store import queues
from ..store.gathered import Gatherer
from ..store.loops import call_soon
from ..timer import Chore
from .queue_answers import QueueSendResponse

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..store.transaction import Transaction
    from ..timer import Timer
    from .queue_chores import Retention
    from .queue_consumer import Consumer

_log = logging.getLogger("bunflare")

#: How long a claim counts that is not made longer, in milliseconds.
LEASE_MS = 300_000
_RENEW_MS = LEASE_MS // 2
_TRY_AGAIN_MS = 1000
# After a commit of another process one looks at once, and again after a pause that keeps the cost
# of looking at a tenth.
_PAUSE_SECONDS = 0.004
_SHARE = 10

_numbers = itertools.count(1)
#: The brokers that have consumers.
_listening: dict[Database, tuple[Broker, ...]] = {}


class Broker:
    """What the consumers of a state share. Works within the event loop that first needed it."""

    def __init__(
        self, database: Database, clock: Clock, timer: Timer, retention: Retention
    ) -> None:
        self.database = database
        self.clock = clock
        self.timer = timer
        self._retention = retention
        #: What is sent alone.
        self.outbox = Gatherer[queues.Weighed, QueueSendResponse](
            database, queues.send_gathered, self._answers
        )
        self._consumers: dict[str, list[Consumer]] = {}
        self._holder: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._endings: list[Callable[[], None]] = []
        self._chore = Chore("the delivery of messages", self._due, self._act)
        self._resting: asyncio.TimerHandle | None = None
        self._missed = False
        self._foreign: object = None
        self._recovered = False
        self._recovering: asyncio.Future[None] | None = None
        #: When the leases are to be made longer, and when those of others are looked at.
        self._renew_at: int | None = None
        self._inspect_at: int | None = None
        #: Living holders with leases that have ended, as of the last look.
        self._suspects: dict[str, int] = {}

    @property
    def holder(self) -> str:
        """What this state's claims are held by."""
        if self._holder is None:
            self._holder = f"{self.database.presence.id}.{next(_numbers)}"
        return self._holder

    def _answers(
        self, sent: Sequence[queues.Weighed], metrics: Sequence[queues.Metrics]
    ) -> list[QueueSendResponse]:
        """What the senders of messages hear; whoever waits for such is told."""
        if len({row[1] for row, _ in sent}) == 1:
            self.sent(sent[0][0][1])
            return [QueueSendResponse(metrics[0])] * len(sent)
        answers = {
            row[1]: QueueSendResponse(one) for (row, _), one in zip(sent, metrics, strict=True)
        }
        for queue in answers:
            self.sent(queue)
        return [answers[row[1]] for row, _ in sent]

    # -- being told ------------------------------------------------------------------------

    def sent(self, queue: str) -> None:
        """There may be something to deliver in ``queue``."""
        if self._retention.next is None:
            self._retention.sent(self.timer)
        if _listening:
            self._tell(queue)

    def _tell(self, queue: str) -> None:
        # Other states of this process may be of the same directory.
        for broker in _listening.get(self.database, ()):
            if queue in broker._consumers:
                broker._wake_anywhere(queue)

    def _wake_anywhere(self, queue: str) -> None:
        if self._loop is _running_loop():
            self._wake(queue)
        elif self._loop is not None and not self._loop.is_closed():
            call_soon(self._loop, lambda: self._wake(queue))

    def _wake(self, queue: str) -> None:
        for consumer in self._consumers.get(queue, ()):
            consumer.wake()

    def retention_changed(self) -> None:
        self._retention.changed(self.timer)

    def _committed(self) -> None:
        """Somebody has written something; what this process writes is told by who writes it."""
        foreign = self.database.foreign()
        if foreign is not None and foreign == self._foreign:
            return
        self._foreign = foreign
        if self._resting is None:
            self._look_around()
        else:
            self._missed = True

    def _look_around(self) -> None:
        loop = self._loop
        assert loop is not None
        self._missed = False
        began = loop.time()
        for queue in queues.waiting(self.database.view):
            for consumer in self._consumers.get(queue, ()):
                consumer.look()
        pause = max(_PAUSE_SECONDS, _SHARE * (loop.time() - began))
        self._resting = loop.call_later(pause, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._missed:
            self._look_around()

    # -- consumers -------------------------------------------------------------------------

    async def enter(self) -> None:
        """A consumer is to be added. Raises `StateError` in another event loop than the others'."""
        if self._loop is not None and self._loop is not _running_loop():
            if not self._loop.is_closed():
                raise StateError(
                    "the consumers of a state belong to the event loop of the first of them; open "
                    "the directory once more in this one"
                )
            await self._mourn()

    async def add(self, consumer: Consumer) -> None:
        """From now on, tell a consumer of what concerns it."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._endings = [
                self.database.watch.subscribe(self._committed),
                self.database.presence.subscribe(self._process_ended),
            ]
            self.timer.add(self._chore)
            _listening[self.database] = (*_listening.get(self.database, ()), self)
            self._recovered = False
        self._consumers.setdefault(consumer.queue, []).append(consumer)
        await self.recover_once()

    def remove(self, consumer: Consumer) -> None:
        """Tell a consumer of nothing more."""
        others = self._consumers.get(consumer.queue, [])
        if consumer in others:
            others.remove(consumer)
        if not others:
            self._consumers.pop(consumer.queue, None)
        if not self._consumers:
            self._stop()
        # It may have given messages back, or have been the one that knew when some are due.
        self._tell(consumer.queue)

    def _stop(self) -> None:
        for end in self._endings:
            end()
        self._endings = []
        others = tuple(one for one in _listening.pop(self.database, ()) if one is not self)
        if others:
            _listening[self.database] = others
        self.timer.remove(self._chore)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self._missed = False
        self._loop = None

    async def _mourn(self) -> None:
        """The event loop of the consumers was closed without them: so they are gone."""
        self._consumers.clear()
        self._stop()
        self._recovering = None
        self._renew_at = self._inspect_at = None
        holder, self._holder = self._holder, None
        if holder is not None:
            for queue in await self.database.write(store.release, holder, self.clock.now()):
                self.sent(queue)

    async def close(self, timeout: float | None = None) -> None:
        """End all consumers."""
        if self._loop is not None and self._loop.is_closed():
            await self._mourn()
        consumers = [one for several in self._consumers.values() for one in several]
        if consumers:
            await asyncio.gather(*[consumer.close(timeout) for consumer in consumers])
        if self._recovering is not None:
            await asyncio.wait([self._recovering])

    # -- time ------------------------------------------------------------------------------

    def claimed(self) -> None:
        """A claim was made."""
        if self._renew_at is None:
            self._renew_at = self.clock.now() + _RENEW_MS
            self.timer.at(self._renew_at)

    def _due(self) -> float | None:
        times: list[float] = [
            consumer.due
            for several in self._consumers.values()
            for consumer in several
            if consumer.due is not None
        ]
        times += [time for time in (self._renew_at, self._inspect_at) if time is not None]
        return min(times, default=None)

    async def _act(self, now: int) -> None:
        if self._renew_at is not None and self._renew_at <= now:
            await self._renew(now)
        if self._inspect_at is not None and self._inspect_at <= now:
            await self._recover_safely()
        for several in list(self._consumers.values()):
            for consumer in list(several):
                if consumer.due is not None and consumer.due <= now:
                    await consumer.begin()

    @property
    def _busy(self) -> bool:
        """Whether somebody has, or claims, what this state's claims are held by."""
        return any(one.busy for several in self._consumers.values() for one in several)

    async def _renew(self, now: int) -> None:
        self._renew_at = None
        if self._busy:
            self._renew_at = now + _RENEW_MS
            try:
                await self.database.write(store.extend, self.holder, now + LEASE_MS)
            except DatabaseError:
                _log.exception("leases could not be made longer; trying again")
                self._renew_at = now + _TRY_AGAIN_MS
        elif any(holder == self._holder for holder, _ in store.held(self.database.view)):
            try:
                await self._let_go(now)
            except DatabaseError:
                _log.exception("messages that nobody has are still held; trying again")
                self._renew_at = now + _TRY_AGAIN_MS

    async def _let_go(self, now: int) -> None:
        """Free what is held though nobody has it, since it could not be settled."""

        def release(tx: Transaction) -> list[str]:
            return [] if self._busy else store.release(tx, self.holder, now)

        for queue in await self.database.write(release):
            self.sent(queue)

    # -- what others have left -------------------------------------------------------------

    def _process_ended(self) -> None:
        if self._recovering is None or self._recovering.done():
            self._recovering = asyncio.ensure_future(self._recover_safely())

    async def recover_once(self) -> None:
        """Let go of what was left before anybody listened."""
        if not self._recovered:
            self._recovered = True
            try:
                await self._recover()
            except BaseException:
                self._recovered = False
                raise

    async def _recover_safely(self) -> None:
        try:
            await self._recover()
        except Exception:
            _log.exception("the messages of processes that ended could not be taken over")
            self._inspect_at = self.clock.now() + _TRY_AGAIN_MS
            self.timer.at(self._inspect_at)

    async def _recover(self) -> None:
        """Let go of what is held by the dead."""
        self._inspect_at = None
        now = self.clock.now()
        suspects: dict[str, int] = {}
        others = 0
        for holder, until in store.held(self.database.view):
            if holder == self._holder:
                if not self._busy:
                    await self._let_go(now)
                continue
            if self.database.presence.alive(holder.partition(".")[0]):
                others += 1
                if isinstance(until, int) and until > now:
                    continue
                if self._suspects.get(holder) != until:
                    suspects[holder] = until
                    continue
            for queue in await self.database.write(store.release, holder, now):
                self.sent(queue)
        self._suspects = suspects
        if others and self._consumers:
            self._inspect_at = now + LEASE_MS
            self.timer.at(self._inspect_at)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
