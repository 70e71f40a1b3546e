"""``TextEncoder`` and ``TextDecoder``: https://encoding.spec.whatwg.org/#api

Where Python's codecs leave out a byte, the standard may have a character: a control character in
the encodings of Windows, one of a private range in x-user-defined.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any, Self

from ..web import charsets
from ..web.objects import JsDict
from ..web.text import encode
from .js_streams import TransformStream
from .js_values import JsException, PyProxy, Uint8Array

_BOM = "\ufeff"
_WINDOWS = "bunflare.windows"
_WINDOWS_FATAL = "bunflare.windows_fatal"
_USER_DEFINED = "bunflare.user_defined"


def _byte(error: UnicodeError) -> int:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start]


def _windows(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    byte = _byte(error)
    return chr(byte) if byte < 0xA0 else "\ufffd", error.start + 1


def _windows_fatal(error: UnicodeError) -> tuple[str, int]:
    if _byte(error) >= 0xA0:
        raise error
    return _windows(error)


def _user_defined(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return chr(0xF700 + _byte(error)), error.start + 1


codecs.register_error(_WINDOWS, _windows)
codecs.register_error(_WINDOWS_FATAL, _windows_fatal)
codecs.register_error(_USER_DEFINED, _user_defined)


def _errors(encoding: str, fatal: bool) -> str:
    if encoding == "x-user-defined":
        return _USER_DEFINED
    if encoding.startswith("windows-"):
        return _WINDOWS_FATAL if fatal else _WINDOWS
    return "strict" if fatal else "replace"


def _merged(options: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(options, PyProxy):
        options = options.unwrap()
    return {**(options or {}), **keywords}


class TextEncoder:
    """``TextEncoder``."""

    encoding = "utf-8"

    def encode(self, text: str = "") -> Uint8Array:
        return Uint8Array(encode(text))

    def encodeInto(self, text: str, target: Any) -> JsDict:
        """Write as many whole characters as fit; how many code units were read, and bytes written.

        On the platform's strings a character beyond U+FFFF counts as two.
        """
        if not isinstance(target, bytearray | memoryview):
            raise JsException(
                "TypeError",
                "Failed to execute 'encodeInto' on 'TextEncoder': parameter 2 is not of type "
                "'Uint8Array'.",
            )
        room = memoryview(target).cast("B")
        data = encode(text)[: len(room)]
        # What ends in the middle of a character is without that.
        fitting = data.decode("utf-8", "ignore")
        written = len(data := fitting.encode())
        room[:written] = data
        return JsDict({"read": len(fitting.encode("utf-16-le")) // 2, "written": written})


class TextDecoder:
    """``TextDecoder``: bytes of any encoding of the standard as text."""

    def __init__(self, label: Any = None, options: Any = None, /, **keywords: Any) -> None:
        given = _merged(options, keywords)
        label = "utf-8" if label is None else str(label)
        try:
            self.encoding, codec = charsets.encoding(label)
        except LookupError:
            raise JsException("RangeError", f'"{label}" is not a valid encoding.') from None
        self.fatal = bool(given.get("fatal"))
        self.ignoreBOM = bool(given.get("ignoreBOM"))
        self._decoder = codecs.getincrementaldecoder(codec)(_errors(self.encoding, self.fatal))
        self._begun = False

    def decode(self, data: Any = None, options: Any = None, /, **keywords: Any) -> str:
        """The text of ``data``; with ``stream``, what it ends in the middle of comes later."""
        last = not _merged(options, keywords).get("stream")
        try:
            text = self._decoder.decode(b"" if data is None else bytes(data), last)
        except UnicodeError:
            self._decoder.reset()
            self._begun = False
            raise JsException("TypeError", "Failed to decode input.") from None
        if text and not self._begun:
            self._begun = True
            if self.encoding.startswith("utf-") and not self.ignoreBOM:
                text = text.removeprefix(_BOM)
        if last:
            self._decoder.reset()
            self._begun = False
        return text


class TextDecoderStream(TransformStream):
    """``TextDecoderStream``."""

    def __init__(self, label: Any = None, options: Any = None, /, **keywords: Any) -> None:
        decoder = TextDecoder(label, options, **keywords)
        self.encoding = decoder.encoding
        self.fatal = decoder.fatal
        self.ignoreBOM = decoder.ignoreBOM

        def transform(chunk: Any, controller: Any) -> None:
            if text := decoder.decode(chunk, stream=True):
                controller.enqueue(text)

        def flush(controller: Any) -> None:
            if text := decoder.decode():
                controller.enqueue(text)

        super().__init__({"transform": transform, "flush": flush})

    @classmethod
    def new(cls, *args: Any, **keywords: Any) -> Self:
        return cls(*args, **keywords)


class TextEncoderStream(TransformStream):
    """``TextEncoderStream``."""

    encoding = "utf-8"

    def __init__(self) -> None:
        held = ""

        def transform(chunk: Any, controller: Any) -> None:
            nonlocal held
            text = held + str(chunk)
            # The other half of a character may come in the next.
            held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
            if text := text.removesuffix(held) if held else text:
                controller.enqueue(Uint8Array(encode(text)))

        def flush(controller: Any) -> None:
            if held:
                controller.enqueue(Uint8Array(encode(held)))

        super().__init__({"transform": transform, "flush": flush})
