"""Events of objects, and the tasks that run them.

A task for each event would cost more than what most of them do, since most never wait. So those
that are begun in one turn of the event loop share a task until one of them waits, which then has it
to itself; the others go on in the next. Each has a context of its own all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from ..store.pending import finished
from .rpc import SMALL, carried, copy

if TYPE_CHECKING:
    from ..store.pending import Pending
    from .actor import Actor


#: What a first step gives that was the last.
DONE: Final[Any] = object()


class Event(Coroutine[Any, Any, None]):
    """One event, as a coroutine: ``start(instance)``, whose result is awaited.

    A copy of what that gives goes to ``reply``.
    """

    __slots__ = (
        "_coroutine",
        "_held",
        "_start",
        "actor",
        "context",
        "reply",
        "task",
    )

    #: The object that it is for, once that is running, and what its code sees.
    actor: Actor
    context: contextvars.Context

    def __init__(self, start: Callable[[Any], Any] | None, reply: asyncio.Future[Any]) -> None:
        self._start = start
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._held: BaseException | None = None
        self.reply = reply
        #: What runs it, until its code has come to its end: a task of its own, or a turn's.
        self.task: asyncio.Task[None] | None = None

    def begin(self, instance: Any) -> Any:
        """Begin on it. Called once."""
        start, self._start = self._start, None
        assert start is not None
        return start(instance)

    def start(self) -> Any:
        """Its first step: what it awaits, or `DONE` where that was all."""
        actor = self.actor
        if actor.broken is not None:
            return DONE
        if actor.section is not None:
            return actor.hold()
        data = actor.data
        # A step of an event begins, at whose end all that it wrote is sent at once.
        data.scheduled = True
        try:
            result = self.begin(actor.instance)
            if result.__class__ is not CoroutineType and isawaitable(result):
                result = _awaited(result)
            if result.__class__ is CoroutineType:
                awaited = result.send(None)
                self._coroutine = result
                data.flush()
                return awaited
        except StopIteration as stop:
            result = stop.value
        except BaseException as error:
            self._raised(error)
            return DONE
        if result.__class__ in SMALL:
            self._leave(result, None)
        else:
            self._succeeded(result)
        return DONE

    def send(self, value: Any) -> Any:
        actor = self.actor
        coroutine = self._coroutine
        if coroutine is None:
            actor.turns.begin_alone(self)
            awaited = self.start()
            if awaited is DONE:
                raise StopIteration
            return awaited
        if actor.section is not None:
            return actor.hold()
        data = actor.data
        data.scheduled = True
        try:
            if self._held is None:
                awaited = coroutine.send(value)
            else:
                error, self._held = self._held, None
                awaited = coroutine.throw(error)
            data.flush()
            return awaited
        except StopIteration as stop:
            result = stop.value
        except BaseException as error:
            self._raised(error)
            raise StopIteration from None
        self._succeeded(result)
        raise StopIteration

    # -- its end ---------------------------------------------------------------------------

    def _succeeded(self, result: Any) -> None:
        """Its code has come to its end; the caller hears of it when all is on disk."""
        error = None
        if result.__class__ not in SMALL:
            try:
                result = copy(result)
            except Exception as refused:
                result, error = None, refused
        self._leave(result, error)

    def _raised(self, error: BaseException) -> None:
        self._failed(error)
        if isinstance(error, KeyboardInterrupt):
            # Whoever pressed the keys means the program.
            raise error

    def _failed(self, error: BaseException) -> None:
        actor = self.actor
        if isinstance(error, Exception):
            self._leave(None, carried(error))
        else:
            # Not to be cancelled with all that the object is running.
            self.task = None
            self._leave(None, actor.fatal(error))

    def _leave(self, result: Any, error: BaseException | None) -> None:
        actor = self.actor
        self.task = None
        actor.used = True
        actor.over(self)
        broken = actor.broken
        if broken is None:
            try:
                if actor.data.confirm((self.reply, result, error)):
                    return
            except Exception as failure:
                broken = failure
        settle(self.reply, result, broken or error)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error: BaseException = kind if isinstance(kind, BaseException) else value or kind()
        if self._coroutine is None:
            self.actor.turns.begin_alone(self)
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

    def begun_in(self) -> asyncio.Task[None] | None:
        """The task that runs it alone, if it may have begun and has not ended."""
        task = self.task
        if task is not None:
            turn = task.get_coro()
            if isinstance(turn, Turn) and turn.event is not self:
                return None
        return task

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError("an event is run by its task")


class Turns:
    """The events of a host's objects that have not begun.

    The first has a task of its own, so that one who calls alone pays for no more.
    """

    __slots__ = ("_alone", "_later", "done", "loop", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: What is awaited of what was done at once and has no result.
        self.done = finished(loop)
        #: What has a task of its own, until that begins.
        self._alone: Event | None = None
        #: What further events join, until it begins.
        self.turn: Turn | None = None
        #: What came while a turn was running, whose own events may have to go first.
        self._later: list[Event] | None = None

    def add(self, event: Event) -> None:
        """Run an event after those that were added before."""
        turn = self.turn
        if turn is not None:
            event.task = turn.task
            turn.waiting.append(event)
        elif self._later is not None:
            self._later.append(event)
        elif self._alone is None:
            self._alone = event
            # Not by the loop's method: a number in each one's name is half of a task's making.
            event.task = asyncio.Task(event, loop=self.loop, name="event", context=event.context)
        else:
            self.turn = Turn(self, event)

    def renew(self) -> Pending[None]:
        """Another one in the place of `done`."""
        self.done = finished(self.loop)
        return self.done

    def begin_alone(self, event: Event) -> None:
        """An event begins, maybe in a task of its own."""
        if self._alone is event:
            self._alone = None

    def begin(self, turn: Turn) -> None:
        """The turn runs its events now."""
        self.end(turn)
        self._later = []

    def end(self, turn: Turn) -> None:
        """The turn takes no more events."""
        if self.turn is turn:
            self.turn = self._alone = None

    def leave(self, rest: list[Event]) -> None:
        """It runs none any more: the ``rest`` (the last one first) have not begun."""
        later, self._later = self._later, None
        while rest:
            event = rest.pop()
            event.task = None
            event.actor.again(event)
        for event in later or ():
            self.add(event)


class Turn(Coroutine[Any, Any, None]):
    """What a task runs: events one after the other, until one of them waits."""

    __slots__ = ("_first", "_turns", "event", "task", "waiting")

    def __init__(self, turns: Turns, first: Event) -> None:
        self._turns = turns
        #: Whose context is the task's.
        self._first: Event | None = first
        self.waiting = [first]
        #: What is being run, or waits.
        self.event: Event | None = None
        self.task: asyncio.Task[None] | None = asyncio.Task(
            self, loop=turns.loop, name="event", context=first.context
        )
        first.task = self.task

    def send(self, value: Any) -> Any:
        event = self.event
        try:
            if event is None:
                return self._begin()
            if event is self._first:
                return event.send(value)
            return event.context.run(event.send, value)
        except BaseException:
            self._end()
            raise

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        try:
            if self.event is not None:
                return self._throw(self.event, kind, value, trace)
            # The event loop ends before it came to any of them.
            for event in self.waiting:
                try:
                    self._throw(event, kind, value, trace)
                except StopIteration:
                    continue
            raise StopIteration
        except BaseException:
            self._end()
            raise

    def _throw(self, event: Event, *error: Any) -> Any:
        if event is self._first:
            return event.throw(*error)
        return event.context.run(event.throw, *error)

    def _begin(self) -> Any:
        """Run events until one waits, or there are no more."""
        turns, task, waiting = self._turns, self.task, self.waiting
        assert task is not None
        turns.begin(self)
        waiting.reverse()
        try:
            self.event = event = waiting.pop()
            awaited = event.start()
            while awaited is DONE:
                if not waiting or task.cancelling():
                    raise StopIteration
                self.event = event = waiting.pop()
                awaited = event.context.run(event.start)
            return awaited
        finally:
            turns.leave(waiting)

    def _end(self) -> None:
        """Let go of what it knew: it and its task would keep each other, and that."""
        self._turns.end(self)
        self.event = self._first = self.task = None
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
