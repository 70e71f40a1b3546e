"""Point-in-time recovery of one object: its bookmarks, and going back to one.

Where its namespace has a history (`object_past`), every state there was can be gone back to, as on
the platform. Elsewhere a state is kept when its bookmark is asked for. An object goes back when its
next instance is made: its keys by a layer like any other, its SQL file by a copy whose commit
carries that layer along, so that a crash leaves both as they were or both gone back. The alarm
stays as it is.
https://developers.cloudflare.com/durable-objects/api/sqlite-storage-api/#pitr-point-in-time-recovery-api
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import DurableObjectError, DurableObjectTypeError
from ..store import object_bookmarks as store
from ..store.history_files import Position
from . import object_past as past
from .object_past import kept_path

if TYPE_CHECKING:
    from .actor import Actor
    from .object_data import ObjectData

#: For how long kept states are kept, in milliseconds, and how many of an object at most.
RETENTION_MS = 30 * 24 * 3600 * 1000
MOST = 100

_log = logging.getLogger("bunflare")

_BOOKMARK = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{32})")


def _text(digits: str, number: int) -> str:
    # Later ones sort after earlier ones. The second half of an id has the namespace in it, too.
    return f"{number:08x}-00000000-00000000-{digits[:32]}"


async def current(actor: Actor) -> str:
    """Keep the present state, unless it is kept. Its bookmark."""
    data = actor.data
    if data.below:
        raise DurableObjectError("Cannot get a bookmark within a transaction")
    # Nothing may change between the copies of the keys and of the file.
    keep = _keep if data.host.history is None else past.current
    return await actor.block(lambda: keep(actor), resets=False, limited=False)


async def _keep(actor: Actor) -> str:
    data = actor.data
    waiting = data.confirmed()
    if waiting is not None:
        await waiting
    host = data.host
    where = host.namespace, actor.digits
    if data.bookmark is None:
        number = store.last(host.database.view, *where) + 1
        copied = data.copy_sql(kept_path(host.sql_directory, actor.digits, number))
        now = host.clock.now()
        old = await host.database.submit(
            store.keep, *where, number, now, copied, now - RETENTION_MS, MOST
        )
        for one in old:
            past.drop(host, actor.digits, one)
        data.bookmark = number
    return _text(actor.digits, data.bookmark)


def for_time(data: ObjectData, time: object) -> str:
    """The bookmark of a time's state; without a history, of the newest kept one before it."""
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.astimezone(UTC)).timestamp() * 1000
    if isinstance(time, bool) or not isinstance(time, int | float) or time != time:
        raise DurableObjectTypeError(
            "getBookmarkForTime() takes a time in epoch milliseconds or a datetime, "
            f"not {type(time).__name__}"
        )
    host = data.host
    # The clock has no parts of a millisecond, and ``time`` may be now.
    if time >= host.clock.now() + 1:
        raise DurableObjectError("getBookmarkForTime() takes no time in the future")
    found = None if host.history is None else past.for_time(data, host.history, int(time))
    if found is not None:
        return found
    number = store.at(host.database.view, host.namespace, data.digits, int(time))
    if number is None:
        raise DurableObjectError("no state of this object is kept from that time or before")
    return _text(data.digits, number)


async def restore_next(actor: Actor, bookmark: object) -> str:
    """Have the next instance begin with an earlier state. The bookmark of the present one."""
    match = _BOOKMARK.fullmatch(bookmark) if isinstance(bookmark, str) else None
    if match is None:
        raise DurableObjectTypeError(f"{bookmark!r} is not a bookmark")
    history = actor.data.host.history
    if history is not None and match[4] == past.mark(history, actor.digits):
        present = await current(actor)
        at = int(match[1], 16), Position(int(match[2], 16), int(match[3], 16))
        await actor.block(lambda: past.prepare(actor, *at), resets=False, limited=False)
        return present
    if match[4] != actor.digits[:32]:
        raise DurableObjectError("this bookmark is another object's")
    host = actor.data.host
    where = host.namespace, actor.digits
    number = int(match[1], 16)
    if store.kept(host.database.view, *where, number) is None:
        raise DurableObjectError("the state of this bookmark is not kept (any more)")
    present = await current(actor)
    await host.database.submit(store.set_restore, *where, number)
    return present


def go_back(data: ObjectData) -> bool:
    """Begin with the state that was named before, if one was."""
    host = data.host
    where = host.namespace, data.digits
    number = store.restore(host.database.view, *where)
    if number is None:
        return False
    row = store.kept(host.database.view, *where, number)
    if row is None:
        # It was forgotten in the meantime, which takes a month.
        return False
    copy = kept_path(host.sql_directory, data.digits, number) if row[2] else None
    if copy is not None and not copy.exists():
        _log.error("%s %s cannot go back: %s is gone", *where, copy)
        return False
    data.replace(store.entries(host.database.view, *where, number), copy)
    return True
