"""What a D1 database may be called, since its name is the name of its file."""

from __future__ import annotations

import re

from ..errors import D1TypeError, D1ValueError

_NAME = re.compile(r"[\w][\w .@+=,-]*")
_LONGEST = 200
# Names of devices on Windows, where a copy of the directory may end up.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def check_name(name: object) -> str:
    """The name, if a file can be called so everywhere."""
    if not isinstance(name, str):
        raise D1TypeError(f"a D1 database needs a name (a str), not {type(name).__name__}")
    if (
        not _NAME.fullmatch(name)
        or name.endswith((" ", "."))
        or len(name.encode()) > _LONGEST
        or _DEVICES.fullmatch(name)
    ):
        raise D1ValueError(
            f"{name!r} cannot name a D1 database: use letters, digits, '_', '-', '.', at most "
            f"{_LONGEST} bytes, beginning with a letter, digit or '_'"
        )
    return name
