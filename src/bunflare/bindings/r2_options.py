"""What R2 takes: its options, their limits, and the platform's words for what is beyond them.

Ranges, metadata and digests are plain values here, decided without a look at any file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from ..errors import R2TypeError, R2ValueError
from ..quick_json import stored_object
from ..web import Headers
from .text import scalar, utf8_length

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class R2Limits:
    """What the platform allows. Sizes in bytes."""

    key_size: int = 1024
    object_size: int = 5 * 1024**3 - 5 * 1024**2
    metadata_size: int = 8192
    least_part_size: int = 5 * 1024**2
    parts: int = 10_000
    list_keys: int = 1000
    delete_keys: int = 1000


LIMITS = R2Limits()


@dataclass(frozen=True, slots=True)
class R2Range:
    """A part of an object, in bytes: from ``offset`` on, and ``length`` of them; or its end."""

    offset: int | None = None
    length: int | None = None
    suffix: int | None = None


@dataclass(frozen=True, slots=True)
class R2HTTPMetadata:
    """Headers that are kept with an object."""

    content_type: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    cache_control: str | None = None
    cache_expiry: datetime | None = None


@dataclass(frozen=True, slots=True)
class R2Checksums:
    """Digests of an object's bytes: of the md5 always, of others if the writer gave them."""

    md5: bytes | None = None
    sha1: bytes | None = None
    sha256: bytes | None = None
    sha384: bytes | None = None
    sha512: bytes | None = None

    def to_json(self) -> dict[str, str]:
        """Those that there are, in hexadecimal."""
        found = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: digest.hex() for name, digest in found if digest is not None}


def refuse(action: str, code: int, message: str) -> NoReturn:
    """Raise what the platform answers."""
    raise R2ValueError(message, code, action)


# -- keys ----------------------------------------------------------------------------------------


def key_of(key: object, action: str, limits: R2Limits) -> str:
    if not isinstance(key, str):
        raise R2TypeError(f"a key must be a str, not {type(key).__name__}")
    if key.isascii():
        size = len(key)
    else:
        key = scalar(key)
        size = utf8_length(key)
    if size > limits.key_size:
        refuse(action, 10020, "The specified object name is not valid.")
    return key


def text_of(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise R2TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value if value.isascii() else scalar(value)


# -- options in their several forms --------------------------------------------------------------

_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def from_mapping(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """An option's dataclass of a mapping with its names, in either spelling."""
    named = {_HUMP.sub(r"_\1", name).lower(): value for name, value in values.items()}
    unknown = named.keys() - {one.name for one in fields(kind)}  # type: ignore[arg-type]
    if unknown:
        raise R2TypeError(f"{what} has no {', '.join(sorted(unknown))}")
    return kind(**named)


def _number(value: object, text: str, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise R2TypeError(f"{name} of a range must be an int, not {type(value).__name__}")
    if not value >= 0:
        raise R2ValueError(f"{text} ({value}) must be greater than or equal to 0.")
    if int(value) != value:
        raise R2ValueError(f"{text} ({value}) must be an integer, not floating point.")
    return int(value)


def moment(value: object, name: str) -> datetime | None:
    """A date with its zone; one without is in local time, as Python has it."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise R2TypeError(f"{name} must be a datetime, not {type(value).__name__}")
    return value.astimezone(UTC)


def http_date(text: str | None) -> datetime | None:
    """What a header says of a time, if it makes sense."""
    if text is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(when: datetime) -> int:
    """Since the UNIX epoch."""
    return (when - _EPOCH) // _MILLISECOND


def date_of(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def iso(when: datetime) -> str:
    """As rows have it: ``2026-01-31T12:00:00.123Z``."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return _EPOCH  # another program's idea of a date
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


# -- ranges --------------------------------------------------------------------------------------

_RANGE_HEADER = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


def range_of(value: object) -> R2Range | None:
    """`R2Range`, a mapping of its names, or headers; checked, but not against an object."""
    if value is None or isinstance(value, Headers):
        return None if value is None else _range_of_header(value.get("range"))
    if isinstance(value, Mapping):
        value = from_mapping(R2Range, value, "a range")
    if not isinstance(value, R2Range):
        raise R2TypeError(f"range must be an R2Range or Headers, not {type(value).__name__}")
    offset = _number(value.offset, "Invalid range. Starting offset", "offset")
    length = _number(value.length, "Invalid range. Length", "length")
    suffix = _number(value.suffix, "Invalid suffix. Suffix", "suffix")
    if suffix is not None:
        if offset is not None:
            raise R2TypeError("Suffix is incompatible with offset.")
        if length is not None:
            raise R2TypeError("Suffix is incompatible with length.")
    return R2Range(offset, length, suffix)


def _range_of_header(header: str | None) -> R2Range | None:
    """The range of a header; None for what is no single range, which HTTP lets one ignore."""
    match = None if header is None else _RANGE_HEADER.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return R2Range(suffix=int(last)) if last else None
    if not last:
        return R2Range(offset=int(first))
    if int(last) < int(first):
        return None
    return R2Range(offset=int(first), length=int(last) - int(first) + 1)


def resolved(wanted: R2Range | None, size: int, action: str) -> tuple[int, int]:
    """Offset and length of what is wanted of an object of that size."""
    if wanted is None:
        return 0, size
    if wanted.suffix is not None:
        length = min(wanted.suffix, size)
        offset = size - length
    else:
        offset = wanted.offset or 0
        length = size - offset
        if wanted.length is not None:
            length = min(wanted.length, length)
    if length <= 0:
        refuse(action, 10039, "The requested range is not satisfiable")
    return offset, length


# -- metadata ------------------------------------------------------------------------------------

_HTTP_NAMES = {
    "content_type": "contentType",
    "content_language": "contentLanguage",
    "content_disposition": "contentDisposition",
    "content_encoding": "contentEncoding",
    "cache_control": "cacheControl",
    "cache_expiry": "cacheExpiry",
}

_NO_HTTP_METADATA = R2HTTPMetadata()


def http_metadata_of(value: object) -> R2HTTPMetadata:
    """`R2HTTPMetadata`, a mapping of its names, or headers of a message."""
    if value is None:
        return _NO_HTTP_METADATA
    if isinstance(value, Headers):
        return R2HTTPMetadata(
            value.get("content-type"),
            value.get("content-language"),
            value.get("content-disposition"),
            value.get("content-encoding"),
            value.get("cache-control"),
            http_date(value.get("expires")),
        )
    if isinstance(value, Mapping):
        value = from_mapping(R2HTTPMetadata, value, "http_metadata")
    if not isinstance(value, R2HTTPMetadata):
        raise R2TypeError(
            f"http_metadata must be an R2HTTPMetadata or Headers, not {type(value).__name__}"
        )
    for name in _HTTP_NAMES:
        given = getattr(value, name)
        if given is not None and name != "cache_expiry":
            text_of(given, name)
    return R2HTTPMetadata(
        value.content_type,
        value.content_language,
        value.content_disposition,
        value.content_encoding,
        value.cache_control,
        moment(value.cache_expiry, "cache_expiry"),
    )


def dump_http_metadata(metadata: R2HTTPMetadata) -> str | None:
    """As rows have it: JSON with the platform's names."""
    if metadata is _NO_HTTP_METADATA:
        return None
    named: dict[str, str] = {}
    for name, wire in _HTTP_NAMES.items():
        value = getattr(metadata, name)
        if value is not None:
            named[wire] = iso(value) if isinstance(value, datetime) else value
    return json.dumps(named, ensure_ascii=True, separators=(",", ":")) if named else None


def load_http_metadata(text: str | None) -> R2HTTPMetadata:
    if text is None:
        return _NO_HTTP_METADATA
    named = stored_object(text, "the HTTP metadata")
    values = {name: named[wire] for name, wire in _HTTP_NAMES.items() if wire in named}
    expiry = values.get("cache_expiry")
    if isinstance(expiry, str):
        values["cache_expiry"] = from_iso(expiry)
    elif isinstance(expiry, int | float):
        values["cache_expiry"] = date_of(int(expiry))
    return R2HTTPMetadata(**values)


def dump_custom_metadata(value: object, action: str, limits: R2Limits) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise R2TypeError(
            f"custom_metadata must be a mapping of str to str, not {type(value).__name__}"
        )
    size = 0
    checked: dict[str, str] = {}
    for name, text in value.items():
        name = text_of(name, "a name in custom_metadata")
        checked[name] = text_of(text, f"custom_metadata[{name!r}]")
        size += utf8_length(name) + utf8_length(text)
    if size > limits.metadata_size:
        refuse(action, 10012, "Your metadata headers exceed the maximum allowed metadata size.")
    return json.dumps(checked, ensure_ascii=True, separators=(",", ":")) if checked else None


# -- digests -------------------------------------------------------------------------------------

#: Python's name of each algorithm, the platform's, and the size of its digest.
ALGORITHMS = {
    "md5": ("MD5", 16),
    "sha1": ("SHA-1", 20),
    "sha256": ("SHA-256", 32),
    "sha384": ("SHA-384", 48),
    "sha512": ("SHA-512", 64),
}


_HEX = re.compile(r"[0-9a-fA-F]*")


def digest_of(**given: object) -> tuple[str, bytes] | None:
    """The one digest that was given: the algorithm's name, and the digest."""
    found = [(name, value) for name, value in given.items() if value is not None]
    if not found:
        return None
    if len(found) > 1:
        raise R2TypeError("You cannot specify multiple hashing algorithms.")
    [(name, value)] = found
    label, size = ALGORITHMS[name]
    if isinstance(value, str):
        if len(value) != 2 * size:
            raise R2TypeError(f"{label} is {2 * size} hex characters, not {len(value)}")
        if _HEX.fullmatch(value) is None:
            raise R2TypeError(f"Provided {label} wasn't a valid hex string")
        return name, bytes.fromhex(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise R2TypeError(f"{name} must be bytes or a hex str, not {type(value).__name__}")
    data = bytes(value)
    if len(data) != size:
        raise R2TypeError(f"{label} is {size} bytes, not {len(data)}")
    return name, data


def check_digest(expected: tuple[str, bytes] | None, found: Mapping[str, bytes]) -> None:
    """Refuse bytes that are not those of which the digest was given."""
    if expected is None:
        return
    name, digest = expected
    actual = found[name]
    if actual != digest:
        label, _ = ALGORITHMS[name]
        refuse(
            "put",
            10037,
            f"The {label} checksum you specified did not match what we received.\n"
            f"You provided a {label} checksum with value: {digest.hex()}\n"
            f"Actual {label} was: {actual.hex()}",
        )


# -- the rest ------------------------------------------------------------------------------------

_STORAGE_CLASSES = ("Standard", "InfrequentAccess")


def storage_class_of(value: object, action: str) -> str:
    if value is None:
        return "Standard"
    if not isinstance(value, str):
        raise R2TypeError(f"storage_class must be a str, not {type(value).__name__}")
    if value not in _STORAGE_CLASSES:
        refuse(
            action,
            10029,
            f"The storage class must be one of {', '.join(_STORAGE_CLASSES)}, not {value!r}.",
        )
    return value


def limit_of(value: object, limits: R2Limits) -> int:
    if value is None:
        return limits.list_keys
    if isinstance(value, bool) or not isinstance(value, int):
        raise R2TypeError(f"limit must be an int, not {type(value).__name__}")
    if not 1 <= value <= limits.list_keys:
        refuse("list", 10022, f"MaxKeys params must be positive integer <= {limits.list_keys}.")
    return value


def include_of(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise R2TypeError('include must be a list of "httpMetadata" and "customMetadata"')
    wanted: set[str] = set()
    for name in value:
        snake = _HUMP.sub(r"_\1", str(name)).lower()
        if snake not in ("http_metadata", "custom_metadata"):
            raise R2ValueError(f"Unsupported include value {name}")
        wanted.add(snake)
    return frozenset(wanted)


def part_number_of(value: object, limits: R2Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limits.parts:
        raise R2TypeError(
            f"Part number must be between 1 and {limits.parts} (inclusive). "
            f"Actual value was: {value}"
        )
    return value
