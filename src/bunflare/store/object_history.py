"""What the keys of Durable Objects were before: every state there was, for as long as is wanted.

Each commit adds a row with the earlier texts of the keys that it changed, in the same transaction.
To go back is to put them in again, the newest first. Where a change was one with a commit of the
object's SQL file, it names that, so that keys and tables go back to the same moment.

All objects of a namespace share one sequence of rows, and all that change in one commit share a
row. An object's own place for each would be another page to be written for each; so whoever goes
back, which is seldom, reads what the others have changed since.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..quick_json import encode
from .history_files import Settings
from .session import View
from .transaction import Transaction

HISTORIES = """
CREATE TABLE IF NOT EXISTS bunflare_object_histories (
  namespace TEXT PRIMARY KEY,
  retention_ms INTEGER NOT NULL,   -- for how long earlier states are kept; 0: none are
  bytes INTEGER NOT NULL,          -- how much of all keys, and of each object's SQL, at most
  lineage TEXT,                    -- which history it is; NULL until its owner has begun it
  since INTEGER                    -- ms epoch: there are no states from before
);
CREATE TABLE IF NOT EXISTS bunflare_object_changes (
  namespace TEXT NOT NULL,
  number INTEGER NOT NULL,   -- 1, 2, … of the namespace
  at INTEGER NOT NULL,       -- ms epoch
  total INTEGER NOT NULL,    -- bytes of the namespace's rows up to this one
  earlier TEXT NOT NULL,     -- JSON [[id, commit of its SQL file or null, [key, text before or
                             -- null, …]], …]; '' if it is not kept any more
  PRIMARY KEY (namespace, number)
) WITHOUT ROWID
"""
TABLES = ("bunflare_object_changes",)

#: What a row costs beside its texts, in bytes.
_ROW = 60
# After how many rows the old ones are looked for.
_ROUND = 64
# How many characters of earlier texts a row has, about.
_LARGEST_ROW = 1024 * 1024

_SETTINGS = """
SELECT retention_ms, bytes, lineage, since FROM bunflare_object_histories WHERE namespace = ?
"""
_SET = """
INSERT INTO bunflare_object_histories (namespace, retention_ms, bytes) VALUES (?, ?, ?)
ON CONFLICT (namespace) DO UPDATE SET
  retention_ms = excluded.retention_ms, bytes = excluded.bytes
"""
_BEGIN = "UPDATE bunflare_object_histories SET lineage = ?, since = ? WHERE namespace = ?"
_RENAME = "UPDATE bunflare_object_histories SET namespace = ? WHERE namespace = ?"
_REMOVE = "DELETE FROM bunflare_object_histories WHERE namespace = ?"
_FORGET_ALL = "DELETE FROM bunflare_object_changes WHERE namespace = ?"
_ALL = """
SELECT namespace, retention_ms, bytes FROM bunflare_object_histories WHERE lineage IS NOT NULL
"""

_LAST = """
SELECT number, total FROM bunflare_object_changes
WHERE namespace = ? ORDER BY number DESC LIMIT 1
"""
_ADD = """
INSERT INTO bunflare_object_changes (namespace, number, at, total, earlier) VALUES (?, ?, ?, ?, ?)
"""
_OLDEST = """
SELECT number, at, earlier FROM bunflare_object_changes
WHERE namespace = ? ORDER BY number LIMIT 1
"""
_TIME = "SELECT at FROM bunflare_object_changes WHERE namespace = ? AND number = ?"
_BACKWARDS = """
SELECT number, earlier FROM bunflare_object_changes
WHERE namespace = ? AND number > ? AND number < ? AND (earlier = '' OR instr(earlier, ?) > 0)
ORDER BY number DESC LIMIT ?
"""
_YOUNG = """
SELECT number FROM bunflare_object_changes
WHERE namespace = ? AND at > ? AND total > ? ORDER BY number LIMIT 1
"""
_DROP = """
DELETE FROM bunflare_object_changes WHERE namespace = ? AND number < ? RETURNING number
"""
_EMPTY = "UPDATE bunflare_object_changes SET earlier = '' WHERE namespace = ? AND number = ?"
_VALUE = "SELECT value FROM do_storage WHERE namespace = ? AND id = ? AND key = ?"

#: What keys of an object were before: key, text, key, …; the text is None where there was none.
Earlier = list[str | None]
#: Its id, the commit of its SQL file that the change is one with, and what was before.
Change = tuple[str, int | None, Earlier]


class Kept(NamedTuple):
    """The history of a namespace's objects."""

    settings: Settings
    lineage: str
    #: Epoch milliseconds.
    since: int


# -- which namespaces have one -----------------------------------------------------------------


def choose(tx: Transaction, namespace: str, settings: Settings) -> None:
    """Say how much is to be kept, from when its owner begins on."""
    tx.run(_SET, (namespace, *settings))


def settings(view: View, namespace: str) -> Settings | None:
    """What was said; None if nothing."""
    row = view.one(_SETTINGS, (namespace,))
    return None if row is None else Settings(row[0], row[1])


def begin(tx: Transaction, namespace: str, now: int) -> Kept | None:
    """Begin, or go on with, the history of a namespace; or end it, where it was switched off."""
    row = tx.one(_SETTINGS, (namespace,))
    if row is None:
        return None
    chosen = Settings(row[0], row[1])
    lineage, since = row[2], row[3]
    if not chosen.on:
        if lineage is not None:
            end(tx, namespace)
        return None
    if lineage is None:
        lineage, since = secrets.token_hex(16), now
        tx.run(_BEGIN, (lineage, since, namespace))
    return Kept(chosen, lineage, since)


def end(tx: Transaction, namespace: str) -> None:
    """Forget what is kept of a namespace."""
    tx.run(_FORGET_ALL, (namespace,))
    tx.run(_BEGIN, (None, None, namespace))


def rename(tx: Transaction, source: str, target: str) -> None:
    tx.run(_REMOVE, (target,))
    tx.run(_RENAME, (target, source))


def remove(tx: Transaction, namespace: str) -> None:
    tx.run(_REMOVE, (namespace,))


# -- what is kept ------------------------------------------------------------------------------


def add(
    tx: Transaction, namespace: str, at: int, changes: Iterable[Change], kept: Settings
) -> None:
    """Keep what keys were before a commit, and forget what is too old or too much."""
    row = tx.one(_LAST, (namespace,))
    first, total = (0, 0) if row is None else (row[0], row[1])
    number = first
    for part in _parts(changes):
        text = encode(part)
        number += 1
        total += len(text.encode()) + _ROW
        tx.run(_ADD, (namespace, number, at, total, text))
    if number // _ROUND > first // _ROUND:
        trim(tx, namespace, at, kept)


def _parts(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """As many at a time as make a row."""
    part: list[Change] = []
    size = 0
    for change in changes:
        digits, sequence, earlier = change
        more = sum(map(len, filter(None, earlier)))
        if size + more <= _LARGEST_ROW:
            part.append(change)
            size += more
            continue
        for place in range(0, len(earlier), 2):
            pair = earlier[place : place + 2]
            more = sum(map(len, filter(None, pair)))
            if size and size + more > _LARGEST_ROW:
                yield part
                part, size = [], 0
            if part and part[-1][0] == digits:
                part[-1][2].extend(pair)
            else:
                part.append((digits, sequence, pair))
            size += more
    if part:
        yield part


def add_present(
    tx: Transaction, namespace: str, id: str, key: str, text: str | None, at: int
) -> None:
    """Keep what one key is now, before it becomes ``text``, where the namespace has a history."""
    row = tx.one(_SETTINGS, (namespace,))
    if row is None or row[2] is None:
        return
    found = tx.one(_VALUE, (namespace, id, key))
    before = None if found is None else found[0]
    if before != text:
        add(tx, namespace, at, [(id, None, [key, before])], Settings(row[0], row[1]))


def trim(tx: Transaction, namespace: str, now: int, kept: Settings) -> int:
    """Forget what is too old or too much; how many rows that were.

    The newest of those stays, but for what was before it: it is how far one can go back.
    """
    last = tx.one(_LAST, (namespace,))
    if last is None:
        return 0
    young = tx.one(_YOUNG, (namespace, now - kept.retention_ms, last[1] - kept.bytes))
    end = last[0] if young is None else young[0] - 1
    dropped = len(tx.all(_DROP, (namespace, end)))
    tx.run(_EMPTY, (namespace, end))
    return dropped


def prune(tx: Transaction, namespace: str, now: int) -> int:
    """`trim` by what was said of the namespace, also where its objects do not run."""
    row = tx.one(_SETTINGS, (namespace,))
    if row is None or row[2] is None:
        return 0
    return trim(tx, namespace, now, Settings(row[0], row[1]))


def all_settings(view: View) -> list[tuple[str, Settings]]:
    """What was said, by namespace."""
    return [(row[0], Settings(row[1], row[2])) for row in view.all(_ALL)]


# -- going back --------------------------------------------------------------------------------


def last(view: View, namespace: str) -> int:
    """The number of the present state."""
    row = view.one(_LAST, (namespace,))
    return 0 if row is None else row[0]


def number_at(view: View, namespace: str, time: int, since: int) -> int | None:
    """The number of the state of a moment; None if it is not kept."""
    oldest = view.one(_OLDEST, (namespace,))
    if oldest is None:
        return 0 if time >= since else None
    low, high = oldest[0], last(view, namespace)
    if oldest[1] > time:
        return None if time < since or not oldest[2] else low - 1
    # No number between the two is missing.
    while low < high:
        middle = (low + high + 1) // 2
        row = view.one(_TIME, (namespace, middle))
        if row is not None and row[0] > time:
            high = middle - 1
        else:
            low = middle
    return int(low)


def kept(view: View, namespace: str, number: int) -> bool:
    """Whether a state is kept."""
    oldest = view.one(_OLDEST, (namespace,))
    if oldest is None:
        return number == 0
    first = oldest[0] - 1 if oldest[2] else oldest[0]
    return bool(first <= number <= last(view, namespace))


def backwards(
    view: View, namespace: str, id: str, below: int, number: int, limit: int
) -> Iterator[tuple[int, int | None, dict[str, str | None] | None]]:
    """What an object's keys were before each change below a row and after that of ``number``.

    The newest first: its row, the commit of the SQL file that it is one with, and the keys, or None
    where that is not kept. Of ``limit`` rows at the most.
    """
    for row, text in view.all(_BACKWARDS, (namespace, number, below, id, limit)):
        if not text:
            yield row, None, None
            continue
        for digits, commit, before in reversed(json.loads(text)):
            if digits == id:
                yield row, commit, dict(zip(before[::2], before[1::2], strict=True))
        # It may only be named in what others have stored.
        yield row, None, {}
