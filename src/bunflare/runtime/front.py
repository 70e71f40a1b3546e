"""What stands before the Worker: paths of the server's own, static assets, and a line a request.

The Worker behind it may be replaced at any time; requests under way stay with the one they began
with.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from ..web import Request, Response
from .asgi import Exchange, send
from .traces import shortened
from .worker import Worker
from .workers import Workers

_log = logging.getLogger("bunflare")
_TOLD = {int(status): f"{int(status)} {status.phrase}" for status in HTTPStatus}
# What paths of the server's own begin with.
_OWN = (b"/cdn-cgi/", b"/__scheduled")
#: Method, raw path, status and seconds of a request.
_Entry = tuple[str, bytes, int, float]


class RequestLog:
    """One line a request, written by a thread: a terminal that stands still holds nothing up.

    The thread is woken for many lines at once; each waking costs the event loop its lock.
    """

    _MOST_LINES = 10_000
    _PAUSE_SECONDS = 0.02

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._batches: queue.Queue[list[_Entry] | None] = queue.Queue(100)
        self._thread = threading.Thread(target=self._write, daemon=True, name="bunflare-log")
        self._thread.start()

    def add(self, entry: _Entry) -> None:
        """Write a line soon, or drop it when too many wait."""
        if not self._entries:
            asyncio.get_running_loop().call_later(self._PAUSE_SECONDS, self._hand_over)
        if len(self._entries) < self._MOST_LINES:
            self._entries.append(entry)

    def _hand_over(self) -> None:
        entries, self._entries = self._entries, []
        if entries and not self._batches.full():
            self._batches.put_nowait(entries)

    def _write(self) -> None:
        while (entries := self._batches.get()) is not None:
            try:
                print("\n".join(map(_line, entries)), file=sys.stdout, flush=True)  # noqa: T201
            except (OSError, ValueError):
                return

    def close(self) -> None:
        """Write what is left, if that can be done soon."""
        self._hand_over()
        if not self._batches.full():
            self._batches.put_nowait(None)
        self._thread.join(1)


def _line(entry: _Entry) -> str:
    method, path, status, seconds = entry
    told = _TOLD.get(status, str(status))
    return f"{method} {path.decode('latin-1')} {told} ({seconds * 1000:.0f}ms)"


class Front:
    """What the server asks for answers."""

    def __init__(
        self, workers: Workers, *, test_scheduled: bool = False, log: RequestLog | None = None
    ) -> None:
        self._workers = workers.running
        self._test_scheduled = test_scheduled
        self._log = log

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
            if self._log is not None:
                took = time.perf_counter() - began
                self._log.add((exchange.method, exchange.path, exchange.status, took))

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
