"""One running Durable Object: its instance, its events one at a time where it matters, its end.

Every event (a call, a request, an alarm, a message) passes through `Event`, step by step, which is
the input gate: while a critical section (`block_concurrency_while`, a transaction, the
construction) is open, no step of another event runs, be it its first or a later one. Its end is the
output gate: the caller hears of the result when all that the object has written until then is on
disk.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DurableObjectAbort, DurableObjectReset
from ..store.gate import output_gate, restrained
from .object_events import Event, settle
from .section import Section
from .socket_events import entrance

if TYPE_CHECKING:
    from .object_data import ObjectData
    from .object_host import ObjectHost
    from .wire import Held

T = TypeVar("T")

_log = logging.getLogger("bunflare")

#: How long a critical section may take, in milliseconds.
LONGEST_SECTION = 30_000

_TOO_LONG = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call was "
    "canceled and the Durable Object was reset."
)
_ABORTED = "Application called abort() to reset Durable Object."

_section: contextvars.ContextVar[Section | None] = contextvars.ContextVar(
    "bunflare_critical_section", default=None
)


class Actor:
    """One live object."""

    __slots__ = (
        "_blocked",
        "_context",
        "_held",
        "_loop",
        "_queue",
        "_running",
        "background",
        "broken",
        "clock",
        "data",
        "digits",
        "has_alarm",
        "held_words",
        "host",
        "instance",
        "outdated",
        "section",
        "seen",
        "sockets",
        "turns",
        "used",
    )

    def __init__(self, host: ObjectHost, digits: str) -> None:
        #: Where it runs; None after its end.
        self.host: ObjectHost | None = host
        self.digits = digits
        self.clock = host.clock
        self.has_alarm = host.has_alarm
        self._loop = asyncio.get_running_loop()
        self.turns = host.turns()
        self.data: ObjectData
        self.instance: Any = None
        #: Why this object takes no more events.
        self.broken: BaseException | None = None
        self.section: Section | None = None
        # None while there is nothing in them: there may be very many objects.
        self._blocked: list[Section] | None = None
        self._held: list[asyncio.Future[None]] | None = None
        self._queue: list[Event] | None = None
        # Mostly one at a time.
        self._running: Event | set[Event] | None = None
        self.background: set[asyncio.Future[Any]] | None = None
        #: What was said on WebSockets last, until it may leave.
        self.held_words: Held | None = None
        #: Whether anything has happened since this was last set to False.
        self.used = True
        #: When that was, as far as the host has looked.
        self.seen = 0
        #: Whether there is a newer version of its class.
        self.outdated = False
        #: Open WebSockets that its code reads by listeners: they keep it in memory.
        self.sockets: set[Any] | None = None
        self._context = contextvars.copy_context()
        self._context.run(restrained.set, True)
        self._context.run(output_gate.set, self.gate)
        self._context.run(_section.set, None)
        self._context.run(entrance.set, self)

    def construct(self, make: Callable[[], object]) -> None:
        """Make the instance. Raises what its constructor raises."""
        self.instance = self._context.copy().run(make)

    # -- events ----------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        """Run an event, after those that wait already."""
        event.actor = self
        if self.section is not None or self._queue:
            if self._queue is None:
                self._queue = []
            self._queue.append(event)
            return
        running = self._running
        if running is None:
            self._running = event
        elif isinstance(running, set):
            running.add(event)
        else:
            self._running = {running, event}
        event.context = self._context.copy()
        turn = self.turns.turn
        if turn is None:
            self.turns.add(event)
        else:
            event.task = turn.task
            turn.waiting.append(event)

    def again(self, event: Event) -> None:
        """Deliver an event that has not begun, since one before it has to wait."""
        self.over(event)
        if self.broken is None:
            self.deliver(event)

    def over(self, event: Event) -> None:
        """The event runs no more."""
        running = self._running
        if running is event:
            self._running = None
        elif isinstance(running, set):
            running.discard(event)

    @property
    def running(self) -> Collection[Event]:
        """The events that have been delivered and are not over."""
        running = self._running
        if running is None:
            return ()
        return tuple(running) if isinstance(running, set) else (running,)

    def enter(self, start: Callable[[Any], Any]) -> None:
        """Run ``start(instance)`` as an event that nobody waits for."""
        if self.broken is None:
            reply = self._loop.create_future()
            reply.add_done_callback(_seen)
            self.deliver(Event(start, reply))

    def hold(self) -> asyncio.Future[None]:
        """What a step awaits while a critical section is open."""
        future = self._loop.create_future()
        if self._held is None:
            self._held = []
        self._held.append(future)
        # As a future's own __await__ does for the task.
        future._asyncio_future_blocking = True
        return future

    def fatal(self, error: BaseException) -> BaseException:
        """Reset the object for what no code survives. What its callers hear."""
        if isinstance(error, asyncio.CancelledError):
            return self.broken or DurableObjectReset("The call was cancelled.")
        if isinstance(error, DurableObjectAbort):
            self.reset(DurableObjectReset(str(error)))
        else:
            self.reset(
                DurableObjectReset(
                    f"The Durable Object was reset: its code raised {type(error).__name__}"
                    f"{f' ({error})' if str(error) else ''}."
                )
            )
        assert self.broken is not None
        return self.broken

    # -- gates -----------------------------------------------------------------------------

    def gate(self) -> Awaitable[object] | None:
        """What has to be awaited before anything leaves the object."""
        return self.data.confirmed()

    def block(
        self, run: Callable[[], Awaitable[T]], *, resets: bool = True, limited: bool = True
    ) -> asyncio.Future[T]:
        """Run a critical section as soon as no other is open, or inside of the caller's own."""
        future: asyncio.Future[Any] = self._loop.create_future()
        section = Section(run, _section.get(), future, resets, limited)
        if not self._open_if_free(section):
            self._blocked = [*(self._blocked or ()), section]
        return future

    def _open_if_free(self, section: Section) -> bool:
        """Open a section if the one that is open is the one that it belongs into."""
        while section.parent is not None and section.parent.over:
            section.parent = section.parent.parent
        if self.section is not section.parent:
            return False
        self._open(section)
        return True

    def _open(self, section: Section) -> None:
        self.section = section
        context = self._context.copy()
        context.run(_section.set, section)
        section.task = self._loop.create_task(self._run(section), context=context)

    async def _run(self, section: Section) -> None:
        timer = None
        late = False

        def stop() -> None:
            nonlocal late
            late = True
            # Its code may go on though it is cancelled; nothing is to wait for that.
            self.reset(DurableObjectReset(_TOO_LONG))

        if section.limited:
            timer = self.clock.call_at(self.clock.now() + LONGEST_SECTION, stop)
        result, error = None, None
        try:
            result = await section.run()
        except BaseException as failure:
            error = failure
        if timer is not None:
            timer.cancel()
        if late:
            error = self.broken
        elif error is not None and not isinstance(error, Exception):
            error = self.fatal(error)
        if error is not None and section.resets:
            self.reset(error)
        section.over = True
        self._close(section)
        settle(section.future, result, error)
        if error is not None:
            # Where nobody awaits it, the reset has said it.
            section.future.exception()

    def _close(self, section: Section) -> None:
        if self.broken is not None:
            return
        if self.section is not section:
            # One that it has opened, and not awaited, is still open.
            return
        self.section = section.parent
        while self.section is not None and self.section.over:
            self.section = self.section.parent
        for blocked in self._blocked or ():
            if self._open_if_free(blocked):
                self._blocked = [one for one in self._blocked or () if one is not blocked]
                return
        if self.section is not None:
            return
        held, self._held = self._held, None
        for future in held or ():
            if not future.done():
                future.set_result(None)
        queue, self._queue = self._queue, None
        for event in queue or ():
            self.deliver(event)

    # -- the end ---------------------------------------------------------------------------

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Keep ``work`` going after the event's end."""
        task = asyncio.ensure_future(work)
        if self.background is None:
            self.background = set()
        self.background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Future[Any]) -> None:
        if self.background is not None:
            self.background.discard(task)
        self.used = True
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task given to wait_until failed", exc_info=error)

    def abort(self, reason: str | None, retry_alarm: bool) -> None:
        """Reset the object, from its own code: nothing of that runs any more."""
        message = _ABORTED if reason is None else reason
        error = DurableObjectReset(message)
        error.retry_alarm = retry_alarm
        self.reset(error)
        raise DurableObjectAbort(message)

    def reset(self, error: BaseException) -> None:
        """End the instance. All that is under way fails; what was not sent to disk is dropped."""
        if self.broken is not None:
            return
        self.broken = error
        running, self._running = self.running, None
        queue, self._queue = self._queue, None
        current = asyncio.current_task()
        for event in (*running, *(queue or ())):
            settle(event.reply, None, error)
            # Of those that share one, the others will not begin.
            task = event.begun_in()
            if task is not None and task is not current:
                task.cancel()
        blocked, self._blocked = self._blocked, None
        section = self.section
        while section is not None:
            if section.task is not None and section.task is not current:
                section.task.cancel()
            section = section.parent
        for section in blocked or ():
            settle(section.future, None, error)
            section.future.exception()
        for future in self._held or ():
            future.cancel()
        self.section = None
        for task in list(self.background or ()):
            task.cancel()
        host = self.host
        self.leave()
        if host is not None:
            host.gone(self)

    def leave(self) -> None:
        """End the instance of an idle object."""
        self.data.close()
        # What refers to each other in circles would stay until the collector comes.
        self.instance = None
        self.host = None
        self._context = contextvars.Context()

    def under_way(self) -> list[asyncio.Future[Any]]:
        """What has to be awaited before the object is idle; more may follow."""
        tasks = {event.task for event in self.running}
        found: list[asyncio.Future[Any]] = [task for task in tasks if task is not None]
        found += [section.task for section in (self.section,) if section and section.task]
        written = self.data.confirmed()
        return [*found, *(self.background or ()), *([] if written is None else [written])]

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (
            self._running
            or self._queue
            or self.section is not None
            or self.background
            or self.sockets
            or not self.data.clean
        )


def _seen(future: asyncio.Future[Any]) -> None:
    """Whoever could be told of its failure has logged it."""
    if not future.cancelled():
        future.exception()
