"""``fetch`` of a Worker: requests to other servers, streamed in both directions.

aiohttp is imported with the first request. Redirects, cookies and the body's encoding are treated
as the Fetch standard says, not as the client's defaults would: no cookie jar, no proxy from the
environment, a redirect is followed, refused or handed back as ``redirect`` says, 20 times at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin
from weakref import WeakKeyDictionary

from ..errors import FetchError, FetchTypeError
from ..store.gate import pass_output_gate
from ..web import Headers, Request, Response
from ..web.streams import Counted, Sized
from .js_values import PyProxy

if TYPE_CHECKING:
    import aiohttp

_MOST_REDIRECTS = 20
_REDIRECTS = (301, 302, 303, 307, 308)
# Ours to say, or of this hop alone.
_NOT_SENT = frozenset({"host", "content-length", "transfer-encoding", "connection", "keep-alive"})
_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


class NetworkError(FetchError, OSError):
    """A request got no answer."""


async def fetch(resource: Any, options: Any = None, **other: Any) -> Response:
    """Send a request: ``await fetch(url, method="POST", body=…)``.

    ``resource`` is a URL or a Request. Raises OSError where no answer comes, and what the signal
    says where one ends it.
    """
    if isinstance(resource, PyProxy):
        resource = resource.unwrap()
    keywords = {**(options or {}), **other}
    fetcher = keywords.pop("fetcher", None)
    if keywords or not isinstance(resource, Request):
        source = resource if isinstance(resource, Request) else str(resource)
        resource = Request(source, **keywords)
    if fetcher is None:
        fetcher = resource.fetcher
    await pass_output_gate()
    if fetcher is not None:
        answer: Response = await fetcher(resource)
        return answer
    answering = _follow
    if (resource.headers.get("upgrade") or "").lower() == "websocket":
        from .connecting import upgrade as answering
    signal = resource.signal
    if signal is None:
        return await answering(resource)
    signal.throwIfAborted()
    task = asyncio.ensure_future(answering(resource))
    signal.on_abort(task.cancel)
    try:
        response = await task
    except asyncio.CancelledError:
        if signal.aborted:
            raise signal.reason from None
        raise
    body = response._body
    if body is not None and not isinstance(body, bytes):
        ended = _until(signal, body)
        response._body = Counted(ended, body.left) if isinstance(body, Sized) else ended
    return response


async def _until(signal: Any, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body that ends with the signal's reason once it is aborted."""
    event = asyncio.Event()
    signal.on_abort(event.set)
    aborted = asyncio.ensure_future(event.wait())
    try:
        while True:
            step = asyncio.ensure_future(anext(body, None))
            await asyncio.wait([step, aborted], return_when=asyncio.FIRST_COMPLETED)
            if aborted.done():
                step.cancel()
                raise signal.reason
            chunk = step.result()
            if chunk is None:
                return
            yield chunk
    finally:
        aborted.cancel()
        await body.aclose()  # type: ignore[attr-defined]


async def _follow(request: Request) -> Response:
    url, method = request.url, str(request._method)
    headers = [pair for pair in request.headers.pairs if _is_sent(*pair)]
    body = request.take() if request._body is not None else None
    known = body is None or isinstance(body, bytes)
    for hop in range(_MOST_REDIRECTS + 1):
        answer = await _send(url, method, headers, body)
        location = answer.headers.get("Location")
        if request.redirect == "manual" or answer.status not in _REDIRECTS or location is None:
            return _response(answer, url, redirected=hop > 0)
        answer.release()
        if request.redirect == "error":
            raise FetchTypeError(f"Unexpected redirect from {url} (the redirect mode is 'error')")
        target = urljoin(url, location)
        turned = answer.status == 303 and method not in ("GET", "HEAD")
        if turned or (answer.status in (301, 302) and method == "POST"):
            method, body, known = "GET", None, True
            headers = [pair for pair in headers if not pair[0].startswith("content-")]
        elif not known:
            raise FetchTypeError(
                "A request with a one-time-use body (it was initialized from a stream, not a "
                "buffer) encountered a redirect requiring the body to be retransmitted."
            )
        if _origin(target) != _origin(url):
            headers = [pair for pair in headers if pair[0] != "authorization"]
        url = target
    raise FetchTypeError("Too many redirects.")


def _is_sent(name: str, value: str) -> bool:
    # What a client accepts may be more than can be decompressed here.
    if name == "accept-encoding":
        return not any(one in value for one in ("br", "zstd"))
    return name not in _NOT_SENT


def _origin(url: str) -> tuple[str, ...]:
    return tuple(url.split("/", 3)[:3])


async def _send(url: str, method: str, headers: Any, body: Any) -> aiohttp.ClientResponse:
    import aiohttp
    import yarl

    if isinstance(body, Sized):
        headers = [*headers, ("content-length", str(body.left))]
    try:
        return await (await _session()).request(
            method,
            yarl.URL(url.partition("#")[0], encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NetworkError(f"Network connection lost: {method} {url}: {error}") from error


def _response(answer: aiohttp.ClientResponse, url: str, redirected: bool) -> Response:
    raw = [(name.lower(), value) for name, value in answer.raw_headers]
    if "Content-Encoding" in answer.headers:
        # The body comes decompressed, and of another length.
        raw = [pair for pair in raw if pair[0] != b"content-length"]
    empty = answer.status in (101, 204, 205, 304) or answer.method == "HEAD"
    if empty:
        answer.release()
    body: AsyncIterator[bytes] | None = None if empty else _Received(answer)
    size = next((value for name, value in raw if name == b"content-length"), b"")
    if body is not None and size.isdigit() and "Transfer-Encoding" not in answer.headers:
        body = Counted(body, int(size))
    response = Response.from_parts(answer.status, Headers.from_raw(raw, "immutable"), body, url)
    response.status_text = answer.reason or ""
    response.redirected = redirected
    return response


class _Received:
    """The body of an answer, as it comes. The connection ends with it, if not all was read."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        # The client's own objects refer to one another in a circle: they would keep it open.
        if not self._answer.content.at_eof():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._answer.close)

    def __aiter__(self) -> _Received:
        return self

    async def __anext__(self) -> bytes:
        import aiohttp

        try:
            chunk = await self._answer.content.readany()
        except aiohttp.ClientError as error:
            raise NetworkError(f"Network connection lost: {error}") from error
        if not chunk:
            self._answer.release()
            raise StopAsyncIteration
        return bytes(chunk)

    async def aclose(self) -> None:
        if not self._answer.content.at_eof():
            self._answer.close()


async def _session() -> aiohttp.ClientSession:
    import aiohttp

    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None or session.closed:
        session = _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            trust_env=False,
        )
    return session


async def close() -> None:
    """Close the connections of the running loop."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()
