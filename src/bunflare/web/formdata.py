"""`FormData`: the fields of a form, read from a body and written to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ..errors import FetchTypeError
from . import multipart, urlencoded
from .blob import Blob, File
from .multimap import Multimap
from .multipart import FormDataValue

FormDataInit: TypeAlias = Mapping[str, Any] | Multimap[Any] | Iterable[tuple[str, Any]]


class FormData(Multimap[FormDataValue]):
    """An ordered multimap of names to texts and files.

    Made of a mapping (a list is several values of its name) or of pairs.
    https://developer.mozilla.org/docs/Web/API/FormData
    """

    __slots__ = ()

    def __init__(self, init: FormDataInit | None = None) -> None:
        super().__init__()
        if init is None:
            return
        if isinstance(init, str | bytes) or not isinstance(init, Iterable):
            raise FetchTypeError("Expected form_data to be a dict or an instance of FormData")
        for name, value in init.items() if isinstance(init, Mapping | Multimap) else init:
            for one in value if isinstance(value, list) else [value]:
                self.append(name, one)

    def append(self, name: str, value: str | Blob, filename: str | None = None) -> None:
        """Add a value, beside those that the name has."""
        self._entries.append((_text(name), _entry(value, filename)))

    def set(self, name: str, value: str | Blob, filename: str | None = None) -> None:
        """Give the name this value only."""
        self._put(_text(name), _entry(value, filename))

    def __getitem__(self, name: str) -> Any:
        """The first value of the name; None if there is none, as in JavaScript."""
        return self.get(name)

    def __setitem__(self, name: str, value: str | Blob) -> None:
        if isinstance(value, list):
            raise FetchTypeError("Expected single item in arguments to FormData.__setitem__")
        self.set(name, value)

    def setdefault(self, name: str, default: str | Blob) -> FormDataValue:
        """The value of the name, which is ``default`` from now on if there was none."""
        if name not in self:
            self.set(name, default)
        return super().__getitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove the name, and give its first value."""
        if name not in self and default:
            return default[0]
        value = super().__getitem__(name)
        self.delete(name)
        return value

    def update(self, other: FormDataInit = (), **more: str | Blob) -> None:
        """Set each name of ``other`` and ``more`` to its value there."""
        pairs = other.items() if isinstance(other, Mapping | Multimap) else other
        for name, value in (*pairs, *more.items()):
            self.set(name, value)

    def encode(self) -> tuple[bytes, str]:
        """The body as multipart/form-data, and its Content-Type."""
        return multipart.encode(self._entries)


def parse(content_type: str | None, body: bytes) -> FormData:
    """The form that a body holds. Raises `FetchTypeError` if it is none."""
    if content_type is None:
        raise FetchTypeError("Parsing a Body as FormData requires a Content-Type header.")
    form = FormData()
    match content_type.partition(";")[0].strip().lower():
        case "multipart/form-data":
            form._entries = multipart.parse(content_type, body)
        case "application/x-www-form-urlencoded":
            form._entries += urlencoded.parse(body)
        case _:
            raise FetchTypeError(
                f"Unrecognized Content-Type header value {content_type!r}. FormData can only parse "
                "the following MIME types: multipart/form-data, application/x-www-form-urlencoded"
            )
    return form


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FetchTypeError(f"a form's field must be a str or a Blob, not {type(value).__name__}")
    return value


def _entry(value: str | Blob, filename: str | None) -> FormDataValue:
    if not isinstance(value, Blob):
        return _text(value)
    if filename is None and isinstance(value, File):
        return value
    return File(value, "blob" if filename is None else _text(filename))
