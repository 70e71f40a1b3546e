"""The classes that a Worker derives its own from, and how their handlers are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

#: Called with as many arguments as they take. Other public methods are RPC, and strict.
HANDLERS = ("fetch", "scheduled", "queue", "email", "tail", "trace", "alarm")


class DurableObject:
    """Base of a Worker's Durable Objects."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class WorkerEntrypoint:
    """A Worker's handlers: ``fetch`` and its like, called on an instance made for each event."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


def handler(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function such as ``on_fetch``. Its arguments are Python's own already."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def relaxed(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` with as many of the arguments as it takes."""
    return function(*args[: takes(function)])


@functools.lru_cache(maxsize=256)
def _takes(function: Callable[..., Any]) -> int:
    count = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return 100
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += 1
    return count


def takes(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes, its object not counted."""
    bound = getattr(function, "__func__", None)
    return _takes(function) if bound is None else _takes(bound) - 1


def of_functions(functions: dict[str, Callable[..., Any]]) -> type[WorkerEntrypoint]:
    """The entrypoint of a Worker that is written as functions: ``on_fetch`` and its like."""

    def method(function: Callable[..., Any]) -> Callable[..., Any]:
        def handle(self: WorkerEntrypoint, argument: Any) -> Any:
            return relaxed(function, argument, self.env, self.ctx)

        return handle

    members = {name: method(function) for name, function in functions.items()}
    return type("Default", (WorkerEntrypoint,), members)
