"""The keys of Durable Objects inside a transaction over several systems.

An object reads and writes without waiting, so it must stand still while somebody else does. It does
so in a critical section, which is entered before the transaction begins: with all that it had
written on disk, and nothing of its code running until the transaction is over. That can only be
done where the object runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectError, DurableObjectTypeError
from ..store import object_history
from ..store import objects as store
from ..store.gate import output_gate
from ..values import loads
from .durable_objects import DurableObjectStub, host_of
from .object_arguments import bounds, check_key, check_limit, serialize
from .object_limits import check_entries

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.session import Session
    from ..store.transaction import Transaction
    from .actor import Actor


class HeldObjects:
    """Objects that stand still for a transaction."""

    def __init__(self) -> None:
        self._actors: dict[tuple[str, str], Actor] = {}

    @classmethod
    @asynccontextmanager
    async def hold(cls, stubs: Iterable[DurableObjectStub]) -> AsyncIterator[HeldObjects]:
        """Have them stand still: each in its turn, in the same order for all who ask."""
        held = cls()
        wanted = {}
        for stub in stubs:
            if not isinstance(stub, DurableObjectStub):
                raise DurableObjectTypeError(
                    f"objects are given by their stubs, not as {type(stub).__name__}"
                )
            wanted[host_of(stub).namespace, stub.id.digits] = stub
        async with AsyncExitStack() as stack:
            for where, stub in sorted(wanted.items(), key=lambda item: item[0]):
                held._actors[where] = await stack.enter_async_context(_still(stub))
            yield held

    def storage(self, session: Session, stub: DurableObjectStub) -> ObjectKeys:
        """The keys of one of them."""
        actor = self._actors.get((host_of(stub).namespace, stub.id.digits))
        if actor is None:
            raise DurableObjectError(
                "an object takes part in a transaction if that was begun with it: "
                "state.transaction(objects=[stub])"
            )
        return ObjectKeys(session, actor)


@asynccontextmanager
async def _still(stub: DurableObjectStub) -> AsyncIterator[Actor]:
    host = host_of(stub)
    await host.found()
    if not host.owner:
        raise DurableObjectError(
            f"the objects of {host.namespace} run in another process, and can only take part in "
            "transactions of that"
        )
    actor = host.actor(stub.id)
    if output_gate.get() == actor.gate:
        raise DurableObjectError("an object cannot wait until it stands still itself")
    loop = asyncio.get_running_loop()
    entered: asyncio.Future[None] = loop.create_future()
    released: asyncio.Future[None] = loop.create_future()

    async def stand() -> None:
        written = actor.data.confirmed()
        if written is not None:
            await written
        entered.set_result(None)
        await released

    section = actor.block(stand, resets=False, limited=False)
    try:
        await asyncio.wait([entered, section], return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            # It was reset.
            await section
        yield actor
    finally:
        if not released.done():
            released.set_result(None)


def put_beside(
    tx: Transaction,
    database: Database,
    namespace: str,
    id: str,
    key: str,
    text: str | None,
    kept: int | None = None,
) -> None:
    """Write the text of a value beside the object itself, which forgets what it has read.

    ``kept`` is now (ms epoch), where what was there is to be kept.
    """
    if kept is not None:
        object_history.add_present(tx, namespace, id, key, text, kept)
    store.put(tx, namespace, id, key, text)
    tx.after(database.reader.outdate)


class ObjectKeys:
    """An object's keys and values, as the transaction sees them."""

    def __init__(self, session: Session, actor: Actor) -> None:
        self._session = session
        self._actor = actor

    @property
    def _where(self) -> tuple[str, str]:
        return self._actor.data.host.namespace, self._actor.digits

    async def get(self, key: str) -> Any:
        """The value of a key, or None."""
        text = store.get(self._session.view, *self._where, check_key(key))
        return None if text is None else loads(text)

    async def put(self, key: str | Mapping[str, Any], value: Any = ...) -> None:
        """Store one value, or a dict of them."""
        if value is ... and not isinstance(key, Mapping):
            raise DurableObjectTypeError("put() called with undefined value.")
        given = key if isinstance(key, Mapping) else {key: value}
        if not self._actor.data.host.sqlite:
            check_entries(given)
        texts = {check_key(one): serialize(one, item) for one, item in given.items()}
        data = self._actor.data
        await self._session.write(store.add, *self._where, data.name, data.host.clock.now())
        for one, text in texts.items():
            await self._write(one, text)

    async def delete(self, key: str) -> bool:
        """Whether the key existed."""
        if store.get(self._session.view, *self._where, check_key(key)) is None:
            return False
        await self._write(key, None)
        return True

    async def _write(self, key: str, text: str | None) -> None:
        data = self._actor.data
        data.bookmark = None
        host = data.host
        now = None if host.history is None else host.clock.now()
        await self._session.write(put_beside, host.database, *self._where, key, text, now)

    async def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """Keys with their values, as `DurableObjectStorage.list` has them."""
        low, high = bounds(start, start_after, end, prefix)
        most = check_limit(limit)
        rows = store.list_rows(
            self._session.view,
            *self._where,
            low,
            high,
            -1 if most is None else most,
            bool(reverse),
        )
        return {key: loads(text) for key, text in rows}
