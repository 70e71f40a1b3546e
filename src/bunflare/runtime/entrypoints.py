"""The classes that a Worker derives its own from."""

from __future__ import annotations

from typing import Any


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
