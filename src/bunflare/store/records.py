"""What a system keeps, told as data: for counting, comparing and following any of them alike.

Each system's module says in `RECORDS` what its tables hold and in `INVARIANTS` what must be true of
them; `store.catalog` and `store.invariants` have them all together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Records:
    """A table whose rows people know by a name and a key."""

    #: As people know it: kv, r2, objects, …
    system: str
    table: str
    #: The column of the name under which records are kept together: a namespace, a bucket, a queue.
    name: str
    #: The columns that, with the name, tell one record from another.
    key: tuple[str, ...]
    #: The column whose bytes, or, if ``counted``, whose number is a record's size.
    size: str | None = None
    counted: bool = False
    #: The column that says when a record came to be: epoch milliseconds, or ISO 8601.
    time: str | None = None
    #: What a record is called where its system has several kinds.
    kind: str = "entry"
    #: Columns that may change without the record being another.
    volatile: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must be true of a system's rows.

    ``broken`` selects ``name, key, detail`` of the rows of which it is not; parameters: ``:now``,
    in epoch milliseconds. ``repair``, if there is one, is a statement with ``:name`` and ``:key``
    that mends one of them.
    """

    system: str
    kind: str
    broken: str
    repair: str | None = None
    #: What `repair` does, or, where there is none, what the user can do.
    remedy: str = ""


def is_time(column: str) -> str:
    """A condition: the column has a time, to a fraction of a millisecond or not.

    Another program may have put there what is none: text, a blob, infinity.
    """
    return f"coalesce({column} BETWEEN -9e18 AND 9e18, 0)"


def time_in(column: str, otherwise: str = "NULL") -> str:
    """The time that a column has, or else something."""
    return f"CASE WHEN {is_time(column)} THEN {column} ELSE {otherwise} END"
