"""``HTMLRewriter``: Cloudflare's own lol-html, through the package python-lolhtml.

It is the extra ``bunflare[html]``. Responses pass through it chunk by chunk. Two things cannot be
done, and say so: `Element.onEndTag`, which the package does not have, and handlers that wait, since
the library must not be left in the middle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from inspect import iscoroutine
from typing import Any, Self

from ..errors import WorkerError
from ..web import Response
from .facade import JsDict, snake
from .js_values import JsArray, JsException, PyProxy
from .switching import unswitchable

_MISSING = "js.HTMLRewriter needs lol-html: pip install 'bunflare[html]'"


class Part:
    """An element, a text, a comment, …: what a handler is given, by JavaScript's names."""

    def __init__(self, part: Any, kinds: Any) -> None:
        self.__dict__.update(_part=part, _kinds=kinds)

    def _insert(self, name: str, content: str, options: Any) -> Self:
        html = bool((options or {}).get("html"))
        kind = self._kinds.HTML if html else self._kinds.TEXT
        getattr(self._part, name)(str(content), kind)
        return self

    def before(self, content: str, options: Any = None, **more: Any) -> Self:
        return self._insert("before", content, options or more)

    def after(self, content: str, options: Any = None, **more: Any) -> Self:
        return self._insert("after", content, options or more)

    def prepend(self, content: str, options: Any = None, **more: Any) -> Self:
        return self._insert("prepend", content, options or more)

    def append(self, content: str, options: Any = None, **more: Any) -> Self:
        return self._insert("append", content, options or more)

    def setInnerContent(self, content: str, options: Any = None, **more: Any) -> Self:
        return self._insert("set_inner_content", content, options or more)

    def replace(self, content: str, options: Any = None, **more: Any) -> Self:
        self._insert("before", content, options or more)
        return self.remove()

    def remove(self) -> Self:
        self._part.remove()
        return self

    def removeAndKeepContent(self) -> Self:
        self._part.remove_and_keep_content()
        return self

    def getAttribute(self, name: str) -> str | None:
        found: str | None = self._part.get_attribute(name)
        return found

    def hasAttribute(self, name: str) -> bool:
        return bool(self._part.has_attribute(name))

    def setAttribute(self, name: str, value: str) -> Self:
        self._part.set_attribute(name, str(value))
        return self

    def removeAttribute(self, name: str) -> Self:
        self._part.remove_attribute(name)
        return self

    def onEndTag(self, handler: Callable[..., Any]) -> None:
        raise WorkerError("Element.onEndTag is not available in bunflare")

    @property
    def attributes(self) -> JsArray:
        return JsArray(JsArray(pair) for pair in self._part.attributes)

    @property
    def tagName(self) -> str:
        return str(self._part.tag_name)

    @property
    def namespaceURI(self) -> str:
        return str(self._part.namespace_uri)

    @property
    def lastInTextNode(self) -> bool:
        return bool(self._part.last_in_text_node)

    @property
    def publicId(self) -> str | None:
        found: str | None = self._part.public_id
        return found

    @property
    def systemId(self) -> str | None:
        found: str | None = self._part.system_id
        return found

    def __getattr__(self, name: str) -> Any:
        # `text`, `name`, `removed`, and Python's spelling of the others.
        kind = type(self)
        for own in (name, *(one for one in vars(kind) if snake(one) == name)):
            if own in vars(kind):
                return getattr(self, own)
        return getattr(self._part, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._part, snake(name), value)


def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a handler that is asynchronous but need not wait, as most reads of bindings."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise WorkerError("a handler of HTMLRewriter cannot wait in bunflare; fetch before transform()")


class HTMLRewriter:
    """``HTMLRewriter.new().on(selector, handler).transform(response)``."""

    def __init__(self) -> None:
        try:
            import lolhtml
        except ImportError as error:
            raise WorkerError(_MISSING) from error
        self._library = lolhtml
        self._on: list[tuple[str | None, Any]] = []

    @classmethod
    def new(cls) -> Self:
        return cls()

    def on(self, selector: str, handlers: Any) -> Self:
        """``handlers`` is an object or a dict with ``element``, ``comments`` and ``text``."""
        self._on.append((selector, handlers))
        return self

    def onDocument(self, handlers: Any) -> Self:
        """``handlers`` has ``doctype``, ``comments``, ``text`` and ``end``."""
        self._on.append((None, handlers))
        return self

    on_document = onDocument

    def transform(self, response: Response) -> Response:
        """A response whose body is rewritten as it passes."""
        if response._body is None:
            return response
        body = response.body
        assert body is not None
        result = response.replace_body(self._rewritten(body))
        result.headers.delete("content-length")
        return result

    async def _rewritten(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        out: list[bytes] = []
        rewriter = self._library.HTMLRewriter(lambda data: out.append(bytes(data)))
        failures: list[BaseException] = []
        for selector, handlers in self._on:
            wrapped = self._wrapped(handlers, failures)
            try:
                if selector is None:
                    rewriter.on_document(wrapped)
                else:
                    rewriter.on(selector, wrapped)
            except Exception as error:
                raise JsException("TypeError", f"Parser error: {error}") from error

        def step(work: Callable[[], Any]) -> bytes:
            try:
                with unswitchable():
                    work()
            except BaseException as error:
                # The handler's own exception, and not what the library makes of it.
                raise (failures[0] if failures else error) from None
            data = b"".join(out)
            out.clear()
            return data

        async for chunk in body:
            if data := step(lambda chunk=chunk: rewriter.write(chunk)):  # type: ignore[misc]
                yield data
        if data := step(rewriter.end):
            yield data

    def _wrapped(self, handlers: Any, failures: list[BaseException]) -> Any:
        if isinstance(handlers, PyProxy):
            handlers = handlers.unwrap()
        kinds = self._library.ContentType

        def wrap(handler: Callable[..., Any]) -> Callable[..., None]:
            def call(part: Any) -> None:
                try:
                    result = handler(Part(part, kinds))
                    if iscoroutine(result):
                        _finish(result)
                except BaseException as error:
                    failures.append(error)
                    raise

            return call

        found = JsDict()
        for name in ("element", "comments", "text", "doctype", "end"):
            is_map = isinstance(handlers, Mapping)
            handler = handlers.get(name) if is_map else getattr(handlers, name, None)
            if handler is not None:
                found[name] = wrap(handler)
        return type("Handlers", (), {name: staticmethod(one) for name, one in found.items()})()
