"""`Response`."""

from __future__ import annotations

import json as json_module
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, overload

from ..errors import FetchRangeError, FetchStatusError, FetchTypeError
from . import text
from .body import TEXT, Body, BodyInit, extract
from .headers import Headers, HeadersInit, Pairs
from .url import location

_NULL_BODY = (101, 204, 205, 304)
_REDIRECTS = (301, 302, 303, 307, 308)
_REASON = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# What most responses begin with. Copies share its lists, and this one is encoded beforehand.
_TEXT_HEADERS = Headers({"content-type": TEXT})
_TEXT_HEADERS.raw  # noqa: B018


class MakesJson(Protocol):
    """``Response.json`` on the class."""

    def __call__(
        self,
        data: Any,
        status: int | None = 200,
        status_text: str = "",
        headers: HeadersInit | None = None,
    ) -> Response: ...


class _Json:
    """``Response.json(data)`` makes a response; ``await response.json()`` reads one."""

    @overload
    def __get__(self, instance: None, owner: type[Response]) -> MakesJson: ...
    @overload
    def __get__(
        self, instance: Response, owner: type[Response]
    ) -> Callable[..., Awaitable[Any]]: ...
    def __get__(self, instance: Response | None, owner: type[Response]) -> Callable[..., Any]:
        return owner.from_json if instance is None else instance._json


class Response(Body):
    """An HTTP response: https://developers.cloudflare.com/workers/runtime-apis/response/

    ``status`` is 200 to 599, or 101 with a ``web_socket``; 101, 204, 205 and 304 have no body.
    A response as the only argument is taken over with its body.
    """

    __slots__ = (
        "__dict__",
        "_type",
        "cf",
        "redirected",
        "status",
        "status_text",
        "url",
        "web_socket",
    )

    def __init__(
        self,
        body: BodyInit | Response | None = None,
        status: int | None = 200,
        status_text: str = "",
        headers: HeadersInit | None = None,
        web_socket: Any = None,
        cf: dict[str, Any] | None = None,
    ) -> None:
        self._reader = None
        self._used = False
        self._type = "default"
        self.url = ""
        self.redirected = False
        self.status_text = status_text or ""
        self.web_socket = web_socket
        self.cf = cf
        if status == 200 and web_socket is None:
            self.status: int = 200
        else:
            self.status = _status(status, body, web_socket)
        if status_text and not _REASON.fullmatch(status_text):
            raise FetchTypeError(f"Invalid statusText: {status_text!r}")
        if body.__class__ is str:
            self._body = text.encode(body)
            if headers is None:
                self._headers = Headers(_TEXT_HEADERS)
            else:
                self._headers = Headers(headers).with_default("content-type", TEXT)
        elif isinstance(body, Response):
            if self.status != 200 or status_text or headers is not None:
                raise FetchRangeError(
                    "Expected no options when constructing Response from a js.Response"
                )
            self._describe_as(body)
            self._headers = body._headers
            self._body = None if body._body is None else body.take()
        else:
            self._body, content_type = extract(body, "Response")
            self._headers = Headers(headers)
            if content_type is not None:
                self._headers.with_default("content-type", content_type)

    @classmethod
    def from_parts(
        cls,
        status: int,
        headers: Pairs | Headers,
        body: bytes | AsyncIterator[bytes] | None,
        url: str = "",
    ) -> Response:
        """A response that was stored or received, of parts that are known to be valid.

        Pairs, whose names must be in lower case, make headers that cannot be changed.
        """
        response = object.__new__(cls)
        if headers.__class__ is list:
            response._headers = Headers.from_pairs(headers, "immutable")
        else:
            response._headers = headers  # type: ignore[assignment]
        response._body = body
        response._reader = None
        response._used = False
        response._type = "default"
        response.status = status
        response.status_text = ""
        response.url = url
        response.redirected = False
        response.web_socket = None
        response.cf = None
        return response

    @classmethod
    def from_json(
        cls,
        data: Any,
        status: int | None = 200,
        status_text: str = "",
        headers: HeadersInit | None = None,
    ) -> Response:
        """A response whose body is ``data`` as `json.dumps` says it, like that of the SDK."""
        try:
            body = json_module.dumps(data).encode()
        except (TypeError, ValueError) as error:
            raise FetchTypeError(f"the data cannot be said in JSON: {error}") from error
        response = cls(body, status, status_text, headers)
        response._headers.with_default("content-type", "application/json")
        return response

    json = _Json()

    @classmethod
    def redirect(cls, url: str, status: int = 302) -> Response:
        """A response that sends the client to an absolute URL, of any scheme."""
        if status not in _REDIRECTS:
            raise FetchRangeError(
                f"{status} is not a redirect status code. It must be one of: 301, 302, 303, 307, "
                "or 308."
            )
        return cls.from_parts(int(status), [("location", location(url))], None)

    @classmethod
    def error(cls) -> Response:
        """A network error, as the standard has it."""
        response = cls.from_parts(0, [], None)
        response._type = "error"
        return response

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    def clone(self) -> Response:
        """A second response whose body can be read as well."""
        if self.web_socket is not None:
            raise FetchTypeError("Cannot clone a response to a WebSocket handshake.")
        copy = object.__new__(type(self))
        self._share(copy)
        copy._headers = Headers(self._headers, self._headers.guard)
        copy._describe_as(self)
        return copy

    def replace_body(self, body: BodyInit | None) -> Response:
        """The same response with another body."""
        return Response(
            body, self.status, self.status_text, self._headers, self.web_socket, self.cf
        )

    def raise_for_status(self) -> None:
        """Raise an `OSError` if the status tells of an error."""
        if self.status >= 400:
            raise FetchStatusError(self.status, self.status_text, self.url)

    def _describe_as(self, other: Response) -> None:
        self._type = other._type
        self.status = other.status
        self.status_text = other.status_text
        self.url = other.url
        self.redirected = other.redirected
        self.web_socket = other.web_socket
        self.cf = other.cf

    def __repr__(self) -> str:
        parts = [f"status={self.status}"]
        if self.status_text:
            parts.append(f"status_text={self.status_text!r}")
        content_type = self._headers.get("content-type")
        if content_type is not None:
            parts.append(f"content_type={content_type!r}")
        if self.url:
            parts.append(f"url={self.url!r}")
        if self._type != "default":
            parts.append(f"type={self._type!r}")
        return f"Response({', '.join(parts)})"

    # The SDK's older names.
    @property
    def js_response(self) -> Response:
        return self

    async def string(self) -> str:
        return await self.text()

    async def memoryview(self) -> Any:
        return memoryview(await self.bytes())

    # The standard's own spellings.
    @property
    def statusText(self) -> str:
        return self.status_text

    @property
    def webSocket(self) -> Any:
        return self.web_socket

    # Last, because from here on `type` means this property in the class.
    @property
    def type(self) -> str:
        """ "default", or "error"."""
        return self._type


def _status(status: Any, body: object, web_socket: object) -> int:
    if status is None:
        status = 200
    if not isinstance(status, int) or isinstance(status, bool):
        raise FetchTypeError(f"a status must be an int, not {type(status).__name__}")
    if web_socket is not None and status != 101:
        raise FetchRangeError("Responses with a WebSocket must have status code 101.")
    if not 200 <= status <= 599 and not (status == 101 and web_socket is not None):
        raise FetchRangeError(
            "Responses may only be constructed with status codes in the range 200 to 599, "
            f"inclusive, not {int(status)}."
        )
    if status in _NULL_BODY and body is not None:
        raise FetchTypeError(
            "Response with null body status (101, 204, 205, or 304) cannot have a body."
        )
    return int(status)
