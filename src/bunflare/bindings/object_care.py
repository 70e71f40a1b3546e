"""Looking at objects from outside: what they have stored, and their alarms.

The process that runs them may go on meanwhile: it keeps nothing in memory that is not on disk,
beyond the turn of its event loop that is going on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectAbort, DurableObjectError, DurableObjectValueError
from ..store import object_history
from ..store import objects as store
from ..store.layout import has_history
from ..values import loads
from . import object_ids as ids
from .object_arguments import bounds, check_key, serialize
from .object_limits import check_entry
from .object_link import fire_alarm
from .object_past import check_settings
from .object_transaction import put_beside

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object."""

    id: str
    name: str | None
    #: Epoch milliseconds; None where another program made it.
    created_at: int | None
    #: Epoch milliseconds; None if no alarm is set.
    alarm: int | None
    #: Whether it has a file of SQL tables.
    sql: bool


@dataclass(frozen=True, slots=True)
class AlarmInfo:
    """One alarm that is set. Times are epoch milliseconds."""

    namespace: str
    id: str
    time: int
    retries: int
    retry_at: int | None


class ObjectCare:
    """The objects of a data directory, whatever their classes."""

    def __init__(
        self, database: Database, clock: Clock, key_value: AbstractSet[str] = frozenset()
    ) -> None:
        """``key_value`` names the classes with the smaller limits: see `key_value_classes`."""
        self._database = database
        self._clock = clock
        self._key_value = key_value

    def namespaces(self) -> list[str]:
        return store.namespaces(self._database.view)

    def objects(self, namespace: str) -> Iterator[ObjectInfo]:
        """All objects of a namespace that have stored anything, by their ids."""
        directory = f"{self._database.directory.path}/do-sql/{namespace}"
        sql = os.path.isdir(directory)  # noqa: PTH112 - there may be very many, here and below
        after = ""
        while rows := store.described(self._database.view, namespace, after, _PAGE):
            for digits, name, created_at, alarm in rows:
                has_sql = sql and os.path.exists(f"{directory}/{digits}.sqlite")  # noqa: PTH110
                yield ObjectInfo(digits, name, created_at, alarm, has_sql)
            after = rows[-1][0]

    def count(self, namespace: str) -> int:
        """How many objects of a namespace have stored anything."""
        return store.count(self._database.view, namespace)

    def find(self, namespace: str, object: str) -> str:
        """The digits of an object that is given by them or by its name."""
        view = self._database.view
        unique = store.unique_key(view, namespace)
        candidates = [
            *([object.lower()] if re.fullmatch("[0-9a-fA-F]{64}", object) else []),
            ids.of_seed(object),
            ids.of_platform(unique, object),
            *(ids.from_name(unique, object, one) for one in (None, *ids.JURISDICTIONS)),
        ]
        for digits in candidates:
            if store.known(view, namespace, digits):
                return digits
        raise DurableObjectError(f'there is no object "{object}" in {namespace}')

    # -- storage ---------------------------------------------------------------------------

    def entries(self, namespace: str, digits: str, prefix: str | None) -> list[tuple[str, Any]]:
        """Keys with their values."""
        low, high = bounds(None, None, None, prefix)
        rows = store.list_rows(self._database.view, namespace, digits, low, high, -1, False)
        return [(key, loads(text)) for key, text in rows]

    def get(self, namespace: str, digits: str, key: str) -> str | None:
        """The text of a value, or None."""
        return store.get(self._database.view, namespace, digits, check_key(key))

    async def put(self, namespace: str, digits: str, key: str, value: Any) -> None:
        """Store a value. Of a key or a value that is too large, raises what the object would."""
        if namespace in self._key_value:
            check_entry(key, value)
        await self._write(namespace, digits, check_key(key), serialize(key, value))

    async def delete(self, namespace: str, digits: str, key: str) -> None:
        await self._write(namespace, digits, check_key(key), None)

    async def _write(self, namespace: str, digits: str, key: str, text: str | None) -> None:
        now = self._clock.now()
        await self._database.write(put_beside, self._database, namespace, digits, key, text, now)

    def sql(
        self, namespace: str, digits: str, query: str
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Run statements on the object's tables, as one transaction: columns and rows."""
        from ..store.object_sql import ObjectFile
        from .object_sql import SqlCursor

        path = self._sql_path(namespace, digits)
        if not path.exists():
            raise DurableObjectError(f"the object {digits} has no SQL tables")
        file = ObjectFile(path, self._database.durability, kept=has_history(path))
        try:
            rows = SqlCursor(file, query, ())
            found = [tuple(row) for row in rows.raw()]
            file.commit(None)
            return rows.names, found
        except DurableObjectAbort as error:
            raise DurableObjectError("what has run for too long was undone, as a whole") from error
        finally:
            file.close()

    def _sql_path(self, namespace: str, digits: str) -> Any:
        return self._database.directory.path / "do-sql" / namespace / f"{digits}.sqlite"

    # -- history ---------------------------------------------------------------------------

    def history(self, namespace: str) -> tuple[float, float]:
        """Of how many days earlier states are to be kept, and how many megabytes at most."""
        found = object_history.settings(self._database.view, namespace)
        days, megabytes = (0, 0) if found is None else found
        return days / (24 * 3600 * 1000), megabytes / (1024 * 1024)

    async def keep_history(self, namespace: str, days: float, megabytes: float) -> None:
        """Say how much is to be kept, by the process that runs the objects next."""
        chosen = check_settings(days, megabytes)
        await self._database.write(object_history.choose, namespace, chosen)

    # -- alarms ----------------------------------------------------------------------------

    def alarms(self, namespace: str | None) -> list[AlarmInfo]:
        """Alarms that are set, the next first."""
        return [AlarmInfo(*row) for row in store.alarms(self._database.view, namespace)]

    async def fire(self, namespace: str, digits: str) -> None:
        """Have the process that runs the objects call the alarm's handler now."""
        if store.alarm(self._database.view, namespace, digits) is None:
            raise DurableObjectValueError(f"the object {digits} has no alarm set")
        found = store.owner(self._database.view, namespace)
        if found is None or not self._database.presence.alive(found[0]):
            raise DurableObjectError(
                f"no process runs the objects of {namespace} now; start the Worker first"
            )
        await fire_alarm(found[1], digits)
