"""The page that a browser gets of a Worker that raised: whatever was raised, it stays a page."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from .test_dev import Server, dev, project

HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" </pre>"

WORKER = f"""
from workers import Response, WorkerEntrypoint

HOSTILE = {HOSTILE!r}

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3].partition("?")[0]
        return await getattr(self, path)(request)

    async def hostile(self, request):  # <script>alert('source')</script>
        raise ValueError(HOSTILE)

    async def hostile_type(self, request):
        raise type(HOSTILE, (Exception,), {{}})("raised")

    async def hostile_frame(self, request):
        exec(compile("1 / 0", HOSTILE, "exec"))

    async def hostile_cause(self, request):
        try:
            raise KeyError(HOSTILE)
        except KeyError as error:
            error.add_note(HOSTILE)
            raise RuntimeError("not found") from error

    async def odd(self, request):
        raise ValueError("\\0 \\ud800 \\x1b[31m")

    async def lines(self, request):
        raise ValueError("first\\n  second\\n" + "long " * 2000)

    async def wide(self, request):
        raise ValueError("x" * 5000)

    async def deep(self, request):
        def down(number):
            return down(number + 1)
        down(0)

    async def syntax(self, request):
        compile("def f(:", "<made up>", "exec")

    async def unspeakable(self, request):
        class Mute(Exception):
            def __str__(self):
                raise ValueError("no word")
        raise Mute
"""


class Page(HTMLParser):
    """The elements of a page, and the text in each kind of them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "html"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def text(self, tag: str) -> str:
        return "\n".join(self.texts.get(tag, []))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dev(project(tmp_path_factory.mktemp("page"), WORKER)) as server:
        yield server


def page_of(server: Server, path: str) -> Page:
    status, headers, body = server.fetch(f"/{path}", headers={"accept": "text/html"})
    assert status == 500
    assert headers["content-type"] == "text/html;charset=UTF-8"
    # Nothing of it would be run, were it there.
    assert "script" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    found = Page(body.decode())
    assert {tag for tag, _ in found.elements} <= {
        *("html", "meta", "link", "title", "style", "h1", "h2", "p", "code", "pre", "span"),
        *("details", "summary", "i"),
    }
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
    # A browser asks for no icon, which would have the Worker fail once more.
    assert ("link", {"rel": "icon", "href": "data:,"}) in found.elements
    return found


def test_a_hostile_message_is_shown_as_text(server: Server) -> None:
    found = page_of(server, "hostile?<script>")
    assert found.text("title") == found.text("h1") == f"ValueError: {HOSTILE}"
    assert f"ValueError: {HOSTILE}" in found.texts["pre"][-1]
    assert "# <script>alert('source')</script>" in found.text("details")


def test_what_else_is_hostile_is_shown_as_text(server: Server) -> None:
    assert HOSTILE in page_of(server, "hostile_type").text("h1")
    found = page_of(server, "hostile_frame")
    assert found.text("h1") == "ZeroDivisionError: division by zero"
    # There are no lines of it to show.
    assert f"{HOSTILE}:1 in <module>" in found.text("p")
    found = page_of(server, "hostile_cause")
    assert found.text("h1") == "RuntimeError: not found"
    assert "It was caused by KeyError" in found.text("h2")
    assert HOSTILE in found.text("pre")


def test_odd_characters_are_no_obstacle(server: Server) -> None:
    assert page_of(server, "odd").text("h1").startswith("ValueError: ")
    assert "Mute" in page_of(server, "unspeakable").text("h1")


def test_a_long_message_is_headed_by_its_beginning(server: Server) -> None:
    found = page_of(server, "lines")
    assert found.text("title") == found.text("h1") == "ValueError: first"
    assert f"first\n  second\n{'long ' * 2000}".strip() in found.texts["pre"][0]
    found = page_of(server, "wide")
    assert len(found.text("h1")) < 400
    assert "x" * 5000 in found.texts["pre"][0]


def test_the_place_of_a_syntax_error_comes_after_what_it_is(server: Server) -> None:
    found = page_of(server, "syntax")
    assert found.text("h1") == "SyntaxError: invalid syntax"
    assert 'File "<made up>", line 1' in found.texts["pre"][0]


def test_frames_that_come_again_and_again_are_counted(server: Server) -> None:
    found = page_of(server, "deep")
    assert found.text("summary").count("in down") == 2
    assert "more times" in found.text("p")
    assert [one.partition(" in ")[2] for one in found.texts["summary"]][-2:] == ["deep", "fetch"]
