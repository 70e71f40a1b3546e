"""Synchronous code of ASGI applications, which frameworks hand to a thread by `anyio.to_thread`.

On the platform there are no threads, and the SDK has it run in the place of the call. So it does
here, for a Worker's applications: bindings belong to the event loop's thread, and `run_sync` waits
there while other requests go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .switching import on_stack

_inside: ContextVar[bool] = ContextVar("_inside", default=False)
_changed: set[int] = set()


def run_inline() -> None:
    """From here on, in this task and those it begins, no threads are used."""
    _inside.set(True)
    module = sys.modules.get("anyio.to_thread")
    if module is None or id(module) in _changed:
        return
    _changed.add(id(module))
    on_thread = module.run_sync

    async def run_sync(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if _inside.get():
            return await on_stack(lambda: func(*args))
        return await on_thread(func, *args, **options)

    module.run_sync = run_sync  # type: ignore[attr-defined]
