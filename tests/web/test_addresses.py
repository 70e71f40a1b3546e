"""URLs as the platform's own parser spells them: the answers are workerd's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare import FetchTypeError, Response
from bunflare.web import normalize

SPELLED = [
    ("http://127.1/", "http://127.0.0.1/"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://0300.1/", "http://192.0.0.1/"),
    ("http://1.2.3/", "http://1.2.0.3/"),
    ("http://1.2.3.4./", "http://1.2.3.4/"),
    ("http://0x/", "http://0.0.0.0/"),
    ("http://4294967295/", "http://255.255.255.255/"),
    ("http://1e.com/", "http://1e.com/"),
    ("http://a.1e/", "http://a.1e/"),
    ("http://a..b/", "http://a..b/"),
    ("http://-a.com/", "http://-a.com/"),
    ("http://a_b.com./", "http://a_b.com./"),
    ("http://a%2eb/", "http://a.b/"),
    ("http://ex%41mple.com/", "http://example.com/"),
    ("http://☃.net/", "http://xn--n3h.net/"),
    ("http://ＧＯ.com/", "http://go.com/"),
    ("http://e。com/", "http://e.com/"),
    ("http://ab\u00adc.com/", "http://abc.com/"),
    ("http://[::ffff:1.2.3.4]/", "http://[::ffff:102:304]/"),
    ("http://[1::2:0:0:3]/", "http://[1::2:0:0:3]/"),
    ("http://[0:0:0:1:0:0:0:1]/", "http://[::1:0:0:0:1]/"),
    ("http://[1:0:0:2:0:0:0:3]/", "http://[1:0:0:2::3]/"),
    ("http://[10:0:0:20::]/", "http://[10:0:0:20::]/"),
    ("http://[::1]:80/", "http://[::1]/"),
    ("http://[::]/", "http://[::]/"),
    ("http://[ABCD:1:2:3:4:5:6:7]/", "http://[abcd:1:2:3:4:5:6:7]/"),
    ("http://e.com:/", "http://e.com/"),
    ("http://e.com:0080/", "http://e.com/"),
    ("http://e.com:00443/", "http://e.com:443/"),
    ("http://e.com:65535/", "http://e.com:65535/"),
    ("http://@e.com/", "http://e.com/"),
    ("http://:@e.com/", "http://e.com/"),
    ("HTTPS:/e.com", "https://e.com/"),
    ("http:///e.com", "http://e.com/"),
    ("http://e.com\\..\\b?\\", "http://e.com/b?\\"),
    ("http://e.com/?", "http://e.com/?"),
    ("http://e.com/#", "http://e.com/#"),
    ("http://e.com/a%", "http://e.com/a%"),
    ("http://e.com/\0\x7f", "http://e.com/%00%7F"),
    ("http://e.com/a;b/../c%2f..", "http://e.com/c%2f.."),
    ("http://e.com/.%2e/b/%2E/c/..", "http://e.com/b/"),
    ("http://e.com//a//../b", "http://e.com//a/b"),
    ("http://e.com/a/./.", "http://e.com/a/"),
    ("http://e.com/ü?ü#ü", "http://e.com/%C3%BC?%C3%BC#%C3%BC"),
    ("http://e.com/[x]?[x]", "http://e.com/[x]?[x]"),
    ("http://e.com/a'b?a'b#a'b", "http://e.com/a'b?a%27b#a'b"),
    ("http://e.com/a^b`{}|?^`{}|#^`{}|", "http://e.com/a%5Eb%60%7B%7D|?^`{}|#^%60{}|"),
    ("http://e.com/\ud83d\ude00\ud800", "http://e.com/%F0%9F%98%80%EF%BF%BD"),
]


@pytest.mark.parametrize(("url", "expected"), SPELLED)
def test_an_address_is_spelled_as_the_platform_does(url: str, expected: str) -> None:
    assert normalize(url) == expected
    assert normalize(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("http://256.1.1.1/", "http://a.1/", "http://09.1/", "http://a.0x/", "http://1.2.3.4.5/"),
        *("http://4294967296/", "http://1..2/", "http://a%20b/", "http://a^b/", "http://a|b/"),
        *("http://[fe80::1%25eth0]/", "http://[1:2]/", "http://[]/", "http://[::1/", "http://::1/"),
        *("http://e.com:65536/", "http://e.com:8a/", "http://e.com:٣/", "http://u@e.com/"),
        *("http://:p@e.com/", "http://u:p@e.com/", "http://a::@e.com/", "http://@/", "https://"),
        *("http://%ff/", "http://％41.com%00/", "http"),
    ],
)
def test_what_the_platform_refuses_is_refused(url: str) -> None:
    with pytest.raises(FetchTypeError):
        normalize(url)


@given(
    st.sampled_from(["http://", "HTTPS:", "http:\\\\"]),
    st.sampled_from(["e.com", "E.com.", "127.1", "[::1]", "[1::2:0]", "bücher.de", "127.0.0.1"]),
    st.sampled_from(["", "/", "\\", ":80/", ":443/", ":8787/", "/./", "/..", "?", "#"]),
    st.text(st.characters() | st.sampled_from("/.%2e?#\\ "), max_size=12),
)
def test_normal_is_normal(scheme: str, host: str, start: str, rest: str) -> None:
    try:
        once = normalize(scheme + host + start + rest)
    except FetchTypeError:
        return
    assert normalize(once) == once
    assert once.isascii()
    assert not any(char in once for char in ' "<>\t\r\n')
    path = once.partition("#")[0].partition("?")[0]
    assert not {".", "..", "%2e", "%2E"} & set(path.split("/"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.com/a b", "http://example.com/a%20b"),
        ("MyApp://cb/ x?y#z", "myapp://cb/%20x?y#z"),
        ("mailto:é@example.com", "mailto:%C3%A9@example.com"),
        (" app:a\nb ", "app:ab"),
    ],
)
def test_a_redirect_may_lead_to_any_scheme(url: str, expected: str) -> None:
    assert Response.redirect(url).headers["location"] == expected


@pytest.mark.parametrize("url", ["/a", "", "//e.com/", "http://", "1a:b", None, 5])
def test_a_redirect_needs_an_absolute_url(url: str) -> None:
    with pytest.raises(FetchTypeError):
        Response.redirect(url)
