"""What a D1 statement has given: made when it is asked for, since most of it never is.

https://developers.cloudflare.com/d1/worker-api/return-object/
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

from ..store.d1_executor import Appended
from ..store.d1_reader import CHANGES, COLUMNS, ROWS, SECONDS, SIZE_AFTER, Done

_SERVED_BY = "bunflare"


@dataclass(frozen=True, slots=True)
class D1Timings:
    """How long SQLite worked on a statement, in milliseconds."""

    sql_duration_ms: float


@dataclass(frozen=True, slots=True)
class D1Meta:
    """What a statement did. All numbers are of that statement alone."""

    #: Milliseconds. Insertions by one statement, in a batch or one turn, may share theirs evenly.
    duration: float
    #: Bytes of the database after it.
    size_after: int
    #: Rows that were looked at, at least; SQLite counts those of scans exactly.
    rows_read: int
    #: Rows written, with the entries of indexes and sequences.
    rows_written: int
    #: The id of the last row it inserted, or 0.
    last_row_id: int
    changed_db: bool
    #: Rows inserted, updated or deleted, without those of triggers.
    changes: int
    served_by: str
    served_by_region: str
    served_by_colo: str
    served_by_primary: bool
    timings: D1Timings
    total_attempts: int


class _Late:
    """A result whose parts are made when they are asked for: of most, few ever are."""

    __slots__ = ("_found",)

    #: What was done, and the size after it; or where that is to be found, and at which place.
    _found: tuple[Done | Appended, int]

    def __getattr__(self, name: str) -> Any:
        # Only what is not there yet is asked for here.
        done, size = _parts(self)
        if name == "results":
            value: Any = _dicts(done)
        elif name == "meta":
            value = _meta(done, size)
        elif name == "success":
            value = True
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)
        return value


@dataclass(frozen=True, slots=True)
class D1Result(_Late):
    """Rows as dicts, and what was done. A name that occurs twice keeps the last column."""

    success: bool
    results: list[dict[str, Any]]
    meta: D1Meta


def _drafts(kind: type) -> type[Any]:
    """A frozen result in the making: to fill the frozen one takes three times as long."""
    return type(kind.__name__, (), {"__slots__": vars(kind)["__slots__"]})


_MetaDraft, _TimingsDraft = map(_drafts, (D1Meta, D1Timings))
_new = object.__new__
_set_found = vars(_Late)["_found"].__set__
_set_results = vars(D1Result)["results"].__set__


def result(found: tuple[Done | Appended, int]) -> D1Result:
    """The result of a statement, by what it did and the bytes that the database has after it."""
    made: D1Result = _new(D1Result)
    _set_found(made, found)
    return made


def result_of_rows(done: Done, size: int) -> D1Result:
    """The same, for whoever asks for rows, and so wants them."""
    made = result(((done[COLUMNS], (), *done[SECONDS:]), size))
    _set_results(made, _dicts(done))
    return made


def results(done: Sequence[Done | Exception], size: int) -> list[Any]:
    """The results of several statements; an error is its own."""
    if not isinstance(done, Appended):
        return [result((one, size)) if isinstance(one, tuple) else one for one in done]
    done.size = size
    count = len(done)
    made = list(map(_new, repeat(D1Result, count)))
    # One after the other, without a step of Python for each.
    deque(map(_set_found, made, zip(repeat(done, count), range(count), strict=True)), 0)
    return made


def _parts(late: _Late) -> tuple[Done, int]:
    """What was done, and the database's size."""
    done, number = late._found
    return (done, number) if isinstance(done, tuple) else (done[number], done.size)


def _dicts(done: Done) -> list[dict[str, Any]]:
    columns = done[COLUMNS]
    return [dict(zip(columns, row)) for row in done[ROWS]]  # noqa: B905 - as long as each other


def _meta(done: Done, size: int) -> D1Meta:
    duration = done[SECONDS] * 1000
    timings = _TimingsDraft()
    timings.sql_duration_ms = duration
    timings.__class__ = D1Timings
    meta = _MetaDraft()
    meta.duration = duration
    meta.size_after = size
    meta.changes, meta.last_row_id, meta.changed_db, meta.rows_read, meta.rows_written = done[
        CHANGES:SIZE_AFTER
    ]
    meta.served_by = _SERVED_BY
    meta.served_by_region = meta.served_by_colo = "LOCAL"
    meta.served_by_primary = True
    meta.timings = timings
    meta.total_attempts = 1
    meta.__class__ = D1Meta
    return cast("D1Meta", meta)
