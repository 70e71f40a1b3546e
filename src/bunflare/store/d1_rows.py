"""Inserting several rows by one statement, where the user has written one for a single row.

A row in the middle of a statement takes SQLite and the driver half as long as a statement of its
own. It is done only to texts that are nothing but a table, its columns, and ``VALUES`` with a ``?``
for each: of these it is certain what more rows look like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

# How many rows are inserted by one statement, and from how many on that is worth one more.
_ROWS = 8
_WORTH_IT = 3 * _ROWS
# As many parameters as SQLite takes, by the platform's limit. Of a text that is longer than this,
# in characters, a longer one might be too long.
_PARAMETERS = 100
_LONGEST = 4000
_NAME = r'(?:[A-Z_]\w*|"[^"]+"|`[^`]+`|\[[^\]]+\])'
_INSERT = re.compile(
    rf"\s*INSERT\s+INTO\s*{_NAME}\s*(?:\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)\s*)?"
    r"VALUES\s*(?P<row>\(\s*\?(?:\s*,\s*\?)*\s*\))[\s;]*",
    re.ASCII | re.IGNORECASE,
)

#: A statement, and the parameters of each of its runs.
Run = tuple[str, Sequence[tuple[Any, ...]]]


def runs(sql: str, rows: Sequence[tuple[Any, ...]]) -> Sequence[Run]:
    """What does the same as to run ``sql`` with the parameters of each of ``rows``.

    If one fails, more of the others may be undone with it.
    """
    wide = _widened(sql) if len(rows) >= _WORTH_IT else None
    if wide is None or set(map(len, rows)) != {wide[1]}:
        return ((sql, rows),)
    text, values = wide
    step = values * _ROWS
    end = len(rows) // _ROWS * _ROWS
    flat = tuple(chain.from_iterable(rows))
    many = [flat[at : at + step] for at in range(0, end * values, step)]
    return (text, many), (sql, rows[end:])


@lru_cache(maxsize=256)
def _widened(sql: str) -> tuple[str, int] | None:
    """The statement for `_ROWS` rows, and how many values each has; None if that is not known."""
    match = _INSERT.fullmatch(sql) if len(sql) <= _LONGEST else None
    if match is None:
        return None
    row = match["row"]
    values = row.count("?")
    if values * _ROWS > _PARAMETERS:
        return None
    return sql[: match.end("row")] + f", {row}" * (_ROWS - 1), values
