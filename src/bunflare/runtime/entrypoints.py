"""The classes that a Worker derives its own from, and how their handlers are called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..bindings.rpc import relaxed

#: Called with as many arguments as they take. Other public methods are RPC, and strict.
HANDLERS = ("fetch", "scheduled", "queue", "email", "tail", "trace", "alarm")


class WorkerEntrypoint:
    """A Worker's handlers: ``fetch`` and its like, called on an instance made for each event."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


def handler(func: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function such as ``on_fetch``. Its arguments are Python's own already."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


def of_functions(functions: dict[str, Callable[..., Any]]) -> type[WorkerEntrypoint]:
    """The entrypoint of a Worker that is written as functions: ``on_fetch`` and its like."""

    def method(function: Callable[..., Any]) -> Callable[..., Any]:
        def handle(self: WorkerEntrypoint, argument: Any) -> Any:
            return relaxed(function, argument, self.env, self.ctx)

        return handle

    members = {name: method(function) for name, function in functions.items()}
    return type("Default", (WorkerEntrypoint,), members)
