"""``URL`` of JavaScript. What is expected here is what workerd answers."""

from __future__ import annotations

from typing import Any

import pytest

from bunflare.errors import JsError
from bunflare.runtime.js_url import JsUrl

PARTS = ("href", "username", "password", "host", "port", "pathname", "search", "hash", "origin")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (
            ("https://user:pw@Example.com:443/a/../b?x=1 2#h h",),
            (
                *("https://user:pw@example.com/b?x=1%202#h%20h", "user", "pw", "example.com"),
                *("", "/b", "?x=1%202", "#h%20h", "https://example.com"),
            ),
        ),
        (
            ("../c?q", "https://e.org/a/b/d"),
            ("https://e.org/a/c?q", "", "", "e.org", "", "/a/c", "?q", "", "https://e.org"),
        ),
        (
            ("?y", "https://e.org/a/b#z"),
            ("https://e.org/a/b?y", "", "", "e.org", "", "/a/b", "?y", "", "https://e.org"),
        ),
        (
            ("postgres://u:p@host:5432/db?x=1",),
            (
                *("postgres://u:p@host:5432/db?x=1", "u", "p", "host:5432", "5432", "/db"),
                *("?x=1", "", "null"),
            ),
        ),
        (
            ("http://[::1]:8080/",),
            (
                *("http://[::1]:8080/", "", "", "[::1]:8080", "8080", "/", "", ""),
                "http://[::1]:8080",
            ),
        ),
        (("wss://h:443/x",), ("wss://h/x", "", "", "h", "", "/x", "", "", "wss://h")),
        (("mailto:a@b.c",), ("mailto:a@b.c", "", "", "", "", "a@b.c", "", "", "null")),
    ],
)
def test_a_url_has_parts(given: tuple[str, ...], parts: tuple[str, ...]) -> None:
    url = JsUrl(*given)
    assert tuple(getattr(url, name) for name in PARTS) == parts
    assert str(url) == url.toString() == url.href


def test_what_is_no_url_is_a_type_error() -> None:
    for wrong in ("x", "http://h:99999/", "/path"):
        with pytest.raises(JsError, match=r"^TypeError: Invalid URL string\.$"):
            JsUrl(wrong)
        assert JsUrl.parse(wrong) is None
        assert not JsUrl.canParse(wrong)
    assert JsUrl.canParse("/path", "http://h")


def test_parts_can_be_set_and_parameters_are_alive() -> None:
    url: Any = JsUrl("https://e.com/a?x=1&y=2")
    parameters = url.searchParams
    parameters.set("z", "3 4")
    assert url.href == "https://e.com/a?x=1&y=2&z=3+4"
    url.pathname = "new/p?q#r"
    assert url.href == "https://e.com/new/p%3Fq%23r?x=1&y=2&z=3+4"
    url.search = "?only=1"
    assert parameters.get("only") == "1"
    parameters.delete("only")
    assert url.href == "https://e.com/new/p%3Fq%23r"
    for changes, expected in (
        ({"hash": "frag"}, "https://e.com/new/p%3Fq%23r#frag"),
        ({"host": "h:81"}, "https://h:81/new/p%3Fq%23r#frag"),
        ({"hostname": "g"}, "https://g:81/new/p%3Fq%23r#frag"),
        ({"port": "443"}, "https://g/new/p%3Fq%23r#frag"),
        ({"protocol": "http"}, "http://g/new/p%3Fq%23r#frag"),
        ({"username": "a b", "password": "c:d"}, "http://a%20b:c%3Ad@g/new/p%3Fq%23r#frag"),
        ({"port": "bad"}, "http://a%20b:c%3Ad@g/new/p%3Fq%23r#frag"),
        ({"hash": ""}, "http://a%20b:c%3Ad@g/new/p%3Fq%23r"),
        ({"href": "http://z/?k=v"}, "http://z/?k=v"),
    ):
        for name, value in changes.items():
            setattr(url, name, value)
        assert url.href == expected
    parameters.append("k", "w")
    assert url.href == "http://z/?k=v&k=w"
