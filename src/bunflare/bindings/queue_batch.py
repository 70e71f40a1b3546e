"""What a consumer's handler gets, and what becomes of it: the first call on a message wins.

https://developers.cloudflare.com/queues/configuration/batching-retries/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..store.queue_delivery import Settled
from .queue_arguments import delay_ms

_log = logging.getLogger("bunflare")


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """How much waits in a queue; what is being delivered counts until it is acknowledged."""

    backlog_count: int = 0
    #: Of the bodies.
    backlog_bytes: int = 0
    #: When the oldest message was sent (UTC); None if there is no message.
    oldest_message_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class MessageBatchMetadata:
    """What a batch tells of its queue."""

    metrics: QueueMetrics = field(default_factory=QueueMetrics)


class Message:
    """A message that is being delivered.

    ``timestamp`` is when it was sent (UTC), ``attempts`` how often it has been delivered, this time
    included.
    """

    __slots__ = ("_decision", "_sent", "_timestamp", "attempts", "body", "id")

    def __init__(
        self, id: str, timestamp: datetime | int, body: Any = None, attempts: int = 1
    ) -> None:
        self.id = id
        self._sent = timestamp
        self._timestamp = timestamp if isinstance(timestamp, datetime) else None
        self.body = body
        self.attempts = attempts
        #: Who decided (ack, retry, ackAll, retryAll), and the milliseconds of a delay.
        self._decision: tuple[str, int | None] | None = None

    @property
    def timestamp(self) -> datetime:
        if self._timestamp is None:
            assert isinstance(self._sent, int)
            self._timestamp = when(self._sent)
        return self._timestamp

    def ack(self) -> None:
        """It was handled and is not delivered again, whatever the handler does afterwards."""
        self._decide("ack", None)

    def retry(self, delay_seconds: float | None = None) -> None:
        """Have it delivered again: after ``delay_seconds`` (24 hours at most), or the consumer's
        ``retry_delay``."""
        self._decide("retry", _delay(delay_seconds, "retry()"))

    def _decide(self, call: str, delay: int | None) -> None:
        if self._decision is None:
            self._decision = call, delay
            return
        before = self._decision[0]
        if before.startswith(call):
            return
        _log.warning(
            "Received a call to %s() on message %s after %s() was already called. Calling %s() on "
            "a message after calling %s() has no effect.",
            *(call, self.id, before, call, before),
        )

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.body!r} attempts={self.attempts}>"


class MessageBatch:
    """The messages that a handler gets at once, the oldest first."""

    __slots__ = ("_decided", "_metadata", "messages", "queue")

    def __init__(
        self,
        queue: str,
        messages: Sequence[Message],
        metadata: MessageBatchMetadata | Callable[[], MessageBatchMetadata] | None = None,
    ) -> None:
        self.queue = queue
        self.messages = list(messages)
        self._metadata = metadata or MessageBatchMetadata()
        self._decided: str | None = None

    @property
    def metadata(self) -> MessageBatchMetadata:
        """The queue's metrics, as of the first time this is asked."""
        if not isinstance(self._metadata, MessageBatchMetadata):
            self._metadata = self._metadata()
        return self._metadata

    def ack_all(self) -> None:
        """`Message.ack` for all that nothing was decided about yet."""
        self._decide("ackAll", None)

    def retry_all(self, delay_seconds: float | None = None) -> None:
        """`Message.retry` for all that nothing was decided about yet."""
        self._decide("retryAll", _delay(delay_seconds, "retryAll()"))

    def _decide(self, call: str, delay: int | None) -> None:
        if self._decided is None:
            self._decided = call
            for message in self.messages:
                if message._decision is None:
                    message._decision = call, delay
        elif self._decided != call:
            before = self._decided
            _log.warning(
                "Received a call to %s() after %s() was already called. Calling %s() after "
                "calling %s() has no effect.",
                *(call, before, call, before),
            )

    def __repr__(self) -> str:
        return f"<MessageBatch {self.queue} of {len(self.messages)}>"


def outcome(messages: Sequence[Message], failed: bool, retry_delay: int) -> Settled:
    """What a batch has come to: what nothing was decided about depends on the handler's end."""
    acked: list[str] = []
    retried: list[tuple[str, int, int]] = []
    for message in messages:
        call, delay = message._decision or (("retry" if failed else "ack"), None)
        if call.startswith("ack"):
            acked.append(message.id)
        else:
            retried.append((message.id, message.attempts, retry_delay if delay is None else delay))
    return Settled(acked, retried)


def _delay(seconds: float | None, call: str) -> int | None:
    return None if seconds is None else delay_ms(seconds, call)


def when(milliseconds: float) -> datetime:
    """A time of the store; the last one there is, or the first, for one beyond all calendars."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return (datetime.max if milliseconds > 0 else datetime.min).replace(tzinfo=UTC)
