"""``ctx.storage``: what a Durable Object keeps.

https://developers.cloudflare.com/durable-objects/api/sqlite-storage-api/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import DurableObjectError, DurableObjectTypeError
from ..store.pending import Pending, at_once, begins, failed, ready
from ..values import dumps, loads
from . import object_travel
from .object_arguments import (
    SUSPECT,
    bounds,
    check_key,
    check_limit,
    check_size,
    check_time,
    serialize,
)
from .object_sql import SqlStorage

if TYPE_CHECKING:
    from .actor import Actor
    from .object_data import ObjectData

T = TypeVar("T")


class Operations:
    """What storage and a transaction on it have in common.

    Each is done when it is called, whether or not that is awaited: what is read is at hand, and
    what is written is on its way to the disk before anything else can leave the object. That is
    the platform's input gate, too: no other event comes in between. The options of the platform
    that weaken the gates (``allow_concurrency``, ``allow_unconfirmed``, ``no_cache``) are taken and
    change nothing.
    """

    __slots__ = ("_actor", "_data")

    def __init__(self, actor: Actor, data: ObjectData) -> None:
        self._actor = actor
        self._data = data

    @begins
    def get(
        self,
        key: str | Sequence[str],
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """The value of a key, or None; for several keys a dict of those that exist, in order."""
        try:
            if key.__class__ is not str:
                return ready(self._get(key))
            # Most keys need no further look.
            text = self._data.get(key if key.isascii() else check_key(key))
            return ready(None if text is None else loads(text))
        except Exception as error:
            return failed(error)

    @begins
    def put(
        self,
        key: str | Mapping[str, Any],
        value: Any = ...,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Pending[None]:
        """Store one value, or a dict of them: all or none."""
        try:
            if key.__class__ is str and value is not ...:
                text = dumps(value)
                if len(text) + len(key) > SUSPECT:
                    check_size(key, text)
                self._data.put(key if key.isascii() else check_key(key), text)
            else:
                self._put(key, value)
        except Exception as error:
            return failed(error)
        turns = self._actor.turns
        done = turns.done
        # Until somebody has taken it for a future.
        return done if done.__class__ is Pending else turns.renew()

    @at_once
    def delete(
        self,
        key: str | Sequence[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> bool | int:
        """Delete a key: whether it existed. Of several: how many did."""
        return self._delete(key)

    @at_once
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> dict[str, Any]:
        """Keys with their values, in the order of their UTF-8 bytes.

        From ``start`` on (or behind ``start_after``) and below ``end``, of those that begin with
        ``prefix``; at most ``limit``, from the other end if ``reverse``.
        """
        self._allow("list()")
        low, high = bounds(start, start_after, end, prefix)
        rows = self._data.rows(low, high, check_limit(limit), bool(reverse))
        return {key: loads(text) for key, text in rows}

    @at_once
    def get_alarm(self, *, allow_concurrency: bool = False) -> int | None:
        """When the alarm is set for, in epoch milliseconds. None while it runs."""
        self._allow("getAlarm()")
        return self._data.alarm()

    @at_once
    def set_alarm(
        self,
        scheduled_time: float | datetime,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
    ) -> None:
        """Have `alarm` called at that time (epoch milliseconds, or a datetime); at once if past."""
        self._allow("setAlarm()")
        if not self._actor.has_alarm:
            raise DurableObjectTypeError(
                "Your Durable Object class must have an alarm() handler in order to call setAlarm()"
            )
        self._data.set_alarm(check_time(scheduled_time, self._actor.clock.now()))

    @at_once
    def delete_alarm(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> None:
        self._allow("deleteAlarm()")
        self._data.set_alarm(None)

    # -- what is done ----------------------------------------------------------------------

    def _allow(self, call: str) -> None:
        """Raise why nothing can be done any more."""

    def _get(self, key: str | Sequence[str]) -> Any:
        if isinstance(key, str):
            text = self._data.get(check_key(key))
            return None if text is None else loads(text)
        found = {}
        for one in sorted({check_key(one) for one in _several(key)}):
            text = self._data.get(one)
            if text is not None:
                found[one] = loads(text)
        return found

    def _put(self, key: str | Mapping[str, Any], value: Any) -> None:
        if isinstance(key, Mapping):
            entries = [(check_key(one), serialize(one, item)) for one, item in key.items()]
            for one, text in entries:
                self._data.put(one, text)
            return
        if value is ...:
            raise DurableObjectTypeError("put() called with undefined value.")
        self._data.put(check_key(key), serialize(key, value))

    def _delete(self, key: str | Sequence[str]) -> bool | int:
        if isinstance(key, str):
            return self._delete_one(check_key(key))
        keys = [check_key(one) for one in _several(key)]
        return sum([self._delete_one(one) for one in keys])

    def _delete_one(self, key: str) -> bool:
        if self._data.get(key) is None:
            return False
        self._data.delete(key)
        return True


class DurableObjectTransaction(Operations):
    """What `DurableObjectStorage.transaction` gives its closure."""

    __slots__ = ("_committed", "_rolled_back")

    def __init__(self, actor: Actor, data: ObjectData) -> None:
        super().__init__(actor, data)
        self._rolled_back = False
        self._committed = False

    def rollback(self) -> None:
        """Undo what the transaction has written. Nothing more can be done through it."""
        if not self._rolled_back:
            self._allow("rollback()")
            self._rolled_back = True
            self._data.end(commit=False)
            # What the storage is told from now on is no part of the transaction.
            self._data.begin()

    def _end(self, *, commit: bool) -> None:
        self._data.end(commit=commit or self._rolled_back)
        self._committed = commit
        self._rolled_back = self._rolled_back or not commit

    def _allow(self, call: str) -> None:
        if self._rolled_back:
            raise DurableObjectError(f"Cannot {call} on rolled back transaction")
        if self._committed:
            raise DurableObjectError(
                f"Cannot call {call} on transaction that has already committed: did you move `txn` "
                "outside of the closure?"
            )

    @at_once
    def get(self, key: str | Sequence[str], **options: Any) -> Any:
        self._allow("get()")
        return self._get(key)

    @at_once
    def put(self, key: str | Mapping[str, Any], value: Any = ..., **options: Any) -> None:
        self._allow("put()")
        self._put(key, value)

    def _delete(self, key: str | Sequence[str]) -> bool | int:
        self._allow("delete()")
        return super()._delete(key)

    @at_once
    def delete_all(self) -> None:
        raise DurableObjectError("Cannot call deleteAll() within a transaction")


class SyncKvStorage:
    """``storage.kv``: the same keys and values, without awaiting."""

    __slots__ = ("_data",)

    def __init__(self, data: ObjectData) -> None:
        self._data = data

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        text = self._data.get(check_key(key))
        return None if text is None else loads(text)

    def put(self, key: str, value: Any) -> None:
        self._data.put(check_key(key), serialize(key, value))

    def delete(self, key: str) -> bool:
        """Whether the key existed."""
        if self._data.get(check_key(key)) is None:
            return False
        self._data.delete(key)
        return True

    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Pairs of key and value; the options are those of `DurableObjectStorage.list`."""
        low, high = bounds(start, start_after, end, prefix)
        rows = self._data.rows(low, high, check_limit(limit), bool(reverse))
        return ((key, loads(text)) for key, text in rows)


class DurableObjectStorage(Operations):
    """An object's storage: keys and values, SQL tables and one alarm.

    A key and its value have at most 2 MiB together.
    """

    __slots__ = ("kv", "sql")

    #: What `transaction` gives its closure.
    opens: ClassVar[type[DurableObjectTransaction]] = DurableObjectTransaction

    def __init__(self, actor: Actor, data: ObjectData) -> None:
        super().__init__(actor, data)
        self.kv = SyncKvStorage(data)
        self.sql = SqlStorage(data)

    @at_once
    def delete_all(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> None:
        """Delete everything: keys, tables and the alarm."""
        if self._data.below:
            raise DurableObjectError("Cannot call deleteAll() within a transaction")
        self._data.clear()

    async def transaction(self, closure: Callable[[DurableObjectTransaction], Awaitable[T]]) -> T:
        """Await ``closure(txn)``: its writes, SQL included, are kept together or not at all.

        No other event enters the object meanwhile. An exception, or ``txn.rollback()``, undoes it.
        Where it takes more than 30 seconds, the object is reset.
        """
        transaction = self.opens(self._actor, self._data)

        async def run() -> T:
            self._data.begin()
            try:
                result = await closure(transaction)
            except BaseException:
                transaction._end(commit=False)
                raise
            transaction._end(commit=True)
            return result

        return await self._actor.block(run, resets=False)

    def transaction_sync(self, closure: Callable[[], T]) -> T:
        """Call ``closure()``: its writes, SQL included, are kept together or not at all."""
        self._data.begin()
        try:
            result = closure()
            if isawaitable(result):
                getattr(result, "close", lambda: None)()
                raise DurableObjectTypeError(
                    "transactionSync() takes a function that does not await"
                )
        except BaseException:
            self._data.end(commit=False)
            raise
        self._data.end(commit=True)
        return result

    async def get_current_bookmark(self) -> str:
        """A name for the present state, which is kept for 30 days: keys, values and tables.

        Where the namespace has a history (`DurableObjectNamespace.keep_history`), every state is
        kept, for as long as that says.
        """
        return await object_travel.current(self._actor)

    async def get_bookmark_for_time(self, timestamp: float | datetime) -> str:
        """The bookmark of a moment of the last 30 days (epoch milliseconds, or a datetime).

        Without a history of the namespace, states are kept when `get_current_bookmark` is called,
        and it is that of the last call before.
        """
        return object_travel.for_time(self._data, timestamp)

    async def on_next_session_restore_bookmark(self, bookmark: str) -> str:
        """Go back to a bookmark's state when the object is made the next time.

        ``ctx.abort()`` makes that soon. Returns the bookmark of the present state, which undoes it.
        """
        return await object_travel.restore_next(self._actor, bookmark)

    async def sync(self) -> None:
        """Return once everything written until now is on disk."""
        waiting = self._data.confirmed()
        if waiting is not None:
            await waiting


def _several(keys: object) -> Sequence[str]:
    if isinstance(keys, Sequence) and not isinstance(keys, bytes | bytearray | memoryview):
        return keys
    raise DurableObjectTypeError(
        f"keys are a string or a list of strings, not {type(keys).__name__}"
    )
