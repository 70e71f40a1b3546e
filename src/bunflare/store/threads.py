"""Threads for what reads and writes files, apart from the event loop's own.

Those are the program's as well: a few calls of its own that do not come to their end, and nothing
else would, nor would a state ever be closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")

_pool: Executor | None = None


def pool() -> Executor:
    """The threads, as many as an event loop would have."""
    global _pool
    if _pool is None:
        # Imported here because most programs never need a thread.
        from concurrent.futures import ThreadPoolExecutor

        # Should two threads come here at once, the one pool more ends with its work.
        _pool = ThreadPoolExecutor(thread_name_prefix="bunflare-files")
    return _pool


def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Run ``work`` on a thread, which it begins at once. For the running event loop."""
    call = partial(contextvars.copy_context().run, work, *args, **kwargs)
    return asyncio.get_running_loop().run_in_executor(pool(), call)


def _forget() -> None:
    """This is the child of a fork, which has none of its parent's threads."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget)
