"""Requests, responses and their bodies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPMethod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare import Blob, File, FormData, Headers, Request, Response

URL = "https://example.com/"


async def stream(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


BODIES = [
    ("héllo", "héllo".encode(), "text/plain;charset=UTF-8"),
    (b"bytes", b"bytes", None),
    (bytearray(b"bytes"), b"bytes", None),
    (memoryview(b"bytes"), b"bytes", None),
    (Blob([b"blob"], type="A/B"), b"blob", "a/b"),
    (Blob([b"blob"]), b"blob", None),
    (None, b"", None),
    ("", b"", "text/plain;charset=UTF-8"),
]


@pytest.mark.parametrize(("body", "data", "content_type"), BODIES)
async def test_a_body_may_be_given_in_many_forms(
    body: Any, data: bytes, content_type: str | None
) -> None:
    for message in (Response(body), Request(URL, method="POST", body=body)):
        assert message.headers.get("content-type") == content_type
        assert not message.body_used
        assert await message.bytes() == data
        assert message.body_used is (body is not None)


@given(st.lists(st.binary(max_size=20), max_size=8))
async def test_however_a_stream_is_cut_its_bytes_are_the_same(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert await Response(stream(*chunks)).bytes() == whole
    response = Response(stream(*chunks))
    assert response.body is not None
    assert b"".join([chunk async for chunk in response.body]) == whole
    copied = Response(stream(*chunks))
    clone = copied.clone()
    assert await clone.bytes() == whole
    assert await copied.bytes() == whole


async def test_a_body_can_be_read_once() -> None:
    for message in (
        Response("x"),
        Response(stream(b"x")),
        Request(URL, method="POST", body="x"),
    ):
        body = message.body
        assert body is not None
        assert not message.body_used
        assert [chunk async for chunk in body] == [b"x"]
        assert message.bodyUsed
        for call in (message.text, message.bytes, message.json, message.blob, message.form_data):
            with pytest.raises(bunflare.BodyUsedError, match="already been used"):
                await call()
        with pytest.raises(TypeError):
            message.clone()
    assert Response(None).body is None


async def test_a_body_is_read_in_many_ways() -> None:
    assert await Response("\ufeffhéllo").text() == "héllo"
    assert await Response(b"\xff").text() == "\ufffd"
    assert await Response('{"a":1}').json() == {"a": 1}
    buffer = await Response(b"ab").array_buffer()
    assert (buffer.to_bytes(), buffer.to_py(), buffer.byteLength) == (b"ab", memoryview(b"ab"), 2)
    blob = await Response("x").blob()
    assert (await blob.text(), blob.type) == ("x", "text/plain;charset=utf-8")
    with pytest.raises(ValueError):
        await Response("{").json()


@pytest.mark.parametrize("body", [5, {"a": 1}, [b"x"], object()])
def test_a_body_of_another_kind_is_refused(body: Any) -> None:
    with pytest.raises(TypeError):
        Response(body)
    with pytest.raises(TypeError):
        Request(URL, method="POST", body=body)


async def test_a_stream_must_give_bytes() -> None:
    with pytest.raises(TypeError, match="str"):
        await Response(stream("text")).bytes()


# -- responses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [199, 600, 0, -1, 101, 1000])
def test_a_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="in the range 200 to 599"):
        Response("x", status=status)


def test_a_status_that_has_no_body_is_refused_one() -> None:
    for status in (204, 205, 304):
        assert Response(None, status=status).status == status
        with pytest.raises(TypeError, match="null body"):
            Response("", status=status)
    with pytest.raises(TypeError):
        Response("x", status="200")  # type: ignore[arg-type]


def test_headers_that_were_given_win_over_the_default_ones() -> None:
    response = Response("x", headers={"Content-Type": "text/html"})
    assert response.headers.items() == [("content-type", "text/html")]
    given_headers = Headers({"a": "b"})
    response = Response("x", headers=given_headers)
    response.headers.set("a", "c")
    assert given_headers["a"] == "b"


async def test_json_makes_a_response_and_reads_one() -> None:
    response = Response.json({"a": "é"}, status=201, headers={"x": "y"})
    assert (response.status, response.headers["content-type"]) == (201, "application/json")
    assert response.headers["x"] == "y"
    assert await response.json() == {"a": "é"}
    assert Response.from_json([], headers={"content-type": "a/b"}).headers["content-type"] == "a/b"
    with pytest.raises(TypeError):
        Response.json(object())


def test_redirects_and_errors() -> None:
    response = Response.redirect("https://example.com/a b", 303)
    assert (response.status, response.headers["location"]) == (303, "https://example.com/a%20b")
    with pytest.raises(TypeError, match="immutable"):
        response.headers.set("a", "b")
    with pytest.raises(ValueError, match="redirect"):
        Response.redirect(URL, 200)
    with pytest.raises(TypeError):
        Response.redirect("/relative")
    error = Response.error()
    assert (error.type, error.status, error.ok) == ("error", 0, False)


async def test_a_clone_is_a_response_of_its_own() -> None:
    response = Response("x", status=404, status_text="Gone", headers={"a": "b"})
    clone = response.clone()
    clone.headers.set("a", "c")
    assert (clone.status, clone.statusText, response.headers["a"]) == (404, "Gone", "b")
    assert await clone.text() == await response.text() == "x"
    other = response.replace_body("y")
    assert (other.status, await other.text()) == (404, "y")
    assert response.js_object is response
    assert "404" in repr(response)
    assert Response("x").ok


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("get", "GET"),
        ("Post", "POST"),
        (HTTPMethod.PUT, "PUT"),
        ("PATCH", "PATCH"),
        ("PURGE", "PURGE"),
    ],
)
def test_methods_have_one_spelling(method: Any, expected: str) -> None:
    request = Request(URL, method=method)
    assert request.method == expected
    assert isinstance(request.method, HTTPMethod) is (expected != "PURGE")


@pytest.mark.parametrize("method", ["CONNECT", "trace", "TRACK", "", "a b", 5])
def test_a_bad_method_is_refused(method: Any) -> None:
    with pytest.raises(TypeError):
        Request(URL, method=method)


def test_a_get_has_no_body() -> None:
    for method in ("GET", "HEAD"):
        with pytest.raises(TypeError, match="cannot have a body"):
            Request(URL, method=method, body="x")


async def test_a_request_made_of_another_takes_its_body() -> None:
    first = Request(URL, method="POST", headers={"a": "b"}, body="x", cf={"k": 1})
    second = Request(first, headers={"c": "d"})
    assert (second.method, second.cf) == ("POST", {"k": 1})
    assert second.headers.get("a") is None
    assert first.body_used
    assert await second.text() == "x"
    third = Request(Request(URL), method="HEAD")
    assert (third.method, third.body) == ("HEAD", None)
    clone = Request(URL, method="POST", body=stream(b"x")).clone()
    assert await clone.text() == "x"


def test_options_of_the_standard_are_kept_and_others_refused() -> None:
    request = Request(URL, redirect="manual")
    assert (request.redirect, request.mode, request.signal) == ("manual", "cors", None)
    with pytest.raises(TypeError, match="reditect"):
        Request(URL, reditect="manual")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        request.nonsense  # type: ignore[attr-defined]  # noqa: B018


async def test_a_request_that_a_server_received_is_made_when_it_is_looked_at() -> None:
    asked = 0

    def url() -> str:
        nonlocal asked
        asked += 1
        return "http://LOCALHOST:8787/a b"

    request = Request.from_parts("POST", url, [(b"x-a", b"1"), (b"x-a", b"2")], stream(b"x", b"y"))
    assert (request.method, request.headers["X-A"], asked) == ("POST", "1, 2", 0)
    assert request.url == request.url == "http://localhost:8787/a%20b"
    assert asked == 1
    assert await request.text() == "xy"


# -- forms -------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(TEXTS, TEXTS | st.binary(max_size=20)), max_size=5), TEXTS)
async def test_a_form_survives_being_sent(fields: list[tuple[str, Any]], filename: str) -> None:
    form = FormData()
    for name, value in fields:
        if isinstance(value, bytes):
            form.append(name, File([value], filename, type="a/b"))
        else:
            form.append(name, value)
    received = await Request(URL, method="POST", body=form).form_data()
    assert received.keys() == [one_line(name) for name, _ in fields]
    for (_, sent), value in zip(fields, received.values(), strict=True):
        if isinstance(sent, bytes):
            assert isinstance(value, File)
            assert (await value.bytes(), value.name, value.type) == (
                sent,
                one_line(filename),
                "a/b",
            )
        else:
            # Line ends are CRLF on the wire, as browsers send them.
            assert value == "\r\n".join(sent.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def one_line(text: str) -> str:
    """What comes back of a name: its escapes cannot be told from the same text unescaped."""
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')


async def test_an_urlencoded_form_is_read() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}
    request = Request(URL, method="POST", headers=headers, body="a=1&b=%C3%A9+x&a=&=e&%FF=%FF")
    form = await request.form_data()
    assert form.items() == [("a", "1"), ("b", "é x"), ("a", ""), ("", "e"), ("\ufffd", "\ufffd")]
    assert (form["a"], form.get("a"), form.get_all("a"), form.get("x")) == (
        "1",
        "1",
        ["1", ""],
        None,
    )
    assert "b" in form
    assert len(form) == 5


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b"a=b"),
        ("text/plain", b"a=b"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"nonsense"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb',
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nc\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", b"a&" * 10_001),
    ],
)
async def test_what_is_no_form_is_refused(content_type: str | None, body: bytes) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    with pytest.raises(bunflare.FetchTypeError):
        await Request(URL, method="POST", headers=headers, body=body).form_data()


def test_a_form_is_a_multimap() -> None:
    form = FormData({"a": ["1", "2"], "b": "3"})
    form.set("a", "4")
    form["c"] = Blob([b"x"], type="a/b")
    assert form.keys() == ["a", "b", "c"]
    file = form["c"]
    assert isinstance(file, File)
    assert (file.name, file.type, file.size) == ("blob", "a/b", 1)
    form.append("b", file, "other.txt")
    assert [getattr(value, "name", value) for value in form.getAll("b")] == ["3", "other.txt"]
    del form["b"]
    assert form["b"] is None
    with pytest.raises(KeyError):
        del form["b"]
    with pytest.raises(TypeError):
        form.append("a", 5)  # type: ignore[arg-type]


# -- blobs -------------------------------------------------------------------------------------


async def test_blobs_are_made_of_parts() -> None:
    blob = Blob(["a", b"b", bytearray(b"c"), memoryview(b"d"), Blob("e")], type="Text/PLAIN")
    assert (await blob.text(), blob.size, blob.type) == ("abcde", 5, "text/plain")
    part = blob.slice(1, -1, "a/b")
    assert (await part.bytes(), part.content_type) == (b"bcd", "a/b")
    assert b"".join([piece async for piece in blob.stream()]) == b"abcde"
    assert bytes(await blob.arrayBuffer()) == b"abcde"
    assert await Blob("a\r\nb\rc", endings="native").text() == "a\nb\nc"
    assert Blob([], type="\n").type == ""
    file = File("x", "name.txt", last_modified=5)
    assert (file.name, file.lastModified, file.size) == ("name.txt", 5, 1)
    with pytest.raises(TypeError):
        Blob([5])  # type: ignore[list-item]
    assert json.dumps(repr(file))


async def test_json_is_dicts_whose_keys_are_attributes_too() -> None:
    value = await Response('{"message": {"chat": {"id": 5}, "parts": [{"a": 1}]}}').json()
    assert value == {"message": {"chat": {"id": 5}, "parts": [{"a": 1}]}}
    assert value.message.chat.id == 5
    assert value.message.parts[0].a == 1
    assert value.to_py() == value
    assert (await Response("[1, 2]").json()).to_py() == [1, 2]
    assert await Response("5").json() == 5


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        (Response, {}, "Unsupported type in Response: dict"),
        (Blob, [5], "Don't know how to handle <class 'int'> for Blob()"),
        (Blob, 5, "Don't know how to handle <class 'int'> for Blob()"),
        (FormData, "x", "Expected form_data to be a dict or an instance of FormData"),
        (Headers, "x", "Received unexpected type for headers argument"),
        (Headers, 5, "Received unexpected type for headers argument"),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_sdk(kind: Any, given: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        kind(given)
    assert str(caught.value) == text
    form: Any = FormData()
    with pytest.raises(TypeError, match="Expected single item in arguments to FormData"):
        form["a"] = ["x"]
