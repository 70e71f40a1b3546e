"""Where the bytes of an object lie: from any key to a path, never two keys to one.

A key whose parts are ordinary names lies at that very path, so that ``r2/<bucket>/<key>`` is what
one expects. Everything else is escaped, as ``%`` and the two hexadecimal digits of each byte:
``%`` itself, control characters, what Windows refuses in names, parts that are empty or made of
dots, device names, and spaces and dots at a part's end. A part that would be too long for a file's
name keeps its beginning and ends in ``%~`` and a digest; an empty part is ``%-``. Where too many
parts would be directories within each other, the slashes are escaped too.

That is not enough where ``a`` and ``a/b`` are both keys: ``a`` cannot be a file and a directory.
Whichever finds its place taken goes to its second path, which is flat, and ends in a ``%`` as no
first path does.

On a volume that takes two spellings for one name (``A`` and ``a``, or an accent in one character
or two), capital letters and all that is not ASCII are escaped as well.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_NAME_SIZE = 255
_STEM_SIZE = 180
_REMEMBERED = 1024
# Directories within each other: beyond this, many tools stumble.
_DEEPEST = 60

# `%`, control characters, and what some system refuses in a name.
_UNSAFE = re.compile(r"""[%\x00-\x1f\x7f<>:"|?*\\/]""")
_UNSAFE_FOLDED = re.compile(r"""[%\x00-\x1f\x7f<>:"|?*\\/A-Z]|[^\x00-\x7f]""")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)

Path = tuple[str, ...]


@lru_cache(maxsize=_REMEMBERED)
def first(key: str, folding: bool = False) -> Path:
    """The path of a key within its bucket's directory, as the names along it."""
    if "/" not in key:
        return (_name(key, folding),)
    if key.count("/") > _DEEPEST:
        return (_fitted(_safe_end(_escaped(key, folding))),)
    return tuple(_name(part, folding) for part in key.split("/"))


@lru_cache(maxsize=_REMEMBERED)
def second(key: str, folding: bool = False) -> Path:
    """Where the object lies if something else is in the way of its first path."""
    return (_fitted(_escaped(key, folding), suffix="%"),)


def verbatim(key: str) -> Path | None:
    """The path that a program without such rules has used; None if it would leave the bucket."""
    parts = tuple(key.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return None
    return parts


def is_odd(key: str) -> bool:
    """Whether a program without such rules has used another path."""
    return first(key) != tuple(key.split("/"))


def bucket_name(bucket: str, folding: bool = False) -> str:
    """The name of a bucket's directory."""
    return _name(bucket, folding)


def key_of(path: Path, folding: bool = False) -> str:
    """The key that a file stands for which no row tells of."""
    key = "/".join(_unescaped(name) for name in path)
    if first(key, folding) == path:
        return key
    key = _unescaped(path[0][:-1])
    return key if second(key, folding) == path else "/".join(path)


def _name(part: str, folding: bool) -> str:
    if part.isalnum() and part.isascii() and 4 < len(part) <= _NAME_SIZE and not folding:
        return part
    if not part:
        return "%-"
    name = _safe_end(_escaped(part, folding))
    if _DEVICE.fullmatch(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return _fitted(name)


def _safe_end(name: str) -> str:
    return f"{name[:-1]}%{ord(name[-1]):02X}" if name[-1] in ". " else name


def _escaped(text: str, folding: bool) -> str:
    unsafe = _UNSAFE_FOLDED if folding else _UNSAFE
    if unsafe.search(text) is None:
        return text
    return unsafe.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def _fitted(name: str, suffix: str = "") -> str:
    data = name.encode()
    if len(data) + len(suffix) <= _NAME_SIZE:
        return name + suffix
    stem = data[:_STEM_SIZE].decode(errors="ignore").rstrip(". ")
    return f"{stem}%~{hashlib.sha256(data).hexdigest()}{suffix}"


def _unescaped(name: str) -> str:
    from urllib.parse import unquote

    return "" if name == "%-" else unquote(name, errors="replace")
