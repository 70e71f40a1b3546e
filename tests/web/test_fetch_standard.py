"""Requests, responses and headers, line by line of the standard and of the SDK's surface."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest

import bunflare
from bunflare import Blob, FormData, Headers, Request, Response
from bunflare.web import URLSearchParams

URL = "https://example.com/"


class Aiter:
    """An asynchronous iterable that is no iterator."""

    async def __aiter__(self) -> Any:
        yield b"x"


# -- headers -----------------------------------------------------------------------------------


def message() -> http.client.HTTPMessage:
    found = http.client.HTTPMessage()
    found.add_header("A", "1")
    found.add_header("a", "2")
    return found


@pytest.mark.parametrize(
    "init",
    [
        [("A", "1"), ("a", "2")],
        (["a", "1"], ["a", "2"]),
        iter([("a", "1"), ("a", "2")]),
        Headers([("a", "1"), ("a", "2")]),
        Headers.from_raw([(b"a", b"1"), (b"a", b"2")]),
        Headers.from_pairs([("a", "1"), ("a", "2")]),
        message(),
        MappingProxyType({"a": "1, 2"}),
        {"A": "1, 2"},
    ],
)
def test_headers_are_made_of_many_things(init: Any) -> None:
    assert Headers(init).get("a") == "1, 2"
    assert Response(None, headers=init if not hasattr(init, "__next__") else []).headers is not init


@pytest.mark.parametrize("init", [["ab"], [("a", "b", "c")], [5], 5, "text", [("a", True)]])
def test_headers_of_something_else_are_refused(init: Any) -> None:
    with pytest.raises(bunflare.FetchTypeError):
        Headers(init)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" a b ", "a b"),
        ("\t\r\n a \n", "a"),
        ("a\tb", "a\tb"),
        ("\x01\x7f", "\x01\x7f"),
        ("é\xff", "é\xff"),
        ("\xa0a\xa0", "\xa0a\xa0"),
        ("", ""),
        (5, "5"),
        (HTTPStatus.OK, "200"),
        (HTTPMethod.GET, "GET"),
    ],
)
def test_values_are_trimmed_of_the_web_s_white_space_only(value: Any, expected: str) -> None:
    headers = Headers({"a": value})
    assert headers["a"] == expected
    assert type(headers["a"]) is str
    assert headers.raw == [(b"a", expected.encode("latin-1"))]


@pytest.mark.parametrize(
    "value", ["a\nb", "a\r\nb: c", "\0", "\u0100", "😀", None, 5.5, True, b"a"]
)
def test_a_value_that_could_split_a_message_is_refused(value: Any) -> None:
    headers = Headers({"a": "b"})
    for change in (headers.append, headers.set, headers.__setitem__):
        with pytest.raises(bunflare.FetchTypeError, match="Invalid header value"):
            change("a", value)
    assert headers["a"] == "b"


def test_headers_behave_as_a_mapping() -> None:
    headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])
    assert dict(headers) == {"a": "2", "b": "1, 3"}
    assert {**headers} == {"a": "2", "b": "1, 3"}
    assert headers.get_all("B") == ["1", "3"]
    assert headers.get_all("c") is None
    assert headers.get_all("c", ()) == ()
    assert headers.entries() == headers.items()
    # Asking whether something odd is there is no error.
    assert not any(name in headers for name in ("a b", "é", "", 5, None))
    assert headers.getAll("b") == ["1", "3"]
    assert len(headers) == 2
    assert headers == Headers([("a", "2"), ("b", "1, 3")])
    assert headers != {"a": "2"}
    assert "1, 3" in repr(headers)


CHANGES: list[Callable[[Headers], object]] = [
    lambda headers: headers.append("a", "b"),
    lambda headers: headers.set("a", "b"),
    lambda headers: headers.delete("a"),
    lambda headers: headers.__setitem__("a", "b"),
    lambda headers: headers.__delitem__("a"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_guarded_headers_do_not_change(change: Callable[[Headers], object]) -> None:
    stored = Response.from_parts(200, [("a", "1")], b"x")
    for headers in (
        Headers({"a": "1"}, guard="immutable"),
        Headers.from_raw([(b"a", b"1")], "immutable"),
        Request.from_parts("GET", URL, [(b"a", b"1")], None).headers,
        Request.from_parts("GET", URL, [(b"a", b"1")], None).clone().headers,
        stored.headers,
        stored.clone().headers,
    ):
        assert headers.guard == "immutable"
        with pytest.raises(bunflare.FetchTypeError, match="Can't modify immutable headers"):
            change(headers)
        assert headers["a"] == "1"
    for headers in (
        Headers(stored.headers),
        Response("x", headers=stored.headers).headers,
        Request(Request.from_parts("GET", URL, [(b"a", b"1")], None)).headers,
    ):
        assert headers.guard == "none"
        change(headers)
    assert stored.headers.pairs == [("a", "1")]


def test_lists_that_are_shared_are_never_changed() -> None:
    raw = [(b"a", b"1")]
    pairs = [("a", "1")]
    for headers in (Headers.from_raw(raw), Headers.from_pairs(pairs)):
        headers.append("b", "2")
        headers.set("a", "3")
        headers.raw.clear()
        headers.pairs.clear()
        assert headers.raw == [(b"a", b"3"), (b"b", b"2")]
        assert headers.pairs == [("a", "3"), ("b", "2")]
    assert (raw, pairs) == ([(b"a", b"1")], [("a", "1")])
    first, second = Response("x"), Response("y")
    first.headers.set("content-type", "a/b")
    first.headers.append("c", "d")
    assert second.headers.items() == [("content-type", "text/plain;charset=UTF-8")]
    assert second.headers.raw == [(b"content-type", b"text/plain;charset=UTF-8")]


def test_received_headers_are_decoded_when_they_are_asked_for() -> None:
    headers = Headers.from_raw([(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")])
    assert headers["A"] == "1, 2"
    assert headers["b"] == "é"
    assert "c" not in headers
    assert headers._pairs is None
    assert headers.pairs == [("a", "1"), ("b", "é"), ("a", "2")]


# -- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "data", "content_type"),
    [
        ("\ud800", "\ufffd".encode(), "text/plain;charset=UTF-8"),
        (memoryview(b"abcd")[::2], b"ac", None),
        (Blob("x", "A/B"), b"x", "a/b"),
        (URLSearchParams("a=b c"), b"a=b+c", "application/x-www-form-urlencoded;charset=UTF-8"),
        (Aiter(), b"x", None),
        (Aiter().__aiter__(), b"x", None),
    ],
)
async def test_bodies_say_what_they_are(body: Any, data: bytes, content_type: str | None) -> None:
    response = Response(body)
    assert response.headers.get("content-type") == content_type
    assert await response.bytes() == data


@pytest.mark.parametrize("body", [5, 5.5, {"a": 1}, ["x"], iter([b"x"]), object(), Aiter, True])
def test_a_body_of_another_kind_is_refused(body: Any) -> None:
    with pytest.raises(bunflare.FetchTypeError, match=type(body).__name__):
        Response(body)


async def test_a_message_without_a_body_can_be_read_again_and_again() -> None:
    for message in (Response(), Request(URL), Request(URL, method="POST")):
        assert message.body is None
        assert (await message.text(), await message.bytes()) == ("", b"")
        assert not message.body_used
        assert message.clone().body is None
        with pytest.raises(json.JSONDecodeError):
            await message.json()


async def test_the_blob_of_a_body_has_its_type() -> None:
    response = Response("x", headers={"content-type": "Text/HTML"})
    blob = await response.blob()
    assert (blob.type, await blob.text()) == ("text/html", "x")
    assert (await Response(b"x").blob()).type == ""
    assert (await Response(b"x").buffer()).tobytes() == b"x"
    assert await Response(b'{"a":1.5}').json(parse_float=str) == {"a": "1.5"}


# -- responses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 299, 404, 599, HTTPStatus.CREATED, None])
def test_a_status_is_an_int(status: Any) -> None:
    response = Response("x", status=status)
    assert type(response.status) is int
    assert response.status == (status or 200)
    assert response.ok is (response.status < 300)
    assert (response.status_text, response.url, response.type) == ("", "", "default")
    assert response.redirected is False


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"status": 199}, bunflare.FetchRangeError),
        ({"status": 600}, bunflare.FetchRangeError),
        ({"status": 0}, bunflare.FetchRangeError),
        ({"status": 101}, bunflare.FetchRangeError),
        ({"status": True}, bunflare.FetchTypeError),
        ({"status": "200"}, bunflare.FetchTypeError),
        ({"status": 200.0, "web_socket": 1}, bunflare.FetchTypeError),
        ({"status": 204, "body": "x"}, bunflare.FetchTypeError),
        ({"status": 205, "body": b""}, bunflare.FetchTypeError),
        ({"status": 304, "body": Aiter()}, bunflare.FetchTypeError),
        ({"status": 101, "body": "x", "web_socket": object()}, bunflare.FetchTypeError),
        ({"status_text": "a\nb"}, bunflare.FetchTypeError),
        ({"status_text": "☃"}, bunflare.FetchTypeError),
        ({"headers": {"a b": "c"}}, bunflare.FetchTypeError),
    ],
)
def test_a_bad_response_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Response(**options)


def test_a_web_socket_comes_with_101() -> None:
    socket = object()
    response = Response(None, status=101, web_socket=socket)
    assert response.web_socket is response.webSocket is socket
    with pytest.raises(TypeError, match="WebSocket handshake"):
        response.clone()


async def test_json_is_written_as_the_sdk_writes_it() -> None:
    response = Response.json({"a": "é"}, status=HTTPStatus.CREATED, status_text="Made")
    assert (response.status, response.status_text) == (201, "Made")
    assert response.headers.items() == [("content-type", "application/json")]
    assert await response.text() == '{"a": "\\u00e9"}'
    for given in ({"Content-Type": "a/b"}, Headers({"content-type": "a/b"})):
        assert Response.json([], headers=given).headers["content-type"] == "a/b"
        assert Headers(given).get("content-type") == "a/b"
    assert await Response.json(None).json() is None
    cycle: list[Any] = []
    cycle.append(cycle)
    for data in (object(), {1, 2}, cycle):
        with pytest.raises(bunflare.FetchTypeError, match="JSON"):
            Response.json(data)


@pytest.mark.parametrize("status", [301, 302, 303, 307, HTTPStatus.PERMANENT_REDIRECT])
def test_a_redirect_has_one_of_five_statuses(status: int) -> None:
    response = Response.redirect(URL, status)
    assert (response.status, response.body) == (int(status), None)
    assert response.headers.items() == [("location", URL)]
    for other in (200, 300, 304, 309):
        with pytest.raises(bunflare.FetchRangeError):
            Response.redirect(URL, other)


def test_an_error_is_no_response() -> None:
    error = Response.error()
    assert (error.status, error.type, error.ok, error.body) == (0, "error", False, None)
    assert "type='error'" in repr(error)
    assert error.clone().type == "error"


async def test_a_response_is_made_of_stored_parts() -> None:
    body = b"x" * 10
    raw = Headers.from_raw([(b"a", b"1")])
    for headers in (raw, [("a", "1")]):
        response = Response.from_parts(203, headers, body, URL)
        assert (response.status, response.url, response.headers["a"]) == (203, URL, "1")
        assert response.take() is body
    assert response.cf is None
    assert Response.from_parts(200, raw, None).body is None
    assert Response.from_parts(200, raw, None).headers is raw
    assert await Response.from_parts(200, raw, Aiter().__aiter__()).text() == "x"


async def test_a_response_can_be_wrapped_in_another() -> None:
    first = Response.from_parts(404, [("a", "1")], b"x", URL)
    second = Response(first)
    assert (second.status, second.url, second.headers) == (404, URL, first.headers)
    assert await second.text() == "x"
    assert first.body_used
    assert Response(Response(None, status=204)).status == 204
    refused: list[dict[str, Any]] = [{"status": 404}, {"headers": {}}, {"status_text": "x"}]
    for options in refused:
        with pytest.raises(ValueError, match="Expected no options"):
            Response(Response("x"), **options)


async def test_replacing_the_body_keeps_the_rest() -> None:
    first = Response("x", 201, "Made", {"a": "1"}, cf={"k": 1})
    second = first.replace_body(FormData({"a": "b"}))
    assert (second.status, second.status_text, second.headers["a"]) == (201, "Made", "1")
    assert second.headers["content-type"] == "text/plain;charset=UTF-8"
    assert (second.cf, first.body_used) == ({"k": 1}, False)
    with pytest.raises(TypeError):
        Response(None, 204).replace_body("x")


def test_programs_may_keep_things_on_messages() -> None:
    # As routers do, and as the SDK's classes let them.
    for message in (Request(URL), Response(), Request.from_parts("GET", URL, [], None)):
        message.params = {"a": 1}  # type: ignore[union-attr]
        assert message.params == {"a": 1}  # type: ignore[union-attr]
        assert message.js_object is message


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        *(("get", "GET"), ("hEaD", "HEAD"), ("patch", "PATCH"), (HTTPMethod.PUT, "PUT")),
        *(("M-SEARCH", "M-SEARCH"), ("propfind", "propfind"), (None, "GET")),
    ],
)
def test_a_method_is_a_token(method: Any, expected: str) -> None:
    request = Request(URL, method=method)
    assert request.method == expected
    assert str(request.method) == expected
    assert isinstance(request.method, HTTPMethod) is (expected in HTTPMethod.__members__)


@pytest.mark.parametrize(
    "method", ["connect", "TRACE", "Track", "", "a b", "GÉT", "a\n", 5, b"GET"]
)
def test_what_is_no_method_is_refused(method: Any) -> None:
    with pytest.raises(bunflare.FetchTypeError, match="Invalid HTTP method string"):
        Request(URL, method=method)


def test_options_have_the_defaults_of_the_standard() -> None:
    request = Request(URL)
    assert {
        name: getattr(request, name)
        for name in (
            *("cache", "credentials", "destination", "integrity", "is_history_navigation"),
            *("keepalive", "mode", "redirect", "referrer", "referrer_policy", "signal", "cf"),
        )
    } == {
        "cache": "default",
        "credentials": "same-origin",
        "destination": "",
        "integrity": "",
        "is_history_navigation": False,
        "keepalive": False,
        "mode": "cors",
        "redirect": "follow",
        "referrer": "about:client",
        "referrer_policy": "",
        "signal": None,
        "cf": None,
    }
    assert (request.referrerPolicy, request.isHistoryNavigation) == ("", False)


def test_options_are_kept_and_passed_on() -> None:
    signal = object()
    first = Request(URL, redirect="manual", cache="no-store", signal=signal, mode=None, cf={"k": 1})
    second = Request(first, cache="reload", referrerPolicy="origin")
    assert (second.redirect, second.cache, second.signal) == ("manual", "reload", signal)
    assert (second.mode, second.referrer_policy, second.cf) == ("cors", "origin", {"k": 1})
    assert (first.cache, first.referrer_policy) == ("no-store", "")
    assert first.clone().cache == "no-store"
    with pytest.raises(AttributeError):
        first.redirect = "follow"


@pytest.mark.parametrize(
    "options",
    [
        *({"redirect": "x"}, {"cache": ""}, {"mode": "navigate"}, {"credentials": 5}),
        *({"methods": "GET"}, {"url": URL}, {"headers": {"a": "\n\0"}}),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(bunflare.FetchTypeError):
        Request(URL, **options)


async def test_a_request_takes_over_another_one() -> None:
    first = Request(URL, method="POST", body="x", headers={"a": "1"})
    other_body = Request(first, body=b"y")
    assert not first.body_used
    assert (await other_body.text(), other_body.headers["a"]) == ("y", "1")
    second = Request(first, headers={"b": "2"})
    assert first.body_used
    assert second.headers.items() == [("b", "2")]
    with pytest.raises(bunflare.BodyUsedError, match="Cannot reconstruct"):
        Request(first)
    with pytest.raises(bunflare.FetchTypeError, match="cannot have a body"):
        Request(second, method="GET")
    # A request that was refused left the body where it was.
    assert await second.text() == "x"


def test_a_get_has_no_body_not_even_an_empty_one() -> None:
    for method in ("GET", "head"):
        with pytest.raises(bunflare.FetchTypeError, match="cannot have a body"):
            Request(URL, method=method, body="")


async def test_a_received_request_is_decoded_when_it_is_looked_at() -> None:
    request = Request.from_parts("PURGE", URL + "é", [], b"x", {"colo": "AMS"})
    assert (request.method, request.url, request.cf) == ("PURGE", URL + "é", {"colo": "AMS"})
    assert request.redirect == "follow"
    assert "PURGE" in repr(request)
    clone = request.clone()
    assert await clone.text() == await request.text() == "x"
    assert (clone.method, clone.url) == (request.method, request.url)
