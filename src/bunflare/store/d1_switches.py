"""What PRAGMAs switch. On the platform a database has one connection, so it holds for all.

It holds until the database is closed. Two are not here: `foreign_keys` does nothing inside a
transaction, where all statements run, and `defer_foreign_keys` ends with its transaction.
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

_FLAGS = (
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
)
# This one cannot be asked for.
_LIKE = "SELECT 'a' NOT LIKE 'A'"


class Switches:
    """How the connection that writes is switched, and so all that read."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._states = self._look()
        self._first = self._states
        #: Called when they have changed, on whatever thread.
        self.changed: Callable[[], object] = bool

    def _look(self) -> dict[str, int]:
        states = {name: self._ask(f"PRAGMA {name}") for name in _FLAGS}
        states["case_sensitive_like"] = self._ask(_LIKE)
        return states

    def _ask(self, sql: str) -> int:
        return int(str(self._connection.execute(sql).fetchall()[0][0]))

    def look(self) -> None:
        """A PRAGMA has run."""
        states = self._look()
        if states != self._states:
            self._states = states
            self.changed()

    def apply(self, connection: apsw.Connection) -> None:
        """Switch another connection alike."""
        if self._states != self._first:
            for name, state in self._states.items():
                connection.execute(f"PRAGMA {name}={state}")
