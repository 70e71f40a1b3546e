"""`Request`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http import HTTPMethod
from typing import Any, Self

from ..errors import FetchTypeError
from .body import Body, BodyInit, extract
from .headers import Headers, HeadersInit
from .url import normalize

# The standard upper-cases these, and only these, whatever their spelling.
_NORMALIZED = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH")
_FORBIDDEN = ("CONNECT", "TRACE", "TRACK")


class Request(Body):
    """An HTTP request: https://developers.cloudflare.com/workers/runtime-apis/request/"""

    __slots__ = ("_method", "_url", "cf", "options")

    _headers: Headers
    _method: str
    _url: str | Callable[[], str]
    #: What the platform knows of the connection, or what a Worker asks of it; or None.
    cf: dict[str, Any] | None
    #: Members of the standard's RequestInit that have no effect here (``redirect``, ``signal``, …).
    options: dict[str, Any]

    def __init__(
        self,
        input: str | Request,
        *,
        method: str | HTTPMethod | None = None,
        headers: HeadersInit | Headers | None = None,
        body: BodyInit | None = None,
        cf: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        unknown = options.keys() - _OPTIONS.keys()
        if unknown:
            raise FetchTypeError(f"Request has no option {', '.join(sorted(unknown))}")
        if isinstance(input, Request):
            self._url = input.url
            self._method = input._method if method is None else _method(method)
            self._headers = Headers(input.headers if headers is None else headers)
            self.cf = input.cf if cf is None else cf
            self.options = {**input.options, **options}
        else:
            self._url = normalize(input)
            self._method = "GET" if method is None else _method(method)
            self._headers = Headers(headers)
            self.cf = cf
            self.options = options
        self._used = False
        if body is None and isinstance(input, Request):
            # The body moves over: the old request counts as used.
            had_none = input.body is None
            taken = input.take()
            if isinstance(taken, bytes):
                self._data, self._stream = None if had_none else taken, None
            else:
                self._data, self._stream = None, taken
        else:
            self._data, self._stream, content_type = extract(body)
            if content_type is not None and not self._headers.has("content-type"):
                self._headers.append("content-type", content_type)
        has_body = self._data is not None or self._stream is not None
        if has_body and self._method in ("GET", "HEAD"):
            raise FetchTypeError("Request with a GET or HEAD method cannot have a body.")

    @classmethod
    def from_parts(
        cls,
        method: str,
        url: str | Callable[[], str],
        headers: list[tuple[bytes, bytes]],
        body: AsyncIterator[bytes] | None,
    ) -> Self:
        """A request that a server received; its URL is made when it is asked for."""
        request = cls.__new__(cls)
        request._method = method
        request._url = url
        request._headers = Headers.from_raw(headers)
        request._data = None
        request._stream = body
        request._used = False
        request.cf = None
        request.options = {}
        return request

    @property
    def method(self) -> HTTPMethod | str:
        """The method: a member of `http.HTTPMethod` where there is one, which equals its text."""
        return _METHODS.get(self._method, self._method)

    @property
    def url(self) -> str:
        """The URL in its normal form."""
        if not isinstance(self._url, str):
            self._url = normalize(self._url())
        return self._url

    @property
    def js_object(self) -> Self:
        """Itself: what the platform's SDK wraps."""
        return self

    async def json(self, **options: Any) -> Any:
        """The body as JSON; ``options`` go to `json.loads`."""
        return await self._json(**options)

    def clone(self) -> Request:
        """A second request whose body can be read as well."""
        copy = Request.__new__(Request)
        self._share(copy)
        copy._method = self._method
        copy._url = self._url
        copy._headers = Headers(self._headers)
        copy.cf = self.cf
        copy.options = dict(self.options)
        return copy

    def __getattr__(self, name: str) -> Any:
        try:
            return self.options.get(name, _OPTIONS[name])
        except KeyError:
            raise AttributeError(f"Request has no attribute {name!r}") from None

    def __repr__(self) -> str:
        return f"Request(method={self._method!r}, url={self.url!r})"


_METHODS: dict[str, HTTPMethod] = {method.value: method for method in HTTPMethod}

_OPTIONS: dict[str, Any] = {
    "cache": "default",
    "credentials": "same-origin",
    "integrity": "",
    "keepalive": False,
    "mode": "cors",
    "redirect": "follow",
    "referrer": "about:client",
    "referrer_policy": "",
    "signal": None,
}


def _method(method: object) -> str:
    if not isinstance(method, str) or not method:
        raise FetchTypeError(f"a method must be a non-empty str, not {method!r}")
    upper = method.upper()
    if upper in _NORMALIZED:
        return upper
    if upper in _FORBIDDEN or not method.isalpha():
        raise FetchTypeError(f"Invalid HTTP method string: {method}")
    return str(method)
