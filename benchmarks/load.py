"""A small load generator, for machines without wrk: ``python load.py URL CONNECTIONS SECONDS``.

Each connection sends its next request when the last one has been answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from typing import cast
from urllib.parse import urlsplit

with contextlib.suppress(ImportError):
    import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Client(asyncio.Protocol):
    answers = 0

    def __init__(self, request: bytes, ended: asyncio.Future[None]) -> None:
        self._request = request
        self._ended = ended
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._received)
        if end < 4 or length is None or len(self._received) < end + int(length[1]):
            return
        if not self._received.startswith(b"HTTP/1.1 200"):
            self._fail(f"Non-2xx: {self._received[:200]!r}")
            return
        self._received = b""
        _Client.answers += 1
        self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"Socket errors: {error}")

    def _fail(self, message: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(SystemExit(message))


async def main(url: str, connections: int, seconds: float) -> None:
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    for _ in range(connections):
        await loop.create_connection(
            lambda: _Client(request, ended), parts.hostname or "127.0.0.1", parts.port or 80
        )
    _Client.answers = 0
    started = time.perf_counter()
    done, _ = await asyncio.wait([ended], timeout=seconds)
    for future in done:
        future.result()
    print(f"Requests/sec: {_Client.answers / (time.perf_counter() - started):.1f}")
    ended.cancel()


if __name__ == "__main__":
    work = main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    if "uvloop" in sys.modules:
        uvloop.run(work)
    else:
        asyncio.run(work)
