"""Alarms: at least once, one at a time for each object, and never lost.

The row of an alarm goes only after its handler has succeeded, together with what that wrote last.
How often it has failed and when it is due again are kept in the row.
https://developers.cloudflare.com/durable-objects/api/alarms/
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectError
from ..store import objects as store
from ..timer import Chore
from .object_events import Event
from .object_ids import DurableObjectId
from .rpc import relaxed

if TYPE_CHECKING:
    from ..timer import Timer
    from .actor import Actor
    from .object_host import ObjectHost

_log = logging.getLogger("bunflare")

#: How often a failed alarm is tried again.
MAX_RETRIES = 6
#: Milliseconds before the first of these; each further time doubles it.
FIRST_RETRY_MS = 2000
#: How long a handler may take, in milliseconds.
LONGEST_MS = 15 * 60 * 1000
# Handlers that fail together should not come back together.
_JITTER = 0.1
_MOST_AT_ONCE = 256
# When an alarm that failed could not even be put off (the disk is full).
_LOOK_AGAIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class AlarmInvocationInfo:
    """What an alarm's handler is told."""

    #: How often it has failed before.
    retry_count: int
    is_retry: bool
    #: When it was set for, in epoch milliseconds.
    scheduled_time: int

    # The platform's own spellings, for Workers.
    @property
    def retryCount(self) -> int:
        return self.retry_count

    @property
    def isRetry(self) -> bool:
        return self.is_retry

    @property
    def scheduledTime(self) -> int:
        return self.scheduled_time


class AlarmClock:
    """Fires the alarms of a namespace, in the process that owns it."""

    def __init__(self, host: ObjectHost, timer: Timer) -> None:
        self._host = host
        self._timer = timer
        self._firing: set[str] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self._chore = Chore(f"the alarms of {host.namespace}", self._due, self._act)

    def start(self) -> None:
        """From now on, fire what is due."""
        self._timer.add(self._chore)

    def close(self) -> None:
        self._timer.remove(self._chore)

    def set(self, when: int) -> None:
        """An alarm was set, and is on disk."""
        self._timer.at(when)

    def _rows(self, more: int) -> list[Any]:
        rows = store.due(self._host.database.view, self._host.namespace, len(self._firing) + more)
        return [row for row in rows if row[0] not in self._firing]

    def _due(self) -> float | None:
        if not self._host.owner or len(self._firing) >= _MOST_AT_ONCE:
            return None
        rows = self._rows(1)
        return rows[0][3] if rows else None

    async def _act(self, now: int) -> list[asyncio.Future[Any]]:
        rows = self._rows(_MOST_AT_ONCE - len(self._firing))
        return [self.fire(digits, time) for digits, time, _, when in rows if when <= now]

    def fire(self, id: str, time: int | None = None) -> asyncio.Future[Any]:
        """Have the handler of the object's alarm called now.

        If ``time`` is given, only while the alarm is still the one that was set for it.
        """
        self._firing.add(id)
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        reply.add_done_callback(lambda reply: self._fired(id, reply))
        ringing = _Ringing(self._host, id, time)
        self._host.run(DurableObjectId(id), Event(ringing.begin, reply))
        return reply

    def _fired(self, id: str, reply: asyncio.Future[Any]) -> None:
        if not reply.cancelled() and (error := reply.exception()) is not None:
            # The object failed around its handler: its constructor, a reset, its storage.
            task = asyncio.ensure_future(self._failed(id, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._done(id)

    def _done(self, id: str) -> None:
        self._firing.discard(id)
        self._timer.look()

    async def _failed(self, id: str, error: BaseException) -> None:
        host = self._host
        try:
            row = store.alarm(host.database.view, host.namespace, id)
            if row is not None and not getattr(error, "retry_alarm", True):
                await host.database.write(store.set_alarm, host.namespace, id, None)
            elif row is not None:
                _log.error("the alarm of %s %s failed", host.namespace, id, exc_info=error)
                await host.database.write(
                    store.retry_alarm, host.namespace, id, row[0], *next_try(host, row[1])
                )
        except Exception:
            _log.exception("the alarm of %s %s could not be put off", host.namespace, id)
            # Its row says that it is due, which would be at once, again and again.
            host.clock.call_at(host.clock.now() + _LOOK_AGAIN_MS, lambda: self._done(id))
        else:
            self._done(id)


class _Ringing:
    """One call of an alarm's handler."""

    def __init__(self, host: ObjectHost, id: str, time: int | None) -> None:
        self._host = host
        self._id = id
        self._time = time

    async def begin(self, instance: Any) -> None:
        host = self._host
        actor = host.actors[self._id]
        stored = actor.data.stored_alarm()
        if stored is None or self._time not in (None, stored[0]):
            return  # it was deleted, or set anew, in the meantime
        time, retries = stored
        handler = getattr(instance, "alarm", None)
        if handler is None:
            _log.error("%s has an alarm and no alarm() handler", host.namespace)
            actor.data.set_alarm(None)
            return
        actor.data.ringing = True
        try:
            info = AlarmInvocationInfo(retries, retries > 0, time)
            result = relaxed(handler, info)
            if isawaitable(result):
                await self._limited(result)
        except Exception:
            _log.exception("the alarm() handler of %s %s failed", host.namespace, self._id)
            if actor.broken is not None:
                raise
            await self._put_off(actor, time, retries)
        else:
            if actor.data.ringing:
                actor.data.set_alarm(None)
        finally:
            actor.data.ringing = False

    async def _limited(self, result: Awaitable[Any]) -> None:
        """Await a handler for as long as one may take."""
        clock = self._host.clock
        task = asyncio.current_task()
        late = False

        def stop() -> None:
            nonlocal late
            late = True
            if task is not None:
                task.cancel()

        timer = clock.call_at(clock.now() + LONGEST_MS, stop)
        try:
            await result
        except asyncio.CancelledError:
            if not late:
                raise
            raise DurableObjectError("alarm() exceeded its limit of 15 minutes") from None
        finally:
            timer.cancel()

    async def _put_off(self, actor: Actor, time: int, retries: int) -> None:
        if not actor.data.ringing:
            return  # what the handler has set itself comes before a retry
        if retries >= MAX_RETRIES:
            _log.error(
                "the alarm of %s %s has failed %d times and is given up",
                self._host.namespace,
                self._id,
                retries + 1,
            )
            actor.data.set_alarm(None)
            return
        host = self._host
        await host.database.write(
            store.retry_alarm, host.namespace, self._id, time, *next_try(host, retries)
        )


def next_try(host: ObjectHost, retries: int) -> tuple[int, int]:
    """When an alarm is tried again that has failed so often before, and how often it has now."""
    wait = FIRST_RETRY_MS * 2 ** min(retries, MAX_RETRIES)
    return host.clock.now() + int(wait * (1 + _JITTER * random.random())), retries + 1
