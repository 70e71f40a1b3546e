"""``workers.wsgi``: a Worker that is a WSGI application, such as Flask or Django.

The application runs on the event loop's thread, on a stack of its own: where it reads the request's
body, or waits for a binding with ``run_sync``, other requests go on.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from ..web import Request, Response
from .bridges import NULL_BODY, Bridge, Options
from .switching import on_stack, run_sync


class _Input(io.RawIOBase):
    """``wsgi.input``: the body of a request, read as the application asks for it."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._rest = b""
        self._ended = body is None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            chunk = run_sync(_next(self._body))
            self._ended = chunk is None
            self._rest = chunk or b""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


async def _next(body: Any) -> bytes | None:
    chunk: bytes | None = await anext(body, None)
    return chunk


def build_environ(
    request: Request, env: Any, body: bytes | io.IOBase | None = None
) -> dict[str, Any]:
    """The environ of a request; ``environ["workers.env"]`` has the Worker's bindings.

    ``body`` is read instead of the request's own, if it is given.
    """
    if body is None:
        body = io.BufferedReader(_Input(request.body))
    elif isinstance(body, bytes | bytearray | memoryview):
        body = io.BytesIO(body)
    url = urlsplit(request.url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": str(request._method),
        "SCRIPT_NAME": "",
        # PEP 3333: each character stands for a byte.
        "PATH_INFO": unquote(url.path, "latin-1"),
        "QUERY_STRING": url.query,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if url.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "workers.env": env,
    }
    if request.headers.has("transfer-encoding"):
        # Without a length the end of the input says where the body ends.
        environ["wsgi.input_terminated"] = True
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


class _Answer:
    """What an application answers: its head, and then what it yields."""

    def __init__(self, app: Any, environ: dict[str, Any]) -> None:
        self._environ = environ
        self._written: list[bytes] = []
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self._result = app(environ, self._start)
        self._chunks: Iterator[bytes] = iter(self._result)
        try:
            self._first = next((chunk for chunk in self._chunks if chunk), b"")
        except BaseException:
            self.close()
            raise
        if not self.status:
            self.close()
            raise RuntimeError("The WSGI application did not call start_response()")

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            if hasattr(self, "_first"):
                raise exc_info[1].with_traceback(exc_info[2])
        elif self.status:
            raise AssertionError("start_response() called more than once")
        self.status, self.headers = status, headers
        return self._written.append

    def begin(self) -> bytes:
        return b"".join(self._written) + self._first

    def next(self) -> bytes | None:
        return next((chunk for chunk in self._chunks if chunk), None)

    def close(self) -> None:
        for one in (self._result, self._environ["wsgi.input"]):
            close = getattr(one, "close", None)
            if close is not None:
                close()

    def whole(self) -> bool:
        """Whether nothing follows what was given at the beginning."""
        return isinstance(self._result, list | tuple) and len(self._result) <= 1

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            if first := self.begin():
                yield first
            while (chunk := await on_stack(self.next)) is not None:
                yield chunk
                # An application that only computes must not keep others from their turn.
                await asyncio.sleep(0)
        finally:
            await on_stack(self.close)


def names(bridge: Bridge) -> dict[str, Any]:
    """What ``workers.wsgi`` has, for one Worker."""

    async def fetch(
        app: Any, req: Request, env: Any, ctx: Any = None, *, options: Options | None = None
    ) -> Response:
        """Answer a request by a WSGI application."""
        return await on_stack(lambda: process_request(app, req, env, None, options))

    def process_request(
        app: Any,
        req: Request,
        env: Any,
        body: bytes | io.IOBase | None,
        options: Options | None = None,
    ) -> Response:
        """The answer of an application that is called here and now, and reads ``body``."""
        answer = _Answer(app, build_environ(req, env, body))
        code, _, reason = answer.status.partition(" ")
        status = int(code)
        content: Any = None
        if status in NULL_BODY or answer.whole():
            content = None if status in NULL_BODY else answer.begin()
            answer.close()
        else:
            content = answer.stream()
        response = Response(content, status, reason, answer.headers)
        response.__dict__["encode_body"] = "manual"
        return response

    def entrypoint(app: Any, *, options: Options | None = None) -> Any:
        """The class ``Default`` of a Worker that is a WSGI application."""

        async def answer(self: Any, request: Request) -> Response:
            return await fetch(app, request, self.env, self.ctx, options=options)

        return type("Default", (bridge.base,), {"fetch": answer})

    return {
        "DEFAULT_OPTIONS": Options(),
        "NULL_BODY_STATUSES": NULL_BODY,
        "Options": Options,
        "logger": logging.getLogger("wsgi"),
        "build_environ": build_environ,
        "entrypoint": entrypoint,
        "fetch": fetch,
        "process_request": process_request,
    }
