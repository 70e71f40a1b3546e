"""The output gate, where what is written meets it.

What a Durable Object has written is to be on disk before anything leaves it. While an object's code
runs, this variable holds what to wait for; whoever lets something out of an object asks it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

#: Gives what has to be awaited before anything may leave, or None if nothing has to.
Gate = Callable[[], Awaitable[object] | None]

output_gate: ContextVar[Gate | None] = ContextVar("bunflare_output_gate", default=None)
#: Whether there may be a gate, or an open transaction of any database: set together with either,
#: so that most need to look at nothing else.
restrained: ContextVar[bool] = ContextVar("bunflare_restrained", default=False)


async def pass_output_gate() -> None:
    """Return once all that the running object has written is on disk."""
    gate = output_gate.get()
    if gate is not None:
        waiting = gate()
        if waiting is not None:
            await waiting
