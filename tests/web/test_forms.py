"""Forms: written and read, with what people put into names."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare import Blob, FetchTypeError, File, FormData, Request, Response
from bunflare.web import URLSearchParams

BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}
# Surrogates cannot be sent, and an escape of a quote or line end is read as what it stands for.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\r\n"\\;= =%'), max_size=10
).filter(lambda name: not any(escape in name for escape in ("%0D", "%0A", "%22")))
CONTENTS = st.binary(max_size=30) | st.sampled_from(
    [b"\r\n--", b"--x--", b"\r\n----bunflare", b"\r\n\r\n"]
)


async def parsed(body: bytes, headers: dict[str, str] = BOUNDARY) -> list[Any]:
    form = await Response(body, headers=headers).form_data()
    return [
        (name, value.name, value.type, value.known()) if isinstance(value, File) else (name, value)
        for name, value in form.items()
    ]


def part(disposition: str, more: str = "") -> bytes:
    head = f"--x\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return f"{head}value\r\n--x--\r\n".encode()


# -- multipart ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(NAMES, NAMES, CONTENTS), max_size=4))
async def test_files_survive_being_sent(files: list[tuple[str, str, bytes]]) -> None:
    form = FormData([(name, File(data, filename, "a/b")) for name, filename, data in files])
    response = Response(form)
    content_type = response.headers["content-type"]
    assert await parsed(await response.bytes(), {"content-type": content_type}) == [
        (name, filename, "a/b", data) for name, filename, data in files
    ]


@given(st.lists(st.tuples(NAMES, st.text(max_size=10)), max_size=4))
async def test_texts_survive_being_sent(fields: list[tuple[str, str]]) -> None:
    form = await Request("http://a/", method="POST", body=FormData(fields)).form_data()
    # Line ends are CRLF on the wire, and what UTF-8 cannot say is replaced.
    wire = [
        (name, "\r\n".join(value.replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        for name, value in fields
    ]
    assert form.items() == [
        (name, value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        for name, value in wire
    ]


async def test_what_is_on_the_wire() -> None:
    form = FormData()
    form.append('a"\r\nb\\', "x\ny")
    form.append("f", Blob(["z"]), 'ü"')
    response = Response(form)
    boundary = response.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert await response.text() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="a%22%0D%0Ab\\"\r\n\r\nx\r\ny\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="ü%22"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\nz\r\n--{boundary}--\r\n"
    )
    assert Response(form).headers["content-type"] != Response(form).headers["content-type"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--x--\r\n", []),
        (part('name="a"'), [("a", "value")]),
        (part("name=a"), [("a", "value")]),
        (part('NAME="a"'), [("a", "value")]),
        (part('name="a"; filename="b"'), [("a", "b", "text/plain", b"value")]),
        (part('filename="b"; name="a"'), [("a", "b", "text/plain", b"value")]),
        (part('name="a"; filename=""'), [("a", "", "text/plain", b"value")]),
        (part('name="a"; filename="; name=c"'), [("a", "; name=c", "text/plain", b"value")]),
        (part('name="a"', "Content-Type: a/b\r\n"), [("a", "value")]),
        (
            part('name="a"; filename="b"', "content-TYPE: A/B\r\n"),
            [("a", "b", "a/b", b"value")],
        ),
        # As old clients escape a quote, and a name that ends in a backslash.
        (
            part('name="a\\"b"; filename="C:\\x\\"'),
            [('a"b', "C:\\x\\", "text/plain", b"value")],
        ),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--x--", [("a", "\ufffd")]),
    ],
)
async def test_what_others_send_is_read(body: bytes, expected: list[Any]) -> None:
    assert await parsed(body) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=x",
        'Multipart/Form-Data;charset=utf-8;Boundary="x"',
        "multipart/form-data; boundary=x; charset=utf-8",
    ],
)
async def test_a_boundary_may_be_written_in_many_ways(content_type: str) -> None:
    assert await parsed(part('name="a"'), {"content-type": content_type}) == [("a", "value")]


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"a=b", "requires a Content-Type header"),
        ({"content-type": "text/plain"}, b"a=b", "Unrecognized Content-Type"),
        ({"content-type": "multipart/form-data"}, b"--x--", "No boundary string"),
        ({"content-type": f"multipart/form-data; boundary={'x' * 999}"}, b"", "not valid"),
        (BOUNDARY, b"", "No subsequent boundary"),
        (BOUNDARY, b"nonsense", "not valid"),
        (BOUNDARY, part('name="a"')[:-9], "No subsequent boundary"),
        (BOUNDARY, part('filename="a"'), "missing a name"),
        (BOUNDARY, part(f'name="{"a" * 20_000}"'), "header"),
        (BOUNDARY, b"--x\r\nContent-Disposition: a; name=b\r\n\r\n\r\n" * 10_001, "10000 fields"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"&" * 10_000, "10000 fields"),
    ],
)
async def test_what_is_no_form_is_refused(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    response = Response(body, headers=headers)
    with pytest.raises(FetchTypeError, match=message):
        await response.form_data()
    assert response.body_used


# -- urlencoded --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"a", [("a", "")]),
        (b"a=b&&c=d&", [("a", "b"), ("c", "d")]),
        (b"=", [("", "")]),
        (b"=b=c", [("", "b=c")]),
        (b"a+b=c+d", [("a b", "c d")]),
        (b"a=%C3%A9%2B%26", [("a", "é+&")]),
        (b"a=\xc3\xa9", [("a", "é")]),
        (b"a=%zz%", [("a", "%zz%")]),
        (b"a=%EF%BB%BFb", [("a", "\ufeffb")]),
        (b"a=%FF\xff", [("a", "\ufffd\ufffd")]),
        (b"a;b=c", [("a;b", "c")]),
    ],
)
async def test_an_urlencoded_form_is_read(body: bytes, expected: list[tuple[str, str]]) -> None:
    headers = {"content-type": "Application/x-www-form-urlencoded; charset=UTF-8"}
    assert await parsed(body, headers) == expected
    assert URLSearchParams(body.decode("latin-1")).items() == expected or not body.isascii()


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5))
async def test_search_params_survive_being_sent(fields: list[tuple[str, str]]) -> None:
    params = URLSearchParams(fields)
    assert params.items() == fields
    request = Request("http://a/", method="POST", body=params)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded;charset=UTF-8"
    form = await request.form_data()
    assert form.items() == [
        tuple(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in field)
        for field in fields
    ]
    assert str(params).isascii()


def test_search_params_are_written_as_the_standard_has_it() -> None:
    params = URLSearchParams({"a b": "~*-._é", "c": "&=+%"})
    assert str(params) == "a+b=%7E*-._%C3%A9&c=%26%3D%2B%25"
    params = URLSearchParams("?b=1&a=2&b=3&\ue000=4&\U00010000=5")
    params.sort()
    assert params.keys() == ["a", "b", "b", "\U00010000", "\ue000"]
    params["b"] = "6"
    assert (params.get_all("b"), params.get("x"), len(params)) == (["6"], None, 4)
    assert URLSearchParams(params).items() == params.items()
    with pytest.raises(TypeError):
        params.append("a", 5)  # type: ignore[arg-type]


# -- FormData as a multimap --------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "set", "delete"]), st.sampled_from("aAb"), st.text("xy")
        )
    )
)
def test_a_form_is_a_multimap_in_order(changes: list[tuple[str, str, str]]) -> None:
    form = FormData()
    model: list[tuple[str, str]] = []
    for change, name, value in changes:
        if change == "append":
            form.append(name, value)
            model.append((name, value))
        elif change == "delete":
            form.delete(name)
            model = [entry for entry in model if entry[0] != name]
        else:
            form.set(name, value)
            names = [other for other, _ in model]
            first = names.index(name) if name in names else len(model)
            model[first:] = [
                (name, value),
                *(entry for entry in model[first + 1 :] if entry[0] != name),
            ]
    assert form.items() == form.entries() == model
    assert form.keys() == list(form) == [name for name, _ in model]
    assert form.values() == [value for _, value in model]
    assert len(form) == len(model)
    for name in "aAbc":
        values = [value for other, value in model if other == name]
        assert form.get_all(name) == form.getAll(name) == values
        assert form.get(name) == (values[0] if values else None)
        assert form.get(name, 5) == (values[0] if values else 5)
        assert (name in form) is form.has(name) is bool(values)
    assert FormData(form).items() == model
    assert 5 not in form
    assert form


def test_what_is_no_field_is_refused() -> None:
    form = FormData()
    for name, value in ((5, "a"), ("a", 5), ("a", b"bytes"), ("a", None)):
        with pytest.raises(FetchTypeError):
            form.append(name, value)  # type: ignore[arg-type]
        with pytest.raises(FetchTypeError):
            form[name] = value  # type: ignore[index, assignment]
    with pytest.raises(FetchTypeError):
        form.append("a", Blob(), 5)  # type: ignore[arg-type]
    assert len(form) == 0


def test_a_blob_becomes_a_file() -> None:
    file = File("x", "n.txt", "a/b", last_modified=5)
    form = FormData({"a": Blob("x", "a/b"), "b": file})
    form.append("b", file, "other")
    assert form["b"] is file
    assert [(value.name, value.type) for value in form.values() if isinstance(value, File)] == [
        *(("blob", "a/b"), ("n.txt", "a/b"), ("other", "a/b"))
    ]
    assert "n.txt" in repr(form)


# -- blobs -------------------------------------------------------------------------------------


@given(st.binary(max_size=8), *[st.none() | st.integers(-10, 10)] * 2)
async def test_a_slice_of_a_blob_is_a_slice_of_its_bytes(
    data: bytes, start: int | None, end: int | None
) -> None:
    part = Blob(data, "a/b").slice(start, end)
    assert (await part.bytes(), part.type, part.size) == (data[start:end], "", len(data[start:end]))


async def test_a_blob_made_of_one_takes_over_what_it_says() -> None:
    file = File(b"x", "a", "A/B", last_modified=5)
    assert [Blob(file).type, Blob([file]).type, Blob(file, "c/d").type] == ["a/b", "", "c/d"]
    copy = File(file, filename="b", content_type="c/d")
    assert (copy.name, copy.type, copy.last_modified) == ("b", "c/d", 5)
    assert File([file], "b").last_modified > 5
    buffer: Any = array.array("B", b"x")
    assert await Blob([buffer, "\ud83d\ude00\ud800"]).text() == "x😀\ufffd"
    assert await Blob(b"\xef\xbb\xbfx").text() == "x"
    assert await Blob(["a\r\n", b"b\r\n"], endings="native").bytes() == b"a\nb\r\n"
    for kind in ("é", "a\nb", "\0"):
        assert Blob([], kind).type == ""


@pytest.mark.parametrize("parts", [5, [5], [None], object(), [["a"]]])
def test_what_is_no_part_of_a_blob_is_refused(parts: Any) -> None:
    with pytest.raises(FetchTypeError):
        Blob(parts)


def test_a_file_has_a_name() -> None:
    for name in (None, 5):
        with pytest.raises(FetchTypeError):
            File("x", name)  # type: ignore[arg-type]
