"""A push consumer: batches of messages for a handler, one or several at once.

A batch is handed out when it is full or its first message has waited for `max_batch_timeout`. What
a handler's batch has come to and the next claim are one commit. While a full batch more is waiting
whenever one was taken, one more works beside it, up to `max_concurrency`; each ends when it finds
nothing. https://developers.cloudflare.com/queues/configuration/consumer-concurrency/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

from ..errors import DatabaseError, QueueTypeError, StateError
from ..store import queue_delivery as store
from ..store import queues
from ..store.connection import Row
from ..store.operation import LATER
from .queue_answers import metrics_of
from .queue_arguments import LIMITS, body_of, check_name, seconds_ms, whole
from .queue_batch import Message, MessageBatch, MessageBatchMetadata, outcome
from .queue_broker import LEASE_MS, Broker

_log = logging.getLogger("bunflare")

#: What a consumer calls with each batch.
Handler = Callable[[MessageBatch], Awaitable[object] | object]

# Messages that are in the hands of handlers at once, where no concurrency was set.
_IN_FLIGHT = 1000
# When the store could not be used (the disk is full, another process holds the lock for long).
_TRY_AGAIN_MS = 1000
# How long a handler that was cancelled may take to end.
_GRACE_SECONDS = 5.0


class Consumer:
    """Delivers the messages of a queue to a handler. Made by `State.consume`.

    Use it with ``async with``, or `start` it and `close` it.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        handler: Handler,
        max_batch_size: int = 10,
        max_batch_timeout: float = 5,
        max_retries: int = 3,
        dead_letter_queue: str | None = None,
        max_concurrency: int | None = None,
        retry_delay: float = 0,
    ) -> None:
        self.queue = check_name(queue)
        if not callable(handler):
            raise QueueTypeError("a consumer needs a handler: a function of a MessageBatch")
        if dead_letter_queue is not None:
            check_name(dead_letter_queue, "dead_letter_queue")
        self._broker = broker
        self._handler = handler
        self._size = whole(max_batch_size, "max_batch_size", 1, LIMITS.batch_count)
        self._patience = seconds_ms(max_batch_timeout, "max_batch_timeout", LIMITS.batch_timeout)
        retries = whole(max_retries, "max_retries", 0, LIMITS.retries)
        self._fate = store.Fate(1 + retries, dead_letter_queue)
        if max_concurrency is None:
            self._most = min(LIMITS.concurrency, max(1, _IN_FLIGHT // self._size))
        else:
            self._most = whole(max_concurrency, "max_concurrency", 1, LIMITS.concurrency)
        self._retry_delay = seconds_ms(retry_delay, "retry_delay", LIMITS.delay)
        #: When there is a batch that nobody works on (ms epoch).
        self.due: int | None = None
        self._wanted: store.Wanted | None = None
        self._context: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[int | None]] = set()
        #: What is in the hands of the tasks' handlers.
        self._held: dict[asyncio.Task[Any], list[Message]] = {}
        self._claiming: asyncio.Future[None] | None = None
        self._woken = False
        self._again = False
        self._closing = False

    # -- beginning and end -----------------------------------------------------------------

    async def start(self) -> Self:
        """Begin to deliver. Raises `StateError` if it was closed before."""
        if self._closing:
            raise StateError("a consumer that was closed does not begin anew; make another one")
        if self._wanted is None:
            await self._broker.enter()
            self._loop = asyncio.get_running_loop()
            # Handlers run in this context, and not in that of whoever sends.
            self._context = copy_context()
            self._wanted = store.Wanted(
                self.queue, self._broker.holder, self._size, self._patience, self._fate
            )
            try:
                await self._broker.add(self)
            except BaseException:
                # Nobody has it who could close it.
                self._wanted = None
                self._broker.remove(self)
                raise
            self.look()
        return self

    async def close(self, timeout: float | None = None) -> None:
        """Take nothing more, and wait for the handlers, ``timeout`` seconds at most.

        What is still running then is cancelled: its messages are delivered again, except for those
        that it has acknowledged. A handler that does not end though it is cancelled is waited for
        5 seconds more, and what it does afterwards with its messages has no effect.
        """
        self._closing = True
        self.due = None
        tasks = self._tasks - {asyncio.current_task()}
        # What ran in an event loop that was closed has ended with it.
        if tasks and self._loop is not None and not self._loop.is_closed():
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                _log.warning("%d handler(s) of %s did not end in time", len(late), self.queue)
                _, stubborn = await asyncio.wait(late, timeout=_GRACE_SECONDS)
                if stubborn:
                    await self._abandon(stubborn)
        self._broker.remove(self)

    async def _abandon(self, tasks: set[asyncio.Task[int | None]]) -> None:
        """Take their messages from handlers that do not end."""
        _log.warning(
            "%d handler(s) of %s go on though they were cancelled; their messages are taken back",
            *(len(tasks), self.queue),
        )
        wanted = self._wanted
        assert wanted is not None
        for task in tasks:
            self._tasks.discard(task)
            # Taken out before the write, so that the handler's end settles nothing a second time.
            messages = self._held.pop(task, None)
            if messages is not None:
                settled = outcome(messages, True, self._retry_delay)
                now = self._broker.clock.now()
                try:
                    if await self._broker.database.write(store.settle, wanted, settled, now):
                        self._moved()
                except DatabaseError:
                    # They come back when this process ends, or nobody makes their leases longer.
                    _log.exception("messages of %s could not be taken back", self.queue)
        self._broker.sent(self.queue)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def busy(self) -> bool:
        """Whether it holds messages."""
        return bool(self._tasks)

    # -- looking ---------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was sent: claim soon what there is."""
        if not self._woken and self._loop is not None:
            self._woken = True
            # Others of this turn may send, too.
            self._loop.call_soon(self._awake)

    def _awake(self) -> None:
        self._woken = False
        if self._free():
            self.begin()

    def _free(self) -> bool:
        """Whether a batch can begin now; if not, one looks again later."""
        if self._closing:
            return False
        if self._claiming is not None or len(self._tasks) >= self._most:
            self._again = True
            return False
        return True

    def look(self) -> None:
        """Begin a batch if there is one, or be told when there will be."""
        if not self._free():
            return
        view = self._broker.database.view
        if queues.settings(view, self.queue).paused:
            self.due = None
            return
        due = store.due(view, self.queue, self._size, self._patience)
        if due is not None and store.has_no_time(view, self.queue):
            due = self._broker.clock.now()
        self._expect(due)

    def _expect(self, due: int | None) -> None:
        """There is a batch at that time."""
        self.due = due
        if due is None or self._closing:
            return
        if due > self._broker.clock.now():
            self._broker.timer.at(due)
        elif self._claiming is None and len(self._tasks) < self._most:
            self.begin()

    def begin(self) -> asyncio.Future[None]:
        """Begin a batch; done when its messages are claimed."""
        if self._claiming is not None:
            return self._claiming
        assert self._loop is not None
        assert self._context is not None
        self.due = None
        self._again = False
        claiming = self._claiming = self._loop.create_future()
        if self._closing or len(self._tasks) >= self._most:
            self._claimed()
            return claiming
        # Each in a context of its own.
        task = self._loop.create_task(self._work(), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return claiming

    def _claimed(self) -> None:
        claiming, self._claiming = self._claiming, None
        if claiming is not None:
            claiming.set_result(None)

    # -- batches ---------------------------------------------------------------------------

    async def _work(self) -> int | None:
        """Deliver batches for as long as there are some; when there will be one again."""
        wanted = self._wanted
        assert wanted is not None
        clock = self._broker.clock
        now = clock.now()
        try:
            got: store.Claimed = await self._write(store.claim, wanted, now, now + LEASE_MS)
        finally:
            self._claimed()
        while got.rows:
            self._took(got)
            if self._cancelled:
                await self._keep(store.give_back, wanted, [row[1] for row in got.rows], clock.now())
                return None
            settled = await self._deliver(got.rows)
            if settled is None:
                return None
            now = clock.now()
            if self._stopping:
                if await self._keep(store.settle, wanted, settled, now):
                    self._moved()
                return None
            got = await self._keep(store.settle_and_claim, wanted, settled, now, now + LEASE_MS)
        if got.moved:
            self._moved()
        return got.due

    @property
    def _stopping(self) -> bool:
        return self._closing or self._cancelled

    @property
    def _cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _took(self, got: store.Claimed) -> None:
        self._broker.claimed()
        if got.moved:
            self._moved()
        self._expect(got.due)

    def _moved(self) -> None:
        if self._fate.dead_letter_queue is not None:
            self._broker.sent(self._fate.dead_letter_queue)

    def _ended(self, task: asyncio.Task[int | None]) -> None:
        self._tasks.discard(task)
        self._held.pop(task, None)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("the consumer of %s could not work", self.queue, exc_info=error)
        if self._closing:
            return
        if error is not None:
            self._expect(self._broker.clock.now() + _TRY_AGAIN_MS)
        elif self._again:
            # Something may have come while all were at work.
            self.wake()
        else:
            self._expect(task.result())

    async def _write(self, function: Callable[..., Any], *args: object) -> Any:
        """`Database.write`, to its end though the task is cancelled: it says what is held."""
        database = self._broker.database
        if database.hindered:
            await database.admit()
        done = database.write_now(asyncio.current_task(), function, *args)
        if done is not LATER:
            return done
        writing = database.submit(function, *args)
        while not writing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(writing)
        return writing.result()

    async def _keep(self, function: Callable[..., Any], *args: object) -> Any:
        """Write what a batch has come to, however long that takes: its messages are held.

        Whoever is cancelled tries once more; what is held after that, the broker lets go of.
        """
        last = False
        while True:
            try:
                return await self._write(function, *args)
            except DatabaseError:
                if last:
                    raise
                _log.exception("a batch of %s could not be settled; trying again", self.queue)
                if not self._cancelled:
                    with suppress(asyncio.CancelledError):
                        await self._sleep(_TRY_AGAIN_MS)
                last = self._cancelled

    async def _sleep(self, milliseconds: int) -> None:
        clock = self._broker.clock
        over = asyncio.Event()
        alarm = clock.call_at(clock.now() + milliseconds, over.set)
        try:
            await over.wait()
        finally:
            alarm.cancel()

    async def _deliver(self, rows: list[Row]) -> store.Settled | None:
        """Have the handler called; what becomes of the messages. None if they were taken back."""
        readable: list[Message] = []
        lost: list[Message] = []
        for sent, message, stored, kind, attempts, _ in rows:
            body, corrupt = body_of(stored, kind)
            made = Message(message, sent, body, attempts)
            if corrupt is None:
                readable.append(made)
            else:
                # The others are not to suffer for it.
                _log.error(
                    "the message %s of %s is not delivered: %s", message, self.queue, corrupt
                )
                made.retry()
                lost.append(made)
        failed = False
        if readable:
            batch = MessageBatch(self.queue, readable, self._metadata)
            task = asyncio.current_task()
            assert task is not None
            self._held[task] = [*readable, *lost]
            try:
                result = self._handler(batch)
                if isawaitable(result):
                    await result
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if self._loop is not None and self._loop.is_closed():
                    raise  # Python takes apart what the event loop has left behind
                # Whatever it is, it is not to keep the messages from coming again.
                failed = True
                if not (isinstance(error, asyncio.CancelledError) and self._stopping):
                    _log.exception("the consumer of %s failed", self.queue)
            if self._held.pop(task, None) is None:
                return None
        return outcome([*readable, *lost], failed, self._retry_delay)

    def _metadata(self) -> MessageBatchMetadata:
        row = queues.metrics(self._broker.database.view, self.queue)
        return MessageBatchMetadata(metrics_of(row))
