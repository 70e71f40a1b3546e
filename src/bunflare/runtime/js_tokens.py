"""What the handlers of an ``HTMLRewriter`` are given: elements, texts, comments, …

The library's own objects point into its stack: touched after their handler, or from another stack,
they would take the process down. So a token asks its passage for every access, and is nothing any
more once its handler has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

from .facade import snake
from .js_values import JsArray, JsException
from .switching import Stack

T = TypeVar("T")

_ENDED = (
    "This content token is no longer valid. Content tokens are only valid during the execution of "
    "the relevant content handler."
)
# Elements of HTML that have no content and no end tag.
_VOID = frozenset(
    (
        *("area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img"),
        *("input", "keygen", "link", "meta", "param", "source", "track", "wbr"),
    )
)
_HTML = "http://www.w3.org/1999/xhtml"


class Passage(Protocol):
    """The way of one body through the library, as far as tokens need it."""

    #: On which handlers run.
    stack: Stack
    html: Any
    text: Any
    #: What is to be done when all handlers of the present element have run.
    at_end_tag: Callable[[EndTag], Any] | None
    replacement: tuple[str, Any] | None

    def content(self, content: Any, html: bool) -> tuple[str, Any]:
        """What stands for some content, and of which kind that is."""


class Token:
    """A part of the document, for as long as its handler runs."""

    _passage: Passage

    def __init__(self, part: Any, passage: Passage) -> None:
        # By this way round `__setattr__`, which refuses what tokens do not have.
        self.__dict__.update(_part=part, _passage=passage)

    def __init_subclass__(cls) -> None:
        for name, value in list(vars(cls).items()):
            if not name.startswith("_") and snake(name) != name:
                setattr(cls, snake(name), value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no property {name!r}")
        super().__setattr__(name, value)

    def _end(self) -> None:
        self.__dict__["_part"] = None

    def _do(self, work: Callable[[Any], T]) -> T:
        part = self._check()
        try:
            return self._passage.stack.call(lambda: work(part))
        except RuntimeError as error:
            raise JsException("TypeError", f"Parser error: {error}") from None

    def _check(self) -> Any:
        part = self.__dict__["_part"]
        if part is None:
            raise JsException("TypeError", _ENDED)
        return part

    def _insert(self, name: str, content: Any, options: Any) -> Self:
        self._check()
        text, kind = self._passage.content(content, _html(options))
        self._do(lambda part: getattr(part, name)(text, kind))
        return self


def _html(options: Any) -> bool:
    if options is None or hasattr(options, "get"):
        return bool((options or {}).get("html"))
    return bool(getattr(options, "html", False))


class _Placed(Token):
    """What can have something before and after it, and be taken away."""

    def before(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("before", content, options or more)

    def after(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("after", content, options or more)

    def remove(self) -> Self:
        self._do(lambda part: part.remove())
        return self


class _Removable(_Placed):
    @property
    def removed(self) -> bool:
        return bool(self._do(lambda part: part.removed))


class Element(_Removable):
    """The start of an element, and what is in it."""

    @property
    def tagName(self) -> str:
        return str(self._do(lambda part: part.tag_name))

    @tagName.setter
    def tagName(self, name: str) -> None:
        self._do(lambda part: setattr(part, "tag_name", str(name)))

    @property
    def attributes(self) -> JsArray:
        pairs = self._do(lambda part: part.attributes)
        return JsArray(JsArray(pair) for pair in pairs)

    @property
    def namespaceURI(self) -> str:
        return str(self._do(lambda part: part.namespace_uri))

    def getAttribute(self, name: str) -> str | None:
        found: str | None = self._do(lambda part: part.get_attribute(name))
        return found

    def hasAttribute(self, name: str) -> bool:
        return bool(self._do(lambda part: part.has_attribute(name)))

    def setAttribute(self, name: str, value: object) -> Self:
        self._do(lambda part: part.set_attribute(name, str(value)))
        return self

    def removeAttribute(self, name: str) -> Self:
        self._do(lambda part: part.remove_attribute(name))
        return self

    def prepend(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("prepend", content, options or more)

    def append(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("append", content, options or more)

    def setInnerContent(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("set_inner_content", content, options or more)

    def replace(self, content: Any, options: Any = None, **more: Any) -> Self:
        self._check()
        self._passage.replacement = self._passage.content(content, _html(options or more))
        return self.remove()

    def removeAndKeepContent(self) -> Self:
        self._do(lambda part: part.remove_and_keep_content())
        return self

    def onEndTag(self, handler: Callable[[EndTag], Any]) -> None:
        """Have ``handler`` called at the element's end; the last one that is given counts.

        It is not called where the document ends first. Raises TypeError for elements that have no
        end.
        """
        if self.namespaceURI == _HTML and self.tagName in _VOID:
            raise JsException("TypeError", "Parser error: No end tag.")
        self._passage.at_end_tag = handler


class Text(_Removable):
    """A piece of a text; the last one of a text says so, and may be empty."""

    @property
    def text(self) -> str:
        return str(self._do(lambda part: part.text))

    @property
    def lastInTextNode(self) -> bool:
        return bool(self._do(lambda part: part.last_in_text_node))

    def replace(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("replace", content, options or more)


class Comment(_Removable):
    """A comment."""

    @property
    def text(self) -> str:
        return str(self._do(lambda part: part.text))

    @text.setter
    def text(self, text: str) -> None:
        self._do(lambda part: setattr(part, "text", str(text)))

    def replace(self, content: Any, options: Any = None, **more: Any) -> Self:
        # What stands before it stays there: the library has no such call, and keeps the order.
        self._check()
        self.__dict__["_instead"] = self._passage.content(content, _html(options or more))
        return self.remove()

    def _end(self) -> None:
        if (instead := self.__dict__.get("_instead")) is not None:
            self._do(lambda part: part.before(*instead))
        super()._end()


class Doctype(Token):
    """``<!DOCTYPE …>``."""

    @property
    def name(self) -> str | None:
        found: str | None = self._do(lambda part: part.name)
        return found

    @property
    def publicId(self) -> str | None:
        found: str | None = self._do(lambda part: part.public_id)
        return found

    @property
    def systemId(self) -> str | None:
        found: str | None = self._do(lambda part: part.system_id)
        return found


class DocumentEnd(Token):
    """The end of the document."""

    def append(self, content: Any, options: Any = None, **more: Any) -> Self:
        return self._insert("append", content, options or more)


class EndTag(_Placed):
    """The end of an element."""

    @property
    def name(self) -> str:
        return str(self._do(lambda part: part.name))

    @name.setter
    def name(self, name: str) -> None:
        self._do(lambda part: setattr(part, "name", str(name)))


#: The names of handlers, and what they are given.
KINDS: dict[str, type[Token]] = {
    "element": Element,
    "comments": Comment,
    "text": Text,
    "doctype": Doctype,
    "end": DocumentEnd,
}
