"""Queues as a Worker sees them: producers in ``env``, and the batches that its handler gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..bindings.queue_answers import QueueSendResponse
from ..bindings.queue_arguments import MessageSendRequest
from ..bindings.queue_batch import Message, MessageBatch, QueueMetrics
from ..errors import QueueTypeError, WorkerError
from ..web.objects import JsDict
from .facade import BindingFacade, Edge, snake

if TYPE_CHECKING:
    from ..bindings.queue_consumer import Consumer
    from ..config import Config
    from ..state import State
    from .worker import Worker

QUEUE = Edge(
    checked=True,
    options_at={"send": 1, "send_batch": 1, "pull": 0, "ack": 0, "peek": 0, "requeue": 0},
    undefined={QueueMetrics: frozenset({"oldest_message_timestamp"})},
)

_BATCH = Edge(
    options_at={"retry": 0, "retry_all": 0},
    undefined={QueueMetrics: frozenset({"oldest_message_timestamp"})},
    shown=(Message,),
)


class QueueFacade(BindingFacade):
    """``env.QUEUE``."""

    def send_batch(
        self, messages: Iterable[Any], options: Mapping[str, Any] | None = None, **given: Any
    ) -> Any:
        """Messages are objects with a ``body``, as on the platform."""
        queue: Any = self._binding
        named = {snake(name): value for name, value in {**(options or {}), **given}.items()}
        if isinstance(messages, Iterable) and not isinstance(messages, str | bytes | Mapping):
            messages = [_request(one) for one in messages]
        return self._awaited(queue.send_batch(messages, **named))

    sendBatch = send_batch

    def _result(self, value: Any) -> Any:
        if isinstance(value, QueueSendResponse):
            return JsDict({"metadata": super()._result(value.metadata)})
        return super()._result(value)


def _request(message: Any) -> MessageSendRequest:
    if isinstance(message, MessageSendRequest):
        return message
    if not isinstance(message, Mapping):
        raise QueueTypeError(
            "Incorrect type for array element 'messages': the provided value is not of type "
            "'MessageSendRequest'."
        )
    if "body" not in message:
        raise QueueTypeError("Message body cannot be undefined")
    named = {snake(name): value for name, value in message.items()}
    return MessageSendRequest(
        named["body"], named.get("content_type") or "json", named.get("delay_seconds")
    )


class BatchFacade(BindingFacade):
    """What a Worker's ``queue`` handler gets."""

    def __init__(self, batch: MessageBatch) -> None:
        super().__init__(batch, _BATCH)
        self.messages = [BindingFacade(message, _BATCH) for message in batch.messages]


def make_consumers(config: Config, state: State, worker: Worker) -> list[Consumer]:
    """What calls the Worker with the messages of its queues, once it is started."""
    consumers: list[Consumer] = []
    for one in config.queues.consumers:
        if one.type == "http_pull":
            continue
        if not hasattr(worker.loaded.entrypoint(), "queue"):
            raise WorkerError(
                f"{config.main} consumes the queue {one.queue!r}, but has no queue handler: "
                "Handler does not export a queue() function"
            )
        consumers.append(
            state.consume(
                one.queue,
                worker.queue,
                max_batch_size=one.max_batch_size,
                max_batch_timeout=one.max_batch_timeout,
                max_retries=one.max_retries,
                dead_letter_queue=one.dead_letter_queue,
                max_concurrency=one.max_concurrency,
                retry_delay=one.retry_delay,
            )
        )
    return consumers


async def configure_pulls(config: Config, state: State) -> None:
    """Let queues that are pulled from know what the configuration says of that."""
    for one in config.queues.consumers:
        if one.type == "http_pull":
            await state.queue(one.queue).configure(
                max_retries=one.max_retries,
                dead_letter_queue=one.dead_letter_queue,
                visibility_timeout=one.visibility_timeout_ms,
                retry_delay=round(one.retry_delay),
            )
