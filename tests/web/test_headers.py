"""Headers: a multimap whose names do not know case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare import Headers

NAMES = st.sampled_from(["a", "A", "b", "Set-Cookie", "set-cookie", "X-Long-Name"])
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=5)


@given(st.lists(st.tuples(st.sampled_from(["append", "set", "delete"]), NAMES, VALUES)))
def test_it_is_a_multimap(changes: list[tuple[str, str, str]]) -> None:
    headers = Headers()
    model: list[tuple[str, str]] = []
    for change, name, value in changes:
        value = value.strip()
        if change == "append":
            headers.append(name, value)
            model.append((name.lower(), value))
            continue
        if change == "set":
            headers.set(name, value)
            first = next((i for i, pair in enumerate(model) if pair[0] == name.lower()), len(model))
        else:
            headers.delete(name)
            first = -1
        rest = [pair for pair in model if pair[0] != name.lower()]
        if first >= 0:
            before = [pair for pair in model[:first] if pair[0] != name.lower()]
            rest.insert(len(before), (name.lower(), value))
        model = rest
    assert headers.pairs == model
    for name in ("a", "B", "SET-COOKIE", "missing"):
        values = [value for other, value in model if other == name.lower()]
        assert headers.get_all(name, []) == values
        assert headers.get(name) == (", ".join(values) if values else None)
        assert headers.has(name) is (name in headers) is bool(values)
    assert headers.get_set_cookie() == [value for name, value in model if name == "set-cookie"]
    assert Headers.from_raw(headers.raw).pairs == model
    assert Headers(headers) == headers


def test_it_iterates_in_order_with_values_joined() -> None:
    headers = Headers(
        [("b", "1"), ("A", "2"), ("b", "3"), ("Set-Cookie", "x"), ("set-cookie", "y")]
    )
    assert headers.items() == [("a", "2"), ("b", "1, 3"), ("set-cookie", "x"), ("set-cookie", "y")]
    assert list(headers) == headers.keys() == ["a", "b", "set-cookie", "set-cookie"]
    assert headers.values() == ["2", "1, 3", "x", "y"]
    assert headers["B"] == "1, 3"
    assert headers.get("missing", "default") == "default"
    assert headers["missing"] is None
    headers["B"] = "4"
    del headers["a"]
    with pytest.raises(KeyError):
        del headers["a"]
    assert headers.get("b") == "4"
    assert bool(Headers())


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "a\n", "a\0", None, 5])
def test_a_bad_name_is_refused(name: Any) -> None:
    for call in (
        lambda: Headers({name: "x"}),
        lambda: Headers().set(name, "x"),
        lambda: Headers().get(name),
        lambda: Headers().delete(name),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert isinstance(caught.value, bunflare.FetchError)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "☃", None, b"bytes"])
def test_a_bad_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        Headers({"a": value})


def test_values_are_trimmed_and_may_be_latin_1() -> None:
    headers = Headers({"a": " \t é \r\n", "n": 5})  # type: ignore[arg-type]
    assert headers["a"] == "é"
    assert headers["n"] == "5"
    assert headers.raw == [(b"a", "é".encode("latin-1")), (b"n", b"5")]


def test_frozen_headers_cannot_be_changed() -> None:
    headers = Headers({"a": "b"}).freeze()
    with pytest.raises(TypeError, match="immutable"):
        headers.set("a", "c")
    copy = Headers(headers)
    copy.set("a", "c")
    assert headers["a"] == "b"


@pytest.mark.parametrize("init", [[("a",)], ["abc"], 5])
def test_what_is_not_pairs_is_refused(init: Any) -> None:
    with pytest.raises(TypeError):
        Headers(init)
