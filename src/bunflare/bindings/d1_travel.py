"""Which kept state of a D1 database a bookmark or a time means."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import cast

from ..clock import Clock
from ..errors import D1Error, D1TypeError, D1ValueError
from ..store.d1 import D1Directory, D1File
from ..store.d1_history import Kept, keep, kept
from ..store.d1_history import restore as go_back
from .d1 import bookmark_of

_BOOKMARK = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-[0-9a-f]{8}-[0-9a-f]{32}")


async def restore(file: D1File, clock: Clock, to: str | datetime) -> str:
    """Go back; the bookmark of the state before."""
    target = find(kept(cast("D1Directory", file.directory)), to)
    now = clock.now()
    before = await file.on_thread(lambda: keep(file, now))
    await go_back(file, target, now)
    return bookmark_of(before)


def find(states: list[Kept], to: str | datetime) -> Kept:
    """The kept state that is meant."""
    if isinstance(to, str):
        match = _BOOKMARK.fullmatch(to.strip())
        if match is not None:
            commits = int(match[1] + match[2], 16)
            found = [one for one in states if one.commits == commits]
            if not found:
                raise D1Error(f"no state is kept for the bookmark {to}; bookmark() keeps one")
            return found[0]
        try:
            to = datetime.fromisoformat(to)
        except ValueError:
            raise D1ValueError(f"{to!r} is neither a bookmark nor an ISO 8601 time") from None
    if not isinstance(to, datetime):
        raise D1TypeError(f"a bookmark or a datetime is wanted, not {type(to).__name__}")
    moment = (to if to.tzinfo else to.replace(tzinfo=UTC)).timestamp() * 1000
    earlier = [one for one in states if one.at <= moment]
    if not earlier:
        raise D1Error(f"no state is kept from {to.isoformat()} or before")
    return max(earlier, key=lambda one: one.at)
