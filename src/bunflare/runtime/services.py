"""Service bindings: a Worker calls another one of the same process, by ``fetch`` and by RPC."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..bindings.rpc import RpcTarget
from ..config import ServiceConfig
from ..errors import WorkerError
from ..web import Blob, FormData, Headers, Request, Response
from .facade import not_cloned
from .fetching import fetch
from .js_values import JsDate, python_from_rpc, python_to_rpc

if TYPE_CHECKING:
    from .worker import Worker

# What passes as it is; and the modules of the types that are copied.
BodyInit = Headers | Blob | FormData | AsyncIterable  # type: ignore[type-arg]
_COPIED = frozenset({"builtins", "datetime", JsDate.__module__})
# What a Worker's base class has is not for others to call.
_HIDDEN = frozenset({"ctx", "env", "fetch", "connect", "scheduled", "queue", "email", "tail"})


class Service:
    """A binding to an entrypoint of a Worker, which is looked up with each call."""

    def __init__(self, config: ServiceConfig, find: Callable[[str], Worker]) -> None:
        self._config = config
        self._find = find

    async def fetch(self, resource: Any, options: Any = None, **other: Any) -> Response:
        """Send a request to the other Worker; its URL may have any host."""
        return await fetch(resource, {**(options or {}), **other, "fetcher": self._answer})

    async def _answer(self, request: Request) -> Response:
        return await self._worker().fetch(request, self._config.entrypoint, self._config.props)

    def _worker(self) -> Worker:
        return self._find(self._config.service)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            instance = self._worker().instance(self._config.entrypoint, self._config.props)
            return await invoke(instance, name, args, kwargs)

        call.__name__ = name
        return call


class Loopback(Service):
    """A Worker's own entrypoint; called with ``props``, the same entrypoint with those."""

    def __call__(self, options: Mapping[str, Any] | None = None, **given: Any) -> Service:
        props = {**(options or {}), **given}.get("props") or {}
        return Service(replace(self._config, props=dict(props)), self._find)


class Exports:
    """``ctx.exports``: the Worker's entrypoints as services, its objects' classes as namespaces."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        worker = self._worker
        if name in worker.namespaces:
            return worker.namespaces[name]
        loaded = worker.loaded
        # The platform's name of it; Python's is the class's.
        default = name in ("default", "Default") and loaded.default is not None
        if not default and name not in loaded.entrypoints:
            raise AttributeError(f"the Worker exports no {name!r}")
        config = ServiceConfig(name, worker.name, None if default else name)
        return Loopback(config, lambda _: worker)


async def invoke(target: object, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a public method of ``target``; what goes in and comes out is copied."""
    method = None if name in _HIDDEN else inspect.getattr_static(type(target), name, None)
    if not callable(getattr(method, "__func__", method)):
        raise TypeError(f'The RPC receiver does not implement the method "{name}".')
    given = [sent(value) for value in args]
    result = getattr(target, name)(*given, **{key: sent(value) for key, value in kwargs.items()})
    return sent(await result if inspect.isawaitable(result) else result)


class Stub:
    """A function, or an object with methods, of the other Worker."""

    def __init__(self, target: Any) -> None:
        self._target = target

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = [sent(value) for value in args]
        result = self._target(*given, **{key: sent(value) for key, value in kwargs.items()})
        return sent(await result if inspect.isawaitable(result) else result)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await invoke(self._target, name, args, kwargs)

        return call

    def destroy(self) -> None:
        """The other side is in this process: there is nothing to let go of."""

    dup = destroy


def sent(value: Any) -> Any:
    """A value as the other Worker gets it: plain values copied, what has methods as a stub."""
    if value is None or isinstance(value, str | bool | int | float | Stub | Request | Response):
        return value
    if isinstance(value, dict):
        return python_from_rpc({key: sent(one) for key, one in value.items()})
    if isinstance(value, list):
        return [sent(one) for one in value]
    if callable(value) or isinstance(value, RpcTarget):
        return Stub(value)
    if isinstance(value, BodyInit):
        return value
    if isinstance(value, Exception):
        return Exception(f"{type(value).__name__}: {value}")
    converted = python_to_rpc(value)
    if type(converted) is object or type(converted).__module__ not in _COPIED:
        raise not_cloned(value)
    return python_from_rpc(converted)


def unknown(name: str, known: Iterable[str]) -> WorkerError:
    """There is no Worker of that name here."""
    return WorkerError(
        f'there is no Worker "{name}" in this process; it has {", ".join(known)}. Give the '
        "wrangler file of each with --config"
    )
