"""Events of objects, and the tasks that run them.

A task for each event would cost more than what most of them do, since most never wait. So those
that are begun in one turn of the event loop share a task until one of them waits, which then has it
to itself; the others go on in the next. Each has a context of its own all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .rpc import SCALARS, carried, copy

if TYPE_CHECKING:
    from .actor import Actor


class Event(Coroutine[Any, Any, None]):
    """One event, as a coroutine: ``start(instance)``, whose result is awaited.

    A copy of what that gives goes to ``reply``.
    """

    __slots__ = ("_coroutine", "_held", "_result", "_start", "actor", "context", "reply", "turn")

    #: The object that it is for, once that is running, and what its code sees.
    actor: Actor
    context: contextvars.Context

    def __init__(self, start: Callable[[Any], Any] | None, reply: asyncio.Future[Any]) -> None:
        self._start = start
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._held: BaseException | None = None
        self.reply = reply
        #: Where it is run, until its code has come to its end.
        self.turn: Turn | None = None

    def begin(self, instance: Any) -> Any:
        """Begin on it. Called once."""
        start, self._start = self._start, None
        assert start is not None
        return start(instance)

    def send(self, value: Any) -> Any:
        actor = self.actor
        if actor.section is not None:
            return actor.hold()
        data = actor.data
        # A step of an event begins, at whose end all that it wrote is sent at once.
        data.scheduled = True
        try:
            coroutine = self._coroutine
            if coroutine is None:
                result = self.begin(actor.instance)
                if result.__class__ is CoroutineType:
                    self._coroutine = coroutine = result
                elif isawaitable(result):
                    self._coroutine = coroutine = _awaited(result)
                if coroutine is not None:
                    awaited = coroutine.send(None)
                    data.flush()
                    return awaited
            elif self._held is None:
                awaited = coroutine.send(value)
                data.flush()
                return awaited
            else:
                error, self._held = self._held, None
                awaited = coroutine.throw(error)
                data.flush()
                return awaited
        except StopIteration as stop:
            result = stop.value
        except KeyboardInterrupt as error:
            # Whoever pressed the keys means the program.
            self._failed(error)
            raise
        except BaseException as error:
            self._failed(error)
            raise StopIteration from None
        self._succeeded(result)
        raise StopIteration

    # -- its end ---------------------------------------------------------------------------

    def _succeeded(self, result: Any) -> None:
        """Its code has come to its end; the caller hears of it when all is on disk."""
        actor = self.actor
        self.turn = None
        actor.left(self)
        error = None
        if result.__class__ not in SCALARS:
            try:
                result = copy(result)
            except Exception as refused:
                result, error = None, refused
        self._leave(result, error)

    def _failed(self, error: BaseException) -> None:
        actor = self.actor
        self.turn = None
        actor.left(self)
        self._leave(None, carried(error) if isinstance(error, Exception) else actor.fatal(error))

    def _leave(self, result: Any, error: BaseException | None) -> None:
        actor = self.actor
        broken = actor.broken
        if broken is None:
            try:
                if actor.data.confirm(self):
                    self._result = result
                    self._held = error
                    return
            except Exception as failure:
                broken = failure
        settle(self.reply, result, broken or error)

    def settle(self, error: BaseException | None) -> None:
        """All that was written before its end is on disk, or could not be written."""
        reply = self.reply
        error = error or self._held
        if reply.done():
            return
        if error is None:
            reply.set_result(self._result)
        else:
            reply.set_exception(error)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error: BaseException = kind if isinstance(kind, BaseException) else value or kind()
        if self._coroutine is None:
            self._failed(error)
            raise StopIteration
        if self.actor.section is not None and not isinstance(error, asyncio.CancelledError):
            self._held = error
            return self.actor.hold()
        try:
            return self._coroutine.throw(error)
        except StopIteration as stop:
            self._succeeded(stop.value)
        except BaseException as failure:
            self._failed(failure)
        raise StopIteration

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError("an event is run by its turn")


class Turns:
    """The events of a host's objects that have not begun."""

    __slots__ = ("_loop", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: What the next event joins.
        self.next: Turn | None = None

    def add(self, event: Event) -> None:
        """Run an event after those that were added before."""
        turn = self.next
        if turn is None:
            turn = self.next = Turn(self, self._loop)
        event.turn = turn
        turn.waiting.append(event)


class Turn(Coroutine[Any, Any, None]):
    """What a task runs: events one after the other, until one of them waits."""

    __slots__ = ("_turns", "event", "task", "waiting")

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = turns
        self.waiting: deque[Event] = deque()
        #: What is being run, or waits.
        self.event: Event | None = None
        #: Not by the loop's method: a number in each one's name is half of a task's making.
        self.task: asyncio.Task[None] | None = asyncio.Task(
            self, loop=loop, name="event", context=contextvars.Context()
        )

    def send(self, value: Any) -> Any:
        event = self.event
        try:
            return self._begin() if event is None else event.context.run(event.send, value)
        except BaseException:
            self._end()
            raise

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        event = self.event
        try:
            if event is not None:
                return event.context.run(event.throw, kind, value, trace)
            # The event loop ends before it came to any of them.
            for event in self.waiting:
                try:
                    event.context.run(event.throw, kind, value, trace)
                except StopIteration:
                    continue
            raise StopIteration
        except BaseException:
            self._end()
            raise

    def _begin(self) -> Any:
        """Run events until one waits, or there are no more."""
        task, waiting = self.task, self.waiting
        assert task is not None
        self._close()
        try:
            while waiting and not task.cancelling():
                self.event = event = waiting.popleft()
                if event.actor.broken is not None:
                    continue
                try:
                    return event.context.run(event.send, None)
                except StopIteration:
                    continue
        finally:
            # Those that have not begun are left to another.
            while waiting:
                self._turns.add(waiting.popleft())
        raise StopIteration

    def _close(self) -> None:
        """From now on, events join another."""
        if self._turns.next is self:
            self._turns.next = None

    def _end(self) -> None:
        """Let go of what it knew: it and its task would keep each other, and that."""
        self._close()
        self.event = self.task = None
        self.waiting.clear()

    def close(self) -> None:
        if self.event is not None:
            self.event.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError("a turn is run by its task")


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Tell whoever waits, unless they gave up."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
