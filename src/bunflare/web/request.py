"""`Request`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from http import HTTPMethod
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, Unpack, cast, overload

from ..errors import BodyUsedError, FetchTypeError
from .body import Body, BodyInit, extract
from .headers import Headers, HeadersInit, RawPairs
from .url import normalize

T = TypeVar("T")

_METHODS: dict[str, HTTPMethod] = {method.value: method for method in HTTPMethod}
# These are upper-cased, and no others, as the standard has it; PATCH as the platform has it.
_NORMALIZED = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_FORBIDDEN = frozenset({"CONNECT", "TRACE", "TRACK"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class RequestOptions(TypedDict, total=False):
    """Members of the standard's RequestInit that are only kept here."""

    cache: Literal["default", "no-store", "reload", "no-cache", "force-cache"] | None
    credentials: Literal["omit", "same-origin", "include"] | None
    integrity: str | None
    keepalive: bool | None
    mode: Literal["cors", "no-cors", "same-origin"] | None
    redirect: Literal["follow", "error", "manual"] | None
    referrer: str | None
    referrer_policy: str | None
    referrerPolicy: str | None
    signal: Any
    #: The SDK's: what sends the request in the place of ``fetch``.
    fetcher: Any


_CHOICES = {
    "cache": ("default", "no-store", "reload", "no-cache", "force-cache"),
    "credentials": ("omit", "same-origin", "include"),
    "mode": ("cors", "no-cors", "same-origin"),
    "redirect": ("follow", "error", "manual"),
}


class _Option(Generic[T]):
    """An option of a request, or the standard's default."""

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, request: None, owner: type) -> Self: ...
    @overload
    def __get__(self, request: Request, owner: type) -> T: ...
    def __get__(self, request: Request | None, owner: type) -> Self | T:
        if request is None:
            return self
        options = request._options
        return self._default if options is None else options.get(self._name, self._default)

    def __set__(self, request: Request, value: object) -> None:
        raise AttributeError(f"{self._name} of a Request cannot be set")


class Request(Body):
    """An HTTP request: https://developers.cloudflare.com/workers/runtime-apis/request/

    Made of a URL, or of another request, which gives what no argument says; its body moves over.
    """

    __slots__ = ("__dict__", "_method", "_options", "_url", "cf")

    _method: str
    _options: dict[str, Any] | None
    _url: str | Callable[[], str]
    #: What the platform knows of the connection, or what a Worker asks of it; or None.
    cf: dict[str, Any] | None

    def __init__(
        self,
        input: str | Request,
        *,
        method: str | None = None,
        headers: HeadersInit | None = None,
        body: BodyInit | None = None,
        cf: dict[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> None:
        self._reader = None
        self._used = False
        given = _given(cast("dict[str, Any]", options)) if options else None
        if isinstance(input, Request):
            self._url = input.url
            self._method = input._method if method is None else _normalized(method)
            self._headers = Headers(input._headers if headers is None else headers)
            self._options = {**(input._options or {}), **given} if given else input._options
            self.cf = input.cf if cf is None else cf
        else:
            self._url = normalize(input)
            self._method = "GET" if method is None else _normalized(method)
            self._headers = Headers(headers)
            self._options = given
            self.cf = cf
        content_type = None
        source = input if body is None and isinstance(input, Request) else None
        has_body = body is not None if source is None else source._body is not None
        if has_body and self._method in ("GET", "HEAD"):
            raise FetchTypeError("Request with a GET or HEAD method cannot have a body.")
        if source is None:
            self._body, content_type = extract(body)
        elif source._used:
            raise BodyUsedError("Cannot reconstruct a Request with a used body.")
        else:
            self._body = source.take() if has_body else None
        if content_type is not None:
            self._headers.with_default("content-type", content_type)

    @classmethod
    def from_parts(
        cls,
        method: str,
        url: str | Callable[[], str],
        headers: RawPairs,
        body: bytes | AsyncIterator[bytes] | None,
        cf: dict[str, Any] | None = None,
    ) -> Request:
        """A request that a server received, whose headers cannot be changed.

        Method, URL and headers are looked at when they are asked for: ``url`` may be a function,
        whose result is normalized then (a str must be in its normal form). Names of headers must
        be in lower case.
        """
        request = object.__new__(cls)
        request._body = body
        request._headers = Headers.from_raw(headers, "immutable")
        request._reader = None
        request._used = False
        request._method = method
        request._options = None
        request._url = url
        request.cf = cf
        return request

    @property
    def method(self) -> HTTPMethod | str:
        """The method: a member of `http.HTTPMethod` where there is one, which equals its text."""
        return _METHODS.get(self._method, self._method)

    @property
    def url(self) -> str:
        """The URL in its normal form."""
        url = self._url
        if not isinstance(url, str):
            url = self._url = normalize(url())
        return url

    cache = _Option("default")
    credentials = _Option("same-origin")
    destination = _Option("")
    fetcher = _Option[Any](None)
    integrity = _Option("")
    is_history_navigation = _Option(False)
    keepalive = _Option(False)
    mode = _Option("cors")
    redirect = _Option("follow")
    referrer = _Option("about:client")
    referrer_policy = _Option("")
    signal = _Option[Any](None)

    async def json(self, **options: Any) -> Any:
        """The body as JSON; ``options`` go to `json.loads`, and its errors come from there."""
        return await self._json(**options)

    def clone(self) -> Request:
        """A second request whose body can be read as well."""
        copy = object.__new__(type(self))
        self._share(copy)
        copy._headers = Headers(self._headers, self._headers.guard)
        copy._method = self._method
        copy._options = self._options
        copy._url = self._url
        copy.cf = self.cf
        return copy

    def __repr__(self) -> str:
        return f"Request(method={self._method!r}, url={self.url!r})"

    @property
    def _js_request(self) -> Request:
        return self

    # The standard's own spellings.
    @property
    def referrerPolicy(self) -> str:
        return self.referrer_policy

    @property
    def isHistoryNavigation(self) -> bool:
        return self.is_history_navigation


def _normalized(method: Any) -> str:
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise FetchTypeError(f"Invalid HTTP method string: {method}")
    upper = method.upper()
    if upper in _FORBIDDEN:
        raise FetchTypeError(f"Invalid HTTP method string: {method}")
    return upper if upper in _NORMALIZED else str(method)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None, with Python's names."""
    unknown = options.keys() - RequestOptions.__annotations__.keys()
    if unknown:
        raise FetchTypeError(f"Request has no option {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _CHOICES and value not in _CHOICES[name]:
            raise FetchTypeError(f"Invalid {name}: {value!r} (one of {', '.join(_CHOICES[name])})")
        given["referrer_policy" if name == "referrerPolicy" else name] = value
    return given
