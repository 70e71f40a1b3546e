"""URLs in one spelling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare import FetchTypeError
from bunflare.web import normalize


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTP://EXAMPLE.com/A", "http://example.com/A"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("http://example.com:8787/a?b=c", "http://example.com:8787/a?b=c"),
        ("http://example.com?q", "http://example.com/?q"),
        ("http://example.com/a/./b/../c", "http://example.com/a/c"),
        ("http://example.com/a/..", "http://example.com/"),
        ("http://example.com/a/.", "http://example.com/a/"),
        ("http://example.com/../../a", "http://example.com/a"),
        ("http://example.com/%2e%2E/a", "http://example.com/a"),
        ("http://example.com/...", "http://example.com/..."),
        ("http://example.com/.well-known/x", "http://example.com/.well-known/x"),
        ("http://example.com/a b", "http://example.com/a%20b"),
        ('http://example.com/é?é="', "http://example.com/%C3%A9?%C3%A9=%22"),
        ("http://example.com/a%2Fb", "http://example.com/a%2Fb"),
        ("http://example.com/a#frag ment", "http://example.com/a#frag%20ment"),
        ("http:\\\\example.com\\a", "http://example.com/a"),
        ("http:example.com", "http://example.com/"),
        (" http://example.com/a\n", "http://example.com/a"),
        ("http://ex\nample.com/", "http://example.com/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:8787/", "http://[::1]:8787/"),
        ("http://127.0.0.1:8787/a//b", "http://127.0.0.1:8787/a//b"),
    ],
)
def test_one_address_has_one_spelling(url: str, expected: str) -> None:
    assert normalize(url) == expected
    assert normalize(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("", "/a", "example.com", "ftp://example.com/", "file:///a", "http://", "http:///"),
        *("http://a b/", "http://example.com:99999/", "http://example.com:x/", "http://[::1"),
        *("http://user:pass@example.com/", "mailto:a@b", None, 5),
    ],
)
def test_what_is_no_http_address_is_refused(url: Any) -> None:
    with pytest.raises(FetchTypeError):
        normalize(url)


@given(st.text(max_size=30))
def test_normalizing_twice_is_normalizing_once(rest: str) -> None:
    try:
        once = normalize(f"http://example.com/{rest}")
    except FetchTypeError:
        return
    assert normalize(once) == once
    assert once.isascii()
