"""Writing several rows by one statement.

To begin a statement and to end it takes SQLite and the driver as long as to write a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from .transaction import HalfWayError, Transaction

# More make no difference any more.
_TOGETHER = 16


class RowStatement:
    """A statement that writes one row or several, each by the parameters of its own."""

    __slots__ = ("_many", "one")

    def __init__(self, before: str, row: str, after: str = "") -> None:
        """``row`` is what stands for one of them, between what is ``before`` and ``after`` all."""
        #: For a single row.
        self.one = f"{before} {row} {after}"
        self._many = f"{before} {', '.join([row] * _TOGETHER)} {after}"

    def run(self, tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows in their order."""
        start = 0
        for end in range(_TOGETHER, len(rows) + 1, _TOGETHER):
            tx.run(self._many, tuple(chain.from_iterable(rows[start:end])))
            start = end
        if start < len(rows):
            tx.many(self.one, rows[start:])

    def run_apart(
        self, tx: Transaction, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Exception | None]:
        """The same, of which each succeeds or fails alone (`Transaction.apart`)."""
        if not tx.careful:
            mark = tx.mark()
            try:
                self.run(tx, rows)
            except Exception as error:
                if not tx.open:
                    raise
                if tx.changed_since(mark):
                    raise HalfWayError from error
            else:
                return (None,) * len(rows)
        return tx.apart(self._run_one, rows)

    def _run_one(self, tx: Transaction, row: tuple[Any, ...]) -> None:
        tx.run(self.one, row)
