"""``HTMLRewriter``: Cloudflare's own lol-html, through the package python-lolhtml.

It is the extra ``bunflare[html]``. Responses pass through it chunk by chunk. The library calls
handlers and cannot be left while it does; so it runs on a stack of its own, which is left with the
library in the middle, and entered again once what a handler waits for is there.

The package has no way to say that an element's end is of interest. What it can do is to insert
something before and after that end: marks, which the output is looked through for.
"""

from __future__ import annotations

import inspect
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from html import escape
from typing import Any, Self

from ..errors import WorkerError
from ..web import Response, charsets
from .js_tokens import KINDS, EndTag, Token
from .js_values import JsException, PyProxy
from .switching import Stack, current_stack, drive, on_stack
from .transcoding import decoded, encoded

_MISSING = "js.HTMLRewriter needs lol-html: pip install 'bunflare[html]'"
_END_TAG = re.compile(rb"</([^\s/>]+)")


class HTMLRewriter:
    """``HTMLRewriter.new().on(selector, handler).transform(response)``."""

    def __init__(self) -> None:
        try:
            import lolhtml
        except ImportError as error:
            raise WorkerError(_MISSING) from error
        self._library = lolhtml
        self._on: list[tuple[str | None, dict[str, Callable[..., Any]]]] = []

    @classmethod
    def new(cls) -> Self:
        return cls()

    def on(self, selector: str, handlers: Any) -> Self:
        """``handlers`` is an object or a dict with ``element``, ``comments`` and ``text``.

        All of them may be asynchronous.
        """
        self._on.append((selector, _handlers(handlers, ("element", "comments", "text"))))
        return self

    def onDocument(self, handlers: Any) -> Self:
        """``handlers`` has ``doctype``, ``comments``, ``text`` and ``end``."""
        self._on.append((None, _handlers(handlers, ("doctype", "comments", "text", "end"))))
        return self

    on_document = onDocument

    def transform(self, response: Response) -> Response:
        """A response whose body is rewritten as it passes, in the encoding that its Content-Type
        names. Raises TypeError for a bad selector, and for an encoding that is unknown."""
        if response._body is None:
            return response
        codec = _codec(response.headers.get("content-type"))
        passage = Passage(self._library)
        rewriter = passage.begun(self._on)
        body: AsyncIterator[bytes] | None = response.body
        assert body is not None
        if codec != "utf-8":
            # The package has no option for it, which the library would have.
            body = decoded(body, codec)
        page = passage.rewritten(rewriter, body)
        result = response.replace_body(page if codec == "utf-8" else encoded(page, codec))
        result.headers.delete("content-length")
        return result


def _codec(content_type: str | None) -> str:
    label = charsets.charset(content_type)
    try:
        return charsets.codec("utf-8" if label is None else label)
    except LookupError:
        message = "Unknown character encoding has been provided."
    except ValueError:
        message = "Expected ASCII-compatible encoding."
    raise JsException("TypeError", f"Parser error: {message}")


def _handlers(given: Any, names: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
    if isinstance(given, PyProxy):
        given = given.unwrap()
    found = {
        name: given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
        for name in names
    }
    return {name: handler for name, handler in found.items() if handler is not None}


class _Inserted:
    """Content that is read when its place is reached."""

    def __init__(self, chunks: AsyncIterator[bytes], html: bool) -> None:
        self._chunks = chunks
        self._html = html

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            # What is escaped is ASCII, and so never part of another character.
            yield chunk if self._html else escape(chunk.decode("latin-1"), False).encode("latin-1")


class _EndTagPart:
    """What the library would give a handler of an end tag: ``written`` is the tag in the output."""

    def __init__(self, written: bytes, passage: Passage) -> None:
        found = _END_TAG.match(written)
        self._name = found[1].decode(errors="replace") if found else ""
        self._written = written
        self._passage = passage
        self._before: list[bytes | _Inserted] = []
        self._after: list[bytes | _Inserted] = []

    @property
    def name(self) -> str:
        return self._name.lower()

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self._written:
            self._written = f"</{name}>".encode()

    def before(self, text: str, kind: Any) -> None:
        self._before.append(self._passage.rendered(text, kind))

    def after(self, text: str, kind: Any) -> None:
        self._after.insert(0, self._passage.rendered(text, kind))

    def remove(self) -> None:
        self._written = b""

    @property
    def pieces(self) -> list[bytes | _Inserted]:
        return [*self._before, self._written, *self._after]


class Passage:
    """One body on its way through the library.

    The library's object refers to this one, and this never to that: it has to be given up on the
    thread that it was made on, which the garbage collector knows nothing of.
    """

    stack: Stack

    def __init__(self, library: Any) -> None:
        self._library = library
        self.html, self.text = library.ContentType.HTML, library.ContentType.TEXT
        self.at_end_tag: Callable[[EndTag], Any] | None = None
        self.replacement: tuple[str, Any] | None = None
        self._out: list[bytes | _Inserted] = []
        self._failure: BaseException | None = None
        # Marks in the output: where an element's end begins and is over, or content comes in.
        self._mark = f"[{secrets.token_hex(8)} "
        self._marked: dict[bytes, Any] = {}
        self._count = 0
        # The end tag that is being written.
        self._written: list[bytes] | None = None

    def begun(self, on: list[tuple[str | None, dict[str, Any]]]) -> Any:
        """The library's object."""
        rewriter = self._library.HTMLRewriter(self._take)
        try:
            for selector, handlers in on:
                functions = {name: self._wrapped(name, handlers[name]) for name in handlers}
                _register(rewriter, selector, functions)
            for selector, handlers in on:
                if "element" in handlers:
                    _register(rewriter, selector, {"element": self._finish})
        except RuntimeError as error:
            raise JsException("TypeError", f"Parser error: {error}") from None
        return rewriter

    async def rewritten(self, rewriter: Any, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in body:
                async for piece in self._pass(rewriter.write, chunk):
                    yield piece
            async for piece in self._pass(rewriter.end):
                yield piece
        finally:
            # An error's traceback has this frame, and may be kept for long, or be part of a circle.
            del rewriter

    async def _pass(self, work: Callable[..., Any], *given: bytes) -> AsyncIterator[bytes]:
        only = [work]
        del work  # see `rewritten`

        def run() -> None:
            self.stack = current_stack()
            only.pop()(*given)

        try:
            await on_stack(run)
        except RuntimeError as error:
            if self._failure is None:
                raise JsException("TypeError", f"Parser error: {error}") from None
        # The handler's own exception, and not what the library makes of it.
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                # Its traceback has this very frame.
                del failure
        out, self._out = self._out, []
        data: list[bytes] = []
        for piece in out:
            if isinstance(piece, bytes):
                data.append(piece)
                continue
            if before := b"".join(data):
                yield before
            data.clear()
            async for chunk in piece:
                yield chunk
        if rest := b"".join(data):
            yield rest

    def _wrapped(self, name: str, handler: Callable[..., Any]) -> Callable[[Any], None]:
        kind = KINDS[name]

        def call(part: Any) -> None:
            token = kind(part, self)
            del part
            self._call(handler, token)

        return call

    def _call(self, handler: Callable[..., Any], token: Token) -> None:
        try:
            if self._failure is not None:
                raise self._failure
            try:
                result = handler(token)
                if inspect.iscoroutine(result):
                    drive(result)
                elif inspect.isawaitable(result):
                    drive(_awaited(result))
            finally:
                token._end()
        except BaseException as error:
            self._failure = error
            raise

    def _finish(self, part: Any) -> None:
        """All handlers of an element have run."""
        if self.replacement is not None:
            part.before(*self.replacement)
            self.replacement = None
        if self.at_end_tag is not None:
            mark = self._place(self.at_end_tag)
            part.append(mark, self.html)
            part.after(mark, self.html)
            self.at_end_tag = None

    def content(self, content: Any, html: bool) -> tuple[str, Any]:
        """What stands for some content, and of which kind that is."""
        if isinstance(content, PyProxy):
            content = content.unwrap()
        if isinstance(content, Response):
            content = content.body if content._body is not None else ""
        if hasattr(content, "__aiter__"):
            return self._place(_Inserted(aiter(content), html)), self.html
        return str(content), self.html if html else self.text

    def rendered(self, text: str, kind: Any) -> bytes | _Inserted:
        """The same as it is in the output."""
        if kind is self.text:
            return escape(text, False).encode()
        data = text.encode()
        found: _Inserted | None = self._marked.pop(data, None)
        return data if found is None else found

    def _place(self, what: Any) -> str:
        self._count += 1
        mark = f"{self._mark}{self._count}]"
        self._marked[mark.encode()] = what
        return mark

    def _take(self, data: bytes) -> None:
        """Hear what the library has written. It writes each thing that was inserted by itself."""
        found = self._marked.get(data) if self._marked else None
        if found is None:
            (self._out if self._written is None else self._written).append(data)
        elif isinstance(found, _Inserted):
            self._out.append(self._marked.pop(data))
        elif self._written is None:
            self._written = []
        else:
            part = _EndTagPart(b"".join(self._written), self)
            self._written = None
            del self._marked[data]
            try:
                self._call(found, EndTag(part, self))
            except BaseException:
                # The library would pass over it; `_failure` has it.
                return
            self._out += part.pieces


def _register(
    rewriter: Any, selector: str | None, functions: dict[str, Callable[..., Any]]
) -> None:
    handlers = type("Handlers", (), {n: staticmethod(one) for n, one in functions.items()})()
    if selector is None:
        rewriter.on_document(handlers)
    else:
        rewriter.on(selector, handlers)


async def _awaited(value: Any) -> None:
    await value
