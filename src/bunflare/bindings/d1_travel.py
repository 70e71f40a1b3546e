"""Which state of a D1 database a bookmark or a time means."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..errors import D1Error, D1TypeError, D1ValueError
from ..store.d1 import D1File
from ..store.d1_history import choose, keep
from ..store.d1_history import restore as go_back
from ..store.history_files import Position, Settings
from ..store.past import position_at

_BOOKMARK = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-[0-9a-f]{8}-([0-9a-f]{32})")


def bookmark_of(file: D1File, position: Position) -> str:
    """The text of a position: later ones sort after earlier ones."""
    return f"{position.generation:08x}-{position.frame:08x}-00000000-{file.history.lineage}"


async def bookmark(file: D1File, at: str | datetime | None) -> str:
    """The present state's bookmark, or that of a time."""
    await file.on_thread(lambda: keep(file))
    return bookmark_of(file, file.position() if at is None else await find(file, at))


async def restore(file: D1File, to: str | datetime) -> str:
    """Go back; the bookmark of the state before."""
    target = await find(file, to)
    before = await go_back(file, target)
    if before is None:
        raise D1Error(f"the state of {to} is not kept (any more)")
    return bookmark_of(file, before)


async def find(file: D1File, to: str | datetime) -> Position:
    """The state that is meant."""
    if isinstance(to, str):
        match = _BOOKMARK.fullmatch(to.strip())
        if match is not None:
            if match[3] != file.history.lineage:
                raise D1Error(f"the bookmark {to} is another database's")
            return Position(int(match[1], 16), int(match[2], 16))
        try:
            to = datetime.fromisoformat(to)
            to = to if to.tzinfo else to.replace(tzinfo=UTC)
        except ValueError:
            raise D1ValueError(f"{to!r} is neither a bookmark nor an ISO 8601 time") from None
    if not isinstance(to, datetime):
        raise D1TypeError(f"a bookmark or a datetime is wanted, not {type(to).__name__}")
    # A naive one is local time, which is what a Date becomes in a Worker.
    moment = int(to.timestamp() * 1000)
    files = file.history.told()
    found = await file.on_thread(lambda: position_at(files, moment))
    if found is None:
        raise D1Error(f"no state is kept from {to.isoformat()} or before")
    return found


async def keep_history(file: D1File, days: float, megabytes: float) -> None:
    """Say how much is kept."""
    for name, value in (("days", days), ("megabytes", megabytes)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise D1ValueError(f"{name} must be a number of at least 0, not {value!r}")
    settings = Settings(int(days * 24 * 3600 * 1000), int(megabytes * 1024 * 1024))
    await file.on_thread(lambda: choose(file, settings))
