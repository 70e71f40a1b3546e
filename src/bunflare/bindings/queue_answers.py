"""What senders hear of a queue: its metrics as of then, made when they are asked for.

https://developers.cloudflare.com/queues/configuration/javascript-apis/
"""

from __future__ import annotations

from dataclasses import dataclass

from ..store import queues as store
from .queue_batch import QueueMetrics, when


@dataclass(frozen=True, slots=True)
class QueueSendMetadata:
    """What the answer to a send tells of the queue."""

    metrics: QueueMetrics


class QueueSendResponse:
    """The answer to `Queue.send` and `Queue.send_batch`: the queue's metrics, as of then."""

    # Its parts are made when they are asked for, which most senders never do.
    __slots__ = ("_metadata", "_row")

    _metadata: QueueSendMetadata

    def __init__(self, row: store.Metrics) -> None:
        self._row = row

    @property
    def metadata(self) -> QueueSendMetadata:
        try:
            return self._metadata
        except AttributeError:
            self._metadata = QueueSendMetadata(metrics_of(self._row))
            return self._metadata

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueSendResponse) and self._row == other._row

    def __hash__(self) -> int:
        return hash(self._row)

    def __repr__(self) -> str:
        return f"QueueSendResponse(metadata={self.metadata!r})"


def metrics_of(row: store.Metrics) -> QueueMetrics:
    messages, size, oldest = row
    return QueueMetrics(messages, size, None if oldest >= store.NEVER else when(oldest))
