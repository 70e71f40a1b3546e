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
from .asgi import STATUS, Receive, Scope, Send, _body, _headers, _stream, _url
from .traces import shortened
from .worker import Worker
from .workers import Workers

_log = logging.getLogger("bunflare")
_TOLD = {int(status): f"{int(status)} {status.phrase}" for status in HTTPStatus}
# What paths of the server's own begin with.
_OWN = ("/cdn-cgi/", "/__scheduled")
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
    """The ASGI application of the development server."""

    def __init__(
        self, workers: Workers, *, test_scheduled: bool = False, log: RequestLog | None = None
    ) -> None:
        self._workers = workers.running
        self._test_scheduled = test_scheduled
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._workers[0].app(scope, receive, send)
            return
        worker = self._workers[0]
        began = time.perf_counter()
        try:
            if worker.assets is None and not scope["path"].startswith(_OWN):
                # Most requests: no way round.
                await worker.app.http(scope, receive, send)
            else:
                await self._answer(worker, scope, receive, send)
        finally:
            if self._log is not None:
                took = time.perf_counter() - began
                self._log.add((scope["method"], scope["raw_path"], scope.get(STATUS, 0), took))

    async def _answer(self, worker: Worker, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        response: Response | None = None
        if path.startswith("/cdn-cgi/handler/"):
            response = await self._event(worker, path, _query(scope))
        elif path == "/__scheduled" and self._test_scheduled:
            response = await self._event(worker, "/cdn-cgi/handler/scheduled", _query(scope))
            if response.ok:
                response = Response("Ran scheduled event")
        elif worker.assets is not None:
            request = Request.from_parts(
                scope["method"], lambda: _url(scope), scope["headers"], _body(scope, receive)
            )
            response = await worker.assets.before_worker(request, worker.answers)
        if response is None:
            await worker.app(scope, receive, send)
            return
        scope[STATUS] = response.status
        await respond(response, receive, send, head=scope["method"] == "HEAD")

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


def _query(scope: Scope) -> dict[str, list[Any]]:
    return dict(parse_qs(scope["query_string"].decode("latin-1")))


async def respond(response: Response, receive: Receive, send: Send, *, head: bool = False) -> None:
    """Send a response."""
    body = response.take()
    if not isinstance(body, bytes):
        await _stream(response, body, receive, send)
        return
    start = {
        "type": "http.response.start",
        "status": response.status,
        "headers": _headers(response, len(body)),
    }
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else body})
