"""`Response`."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Self, overload

from ..errors import FetchRangeError, FetchTypeError
from .body import Body, BodyInit, extract
from .headers import Headers, HeadersInit
from .url import normalize

_NULL_BODY = (101, 204, 205, 304)
_REDIRECTS = (301, 302, 303, 307, 308)


class _Json:
    """``Response.json(data)`` makes a response; ``await response.json()`` reads one."""

    @overload
    def __get__(self, instance: None, owner: type[Response]) -> Callable[..., Response]: ...
    @overload
    def __get__(self, instance: Response, owner: type[Response]) -> Callable[..., Any]: ...
    def __get__(self, instance: Response | None, owner: type[Response]) -> Callable[..., Any]:
        return owner.from_json if instance is None else instance._json


class Response(Body):
    """An HTTP response: https://developers.cloudflare.com/workers/runtime-apis/response/

    ``status`` is 200 to 599; 204, 205 and 304 have no body.
    """

    __slots__ = (
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
        body: BodyInit | None = None,
        status: int | HTTPStatus | None = 200,
        status_text: str = "",
        headers: HeadersInit | Headers | None = None,
        web_socket: Any = None,
        cf: dict[str, Any] | None = None,
    ) -> None:
        if status is None:
            status = 200
        elif status != 200:
            status = _status(status, web_socket)
            if body is not None and status in _NULL_BODY:
                raise FetchTypeError(
                    f"Response with null body status ({status}) cannot have a body."
                )
        self._data, self._stream, content_type = extract(body)
        self._used = False
        if headers is None:
            pairs = [] if content_type is None else [("content-type", content_type)]
            self._headers = Headers.from_pairs(pairs)
        else:
            self._headers = Headers(headers)
            if content_type is not None and not self._headers.has("content-type"):
                self._headers.append("content-type", content_type)
        self._type = "default"
        self.status: int = status
        self.status_text = status_text
        self.url = ""
        self.redirected = False
        self.web_socket = web_socket
        self.cf = cf

    @classmethod
    def from_parts(
        cls, status: int, headers: list[tuple[str, str]], body: Any, url: str = ""
    ) -> Self:
        """A response that was stored: its parts are known to be valid, its headers lower-case."""
        response = cls.__new__(cls)
        response._data, response._stream = (
            (body, None) if body is None or isinstance(body, bytes) else (None, body)
        )
        response._used = False
        response._headers = Headers.from_pairs(headers)
        response._type = "default"
        response.status = status
        response.status_text = ""
        response.url = url
        response.redirected = False
        response.web_socket = None
        response.cf = None
        return response

    @staticmethod
    def from_json(
        data: Any,
        status: int | HTTPStatus = 200,
        status_text: str = "",
        headers: HeadersInit | Headers | None = None,
    ) -> Response:
        """A response whose body is ``data`` as JSON."""
        try:
            text = json_module.dumps(data, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise FetchTypeError(f"the data cannot be said in JSON: {error}") from error
        response = Response(text.encode("utf-8", "replace"), status, status_text, headers)
        if not response._headers.has("content-type"):
            response._headers.append("content-type", "application/json")
        return response

    json = _Json()

    @staticmethod
    def redirect(url: str, status: int | HTTPStatus = 302) -> Response:
        """A response that sends the client to an absolute URL."""
        if status not in _REDIRECTS:
            raise FetchRangeError(f"{int(status)} is not a redirect status code.")
        response = Response(None, status, headers={"location": normalize(url)})
        response._headers.freeze()
        return response

    @staticmethod
    def error() -> Response:
        """A network error, as the standard has it."""
        response = Response.from_parts(0, [], None)
        response._type = "error"
        response._headers.freeze()
        return response

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    @property
    def type(self) -> str:
        """ "default", or "error"."""
        return self._type

    @property
    def js_object(self) -> Self:
        """Itself: what the platform's SDK wraps."""
        return self

    def clone(self) -> Response:
        """A second response whose body can be read as well."""
        copy = Response.__new__(Response)
        self._share(copy)
        copy._headers = Headers(self._headers)
        copy._type = self._type
        copy.status = self.status
        copy.status_text = self.status_text
        copy.url = self.url
        copy.redirected = self.redirected
        copy.web_socket = self.web_socket
        copy.cf = self.cf
        return copy

    def replace_body(self, body: BodyInit | None) -> Response:
        """The same response with another body."""
        return Response(
            body, self.status, self.status_text, self._headers, self.web_socket, self.cf
        )

    @property
    def statusText(self) -> str:
        return self.status_text

    def __repr__(self) -> str:
        parts = [f"status={self.status}"]
        if self.status_text:
            parts.append(f"status_text={self.status_text!r}")
        content_type = self._headers.get("content-type")
        if content_type is not None:
            parts.append(f"content_type={content_type!r}")
        if self.url:
            parts.append(f"url={self.url!r}")
        return f"Response({', '.join(parts)})"


def _status(status: object, web_socket: object) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise FetchTypeError(f"a status must be an int, not {type(status).__name__}")
    if not 200 <= status <= 599 and not (status == 101 and web_socket is not None):
        raise FetchRangeError(
            "Responses may only be constructed with status codes in the range 200 to 599, "
            f"inclusive, not {int(status)}."
        )
    return int(status)
