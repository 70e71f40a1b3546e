"""URLs in one spelling, as far as two spellings of one address must be one key."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from urllib.parse import quote, urlsplit

from ..errors import FetchTypeError

# What is normal already, which is what servers and most programs produce.
_NORMAL = re.compile(
    r"(?:http://[a-z0-9.\-]+(?::(?!80[/?#])[1-9]\d{0,3})?"
    r"|https://[a-z0-9.\-]+(?::(?!443[/?#])[1-9]\d{0,3})?)"
    r"/(?!\.)[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*(?:\?[A-Za-z0-9\-._~!$&()*+,;=:@%/?]*)?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATH_SAFE = "/:@!$&'()*+,;=~%-._|[]\\^"
_QUERY_SAFE = "/?:@!$&()*+,;=~%-._|[]\\^`{}"
_FRAGMENT_SAFE = "/?:@!$&'()*+,;=~%-._|[]\\^{}#"
_STRIPPED = "".join(map(chr, range(0x21)))


def normalize(url: str) -> str:
    """The URL as the WHATWG standard serializes it, for absolute http(s) URLs.

    Raises `FetchTypeError` for what is not one, and for one with credentials.
    """
    if not isinstance(url, str):
        raise FetchTypeError(f"a URL must be a str, not {type(url).__name__}")
    # Dot segments are rare, and a regular expression that finds them exactly costs more.
    if "/." not in url and "/%2" not in url and _NORMAL.fullmatch(url):
        return url
    return _normalize(url)


@lru_cache(maxsize=256)
def _normalize(url: str) -> str:
    text = re.sub(r"[\t\r\n]", "", url.strip(_STRIPPED))
    special = re.match(r"(?i)(https?):[/\\]*([^?#]*)(.*)", text, re.DOTALL)
    if special is None:
        raise FetchTypeError(f"Invalid URL: {url!r} (an absolute http or https URL is needed)")
    text = f"{special[1].lower()}://{special[2].replace(chr(92), '/')}{special[3]}"
    try:
        parts = urlsplit(text)
        host = _host(parts.hostname or "")
        port = parts.port
    except (ValueError, UnicodeError) as error:
        raise FetchTypeError(f"Invalid URL: {url!r} ({error})") from error
    if "@" in parts.netloc:
        raise FetchTypeError(
            f"Request cannot be constructed from a URL that includes credentials: {url!r}"
        )
    authority = host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    result = f"{parts.scheme}://{authority}{quote(_path(parts.path), _PATH_SAFE)}"
    if parts.query:
        result += f"?{quote(parts.query, _QUERY_SAFE)}"
    if parts.fragment:
        result += f"#{quote(parts.fragment, _FRAGMENT_SAFE)}"
    return result


def _host(host: str) -> str:
    if ":" in host:
        return f"[{host.lower()}]"
    if not host.isascii():
        host = host.encode("idna").decode()
    if not host or re.search(r"[\s<>^|%\\]", host):
        raise ValueError("it has no valid host")
    return host.lower()


def _path(path: str) -> str:
    """Without dot segments, and with a slash at least."""
    segments: list[str] = []
    parts = path.split("/")[1:] or [""]
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        lowered = part.lower().replace("%2e", ".")
        if lowered == "..":
            if segments:
                segments.pop()
            if last:
                segments.append("")
        elif lowered == ".":
            if last:
                segments.append("")
        else:
            segments.append(part)
    return posixpath.sep + "/".join(segments)
