"""Durable Objects: namespaces, ids and stubs.

https://developers.cloudflare.com/durable-objects/api/namespace/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectTypeError, DurableObjectValueError
from ..store.pending import begins
from . import object_ids as ids
from .object_ids import DurableObjectId
from .rpc import copy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from ..web import Request, Response
    from .object_host import ObjectHost
    from .object_state import DurableObjectState


class DurableObject:
    """Base of the classes whose instances are Durable Objects.

    Public methods can be called through a stub; ``fetch(request)``, ``alarm(info)`` and the
    handlers of WebSockets are called by the platform.
    """

    def __init__(self, ctx: DurableObjectState, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class DurableObjectNamespace:
    """The objects of one class."""

    def __init__(self, host: ObjectHost, jurisdiction: str | None = None) -> None:
        self._host = host
        self._jurisdiction = jurisdiction

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id of the object of that name, the same at all times."""
        if not isinstance(name, str):
            raise DurableObjectTypeError(f"a name is a string, not {type(name).__name__}")
        return DurableObjectId(self._host.find(name, self._jurisdiction), name, self._jurisdiction)

    def id_from_string(self, id: str) -> DurableObjectId:
        """The id whose 64 hexadecimal digits were taken down before."""
        found = self._host.parse(id)
        if self._jurisdiction is not None and found.jurisdiction != self._jurisdiction:
            raise DurableObjectTypeError(
                "Durable Object ID is not valid for this namespace: it belongs to another "
                "jurisdiction."
            )
        return found

    def new_unique_id(self, *, jurisdiction: str | None = None) -> DurableObjectId:
        """An id that no other object has."""
        where = ids.check_jurisdiction(jurisdiction) or self._jurisdiction
        return DurableObjectId(ids.unique(self._host.unique, where), None, where)

    def get(
        self,
        id: DurableObjectId,
        *,
        location_hint: str | None = None,
        routing_mode: str | None = None,
        retry: Any = None,
    ) -> DurableObjectStub:
        """A stub for the object, which need not exist before. The options change nothing here."""
        if not isinstance(id, DurableObjectId):
            raise DurableObjectTypeError(f"get() takes a DurableObjectId, not {type(id).__name__}")
        if self._jurisdiction is not None and id.jurisdiction != self._jurisdiction:
            raise DurableObjectTypeError(
                "get called on jurisdictional subnamespace with an ID from a different jurisdiction"
            )
        _check_routing(routing_mode)
        self._host.parse(str(id))
        return DurableObjectStub(self._host, id)

    def get_by_name(
        self,
        name: str,
        *,
        location_hint: str | None = None,
        routing_mode: str | None = None,
        retry: Any = None,
    ) -> DurableObjectStub:
        """A stub for the object of that name."""
        _check_routing(routing_mode)
        return DurableObjectStub(self._host, self.id_from_name(name))

    async def keep_history(self, days: float = 30.0, megabytes: float = 256.0) -> None:
        """Keep every state of the objects from now on, so that they can go back to any moment.

        For ``days`` at most, and at most ``megabytes`` of the keys of all objects, and as much of
        each object's tables. It is noted with the namespace, for all processes that run it after.
        0 keeps none, and forgets what was kept. To be called where the objects run, while none is
        at work.
        """
        from .object_past import keep

        await keep(self._host, days, megabytes)

    def jurisdiction(self, jurisdiction: str | None) -> DurableObjectNamespace:
        """The same namespace, whose ids stay within a jurisdiction: they are other ids."""
        return DurableObjectNamespace(self._host, ids.check_jurisdiction(jurisdiction))


def _check_routing(mode: object) -> None:
    if mode is not None and mode != "primary-only":
        raise DurableObjectValueError(f"unknown routingMode: {mode}")


class DurableObjectStub:
    """Calls one object: ``await stub.any_public_method(…)``, ``await stub.fetch(request)``.

    A call is on its way as soon as it is made, and those of one stub arrive in their order; to
    await one, or a task made of it, tells its result. Arguments and results arrive as copies.
    """

    def __init__(self, host: ObjectHost, id: DurableObjectId) -> None:
        self._host = host
        self.id = id

    @property
    def name(self) -> str | None:
        """The name that the id was made from."""
        return self.id.name

    def fetch(self, request: Request | str, **init: Any) -> Coroutine[Any, Any, Response]:
        """Have the object's ``fetch`` answer a request, or a URL with the options of one."""
        from ..web import Request

        if not isinstance(request, Request) or init:
            request = Request(request, **init)
        return self._host.fetch(self.id, request)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = _Method(self._host, self.id, name)
        # So that it is found at once from now on.
        self.__dict__[name] = method
        return method

    def __repr__(self) -> str:
        return f"<DurableObjectStub {self.id!r}>"


def host_of(stub: DurableObjectStub) -> ObjectHost:
    """Where the stub's object is called; not an attribute, for those are the object's."""
    return stub._host


class _Method:
    """One method of an object, or a property: ``await stub.size``."""

    __slots__ = ("_host", "_id", "_name")

    def __init__(self, host: ObjectHost, id: DurableObjectId, name: str) -> None:
        self._host = host
        self._id = id
        self._name = name

    @begins
    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        if args:
            args = tuple([copy(one) for one in args])
        if kwargs:
            kwargs = {key: copy(one) for key, one in kwargs.items()}
        return self._host.call(self._id, self._name, args, kwargs)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._host.call(self._id, self._name, None, {}).__await__()


__all__ = ["DurableObject", "DurableObjectId", "DurableObjectNamespace", "DurableObjectStub"]
