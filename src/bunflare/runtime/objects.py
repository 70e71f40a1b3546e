"""Durable Objects as a Worker sees them: namespaces and stubs in ``env``, ``ctx`` in the object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..bindings.durable_objects import DurableObject, DurableObjectId, DurableObjectStub
from ..bindings.object_limits import key_value_classes
from ..bindings.object_sql import SqlCursor, SqlRawCursor, SqlStorage
from ..bindings.object_storage import DurableObjectTransaction, SyncKvStorage
from ..errors import WorkerError
from .facade import BindingFacade, Edge, ResultFacade, snake

if TYPE_CHECKING:
    from ..bindings.object_state import DurableObjectState
    from ..bindings.websocket import WebSocket
    from ..config import Config, DurableObjectConfig
    from ..state import State
    from .env import Env
    from .services import Exports
    from .worker import Worker

_NAMESPACE = Edge(options_at={"new_unique_id": 0, "get": 1, "get_by_name": 1})
_STORAGE = Edge(
    checked=True,
    options_at={
        "get": 1,
        "put": 2,
        "delete": 1,
        "list": 0,
        "delete_all": 0,
        "get_alarm": 0,
        "set_alarm": 1,
        "delete_alarm": 0,
    },
    shown=(SqlStorage,),
)


class WorkerObjectId(DurableObjectId):
    """An id with the platform's spelling of its method."""

    toString = DurableObjectId.to_string

    @classmethod
    def of(cls, id: DurableObjectId) -> WorkerObjectId:
        return cls(str(id), id.name, id.jurisdiction)


class NamespaceFacade(BindingFacade):
    """``env.COUNTER``."""

    def _result(self, value: Any) -> Any:
        if isinstance(value, DurableObjectStub):
            return StubFacade(value)
        if isinstance(value, DurableObjectId):
            return WorkerObjectId.of(value)
        if type(value) is type(self._binding):
            return NamespaceFacade(value, self._edge)
        return super()._result(value)


class StubFacade:
    """An object's methods under their own names, and ``fetch`` as the platform has it."""

    def __init__(self, stub: DurableObjectStub) -> None:
        self._stub = stub
        self.id = WorkerObjectId.of(stub.id)
        self.name = stub.name

    def fetch(self, request: Any, init: Mapping[str, Any] | None = None, **options: Any) -> Any:
        given = {snake(name): value for name, value in {**(init or {}), **options}.items()}
        return self._stub.fetch(request, **given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stub, name)


class _StorageFacade(BindingFacade):
    """``ctx.storage``, and what it gives that is more than a value."""

    def _result(self, value: Any) -> Any:
        if isinstance(value, SqlCursor | SqlRawCursor):
            return _CursorFacade(value, self._edge)
        if isinstance(value, SyncKvStorage):
            return _KvFacade(value, self._edge)
        return super()._result(value)

    def transaction(self, closure: Callable[[Any], Awaitable[Any]]) -> Awaitable[Any]:
        storage: Any = self._binding

        def inner(txn: DurableObjectTransaction) -> Awaitable[Any]:
            return closure(_StorageFacade(txn, self._edge))

        return self._awaited(storage.transaction(inner))

    @property
    def sql(self) -> Any:
        storage: Any = self._binding
        return _StorageFacade(storage.sql, self._edge)


class _KvFacade(ResultFacade):
    """``ctx.storage.kv``."""

    def _result(self, value: Any) -> Any:
        if isinstance(value, Generator):
            # Entries, one after the other.
            return (self._result(list(entry)) for entry in value)
        return super()._result(value)


class _CursorFacade(_StorageFacade):
    """A cursor whose rows have their columns as attributes too."""

    _lasting = False

    def __iter__(self) -> Iterator[Any]:
        cursor: Any = self._binding
        for row in cursor:
            yield self._result(row)


class ObjectContext:
    """``self.ctx`` of a Durable Object."""

    def __init__(self, state: DurableObjectState, exports: Exports | None = None) -> None:
        self._state = state
        #: The Worker's own entrypoints and the namespaces of its objects, by their names.
        self.exports = exports
        self.id = WorkerObjectId.of(state.id)
        self.storage = _StorageFacade(state.storage, _STORAGE)
        self.props = state.props

    def getWebSocketAutoResponseTimestamp(self, ws: WebSocket) -> datetime | None:
        time = self._state.get_web_socket_auto_response_timestamp(ws)
        # As the SDK gives a Date.
        return None if time is None else time.astimezone().replace(tzinfo=None)

    get_web_socket_auto_response_timestamp = getWebSocketAutoResponseTimestamp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, snake(name))


def object_classes(config: Config, module: ModuleType) -> dict[str, type]:
    """The Worker's own classes by their names. Raises where one that is bound is missing."""
    classes: dict[str, type] = {}
    declared = [name for name, one in config.exports.items() if one.live]
    for migration in config.migrations:
        declared += (*migration.new_classes, *migration.new_sqlite_classes)
    for name in declared:
        # Bound by another Worker of this process, it may be.
        made = getattr(module, name, None)
        if isinstance(made, type) and issubclass(made, DurableObject):
            classes[name] = made
    for binding in config.durable_objects.bindings:
        if binding.script_name not in (None, config.name):
            continue
        made = getattr(module, binding.class_name, None)
        if not (isinstance(made, type) and issubclass(made, DurableObject)):
            raise WorkerError(
                f"{config.main} has no class {binding.class_name}(DurableObject), which the "
                f'Durable Object binding "{binding.name}" names'
            )
        classes[binding.class_name] = made
    return classes


def bind_objects(
    config: Config, state: State, env: Env, classes: Mapping[str, type], exports: Exports | None
) -> dict[str, NamespaceFacade]:
    """Put the Durable Object namespaces of the configuration into ``env``.

    Their next instances are of these classes. Returned are the namespaces by their classes' names.
    """
    small = key_value_classes(config.migrations, config.exports)
    namespaces = {
        name: NamespaceFacade(
            state.durable_objects(
                _Maker(made, exports), name, env, replace=True, sqlite=name not in small
            ),
            _NAMESPACE,
        )
        for name, made in classes.items()
    }
    for binding in config.durable_objects.bindings:
        if binding.script_name in (None, config.name):
            env.add(binding.name, namespaces[binding.class_name])
    return namespaces


class OtherNamespace:
    """``env.COUNTER`` whose class another Worker of this process has."""

    def __init__(self, config: DurableObjectConfig, find: Callable[[str], Worker]) -> None:
        self._config = config
        self._find = find

    def __getattr__(self, name: str) -> Any:
        script, class_name = str(self._config.script_name), self._config.class_name
        namespace = self._find(script).namespaces.get(class_name)
        if namespace is None:
            raise WorkerError(
                f'the Worker "{script}" has no class {class_name}(DurableObject), which the '
                f'Durable Object binding "{self._config.name}" names'
            )
        return getattr(namespace, name)


class _Maker:
    """Makes the Worker's objects with the context that Workers expect."""

    def __init__(self, made: type, exports: Exports | None) -> None:
        self._made = made
        self._exports = exports
        self.alarm = getattr(made, "alarm", None)

    def __call__(self, state: DurableObjectState, env: Any) -> object:
        return self._made(ObjectContext(state, self._exports), env)
