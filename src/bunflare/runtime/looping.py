"""The event loop of the server, which no Worker is to end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from .signals import Interrupted
from .traces import shortened

T = TypeVar("T")
_log = logging.getLogger("bunflare")
_apart: WeakSet[asyncio.Task[Any]] = WeakSet()


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> T:
    """Run ``main`` to its end.

    The loop lets ``sys.exit`` in a task or a callback pass to whoever runs it, and stops where it
    is told to. What the server itself raises, and signals that it does not handle yet, pass.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        task = apart(loop.create_task(main))
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                if task.done() or isinstance(error, Interrupted) or _unhandled(error):
                    for one in _apart:
                        # Now they are to be cancelled with all others.
                        asyncio.tasks._register_task(one)
                    raise
                _log.error("a Worker would have ended the event loop", exc_info=shortened(error))


def apart(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Have a task of the server's not be among `asyncio.all_tasks`, which a Worker may cancel."""
    asyncio.tasks._unregister_task(task)
    _apart.add(task)
    return task


def _unhandled(error: BaseException) -> bool:
    """Whether it is Ctrl-C while the server begins."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(error, KeyboardInterrupt) and handler is signal.default_int_handler
