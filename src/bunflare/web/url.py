"""URLs in one spelling, as far as two spellings of one address must be one key.

Follows the parser and serializer of https://url.spec.whatwg.org for absolute http and https URLs,
with one difference: international names are converted as IDNA 2003 has it, which is what Python's
standard library knows. The two disagree on a few letters (``ß`` becomes ``ss``) and on newer
scripts.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from ..errors import FetchTypeError
from . import text

_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HOST = rf"(?:(?:[a-z0-9_\-]+\.)*[a-z][a-z0-9_\-]*|{_BYTE}(?:\.{_BYTE}){{3}})"
_PORT = r"(?:[1-5]\d{4}|[1-9]\d{0,3})"
# What is normal already, which is what servers and most programs produce. It may miss some.
_NORMAL = re.compile(
    rf"(?:http://{_HOST}(?::(?!80/){_PORT})?|https://{_HOST}(?::(?!443/){_PORT})?)"
    r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/|\[\]]*(?:\?[A-Za-z0-9\-._~!$&()*+,;=:@%/?|\[\]{}]*)?",
    re.ASCII,
)

# After the scheme any number of slashes and backslashes; both end the authority.
_PARTS = re.compile(r"(https?):[/\\]*([^/\\?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.I | re.S)
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[^\]]*\]|[^:@]+)(?::([0-9]*))?", re.S)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENDS = "".join(map(chr, range(0x21)))
_LINE_BREAKS = re.compile(r"[\t\r\n]")
_FORBIDDEN_IN_HOST = re.compile(r"[\0-\x20#%/:<>?@\[\\\]^|\x7f]")
_ZEROS = re.compile(r"(?:^|:)0(?::0)+(?:$|:)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# The standard's sets of what is percent-encoded, for each part of a URL.
_IN_PATH = re.compile(r"[^!$-;=@-\]_a-z|~]+")
_IN_QUERY = re.compile(r"[^!$-&(-;=?-~]+")
_IN_FRAGMENT = re.compile(r"[^!#-;=?-_a-~]+")


def normalize(url: str) -> str:
    """The URL as the standard serializes it.

    Raises `FetchTypeError` for what is not an absolute http or https URL, and, as the Fetch
    standard does for requests, for one that includes credentials.
    """
    if not isinstance(url, str):
        raise FetchTypeError(f"a URL must be a str, not {type(url).__name__}")
    # Segments of dots, plain and percent-encoded, are rare; to find them exactly costs more.
    if "/." not in url and "/%2" not in url and _NORMAL.fullmatch(url):
        return url
    return _normalize(url)


def location(url: str) -> str:
    """A URL of any scheme to send a client to, such as that of an app. Raises like `normalize`."""
    if not isinstance(url, str):
        raise FetchTypeError(f"a URL must be a str, not {type(url).__name__}")
    trimmed = _LINE_BREAKS.sub("", url.strip(_ENDS))
    scheme = _SCHEME.match(trimmed)
    if scheme is None:
        raise FetchTypeError(f"Unable to parse URL: {url}")
    if scheme[0].lower() in ("http:", "https:"):
        return normalize(trimmed)
    return scheme[0].lower() + _encoded(_IN_FRAGMENT, trimmed[scheme.end() :])


@lru_cache(maxsize=256)
def _normalize(url: str) -> str:
    parts = _PARTS.fullmatch(_LINE_BREAKS.sub("", url.strip(_ENDS)))
    if parts is None:
        raise FetchTypeError(f"Invalid URL: {url} (an absolute http or https URL is needed)")
    scheme, authority, path, query, fragment = parts.groups(default="")
    scheme = scheme.lower()
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise FetchTypeError(f"Invalid URL: {url}")
    credentials, host, port = found.groups(default="")
    if credentials.strip(":") or credentials.count(":") > 1:
        raise FetchTypeError(
            f"Request cannot be constructed from a URL that includes credentials: {url}"
        )
    try:
        address = f"{scheme}://{_ipv6(host[1:-1]) if host[0] == '[' else _domain(host)}"
        number = int(port or _DEFAULT_PORTS[scheme])
        if number > 65535:
            raise ValueError("the port is too large")
    except (ValueError, OSError) as error:
        raise FetchTypeError(f"Invalid URL: {url} ({error})") from error
    if number != _DEFAULT_PORTS[scheme]:
        address += f":{number}"
    address += _encoded(_IN_PATH, _without_dots(path.replace("\\", "/")))
    if query:
        address += "?" + _encoded(_IN_QUERY, query[1:])
    if fragment:
        address += "#" + _encoded(_IN_FRAGMENT, fragment[1:])
    return address


def _encoded(outside: re.Pattern[str], part: str) -> str:
    return outside.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in text.encode(found[0])), part
    )


def _without_dots(path: str) -> str:
    """The path with a slash at least, and ``.`` and ``..`` resolved."""
    segments: list[str] = []
    names = path.split("/")[1:] or [""]
    for name in names:
        match name.lower().replace("%2e", "."):
            case ".":
                pass
            case "..":
                del segments[-1:]
            case _:
                segments.append(name)
    if names[-1].lower().replace("%2e", ".") in (".", ".."):
        segments.append("")
    return "/" + "/".join(segments)


def _domain(host: str) -> str:
    if "%" in host:
        host = unquote_to_bytes(text.encode(host)).decode("utf-8", "replace")
    if not host.isascii():
        host = host.encode("idna").decode()
    host = host.lower()
    if not host or _FORBIDDEN_IN_HOST.search(host):
        raise ValueError("the host is not valid")
    numbers = host.removesuffix(".").split(".")
    return _ipv4(numbers) if _NUMBER.fullmatch(numbers[-1]) else host


def _ipv4(parts: list[str]) -> str:
    """An address of one to four numbers, the last of which fills what the others leave."""
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        raise ValueError("the host ends in a number and is no IPv4 address")
    *first, last = map(_number, parts)
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        raise ValueError("a number of the IPv4 address is too large")
    return socket.inet_ntoa(bytes(first) + last.to_bytes(4 - len(first), "big"))


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part[0] == "0" else 10)


def _ipv6(host: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6, host)
    pieces = [f"{packed[at] << 8 | packed[at + 1]:x}" for at in range(0, 16, 2)]
    address = ":".join(pieces)
    # The first of the longest runs of two zeros or more is left out.
    runs = list(_ZEROS.finditer(address))
    if not runs:
        return f"[{address}]"
    longest = max(runs, key=lambda run: run[0].count("0"))
    return f"[{address[: longest.start()]}::{address[longest.end() :]}]"
