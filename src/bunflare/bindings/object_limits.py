"""Objects of key-value classes (`new_classes`): less room, asynchronous keys and values only.

What their storage would be refused on the platform is refused here, with its words.
https://developers.cloudflare.com/durable-objects/platform/limits/#key-value-backed-durable-objects-general-limits
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import DurableObjectError, DurableObjectSqlError, DurableObjectValueError
from ..store.pending import at_once
from .object_arguments import check_key, serialize
from .object_past import NO_TRAVEL
from .object_sql import SqlStorage
from .object_storage import (
    DurableObjectStorage,
    DurableObjectTransaction,
    Operations,
    SyncKvStorage,
)

if TYPE_CHECKING:
    from ..config import MigrationConfig
    from ..config_rules import ExportConfig
    from .actor import Actor
    from .object_data import ObjectData

T = TypeVar("T")

MAX_KEY_BYTES = 2048
MAX_VALUE_BYTES = 128 * 1024
MAX_KEYS = 128
# What the platform lets pass, for what its serialization adds.
_CUSHION = 34

_NO_SQL = (
    "SQL is not enabled for this Durable Object class. To enable it, change `new_classes` to "
    "`new_sqlite_classes` under `migrations` in the wrangler file."
)
_NO_KV = (
    "The storage.kv (synchronous KV) API is only available for SQLite-backed Durable Objects, but "
    "this object's namespace is not declared to use SQLite. You can use the older, asynchronous "
    "interface via methods of `storage` itself (e.g. `storage.get()`). Alternatively, to enable "
    "SQLite, change `new_classes` to `new_sqlite_classes`."
)


def key_value_classes(
    migrations: Iterable[MigrationConfig], exports: Mapping[str, ExportConfig]
) -> set[str]:
    """Those that began as ``new_classes``, by the names that they have after all migrations.

    Or those that ``exports`` say it of.
    """
    found = {name for name, one in exports.items() if one.live and one.storage == "legacy-kv"}
    for migration in migrations:
        for renamed in migration.renamed_classes:
            if renamed.from_ in found:
                found.remove(renamed.from_)
                found.add(renamed.to)
        found.difference_update(migration.deleted_classes, migration.new_sqlite_classes)
        found.update(migration.new_classes)
    return found


def check_entry(key: object, value: Any) -> None:
    """Raise what a key-value class is told of a key or a value that is too large."""
    name = check_key(key)
    _check_size(name)
    text = serialize(name, value)
    if isinstance(value, bytes | bytearray | memoryview):
        size = memoryview(value).nbytes
    elif isinstance(value, str):
        # As the platform's serialization has it: Latin-1 or UTF-16.
        wide = any(one > "\xff" for one in value) if not value.isascii() else False
        size = len(value) * (2 if wide else 1)
    else:
        size = len(text.encode())
    if size > MAX_VALUE_BYTES + _CUSHION:
        raise DurableObjectValueError(
            f"Values cannot be larger than {MAX_VALUE_BYTES} bytes. "
            f"A value of size {size} was provided."
        )


def _check_size(key: object) -> None:
    if isinstance(key, str) and (size := len(check_key(key).encode())) > MAX_KEY_BYTES:
        raise DurableObjectValueError(
            f"Keys cannot be larger than {MAX_KEY_BYTES} bytes. A key of size {size} was provided."
        )


def _check_keys(keys: object) -> None:
    if not isinstance(keys, str) and isinstance(keys, Sequence):
        _check_count(keys, "keys")
        for key in keys:
            _check_size(key)
    else:
        _check_size(keys)


def check_entries(entries: Mapping[str, Any]) -> None:
    """Raise what a key-value class is told of several that are too many or too large."""
    _check_count(entries, "pairs")
    for key, value in entries.items():
        check_entry(key, value)


def _check_count(given: Sized, what: str) -> None:
    if len(given) > MAX_KEYS:
        raise DurableObjectValueError(f"Maximum number of {what} is {MAX_KEYS}.")


class _Limited(Operations):
    """Keys and values with the limits of key-value classes."""

    __slots__ = ()

    @at_once
    def get(self, key: str | Sequence[str], **options: Any) -> Any:
        return self._get(key)

    @at_once
    def put(self, key: str | Mapping[str, Any], value: Any = ..., **options: Any) -> None:
        self._put(key, value)

    def _get(self, key: str | Sequence[str]) -> Any:
        _check_keys(key)
        return super()._get(key)

    def _put(self, key: str | Mapping[str, Any], value: Any) -> None:
        if isinstance(key, Mapping):
            check_entries(key)
        elif value is not ...:
            check_entry(key, value)
        super()._put(key, value)

    def _delete(self, key: str | Sequence[str]) -> bool | int:
        _check_keys(key)
        return super()._delete(key)


class _LimitedTransaction(DurableObjectTransaction, _Limited):
    __slots__ = ()


class KeyValueStorage(_Limited, DurableObjectStorage):
    """``ctx.storage`` of an object of a key-value class."""

    __slots__ = ()

    opens = _LimitedTransaction

    def __init__(self, actor: Actor, data: ObjectData) -> None:
        super().__init__(actor, data)
        self.kv = _NoKv(data)
        self.sql = _NoSql(data)

    def transaction_sync(self, closure: Callable[[], T]) -> T:
        raise DurableObjectError(_NO_SQL)

    async def get_current_bookmark(self) -> NoReturn:
        raise DurableObjectError(NO_TRAVEL)

    async def get_bookmark_for_time(self, timestamp: float | datetime) -> NoReturn:
        raise DurableObjectError(NO_TRAVEL)

    async def on_next_session_restore_bookmark(self, bookmark: str) -> NoReturn:
        raise DurableObjectError(NO_TRAVEL)


class _NoSql(SqlStorage):
    __slots__ = ()

    def exec(self, query: str, *bindings: Any) -> NoReturn:
        raise DurableObjectSqlError(_NO_SQL)

    @property
    def database_size(self) -> int:
        raise DurableObjectSqlError(_NO_SQL)


class _NoKv(SyncKvStorage):
    __slots__ = ()

    def get(self, key: str) -> NoReturn:
        raise DurableObjectError(_NO_KV)

    def put(self, key: str, value: Any) -> NoReturn:
        raise DurableObjectError(_NO_KV)

    def delete(self, key: str) -> NoReturn:
        raise DurableObjectError(_NO_KV)

    def list(self, **options: Any) -> NoReturn:
        raise DurableObjectError(_NO_KV)
