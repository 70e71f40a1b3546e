"""``HTMLRewriter``: responses rewritten as they pass."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bunflare
from bunflare.runtime.js_rewriter import HTMLRewriter

PAGE = (
    "<!DOCTYPE html><html><head><title>old</title></head><body>"
    '<!-- note --><a href="http://a/" class="x y">one</a><p id=p>two &amp; three</p>'
    "<script>if (a < b) {}</script></body></html>"
)


async def rewritten(rewriter: HTMLRewriter, page: Any = PAGE) -> str:
    response = bunflare.Response(page, headers={"content-type": "text/html"})
    return await rewriter.transform(response).text()


async def test_elements_are_changed_by_selector() -> None:
    seen: list[Any] = []

    class Links:
        def element(self, element: Any) -> None:
            seen.append((element.tagName, element.getAttribute("href"), list(element.attributes)))
            element.setAttribute("href", "https://b/").setAttribute("rel", "nofollow")
            element.removeAttribute("class")
            element.before("<b>", {"html": True}).append("<i>")
            assert element.has_attribute("rel")

    class Paragraph:
        async def element(self, element: Any) -> None:
            element.setInnerContent("<new>")
            element.tagName = "div"

    text = await rewritten(
        HTMLRewriter.new()
        .on("a[href]", Links())
        .on("p#p", Paragraph())
        .on("title", {"element": lambda element: element.replace("<t>", html=True)})
        .on("script", {"element": lambda element: element.remove()})
    )
    assert seen == [("a", "http://a/", [["href", "http://a/"], ["class", "x y"]])]
    assert '<b><a href="https://b/" rel="nofollow">one&lt;i&gt;</a>' in text
    assert "<div id=p>&lt;new&gt;</div>" in text
    assert "<head><t></head>" in text
    assert "<script>" not in text


async def test_texts_comments_and_the_document() -> None:
    seen: list[Any] = []

    class Document:
        def doctype(self, doctype: Any) -> None:
            seen.append((doctype.name, doctype.publicId))

        def comments(self, comment: Any) -> None:
            comment.text = comment.text.upper()

        def end(self, end: Any) -> None:
            end.append("<!-- end -->", {"html": True})

    def text(chunk: Any) -> None:
        if chunk.text:
            chunk.replace(chunk.text.upper())
        seen.append(chunk.lastInTextNode)

    page = await rewritten(HTMLRewriter.new().onDocument(Document()).on("a", {"text": text}))
    assert seen[0] == ("html", None)
    assert seen[-1] is True
    assert "<!-- NOTE -->" in page
    assert ">ONE</a>" in page
    assert page.endswith("<!-- end -->")


async def test_a_page_passes_as_it_comes() -> None:
    passed = asyncio.Event()

    async def page() -> AsyncIterator[bytes]:
        for i in range(100):
            yield b"<p>%d</p>" % i
            if i == 10:
                await passed.wait()

    response = HTMLRewriter.new().on("p", {"element": lambda p: p.setAttribute("n", "1")})
    body = response.transform(bunflare.Response(page())).body
    assert body is not None
    got = b""
    async for chunk in body:
        got += chunk
        if b'<p n="1">5' in got:
            passed.set()
    assert got.count(b'<p n="1">') == 100


async def test_what_handlers_raise_is_raised() -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError("in the handler")

    with pytest.raises(ZeroDivisionError, match="in the handler"):
        await rewritten(HTMLRewriter.new().on("a", {"element": fail}))

    async def wait(_: Any) -> None:
        await asyncio.sleep(0)

    with pytest.raises(bunflare.WorkerError, match="cannot wait"):
        await rewritten(HTMLRewriter.new().on("a", {"element": wait}))
    with pytest.raises(bunflare.errors.JsError, match="Parser error"):
        await rewritten(HTMLRewriter.new().on("a[", {"element": fail}))
    with pytest.raises(bunflare.WorkerError, match="onEndTag"):
        await rewritten(
            HTMLRewriter.new().on("a", {"element": lambda one: one.onEndTag(lambda tag: None)})
        )


async def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lolhtml", None)
    with pytest.raises(bunflare.WorkerError, match=r"pip install 'bunflare\[html\]'"):
        HTMLRewriter.new()
