"""`FormData`: the fields of a form, read from a body and written to one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from ..errors import FetchTypeError
from .blob import Blob, File

FormDataValue = str | File

# A form is held in memory; these bound what a hostile one can ask for.
_MOST_FIELDS = 10_000
_MOST_HEADER_BYTES = 16 * 1024


class FormData:
    """An ordered multimap of names to texts and files.

    Reads like a mapping from names to the first value of each.
    https://developer.mozilla.org/docs/Web/API/FormData
    """

    __slots__ = ("_entries",)

    def __init__(self, init: dict[str, Any] | None = None) -> None:
        self._entries: list[tuple[str, FormDataValue]] = []
        for name, value in (init or {}).items():
            for one in value if isinstance(value, list) else [value]:
                self.append(name, one)

    def append(self, name: str, value: str | Blob, filename: str | None = None) -> None:
        """Add a value, beside those that the name has."""
        self._entries.append((_text(name, "name"), _entry(value, filename)))

    def set(self, name: str, value: str | Blob, filename: str | None = None) -> None:
        """Give the name this value only."""
        entry = _text(name, "name"), _entry(value, filename)
        for position, (other, _) in enumerate(self._entries):
            if other == name:
                rest = [pair for pair in self._entries[position + 1 :] if pair[0] != name]
                self._entries[position:] = [entry, *rest]
                return
        self._entries.append(entry)

    def delete(self, name: str) -> None:
        self._entries = [pair for pair in self._entries if pair[0] != name]

    def has(self, name: str) -> bool:
        return any(other == name for other, _ in self._entries)

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of the name (a str or a `File`), or ``default``."""
        return next((value for other, value in self._entries if other == name), default)

    def get_all(self, name: str) -> list[FormDataValue]:
        return [value for other, value in self._entries if other == name]

    getAll = get_all

    def items(self) -> list[tuple[str, FormDataValue]]:
        return list(self._entries)

    entries = items

    def keys(self) -> list[str]:
        return [name for name, _ in self._entries]

    def values(self) -> list[FormDataValue]:
        return [value for _, value in self._entries]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __getitem__(self, name: str) -> FormDataValue:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return values[0]

    def __setitem__(self, name: str, value: str | Blob) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if not self.has(name):
            raise KeyError(name)
        self.delete(name)

    def __repr__(self) -> str:
        return f"FormData({self._entries!r})"

    def encode(self) -> tuple[bytes, str]:
        """The body as multipart/form-data, and its Content-Type."""
        boundary = f"----bunflare{secrets.token_hex(16)}"
        parts: list[bytes] = []
        for name, value in self._entries:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"'
            if isinstance(value, File):
                kind = value.type or "application/octet-stream"
                head += f'; filename="{_escaped(value.name)}"\r\nContent-Type: {kind}'
                data = value.known()
            else:
                # Line ends of a text field are CRLF on the wire.
                data = _line_ends(value).encode("utf-8", "replace")
            parts += [head.encode("utf-8", "replace"), b"\r\n\r\n", data, b"\r\n"]
        parts.append(f"--{boundary}--\r\n".encode())
        return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def parse(content_type: str | None, body: bytes) -> FormData:
    """The form that a body holds."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _parse_urlencoded(body)
    if kind == "multipart/form-data":
        return _parse_multipart(content_type or "", body)
    raise FetchTypeError(
        f"Unrecognized Content-Type header value {content_type!r}. FormData can only parse the "
        "following MIME types: multipart/form-data, application/x-www-form-urlencoded"
    )


def _parse_urlencoded(body: bytes) -> FormData:
    form = FormData()
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:
        raise FetchTypeError(f"the form has more than {_MOST_FIELDS} fields") from error
    form._entries.extend(pairs)
    return form


def _parse_multipart(content_type: str, body: bytes) -> FormData:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise FetchTypeError("No boundary string in Content-Type header.")
    reader = _MultipartReader(parse_options_header)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise FetchTypeError(f"the body is not valid multipart/form-data: {error}") from error
    if not reader.ended:
        raise FetchTypeError("the body is not valid multipart/form-data: it ends too early")
    return reader.form


class _MultipartReader:
    """Turns the parser's events into fields."""

    def __init__(self, parse_options_header: Any) -> None:
        self.form = FormData()
        self.ended = False
        self._parse_options_header = parse_options_header
        self._headers: dict[str, bytes] = {}
        self._name = self._value = b""
        self._data = bytearray()

    def callbacks(self) -> Any:
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
        if len(self.form) >= _MOST_FIELDS:
            raise FetchTypeError(f"the form has more than {_MOST_FIELDS} fields")
        self._headers = {}
        self._name = self._value = b""
        self._data = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > _MOST_HEADER_BYTES:
            raise FetchTypeError("a part of the form has a header that is too long")

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part_end(self) -> None:
        disposition = self._headers.get("content-disposition", b"")
        options: dict[bytes, bytes] = self._parse_options_header(disposition)[1]
        if b"name" not in options:
            raise FetchTypeError("a part of the form has no name")
        name = _unescaped(options[b"name"])
        if b"filename" in options:
            kind = self._headers.get("content-type", b"application/octet-stream").decode("latin-1")
            file = File([bytes(self._data)], _unescaped(options[b"filename"]), type=kind)
            self.form.append(name, file)
        else:
            self.form.append(name, self._data.decode("utf-8", "replace"))

    def _end(self) -> None:
        self.ended = True


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise FetchTypeError(f"a form's {what} must be a str, not {type(value).__name__}")
    return value


def _entry(value: object, filename: str | None) -> FormDataValue:
    if isinstance(value, Blob):
        if isinstance(value, File) and filename is None:
            return value
        name = "blob" if filename is None else filename
        return File([value], name, type=value.type)
    return _text(value, "value")


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _unescaped(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
