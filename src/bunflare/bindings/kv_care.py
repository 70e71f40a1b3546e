"""Looking after KV from outside: which namespaces there are, making, renaming and deleting them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import KVValueError
from ..store import kv as store
from ..store import names

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..store.transaction import Transaction

_SYSTEM = "kv"
_LONGEST_NAME = 512


@dataclass(frozen=True, slots=True)
class KVNamespaceInfo:
    """A namespace that holds something or was made by name."""

    name: str
    #: Epoch milliseconds; None where nobody made it by name.
    created_at: int | None


class KVCare:
    """The namespaces of a data directory."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def namespaces(self) -> list[KVNamespaceInfo]:
        """All of them, by name."""
        view = self._database.view
        created = names.created(view, _SYSTEM)
        return [
            KVNamespaceInfo(name, created.get(name))
            for name in sorted({*store.namespaces(view), *created})
        ]

    async def create(self, name: str) -> None:
        """Make an empty namespace. Raises `KVValueError` if there is one of that name."""
        await self._database.write(_create, _checked(name), self._clock.now())

    async def rename(self, old: str, new: str) -> int:
        """Give a namespace another name, in one commit; how many keys it has."""
        return await self._database.write(
            _rename, old, _checked(new), self._clock.now(), heavy=True
        )

    async def delete(self, name: str) -> int:
        """Delete a namespace with all keys, in one commit; how many there were."""
        return await self._database.write(_delete, name, heavy=True)


def _checked(name: str) -> str:
    if not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise KVValueError(f"the name of a namespace has 1 to {_LONGEST_NAME} bytes")
    return name


def _exists(tx: Transaction, name: str) -> bool:
    return name in names.created(tx, _SYSTEM) or bool(store.list_keys(tx, name, "", None, 0, 1))


def _create(tx: Transaction, name: str, now: int) -> None:
    if _exists(tx, name):
        raise KVValueError(f"there is a namespace {name!r} already")
    names.add(tx, _SYSTEM, name, now)


def _rename(tx: Transaction, old: str, new: str, now: int) -> int:
    if not _exists(tx, old):
        raise KVValueError(f"there is no namespace {old!r}")
    if _exists(tx, new):
        raise KVValueError(f"there is a namespace {new!r} already")
    names.remove(tx, _SYSTEM, old)
    names.add(tx, _SYSTEM, new, now)
    return store.rename(tx, old, new)


def _delete(tx: Transaction, name: str) -> int:
    if not _exists(tx, name):
        raise KVValueError(f"there is no namespace {name!r}")
    names.remove(tx, _SYSTEM, name)
    return store.clear(tx, name)
