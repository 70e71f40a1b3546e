"""Queues: `Queue`, with which one sends, pulls and looks after messages.

Follows https://developers.cloudflare.com/queues/, with the limits and the messages of the platform.
It departs in two points: what is sent is on disk when the call returns, and a queue's messages
wait for as long as nobody consumes them (the platform's retention applies: four days). Pulling,
which the platform offers over HTTP, is a method here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ..clock import Clock
from ..errors import DatabaseError, QueueTypeError, StateError
from ..store import queue_care, queue_delivery
from ..store import queues as store
from ..store.gate import restrained
from ..store.operation import LATER
from ..store.pending import begins
from ..store.session import Session
from ..store.transaction import Transaction
from .queue_answers import QueueSendResponse, metrics_of
from .queue_arguments import (
    LIMITS,
    MessageSendRequest,
    QueueContentType,
    QueueLimits,
    body_of,
    check_name,
    check_settings,
    check_size,
    check_sizes,
    delay_ms,
    encode,
    lease_of,
    parts_of_lease,
    paused,
    request_of,
    retry_of,
    several_leases,
    whole,
)
from .queue_batch import QueueMetrics, when
from .queue_ids import new_id

if TYPE_CHECKING:
    from ..store.alone import Alone
    from .queue_broker import Broker

_PURGE = 1000
_PULL_SIZE = 5
_VISIBILITY_MS = 30_000


@dataclass(frozen=True, slots=True)
class PulledMessage:
    """A message that was pulled. ``lease_id`` is what `Queue.ack` wants to know."""

    id: str
    #: When it was sent (UTC).
    timestamp: datetime
    #: As it was sent; what cannot be read any more is None, and ``corrupt`` says why.
    body: Any
    content_type: str
    #: How often it was delivered, this time included.
    attempts: int
    lease_id: str
    corrupt: str | None = None


@dataclass(frozen=True, slots=True)
class QueueAckResult:
    """What `Queue.ack` did. ``warnings`` are by lease ids that it could not use."""

    ack_count: int
    retry_count: int
    warnings: dict[str, str]


@dataclass(frozen=True, slots=True)
class PeekedMessage:
    """A message that was only looked at.

    A time that another program has spoilt counts as now, as it does when the message is delivered;
    a body that cannot be read is None. ``corrupt`` says so.
    """

    id: str
    timestamp: datetime
    body: Any
    content_type: str
    #: How often it was delivered until now.
    attempts: int
    #: From when it may be delivered.
    visible_at: datetime
    #: "ready", "delayed", "in flight" (being delivered or leased), or "expired": too old to be
    #: delivered, and about to leave the disk.
    state: str
    #: The queue it came from, in a dead-letter queue.
    origin: str | None
    corrupt: str | None = None


class Queue:
    """A queue. Made by `State.queue`."""

    __slots__ = (
        "_broker",
        "_clock",
        "_delay",
        "_known",
        "_limits",
        "_metrics_query",
        "_most",
        "_queue",
        "_session",
    )

    def __init__(
        self,
        session: Session,
        queue: str,
        broker: Broker,
        clock: Clock,
        delivery_delay: float = 0,
        limits: QueueLimits = LIMITS,
    ) -> None:
        self._session = session
        self._queue = check_name(queue)
        self._broker = broker
        self._clock = clock
        self._limits = limits
        self._most = limits.message_size
        self._delay = delay_ms(delivery_delay, "delivery_delay", limits)
        self._known: store.Known = b"", 0, None
        self._metrics_query = store.METRICS, (queue,)

    @property
    def name(self) -> str:
        return self._queue

    # -- sending ---------------------------------------------------------------------------

    @begins
    def send(
        self,
        body: Any,
        content_type: QueueContentType = "json",
        delay_seconds: float | None = None,
    ) -> Coroutine[Any, Any, QueueSendResponse]:
        """Add a message of at most 128,000 bytes. It is on disk when the answer is there.

        ``content_type`` is "json" or "v8" (any value that the platform's structured clone takes),
        "text" (a str) or "bytes". It is not delivered before ``delay_seconds`` have passed, at
        most 24 hours; by default those of the queue.
        """
        if self._session.joinable:
            try:
                begun = self._broker.outbox.begin(self._weighed(body, content_type, delay_seconds))
            except Exception:
                # It is raised again where it is awaited.
                begun = None
            if begun is not None:
                return begun
        return self._send(body, content_type, delay_seconds)

    async def _send(
        self, body: Any, content_type: QueueContentType, delay_seconds: float | None
    ) -> QueueSendResponse:
        weighed = self._weighed(body, content_type, delay_seconds)
        if not self._session.immediate:
            metrics = await self._session.write(store.send_many, [weighed[0]], weighed[1])
            await self._wake(self._queue)
            return QueueSendResponse(metrics)
        broker = self._broker
        database = broker.database
        if restrained.get() and database.hindered:
            await database.admit()
        alone, asker = database.alone(), asyncio.current_task()
        sent = self._send_alone(weighed, alone, asker)
        if sent is LATER and await alone.turn(asker):
            sent = self._send_alone(weighed, alone, asker)
        return await broker.outbox.add(weighed) if sent is LATER else sent

    def _send_alone(
        self, weighed: store.Weighed, alone: Alone, asker: object | None
    ) -> QueueSendResponse | Any:
        """Send a message now, for one who writes alone; else `LATER`: others may join."""
        row, size = weighed
        mark, delay, metrics = self._known
        if metrics is None:
            if not alone.expects(asker):
                return LATER
            metrics = store.metrics(self._session.view, self._queue)
        messages, total, oldest = metrics
        grown = messages + 1, total + size, min(oldest, row[5])
        query = self._metrics_query
        after = alone.now(asker, store.SEND_ALONE, row, True, query, grown, mark)
        if after is LATER:
            return LATER
        if after is not None:
            self._known = after, delay, grown
        else:
            # Somebody else has written meanwhile. It is on disk, also where one cannot look now.
            with suppress(DatabaseError):
                grown = store.metrics(self._session.view, self._queue)
        self._broker.sent(self._queue)
        return QueueSendResponse(grown)

    def _weighed(
        self, body: Any, content_type: QueueContentType, delay_seconds: float | None
    ) -> store.Weighed:
        text, kind, size = encode(body, content_type)
        if size > self._most:
            check_size(size, self._limits)
        known, mark = self._known, self._session.mark
        if known[0] != mark():
            known = self._look()
        now = visible = self._clock.now()
        if delay_seconds is not None or self._delay:
            visible += self._put_off(delay_seconds, "Queue send failed")
        elif known[1]:
            visible += known[1] * 1000
        return (new_id(now), self._queue, text, kind, visible, now), size

    def _look(self) -> store.Known:
        # The mark comes first: what is known may be newer, which is noticed, but never older.
        mark = self._session.mark() or b""
        self._known = mark, store.delivery_delay(self._session.view, self._queue), None
        return self._known

    async def send_batch(
        self,
        messages: Iterable[MessageSendRequest | Any],
        delay_seconds: float | None = None,
    ) -> QueueSendResponse:
        """Add up to 100 messages of 256,000 bytes together in one commit: all or none.

        Each is a `MessageSendRequest`, a dict of its fields, or a body. ``delay_seconds`` is for
        those that say nothing of their own.
        """
        if isinstance(messages, str | bytes | bytearray | memoryview | Mapping) or not isinstance(
            messages, Iterable
        ):
            raise QueueTypeError(
                f"sendBatch() takes several messages, not {type(messages).__name__}"
            )
        call = "Queue sendBatch failed"
        default = self._put_off(delay_seconds, call)
        now = self._clock.now()
        rows: list[store.Sent] = []
        sizes: list[int] = []
        queue, visible = self._queue, now + default
        for message in messages:
            # Most are plain bodies.
            if message.__class__ is dict and "body" not in message:
                text, kind, size = encode(message, "json")
                delay = None
            else:
                request = request_of(message)
                text, kind, size = encode(request.body, request.content_type)
                delay = request.delay_seconds
            sizes.append(size)
            due = visible if delay is None else now + delay_ms(delay, call, self._limits)
            rows.append((new_id(now), queue, text, kind, due, now))
        size = check_sizes(sizes, self._limits)
        sent = await self._session.write(store.send_many, rows, size)
        await self._wake(self._queue)
        return QueueSendResponse(sent)

    async def metrics(self) -> QueueMetrics:
        """How much waits."""
        return self._metrics()

    def _put_off(self, seconds: float | None, call: str) -> int:
        if seconds is not None:
            return delay_ms(seconds, call, self._limits)
        if self._delay:
            return self._delay
        return 1000 * store.delivery_delay(self._session.view, self._queue)

    def _metrics(self) -> QueueMetrics:
        return metrics_of(store.metrics(self._session.view, self._queue))

    # -- pulling ---------------------------------------------------------------------------

    async def pull(
        self, batch_size: int = _PULL_SIZE, visibility_timeout_ms: int | None = None
    ) -> list[PulledMessage]:
        """Lease up to ``batch_size`` messages (100 at most), the oldest first.

        What is not acknowledged within ``visibility_timeout_ms`` (at most 12 hours; by default
        what was set of the queue, or 30 seconds) may be pulled again, up to the queue's
        ``max_retries``; then it goes to its dead-letter queue, or for good. Raises `QueueError` if
        delivery is paused.
        """
        size = whole(batch_size, "batch_size", 1, self._limits.batch_count)
        found = store.settings(self._session.view, self._queue)
        if visibility_timeout_ms is None:
            visibility_timeout_ms = found.visibility_timeout or _VISIBILITY_MS
        timeout = whole(
            visibility_timeout_ms, "visibility_timeout_ms", 1, self._limits.visibility_timeout
        )
        if self._session.immediate:
            await self._broker.recover_once()
        now = self._clock.now()
        fate = _fate(found)
        taken: list[Any] = []

        def pull(tx: Transaction) -> tuple[list[Any] | None, bool]:
            rows, moved = queue_delivery.pull(tx, self._queue, fate, size, now, now + timeout)
            taken[:] = rows or ()
            return rows, moved

        try:
            rows, moved = await self._session.write(pull)
        except asyncio.CancelledError:
            if self._session.immediate:
                self._give_back(taken)
            raise
        if rows is None:
            raise paused(self._queue)
        if moved:
            await self._wake(fate.dead_letter_queue)
        return [_pulled(row) for row in rows]

    def _give_back(self, taken: list[Any]) -> None:
        """Whoever pulls was cancelled: what was, or is just being, leased waits as before."""

        def give_back(tx: Transaction) -> None:
            # The lease was written before this, or not at all.
            queue_delivery.give_back_pulled(tx, taken, self._clock.now())
            tx.after(partial(self._broker.sent, self._queue))

        with suppress(StateError):
            self._broker.database.submit(give_back).add_done_callback(_passed_over)

    async def ack(
        self,
        acks: Sequence[str | Mapping[str, Any]] = (),
        retries: Sequence[str | tuple[str, float | None] | Mapping[str, Any]] = (),
    ) -> QueueAckResult:
        """End leases: of ``acks``, whose messages were handled, and of ``retries``.

        Both are lease ids; to one of ``retries`` a delay in seconds may belong. Each may be a dict
        of ``lease_id`` and ``delay_seconds``, as in the platform's HTTP interface. A lease counts
        for as long as nobody else has pulled the message, also after its time; each counts once.
        """
        given = [lease_of(one) for one in several_leases(acks, "acks")]
        acked = [parts_of_lease(one) for one in given]
        found = store.settings(self._session.view, self._queue)
        retried = []
        for one in several_leases(retries, "retries"):
            lease, delay = retry_of(one)
            if delay is None:
                delay = found.retry_delay or 0
            retried.append((*parts_of_lease(lease), delay_ms(delay, "retries", self._limits)))
            given.append(lease)
        fate = _fate(found)
        now = self._clock.now()
        acks_good, retries_good, moved = await self._session.write(
            queue_delivery.settle_pulled, self._queue, fate, acked, retried, now
        )
        if moved:
            await self._wake(fate.dead_letter_queue)
        if retried:
            await self._wake(self._queue)
        good = [*acks_good, *retries_good]
        return QueueAckResult(
            sum(acks_good),
            sum(retries_good),
            {
                lease: "the lease is not known, or has been used, or another has pulled the message"
                for lease, was_good in zip(given, good, strict=True)
                if not was_good
            },
        )

    # -- administration --------------------------------------------------------------------

    async def pause(self) -> None:
        """Deliver nothing more, in whatever process, until `resume`. Sending goes on."""
        await self._set(paused=1)

    async def resume(self) -> None:
        """Deliver again what waits."""
        await self._set(paused=0)
        await self._wake(self._queue)

    async def purge(self) -> int:
        """Delete all messages for good, also those that are being delivered; how many."""
        count = 0
        while True:
            gone = await self._session.write(queue_care.purge, self._queue, _PURGE)
            count += gone
            if gone < _PURGE:
                return count

    async def peek(self, limit: int = 10) -> list[PeekedMessage]:
        """Messages in the order in which they may be delivered (again), without delivering them."""
        rows = queue_care.peek(self._session.view, self._queue, whole(limit, "limit", 1, 1_000_000))
        retention = store.settings(self._session.view, self._queue).retention_ms
        now = self._clock.now()
        return [_peeked(row, now, retention) for row in rows]

    async def requeue(
        self, to: str | None = None, ids: Sequence[str] | None = None, limit: int = 1000
    ) -> dict[str, int]:
        """Send messages of this dead-letter queue back to where they came from, or ``to`` a queue.

        By default all of them, ``limit`` at most; with ``ids`` only those. Their count of
        deliveries begins anew. Returns how many went to which queue.
        """
        if to is not None:
            check_name(to)
        if ids is not None and (isinstance(ids, str) or not all(isinstance(i, str) for i in ids)):
            raise QueueTypeError("ids must be several ids of messages (str)")
        limit = whole(limit, "limit", 1, 1_000_000)
        counts = await self._session.write(
            queue_care.requeue,
            self._queue,
            to,
            None if ids is None else list(ids),
            self._clock.now(),
            limit,
        )
        for queue in counts:
            await self._wake(queue)
        return counts

    async def configure(self, **settings: Any) -> None:
        """Set what is kept of the queue, for all processes. None is the platform's default.

        ``delivery_delay`` and ``retention`` (seconds; 4 days by default, 60 s to 14 days), and for
        those who pull ``max_retries``, ``retry_delay`` (seconds), ``visibility_timeout`` (ms) and
        ``dead_letter_queue``.
        """
        check_settings(settings, self._limits)
        await self._set(**settings)
        if "retention" in settings:
            self._broker.retention_changed()

    async def _set(self, **changes: Any) -> None:
        await self._session.write(store.configure, self._queue, self._clock.now(), changes)

    async def _wake(self, queue: str | None) -> None:
        """Tell those who wait for messages of ``queue``, once they are there."""
        if queue is None:
            return
        if self._session.immediate:
            self._broker.sent(queue)
        else:
            await self._session.write(_afterwards, partial(self._broker.sent, queue))


def _afterwards(tx: Transaction, action: Callable[[], object]) -> None:
    tx.after(action)


def _passed_over(giving: asyncio.Future[None]) -> None:
    # If it cannot be written, the leases end in their time.
    if not giving.cancelled():
        giving.exception()


def _fate(found: store.Settings) -> queue_delivery.Fate:
    retries = store.MAX_RETRIES if found.max_retries is None else found.max_retries
    return queue_delivery.Fate(1 + retries, found.dead_letter_queue)


def _pulled(row: Any) -> PulledMessage:
    sent, message, stored, kind, attempts, _, lease = row
    body, corrupt = body_of(stored, kind)
    return PulledMessage(message, when(sent), body, kind, attempts, f"{message}.{lease}", corrupt)


def _peeked(row: Any, now: int, retention: int) -> PeekedMessage:
    sent, message, stored, kind, attempts, visible, holder, lease, origin, expires = row
    body, corrupt = body_of(stored, kind)
    if visible is None:
        visible, corrupt = now, corrupt or "when it is due is no time"
    if sent is None:
        sent, corrupt = now, corrupt or "when it was sent is no time"
    if holder is not None or (lease is not None and visible > now):
        state = "in flight"
    elif (sent + retention if expires is None else expires) <= now:
        state = "expired"
    else:
        state = "delayed" if visible > now else "ready"
    return PeekedMessage(
        message, when(sent), body, kind, attempts, when(visible), state, origin, corrupt
    )
