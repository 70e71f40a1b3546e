"""Stubs: what stands for functions and targets of another process."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Protocol, Self

from ..errors import DurableObjectError
from .rpc import RpcTarget

DISPOSED = "RPC stub used after being disposed."

#: Arguments of a call; None asks for a property.
Args = list[Any] | None


class Passage(Protocol):
    """The connection to the other process."""

    def invoke(
        self, number: int, method: str | None, args: Args, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        """Call what has the number there."""

    def release(self, number: int) -> None:
        """Let go of it. May be called on any thread."""


class Handle:
    """A hold on what another process has given; it is let go of with the last stub of it."""

    __slots__ = ("number", "passing")

    def __init__(self, passing: Passage, number: int) -> None:
        self.passing = passing
        self.number = number

    def __del__(self) -> None:
        self.passing.release(self.number)


class Remote(RpcTarget):
    """A stub for something in another process. Every call of it is awaited.

    ``dispose()`` lets go of it, and so does the end of a ``with``; ``dup()`` is another stub for
    the same, to be disposed of by itself.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle | None) -> None:
        self._handle = handle

    def dispose(self) -> None:
        """Let go of it: no call can be made any more."""
        self._handle = None

    destroy = dispose

    def dup(self) -> Self:
        """Another stub for the same."""
        return type(self)(_held(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.dispose()


def call(
    stub: Remote, method: str | None, args: Args, kwargs: dict[str, Any]
) -> asyncio.Future[Any]:
    """Call what it stands for; not a method, for those are the target's."""
    handle = _held(stub)
    return handle.passing.invoke(handle.number, method, args, kwargs)


def home(stub: Remote, passing: Passage) -> int | None:
    """Its number, if it stands for something of the process at the other end."""
    handle = _held(stub)
    return handle.number if handle.passing is passing else None


def _held(stub: Remote) -> Handle:
    if stub._handle is None:
        raise DurableObjectError(DISPOSED)
    return stub._handle


class RemoteFunction(Remote):
    """A function of another process."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return call(self, None, list(args), kwargs)


class RemoteTarget(Remote):
    """An `RpcTarget` of another process: public methods; properties, which are awaited."""

    __slots__ = ()

    def __getattr__(self, name: str) -> _RemoteMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        return _RemoteMethod(self, name)


class _RemoteMethod:
    __slots__ = ("_name", "_target")

    def __init__(self, target: RemoteTarget, name: str) -> None:
        self._target = target
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return call(self._target, self._name, list(args), kwargs)

    def __await__(self) -> Generator[Any, Any, Any]:
        return call(self._target, self._name, None, {}).__await__()
