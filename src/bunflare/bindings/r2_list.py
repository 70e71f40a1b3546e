"""A page of a listing: keys in order, with what they share up to a delimiter told once.

Below a shared prefix nothing is read: the next look begins behind it. So a page costs about as
much as what it tells, however many keys there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import R2TypeError
from ..store.r2 import ObjectRow
from .r2_options import refuse
from .text import after_prefix, decode_cursor

#: Rows with keys from the first text on and below the second (None: no end), at most so many.
Fetch = Callable[[str, str | None, int], list[tuple[str, ObjectRow]]]

# With a delimiter, how many rows are read at first: perhaps all of one prefix.
_FIRST_LOOK = 8


@dataclass(slots=True)
class Page:
    objects: list[tuple[str, ObjectRow]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    #: Where the next page begins, if there is one.
    next: str | None = None

    def __len__(self) -> int:
        return len(self.objects) + len(self.prefixes)


def page(fetch: Fetch, prefix: str, delimiter: str, start: str, limit: int) -> Page:
    """At most ``limit`` keys and shared prefixes, of keys with ``prefix``, from ``start`` on."""
    found = Page()
    end = after_prefix(prefix) if prefix else None
    position: str | None = max(start, prefix)
    resume = ""
    look = _FIRST_LOOK if delimiter else limit + 1
    while position is not None:
        look = min(look, limit - len(found) + 1)
        rows = fetch(position, end, look)
        position = None if len(rows) < look else rows[-1][0] + "\0"
        for key, row in rows:
            if len(found) == limit:
                # Not at this key: others may come before it until then.
                found.next = resume
                return found
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                found.objects.append((key, row))
                resume = key + "\0"
                continue
            shared = key[: cut + len(delimiter)]
            found.prefixes.append(shared)
            position = after_prefix(shared)
            resume = position or ""
            look = _FIRST_LOOK // 4
            break
        look *= 4
    return found


def position_of(cursor: object) -> str:
    """Where the page begins that is asked for by a cursor."""
    if not isinstance(cursor, str):
        raise R2TypeError(f"a cursor must be a str, not {type(cursor).__name__}")
    position = decode_cursor(cursor)
    if position is None:
        refuse("list", 10029, "The cursor is not one that a page has given.")
    return position
