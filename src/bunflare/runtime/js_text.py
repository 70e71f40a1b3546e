"""``TextEncoder`` and ``TextDecoder``: https://encoding.spec.whatwg.org/#api

Where Python's codecs leave out a byte, the standard may have a character: a control character in
the encodings of Windows, one of a private range in x-user-defined, the euro in those of China. And
where several bytes are no character, the standard says how many of them one U+FFFD stands for.
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
_PAIRS = "bunflare.pairs"
_PAIRS_FATAL = "bunflare.pairs_fatal"
_CHINESE = "bunflare.chinese"
_CHINESE_FATAL = "bunflare.chinese_fatal"

# What begins a character of two bytes or more, by codec; another byte is an error by itself.
_LEADS = {
    "big5hkscs": range(0x81, 0xFF),
    "cp949": range(0x81, 0xFF),
    "cp932": (*range(0x81, 0xA0), *range(0xE0, 0xFD)),
    "euc_jp": (0x8E, 0x8F, *range(0xA1, 0xFF)),
}
_IN_PAIRS = frozenset({"big5", "euc-kr", "euc-jp", "shift_jis"})
# Single bytes that Windows has given a private character, and the standard none.
_PRIVATE = dict.fromkeys(range(0xF8F0, 0xF8F4), "\ufffd")
_DIGITS = range(0x30, 0x3A)
# Characters for which Python's codecs have others: those of an older edition of GB 18030, and the
# Japanese ones of which Windows, and so the standard, has the wide forms.
_OTHERS: dict[str, dict[int, Any]] = {
    "euc-jp": str.maketrans(
        "\u301c\u2016\u2212\xa2\xa3\xac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2"
    ),
    "gb18030": str.maketrans(
        "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7\u1e3f"
        "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "\u3000\ufe10\ufe12\ufe11\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18\ufe19\u1e3f\ue7c7"
        "\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
    ),
    "shift_jis": _PRIVATE,
}
_OTHERS["gbk"] = _OTHERS["gb18030"]


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


def _rest(error: UnicodeDecodeError, handler: str, text: str, end: int) -> tuple[str, int]:
    """What a handler gives: of what is no whole character at the end, the codec would drop more."""
    data = error.object
    if end < len(data) and error.reason.startswith("incomplete"):
        text, end = text + data[end:].decode(error.encoding, handler), len(data)
    return text, end


def _pairs(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    data, start = error.object, error.start
    lead, more = data[start], data[start + 1 : start + 3]
    if found := _japanese(error):
        return found, start + 2
    length = 2
    if lead not in _LEADS[error.encoding] or not more or more[0] < 0x80:
        # A byte of ASCII behind what begins a character is one for itself.
        length = 1
    elif error.encoding == "euc_jp" and lead == 0x8F and 0xA1 <= more[0] <= 0xFE:
        # What that begins has three bytes.
        length = 3 if len(more) > 1 and more[1] >= 0x80 else 2
    return _rest(error, _PAIRS, "\ufffd", start + length)


def _pairs_fatal(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    found = _japanese(error)
    if not found:
        raise error
    return found, error.start + 2


def _japanese(error: UnicodeDecodeError) -> str:
    """A character that Windows has added to those of EUC-JP: by its place, as Shift_JIS has it."""
    pair = error.object[error.start : error.start + 2]
    if error.encoding != "euc_jp" or len(pair) < 2 or not 0xA1 <= min(pair) <= max(pair) <= 0xFE:
        return ""
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
    return bytes((lead, trail)).decode("cp932", "ignore")


def _chinese(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    data, start = error.object, error.start
    more = data[start + 1 : start + 4]
    if data[start] == 0x80:
        return _rest(error, _CHINESE, "\u20ac", start + 1)
    length = 2
    if data[start] == 0xFF or not more:
        length = 1
    elif error.reason.startswith("incomplete"):
        length = 1 + len(more)
    elif more[0] in _DIGITS:
        whole = len(more) == 3 and 0x81 <= more[1] <= 0xFE and more[2] in _DIGITS
        length = 4 if whole else 1
    elif more[0] < 0x80:
        length = 1
    return _rest(error, _CHINESE, "\ufffd", start + length)


def _chinese_fatal(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    if _byte(error) != 0x80:
        raise error
    return _rest(error, _CHINESE_FATAL, "\u20ac", error.start + 1)


codecs.register_error(_WINDOWS, _windows)
codecs.register_error(_WINDOWS_FATAL, _windows_fatal)
codecs.register_error(_USER_DEFINED, _user_defined)
codecs.register_error(_PAIRS, _pairs)
codecs.register_error(_PAIRS_FATAL, _pairs_fatal)
codecs.register_error(_CHINESE, _chinese)
codecs.register_error(_CHINESE_FATAL, _chinese_fatal)


def _errors(encoding: str, fatal: bool) -> str:
    if encoding == "x-user-defined":
        return _USER_DEFINED
    if encoding.startswith("windows-"):
        return _WINDOWS_FATAL if fatal else _WINDOWS
    if encoding in ("gbk", "gb18030"):
        return _CHINESE_FATAL if fatal else _CHINESE
    if encoding in _IN_PAIRS:
        return _PAIRS_FATAL if fatal else _PAIRS
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
            if others := _OTHERS.get(self.encoding):
                if (
                    self.fatal
                    and others is _PRIVATE
                    and not others.keys().isdisjoint(map(ord, text))
                ):
                    raise UnicodeError
                text = text.translate(others)
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
