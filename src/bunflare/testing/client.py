"""``worker``: events for the Worker under test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ..bindings.queue_batch import Message, MessageBatch, outcome
from ..config import ServiceConfig
from ..runtime.services import Service
from ..runtime.worker import Find, Worker
from ..web import Request, Response

_ORIGIN = "http://localhost/"


@dataclass(frozen=True, slots=True)
class QueueResult:
    """What a batch has come to."""

    #: Ids of messages.
    acked: list[str]
    #: Ids with the seconds of their delay.
    retried: dict[str, float]


class WorkerClient:
    """Sends events to a Worker. What its handlers raise is raised here."""

    def __init__(self, worker: Worker, find: Find) -> None:
        self._worker = worker
        self._find = find

    async def fetch(self, resource: str | Request, **options: Any) -> Response:
        """Send a request and give the response.

        ``resource`` is a path, a URL or a `Request`; ``options`` are what `Request` takes:
        ``method``, ``headers``, ``body`` and so on. Static assets answer as over HTTP. Redirects
        are not followed.
        """
        source = resource if isinstance(resource, Request) else urljoin(_ORIGIN, resource)
        request = Request(source, **options)
        assets = self._worker.assets
        if assets is not None:
            response = await assets.before_worker(request, self._worker.answers)
            if response is not None:
                return response
        return await self._worker.fetch(request)

    async def scheduled(self, *, cron: str = "", time: int | None = None) -> None:
        """Run the ``scheduled`` handler. ``time`` is epoch milliseconds, by default the clock's."""
        await self._worker.scheduled(cron, time)

    async def queue(self, name: str, messages: Iterable[Message | Any]) -> QueueResult:
        """Run the ``queue`` handler with a batch and say what became of its messages.

        ``messages`` are bodies, or `bunflare.Message`. Nothing is stored.
        """
        now = self._worker.clock.now()
        batch = MessageBatch(
            name,
            [
                one if isinstance(one, Message) else Message(f"{at:032x}", now, one)
                for at, one in enumerate(messages, 1)
            ],
        )
        await self._worker.queue(batch)
        settled = outcome(batch.messages, False, 0)
        return QueueResult(settled.acked, {one[0]: one[2] / 1000 for one in settled.retried})

    def entrypoint(self, name: str | None = None, **props: Any) -> Service:
        """An entrypoint as a service binding shows it: ``await worker.entrypoint("Admin").add(1)``.

        ``props`` are what its ``ctx.props`` has.
        """
        return Service(ServiceConfig("", self._worker.name, name, props=props), self._find)

    async def wait(self) -> None:
        """Wait for the tasks that were given to ``wait_until``."""
        while tasks := self._worker.background.tasks():
            await asyncio.wait(tasks)
