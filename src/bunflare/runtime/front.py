"""What stands before the Worker: paths of the server's own, static assets, and a line a request.

The Worker behind it may be replaced at any time; requests under way stay with the one they began
with.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qs

from ..web import Request, Response
from .asgi import Exchange, send
from .terminal import Terminal
from .traces import shortened
from .worker import Worker
from .workers import Workers

_log = logging.getLogger("bunflare")
# What paths of the server's own begin with.
_OWN = (b"/cdn-cgi/", b"/__scheduled")


class Front:
    """What the server asks for answers."""

    def __init__(
        self,
        workers: Workers,
        terminal: Terminal | None = None,
        *,
        test_scheduled: bool = False,
    ) -> None:
        self._workers = workers.running
        self._terminal = terminal
        self._test_scheduled = test_scheduled

    async def http(self, exchange: Exchange) -> None:
        """Answer a request."""
        worker = self._workers[0]
        began = time.perf_counter()
        try:
            if worker.assets is None and not exchange.path.startswith(_OWN):
                # Most requests: no way round.
                await worker.app.http(exchange)
            else:
                await self._answer(worker, exchange)
        finally:
            if self._terminal is not None:
                took = time.perf_counter() - began
                self._terminal.request((exchange.method, exchange.path, exchange.status, took))

    async def _answer(self, worker: Worker, exchange: Exchange) -> None:
        path = exchange.path.decode("latin-1")
        response: Response | None = None
        if path.startswith("/cdn-cgi/handler/"):
            response = await self._event(worker, path, _query(exchange))
        elif path == "/__scheduled" and self._test_scheduled:
            response = await self._event(worker, "/cdn-cgi/handler/scheduled", _query(exchange))
            if response.ok:
                response = Response("Ran scheduled event")
        elif worker.assets is not None:
            request = Request.from_parts(
                exchange.method, exchange.url, exchange.headers, exchange.body
            )
            response = await worker.assets.before_worker(request, worker.answers)
        if response is None:
            await worker.app.http(exchange)
        else:
            await send(exchange, response, response.take())

    async def _event(self, worker: Worker, path: str, query: dict[str, list[str]]) -> Response:
        kind = path.removeprefix("/cdn-cgi/handler/")
        if kind == "email":
            text = "bunflare does not support email handlers: nothing was delivered"
            return Response(text, status=501)
        if kind != "scheduled":
            return Response(f"there is no handler {kind!r}", status=404)
        cron = query.get("cron", [""])[0]
        moment = query.get("time", [None])[0]
        try:
            await worker.scheduled(cron, None if moment is None else int(moment))
        except (Exception, SystemExit) as error:
            _log.error("the scheduled handler failed", exc_info=shortened(error))
            return Response("exception", status=500)
        return Response("ok")


def _query(exchange: Exchange) -> dict[str, list[Any]]:
    return dict(parse_qs(exchange.query.decode("latin-1")))
