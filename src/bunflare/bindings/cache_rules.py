"""The rules of the Cache API, as functions of values: what may be kept, and what a request gets.

Freshness is HTTP caching (RFC 9111) for a shared cache, as the platform applies it to
``cache.put``: only what a response says counts, nothing is guessed from its age; ``private`` and
``Set-Cookie`` keep it out unless ``private=Set-Cookie`` says to drop the cookie; ``Vary`` and the
stale-while-* directives have no effect. Conditions and ranges are RFC 9110.

https://developers.cloudflare.com/workers/runtime-apis/cache/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Pairs = list[tuple[str, str]]

#: Statuses that a cache knows how to keep.
_STATUSES = frozenset({200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501})

# They describe one connection, not the response; a Date and an Age of our own take their places.
_NOT_STORED = frozenset(
    {
        "age",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# More ranges than this are no client's need; the whole is answered then, as the RFC allows.
_MOST_RANGES = 50

_DIRECTIVE = re.compile(r'\s*([^\s=,;"]+)\s*(?:=\s*(?:"([^"]*)"|([^\s,;"]*)))?\s*[,;]?')


@dataclass(frozen=True, slots=True)
class Fresh:
    """A response may be kept."""

    #: Epoch milliseconds at which it stops being fresh.
    expires: int
    #: Epoch milliseconds at which its age was 0.
    born: int
    #: The headers to keep, names in lower case.
    headers: Pairs


def freshness(request: Pairs, status: int, response: Pairs, now: int) -> Fresh | None:
    """Whether and until when a response may be kept; None if not at all.

    Header names are in lower case; ``now`` is in epoch milliseconds.
    """
    headers = dict(response)
    control = directives(headers.get("cache-control", ""))
    if "cache-control" not in headers and "no-cache" in headers.get("pragma", "").lower():
        control["no-cache"] = None
    dropped = set(_NOT_STORED)
    if _fields(control.get("private")) == {"set-cookie"}:
        del control["private"]
        dropped.add("set-cookie")
    refused = (
        status not in _STATUSES
        or control.keys() & {"no-store", "no-cache", "private", "proxy-revalidate"}
        or ("set-cookie" in headers and "set-cookie" not in dropped)
        or (
            any(name == "authorization" for name, _ in request)
            and not control.keys() & {"public", "must-revalidate", "s-maxage"}
        )
    )
    if refused:
        return None
    date = http_date(headers.get("date"))
    age = _seconds(headers.get("age")) or 0
    lifetime = _lifetime(control, headers.get("expires"), now if date is None else date)
    if lifetime is None or lifetime <= age:
        return None
    if "connection" in headers:
        dropped |= _fields(headers["connection"])
    kept = [(name, value) for name, value in response if name not in dropped]
    if date is None:
        kept.append(("date", format_date(now)))
    born = now - age * 1000
    return Fresh(born + lifetime * 1000, born, kept)


def foreign_expiry(headers: Pairs) -> int | None:
    """When an entry that another program stored expires; None if nothing tells.

    Its moment of storage is unknown, so only a Date or an Expires can bound its life.
    """
    names = {name.lower(): value for name, value in headers}
    control = directives(names.get("cache-control", ""))
    date = http_date(names.get("date"))
    if date is not None:
        lifetime = _lifetime(control, names.get("expires"), date)
        return None if lifetime is None else date + lifetime * 1000
    if "s-maxage" in control or "max-age" in control:
        return None
    return http_date(names.get("expires"))


def _lifetime(control: dict[str, str | None], expires: str | None, date: int) -> int | None:
    """Seconds of freshness from birth on; None if the response does not say."""
    for name in ("s-maxage", "max-age"):
        if name in control:
            return _seconds(control[name]) or 0
    if expires is None:
        return None
    until = http_date(expires)
    return 0 if until is None else (until - date) // 1000


def directives(header: str) -> dict[str, str | None]:
    """A Cache-Control header as names (in lower case) with their values."""
    found: dict[str, str | None] = {}
    for name, quoted, plain in _DIRECTIVE.findall(header):
        found.setdefault(name.lower(), quoted or plain or None)
    return found


def _fields(value: str | None) -> set[str]:
    return {field.strip().lower() for field in (value or "").split(",") if field.strip()}


def _seconds(value: str | None) -> int | None:
    # Longer than any number that could matter, and so that its product fits a column.
    return min(int(value), 2**31) if value and value.isascii() and value.isdigit() else None


def http_date(value: str | None) -> int | None:
    """An HTTP date in epoch milliseconds; None if it is not one."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def format_date(milliseconds: int) -> str:
    """Epoch milliseconds as an HTTP date."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()]
    month = (
        *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
        *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    )[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT"


# -- conditions --------------------------------------------------------------------------------


def not_modified(request: dict[str, str], response: dict[str, str]) -> bool:
    """Whether the client's copy is the stored one, so that 304 is the answer."""
    wanted = request.get("if-none-match")
    if wanted is not None:
        etag = response.get("etag")
        if etag is None:
            return False
        return wanted.strip() == "*" or _opaque(etag) in map(_opaque, _etags(wanted))
    since = http_date(request.get("if-modified-since"))
    modified = http_date(response.get("last-modified"))
    return since is not None and modified is not None and modified <= since


def _etags(header: str) -> list[str]:
    return re.findall(r'(?:W/)?"[^"]*"', header)


def _opaque(etag: str) -> str:
    return etag.strip().removeprefix("W/")


# -- ranges ------------------------------------------------------------------------------------


def ranges(
    request: dict[str, str], response: dict[str, str], size: int
) -> list[tuple[int, int]] | None:
    """The byte ranges asked for, as (offset, length).

    None: the whole is wanted. An empty list: nothing of what is asked for exists (416).
    """
    header = request.get("range")
    if header is None or not _unchanged(request.get("if-range"), response):
        return None
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    found: list[tuple[int, int]] = []
    parts = specs.split(",")
    for part in parts:
        match = re.fullmatch(r"\s*(\d*)\s*-\s*(\d*)\s*", part, re.ASCII)
        if match is None or not (match[1] or match[2]):
            return None
        if not match[1]:
            length = min(int(match[2]), size)
            if length > 0:
                found.append((size - length, length))
            continue
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None
        if first < size:
            found.append((first, last - first + 1))
    return None if len(parts) > _MOST_RANGES else found


def _unchanged(if_range: str | None, response: dict[str, str]) -> bool:
    """Whether the part that the client has and the one it asks for are of one version."""
    if if_range is None:
        return True
    if if_range.startswith('"'):
        return if_range.strip() == response.get("etag")
    moment = http_date(if_range)
    return moment is not None and moment == http_date(response.get("last-modified"))
