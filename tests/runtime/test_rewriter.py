"""``HTMLRewriter``: responses rewritten as they pass."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import bunflare
from bunflare.errors import JsError
from bunflare.runtime.js_rewriter import HTMLRewriter
from bunflare.runtime.switching import run_sync

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

    async def fail_later(_: Any) -> None:
        await asyncio.sleep(0)
        fail(_)

    with pytest.raises(ZeroDivisionError, match="in the handler"):
        await rewritten(HTMLRewriter.new().on("a", {"text": fail_later}))
    with pytest.raises(ZeroDivisionError, match="in the handler"):
        await rewritten(
            HTMLRewriter.new().on("a", {"element": lambda one: one.onEndTag(fail_later)})
        )


async def test_mistakes_are_type_errors_as_on_the_platform() -> None:
    # What the platform says, word for word.
    with pytest.raises(JsError, match=r"^TypeError: Parser error: Unexpected end of selector.$"):
        HTMLRewriter.new().on("a[", {}).transform(bunflare.Response("x"))
    for element, change, text in (
        ("p", lambda one: one.setAttribute("a b", "c"), "` ` character is forbidden in the"),
        ("p", lambda one: setattr(one, "tagName", ""), "Tag name can't be empty."),
        ("br", lambda one: one.onEndTag(print), "No end tag."),
    ):
        rewriter = HTMLRewriter.new().on(element, {"element": change})
        with pytest.raises(JsError, match=f"^TypeError: Parser error: {text}"):
            await rewritten(rewriter, "<p><br></p>")
    kept: list[Any] = []
    await rewritten(HTMLRewriter.new().on("a", {"element": kept.append, "text": kept.append}))
    uses: tuple[Callable[[], Any], ...] = (
        lambda: kept[0].tagName,
        lambda: kept[1].remove(),
        lambda: kept[0].replace("x"),
    )
    for use in uses:
        with pytest.raises(JsError, match="This content token is no longer valid"):
            use()


async def test_handlers_may_wait_and_others_go_on_meanwhile() -> None:
    turn = asyncio.Event()

    async def element(one: Any) -> None:
        await asyncio.sleep(0)
        one.append("+").onEndTag(end_tag)
        # Tasks of its own may use what it was given.
        await asyncio.gather(*(part(one, i) for i in range(3)))
        run_sync(asyncio.sleep(0))
        one.setAttribute("n", "1")

    async def part(one: Any, i: int) -> None:
        await asyncio.sleep(0)
        one.append(str(i))

    async def end_tag(tag: Any) -> None:
        await asyncio.sleep(0)
        tag.before(tag.name)

    async def text(chunk: Any) -> None:
        await turn.wait()
        if chunk.text:
            chunk.replace(chunk.text.upper())

    async def end(document: Any) -> None:
        await asyncio.sleep(0)
        document.append("end")

    handlers = {"element": element, "text": text}
    rewriter = HTMLRewriter.new().on("p", handlers).onDocument({"end": end})
    pages = [
        asyncio.ensure_future(rewritten(rewriter, f"<p>a{page}</p>" * 3)) for page in range(20)
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(page.done() for page in pages)
    turn.set()
    for number, page in enumerate(pages):
        assert await page == f'<p n="1">A{number}+012p</p>' * 3 + "end"


async def test_a_page_that_nobody_waits_for_any_more_ends_its_handlers() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def element(one: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    page = asyncio.ensure_future(rewritten(HTMLRewriter.new().on("p", {"element": element}), "<p>"))
    await begun.wait()
    page.cancel()
    with pytest.raises(asyncio.CancelledError):
        await page
    assert ended.is_set()


@pytest.mark.parametrize(
    ("page", "expected", "names"),
    [
        ("<div><p>x</p>t</div>", "<div><p>x[X][X2]&lt;y&gt;2</p>3<w>[Z2][Z]t</div>", ["p"]),
        ("<div><p>x<b>y</div>", "<div><p>x<b>y[X][X2]&lt;y&gt;2</div>3<w>[Z2][Z]", ["div"]),
        ("<div><p>x<b>y", "<div><p>x<b>y", []),
    ],
)
async def test_the_end_of_an_element(page: str, expected: str, names: list[str]) -> None:
    # Expected is what workerd answers.
    seen: list[str] = []

    def end_tag(tag: Any) -> None:
        seen.append(tag.name)
        tag.before("<y>").after("<w>", {"html": True})
        tag.before("2").after("3")

    def element(one: Any) -> None:
        one.append("[X]").after("[Z]")
        one.onEndTag(end_tag)
        one.append("[X2]").after("[Z2]")

    assert await rewritten(HTMLRewriter.new().on("p", {"element": element}), page) == expected
    assert seen == names


def rename(tag: Any) -> None:
    tag.before(tag.name)
    tag.name = "Zz"
    tag.after(tag.name)


@pytest.mark.parametrize(
    ("change", "at_end", "expected"),
    [
        (lambda one: one.remove(), lambda tag: tag.before("1"), "<div>1y</div>"),
        (lambda one: one.removeAndKeepContent(), lambda tag: tag.after("1"), "<div>x1y</div>"),
        (lambda one: None, lambda tag: tag.remove(), "<div><P>xy</div>"),
        (
            lambda one: setattr(one, "tagName", "Q"),
            rename,
            "<div><Q>xq</Zz>zzy</div>",
        ),
        (
            lambda one: one.replace("<i>", html=True).before("B").after("A"),
            lambda tag: None,
            "<div>B<i>Ay</div>",
        ),
    ],
)
async def test_elements_that_change_and_their_ends(change: Any, at_end: Any, expected: str) -> None:
    def element(one: Any) -> None:
        change(one)
        one.on_end_tag(at_end)

    page = "<div><P>x</P>y</div>"
    assert await rewritten(HTMLRewriter.new().on("p", {"element": element}), page) == expected


async def test_the_last_handler_of_an_end_counts() -> None:
    def first(one: Any) -> None:
        one.onEndTag(lambda tag: tag.before("1"))
        one.onEndTag(lambda tag: tag.before("2"))

    def second(one: Any) -> None:
        one.onEndTag(lambda tag: tag.before("3"))
        one.append("later")

    rewriter = HTMLRewriter.new().on("p", {"element": first}).on(".a", {"element": second})
    page = "<p class=a>x</p><p>y</p>"
    assert await rewritten(rewriter, page) == "<p class=a>xlater3</p><p>y2</p>"


async def test_responses_and_streams_are_inserted() -> None:
    read = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"[s"
        await read.wait()
        yield b"]"

    def element(one: Any) -> None:
        one.append(bunflare.Response("<a&b>"))
        one.prepend(bunflare.Response("<b>"), {"html": True}).prepend(bunflare.Response(None))
        one.before(slow())
        one.onEndTag(lambda tag: tag.before(bunflare.Response("<e>")))

    rewriter = HTMLRewriter.new().on("p", {"element": element})
    body = rewriter.transform(bunflare.Response("1<p>x</p>")).body
    assert body is not None
    pieces = [await anext(body), await anext(body)]
    assert pieces == [b"1", b"[s"]
    read.set()
    rest = b"".join([piece async for piece in body])
    assert rest == b"]<p><b>x&lt;a&amp;b&gt;&lt;e&gt;</p>"


async def test_comments_are_replaced() -> None:
    seen: list[bool] = []

    def comments(one: Any) -> None:
        one.replace("<i>", {"html": True}).before("B").after("A")
        seen.append(one.removed)

    assert await rewritten(HTMLRewriter.new().onDocument({"comments": comments}), "<!--c-->") == (
        "B<i>A"
    )
    assert seen == [True]


async def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lolhtml", None)
    with pytest.raises(bunflare.WorkerError, match=r"pip install 'bunflare\[html\]'"):
        HTMLRewriter.new()


async def test_the_library_is_given_up_at_once_on_its_own_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The garbage collector may run on any, where the library cannot be given up."""
    import lolhtml

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    real = lolhtml.HTMLRewriter

    class Watched:
        def __init__(self, sink: Any) -> None:
            self._real = real(sink)
            alive.add(self)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    async def waits(element: Any) -> None:
        await asyncio.sleep(0)
        element.onEndTag(lambda tag: tag.before("end"))

    def fails(element: Any) -> None:
        raise ValueError("no")

    async def waits_for_what_fails(element: Any) -> None:
        failed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failed.set_exception, ValueError("no"))
        await failed

    monkeypatch.setattr(lolhtml, "HTMLRewriter", Watched)
    gc.disable()
    try:
        assert "end</a>" in await rewritten(HTMLRewriter.new().on("a", {"element": waits}))
        assert not alive
        for failing in (fails, waits_for_what_fails):
            with pytest.raises(ValueError, match="no"):
                await rewritten(HTMLRewriter.new().on("a", {"element": failing}))
            assert not alive
        HTMLRewriter.new().on("a", {"element": waits}).transform(bunflare.Response(PAGE))
        assert not alive
    finally:
        gc.enable()
