"""``ctx``: what a Durable Object is given beside its environment.

https://developers.cloudflare.com/durable-objects/api/state/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import DurableObjectError, DurableObjectTypeError
from .object_limits import KeyValueStorage
from .object_sockets import SocketMethods
from .object_storage import DurableObjectStorage

if TYPE_CHECKING:
    from .actor import Actor
    from .object_ids import DurableObjectId
    from .object_sockets import HostSockets, ObjectSockets

T = TypeVar("T")


class DurableObjectState(SocketMethods):
    """An object's context."""

    __slots__ = ("_actor", "_all_sockets", "_props", "id", "storage")

    def __init__(
        self,
        actor: Actor,
        id: DurableObjectId,
        sockets: HostSockets,
        sqlite: bool,
    ) -> None:
        self._actor = actor
        self._all_sockets = sockets
        self.id = id
        made = DurableObjectStorage if sqlite else KeyValueStorage
        self.storage = made(actor, actor.data)
        self._props: dict[str, Any] | None = None

    def _sockets(self) -> ObjectSockets:
        return self._all_sockets.of(self.id)

    @property
    def props(self) -> dict[str, Any]:
        """What an object was given when it was made: nothing here."""
        if self._props is None:
            self._props = {}
        return self._props

    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Run ``callback()`` while no other event enters the object, and none that is in it goes
        on.

        It begins at once, so that it can be used in a constructor, and may take 30 seconds. Where
        it fails, the object is reset.
        """
        if not callable(callback):
            raise DurableObjectTypeError("blockConcurrencyWhile() takes a function")
        return self._actor.block(callback)

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Keep ``work`` going after the event's end, and the object alive for it."""
        self._actor.wait_until(work)

    @property
    def facets(self) -> NoReturn:
        """Not here: raises `DurableObjectError`."""
        raise DurableObjectError(
            "Durable Object facets are not supported; give each part an object of its own"
        )

    def abort(
        self,
        reason: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        retry_alarm: bool = True,
    ) -> NoReturn:
        """Reset the object: its code ends here, calls under way fail with ``reason``.

        What was written without waiting since, and is not on disk yet, is gone; await
        ``storage.sync()`` before to keep it. An alarm whose handler this ends is tried again,
        unless ``retry_alarm`` is False (in ``options``, as the platform has it: ``retryAlarm``).
        """
        given = {**(options or {})}
        self._actor.abort(reason, bool(given.get("retryAlarm", retry_alarm)))
        raise AssertionError
