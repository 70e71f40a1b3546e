"""``HTMLRewriter`` on pages of other encodings than UTF-8."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bunflare
from bunflare.errors import JsError
from bunflare.runtime.js_rewriter import HTMLRewriter


async def rewritten(rewriter: HTMLRewriter, page: Any, charset: str | None) -> bytes:
    kind = "text/html" if charset is None else f"text/html; charset={charset}"
    response = rewriter.transform(bunflare.Response(page, headers={"content-type": kind}))
    assert response.headers["content-type"] == kind
    return await response.bytes()


async def single(data: bytes) -> AsyncIterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


@pytest.mark.parametrize(
    ("charset", "codec", "word"),
    [
        ("windows-1252", "cp1252", "Größe €"),
        ("ISO-8859-1", "cp1252", "Größe €"),
        ('"latin1"', "cp1252", "Größe"),
        ("us-ascii", "cp1252", "Größe"),
        ("ISO-8859-2", "iso8859-2", "Žluťoučký"),
        ("windows-1251", "cp1251", "Привет"),
        ("koi8-r", "koi8-r", "Привет"),
        ("Shift_JIS", "cp932", "表示ソ能"),
        ("EUC-JP", "euc-jp", "日本語"),
        ("gb2312", "gbk", "你好世界"),
        ("GB18030", "gb18030", "你好 €😀"),
        ("Big5", "big5hkscs", "許功蓋"),
        ("euc-kr", "cp949", "안녕하세요"),
        ("utf-8", "utf-8", "Größe 😀"),
        ("UTF8; x=y", "utf-8", "Größe 😀"),
        (None, "utf-8", "Größe 😀"),
    ],
)
async def test_a_page_keeps_its_encoding(charset: str | None, codec: str, word: str) -> None:
    page = f'<p title="{word}">{word}</p><b>{word}</b>'
    seen: list[str] = []

    class Handler:
        def element(self, element: Any) -> None:
            seen.append(element.getAttribute("title"))
            element.setAttribute("title", f"{word}!").append(f"{word}?")

        def text(self, chunk: Any) -> None:
            seen.append(chunk.text)

    expected = f'<p title="{word}!">{word}{word}?</p><b>{word}</b>'.encode(codec)
    for given in (page.encode(codec), single(page.encode(codec))):
        seen.clear()
        rewriter = HTMLRewriter.new().on("p", Handler())
        assert await rewritten(rewriter, given, charset) == expected
        assert (seen[0], "".join(seen[1:])) == (word, word)


async def test_what_an_encoding_lacks_becomes_a_reference() -> None:
    async def more() -> AsyncIterator[bytes]:
        for byte in "ä😀".encode():
            yield bytes([byte])

    def change(element: Any) -> None:
        element.setAttribute("a", "€Ж").setInnerContent(bunflare.Response(more()), html=True)

    rewriter = HTMLRewriter.new().on("p", {"element": change})
    page = await rewritten(rewriter, b"<p>\xfc</p>\xe4", "windows-1252")
    assert page == b'<p a="\x80&#1046;">\xe4&#128512;</p>\xe4'


@pytest.mark.parametrize("charset", ["shift_jis", "euc-kr", "windows-1252", "x-user-defined"])
async def test_what_cannot_be_decoded_stays_as_it_was(charset: str) -> None:
    page = b"<p>\x81<i>\xff\xfe</i>\xa0\x81\xff</p>\x8d"
    rewriter = HTMLRewriter.new().on("i", {"element": lambda element: element.setAttribute("n", 1)})
    expected = page.replace(b"<i>", b'<i n="1">')
    assert await rewritten(rewriter, page, charset) == expected
    assert await rewritten(rewriter, single(page), charset) == expected


@pytest.mark.parametrize(
    ("charset", "message"),
    [
        ("klingon", "Unknown character encoding has been provided."),
        ("rot13", "Unknown character encoding has been provided."),
        ("utf-16", "Expected ASCII-compatible encoding."),
        ("ISO-2022-JP", "Expected ASCII-compatible encoding."),
    ],
)
async def test_an_encoding_that_is_not_supported_is_a_type_error(
    charset: str, message: str
) -> None:
    response = bunflare.Response("x", headers={"content-type": f"text/html;charset={charset}"})
    with pytest.raises(JsError, match=f"^TypeError: Parser error: {message}$"):
        HTMLRewriter.new().on("p", {}).transform(response)
    assert await response.text() == "x"
