"""All queues of a state at once, for whoever looks after them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..store import queue_care, queue_delivery, queues
from .queue_answers import metrics_of
from .queue_arguments import check_name
from .queue_batch import when

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from .queue_batch import QueueMetrics

_PURGE = 1000


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What is known of a queue. What is None was not set."""

    name: str
    #: When it was created or set, if that ever happened: a queue needs neither.
    created: datetime | None
    metrics: QueueMetrics
    #: How many messages handlers have just now.
    in_flight: int
    paused: bool
    #: Seconds.
    delivery_delay: int | None
    retention: int
    #: Of those who pull.
    max_retries: int | None
    retry_delay: int | None
    visibility_timeout_ms: int | None
    dead_letter_queue: str | None


class QueueAdmin:
    """Lists, makes and deletes queues."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def names(self) -> list[str]:
        """Queues that were created, or that have messages."""
        return queues.queues(self._database.view)

    def info(self, name: str) -> QueueInfo:
        """All about one queue; one that nobody knows is empty."""
        view = self._database.view
        found = queues.settings(view, name)
        return QueueInfo(
            name,
            None if found.created_at is None else when(found.created_at),
            metrics_of(queues.metrics(view, name)),
            queue_delivery.in_flight(view, name),
            found.paused,
            found.delivery_delay,
            found.retention_ms // 1000,
            found.max_retries,
            found.retry_delay,
            found.visibility_timeout,
            found.dead_letter_queue,
        )

    async def create(self, name: str) -> None:
        """Have a queue known by its name; nothing needs that."""
        await self._database.write(queues.create, check_name(name), self._clock.now())

    async def delete(self, name: str) -> int:
        """Delete a queue with its settings and messages; how many these were."""
        count = 0
        while gone := await self._database.write(queue_care.purge, check_name(name), _PURGE):
            count += gone
        await self._database.write(queues.delete, name)
        return count
