"""Every earlier state of the objects of a namespace that has a history.

A state has two halves. What the keys were is undone from what each commit notes of them
(`store/object_history.py`); the SQL file comes out of a history of its own (`store/object_log.py`).
A bookmark names a place in both. When it is to be gone back, the state is put together and kept,
as one that was kept in time would be (`object_travel`), for the next instance to begin with; that
is a commit in both histories, so it can be undone. Where the two halves name times between the two
commits of one change, the SQL file, which has its changes of keys along, decides.
"""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DurableObjectError, DurableObjectValueError
from ..store import object_bookmarks
from ..store import object_history as store
from ..store.history_files import Position, Settings
from ..store.layout import has_history, history_of
from ..store.past import position_at
from ..store.threads import on_thread

if TYPE_CHECKING:
    from ..store.object_history import Earlier, Kept
    from ..store.object_sql import ObjectFile
    from ..store.transaction import Transaction
    from .actor import Actor
    from .object_data import ObjectData
    from .object_host import ObjectHost
    from .object_known import Known
    from .object_layer import Layer

#: What an object of a key-value class is told.
NO_TRAVEL = "This Durable Object's storage back-end does not implement point-in-time recovery."

#: What is kept, unless one says otherwise.
DAYS = 30.0
MEGABYTES = 256.0

_NO_SQL = Position(0, 0)
# How many rows of the history are read at once: each has a megabyte at the most.
_ROWS = 16
# How long one waits for objects that are at work, in seconds.
_PATIENCE = 5.0


def kept_path(directory: str, digits: str, number: int) -> Path:
    """Where the copy of an object's SQL file lies: among what never changes, by its dot."""
    return Path(directory, ".history", f"{digits}-{number}.sqlite")


# -- keeping -----------------------------------------------------------------------------------


def open_file(host: ObjectHost, path: Path) -> ObjectFile:
    """Open an object's SQL file, and have its states kept where they are to be."""
    from ..store.object_sql import ObjectFile

    durability = host.database.durability
    if host.history is None:
        if has_history(path):
            # It was switched off; what follows would not be in it.
            shutil.rmtree(history_of(path))
        return ObjectFile(path, durability)
    from ..store.object_log import ObjectLog

    make = partial(
        ObjectLog,
        path=path,
        settings=host.history.settings,
        now=host.clock.now,
        durable=durability != "off",
    )
    file = ObjectFile(path, durability, make)
    assert file.log is not None
    file.log.begin(host.commits.threads)
    return file


def remember(data: ObjectData, known: Known, layer: Layer) -> None:
    """Note what the keys of a layer are before it, which is about to be sent."""
    entries = layer.entries
    if not layer.extra.cleared and not data.flying:
        layer.earlier = known.differing(entries)
        return
    before: dict[str, str | None] = {}
    if layer.extra.cleared:
        before.update(data.rows("", None, None, reverse=False))
    before.update({key: data.before(key, known) for key in entries.keys() - before.keys()})
    found: Earlier = []
    for key, text in before.items():
        if text != entries.get(key):
            found += (key, text)
    layer.earlier = found


async def keep(host: ObjectHost, days: float, megabytes: float) -> None:
    """See `DurableObjectNamespace.keep_history`."""
    if not host.sqlite:
        raise DurableObjectError(NO_TRAVEL)
    chosen = check_settings(days, megabytes)
    await host.found()
    if not host.owner:
        raise DurableObjectError(
            f"the objects of {host.namespace} run in another process; say there what is kept"
        )
    if host.history is not None and host.history.settings == chosen:
        return
    await _quiet(host)

    def choose(tx: Transaction) -> Kept | None:
        store.choose(tx, host.namespace, chosen)
        return host.begin_history(tx)

    host.history = await host.database.write(choose)


async def _quiet(host: ObjectHost) -> None:
    """Have all objects leave memory: what they have open is not kept."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while True:
        for digits, actor in list(host.actors.items()):
            if actor.idle:
                host.evict(digits)
        under_way = [one for actor in host.actors.values() for one in actor.under_way()]
        left = deadline - loop.time()
        if not host.actors:
            return
        if not under_way or left <= 0:
            raise DurableObjectError(
                "what is kept is said before the objects are called: some are at work"
            )
        await asyncio.wait(under_way, timeout=left)


def check_settings(days: float, megabytes: float) -> Settings:
    """How much is to be kept. Raises `DurableObjectValueError` where that is no number."""
    for name, value in (("days", days), ("megabytes", megabytes)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise DurableObjectValueError(f"{name} must be a number of at least 0, not {value!r}")
    return Settings(int(days * 24 * 3600 * 1000), int(megabytes * 1024 * 1024))


# -- bookmarks ---------------------------------------------------------------------------------


def mark(history: Kept, digits: str) -> str:
    """By what one knows the bookmarks of an object's history."""
    return blake2b(f"{history.lineage}{digits}".encode(), digest_size=16).hexdigest()


def _text(history: Kept, digits: str, number: int, at: Position) -> str:
    return f"{number:08x}-{at.generation:08x}-{at.frame:08x}-{mark(history, digits)}"


async def current(actor: Actor) -> str:
    """The bookmark of the present state. Nothing changes meanwhile."""
    data = actor.data
    waiting = data.confirmed()
    if waiting is not None:
        await waiting
    host = data.host
    assert host.history is not None
    number = store.last(host.database.view, host.namespace)
    at = _NO_SQL
    if data.file is not None and data.file.log is not None:
        at = data.file.log.position()
    return _text(host.history, actor.digits, number, at)


def for_time(data: ObjectData, history: Kept, time: int) -> str | None:
    """The bookmark of the state of a time; None if it is not kept."""
    host = data.host
    number = store.number_at(host.database.view, host.namespace, time, history.since)
    if number is None:
        return None
    at: Position | None = _NO_SQL
    if data.file is not None and data.file.log is not None:
        files = data.file.log.history.told()
        at = position_at(files, time)
        if at is None:
            # As it was when its history began, unless that has been forgotten.
            first = next(iter(files.bases()), None)
            at = first if first is not None and first.generation == 1 else None
    return None if at is None else _text(history, data.digits, number, at)


# -- going back --------------------------------------------------------------------------------


async def prepare(actor: Actor, number: int, at: Position) -> None:
    """Put an earlier state together, for the next instance. Nothing changes meanwhile."""
    data = actor.data
    waiting = data.confirmed()
    if waiting is not None:
        await waiting
    host = data.host
    where = host.namespace, actor.digits
    sequence, slot = 0, object_bookmarks.free_slot(host.database.view, *where)
    if at.generation:
        copy = kept_path(host.sql_directory, actor.digits, slot)
        sequence = await on_thread(_materialize, data.sql(), at, copy)
    earlier = await _earlier(data, number, sequence)
    if earlier is None or sequence < 0:
        raise DurableObjectError("the state of this bookmark is not kept (any more)")
    entries = dict(data.rows("", None, None, reverse=False))
    for key, text in earlier.items():
        if text is None:
            entries.pop(key, None)
        else:
            entries[key] = text
    await host.database.submit(
        object_bookmarks.go_back_to, *where, slot, host.clock.now(), at.generation > 0, entries
    )


async def _earlier(data: ObjectData, number: int, sequence: int) -> dict[str, str | None] | None:
    """What keys were in a state that may be something else now; None if it is not kept.

    The state is that after all rows up to ``number``, and after the changes that are one with the
    SQL file's commits up to ``sequence``.
    """
    view, namespace = data.host.database.view, data.host.namespace
    found: dict[str, str | None] = {}
    below = store.last(view, namespace) + 1
    while below > 0:
        rows = store.backwards(view, namespace, data.digits, below, number, _ROWS)
        below = 0
        for row, commit, before in rows:
            if before is None:
                return None
            if commit is not None and commit <= sequence:
                below = 0
                break
            # The oldest comes last, and that is what it was then.
            found.update(before)
            below = row
        # Other objects need not wait until all is read.
        await asyncio.sleep(0)
    # Seen afterwards, so that nothing was forgotten in between.
    return found if store.kept(view, namespace, number) else None


def _materialize(file: ObjectFile, at: Position, path: Path) -> int:
    """Make a file of an earlier state of the SQL; its last commit's number, -1 if not kept."""
    from ..store.object_redo import redo_sequence

    assert file.log is not None
    return redo_sequence(path) if file.log.materialize(at, path) else -1


def drop(host: ObjectHost, digits: str, *numbers: int) -> None:
    """Remove copies, with what reading them has left beside."""
    for number in numbers:
        path = kept_path(host.sql_directory, digits, number)
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
