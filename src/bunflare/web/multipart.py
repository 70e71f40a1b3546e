"""Forms as ``multipart/form-data``, written and read as the standards of browsers have it.

In a name or filename, ``"``, CR and LF are percent-encoded and nothing else is, so the text ``%22``
in one comes back as ``"``. Lines of a text field end in CRLF on the wire.

https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import FetchTypeError
from . import text
from .blob import File
from .urlencoded import MOST_FIELDS

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FormDataValue = str | File

# Bytes of one header of a part.
_MOST_HEADER_BYTES = 16 * 1024

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^;\s"]+))', re.I)
# Old clients put a backslash before a quote; before what ends the value it is one of the value's.
_PARAMETER = re.compile(
    r';\s*(name|filename)\s*=\s*(?:"((?:\\"(?!\s*(?:;|$))|[^"])*)"|([^;\s"]+))', re.I
)
_LINE_END = re.compile(r"\r\n|\r|\n")


def encode(entries: Iterable[tuple[str, FormDataValue]]) -> tuple[bytes, str]:
    """The body, and its Content-Type."""
    boundary = f"----bunflare{os.urandom(16).hex()}"
    parts: list[bytes] = []
    for name, value in entries:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"'
        if isinstance(value, File):
            kind = value.type or "application/octet-stream"
            head += f'; filename="{_escaped(value.name)}"\r\nContent-Type: {kind}'
            data = value.known()
        else:
            data = text.encode(_LINE_END.sub("\r\n", value))
        parts += (text.encode(head), b"\r\n\r\n", data, b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def parse(content_type: str, body: bytes) -> list[tuple[str, FormDataValue]]:
    """The fields in their order. Raises `FetchTypeError` for a body that is not such a form."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise FetchTypeError("No boundary string in Content-Type header.")
    # Only forms with files need the parser.
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    reader = _Reader()
    try:
        parser = MultipartParser((found[1] or found[2]).encode("latin-1"), reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise FetchTypeError(f"the body is not valid multipart/form-data: {error}") from error
    if not reader.ended:
        raise FetchTypeError("No subsequent boundary string after multipart message.")
    return reader.entries


class _Reader:
    """Turns the parser's events into fields."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, FormDataValue]] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        if len(self.entries) >= MOST_FIELDS:
            raise FetchTypeError(f"the form has more than {MOST_FIELDS} fields")
        self._headers = {}
        self._data = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > _MOST_HEADER_BYTES:
            raise FetchTypeError("a part of the form has a header that is too long")

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("utf-8", "replace")
        options = {
            option.lower(): _unescaped(quoted or plain)
            for option, quoted, plain in _PARAMETER.findall(disposition)
        }
        name = options.get("name")
        if name is None:
            raise FetchTypeError("Content-Disposition header in FormData part is missing a name.")
        data = bytes(self._data)
        if "filename" in options:
            kind = self._headers.get(b"content-type", b"text/plain").decode("latin-1")
            self.entries.append((name, File(data, options["filename"], kind)))
        else:
            self.entries.append((name, data.decode("utf-8", "replace")))

    def _end(self) -> None:
        self.ended = True


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _unescaped(name: str) -> str:
    name = name.replace('\\"', '"')
    return name.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')
