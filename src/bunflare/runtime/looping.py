"""The event loop of the server, which no Worker is to end, nor to keep from its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar
from weakref import WeakSet

from .signals import Interrupted
from .traces import places, shortened

T = TypeVar("T")
_log = logging.getLogger("bunflare")
_apart: WeakSet[asyncio.Task[Any]] = WeakSet()
# How long tasks that were cancelled may take to end.
_GRACE_SECONDS = 5.0


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> T:
    """Run ``main`` to its end.

    The loop lets ``sys.exit`` in a task or a callback pass to whoever runs it, and stops where it
    is told to. What the server itself raises, and signals that it does not handle yet, pass. Tasks
    and generators that are left are cancelled, and those that go on all the same are left behind.
    """
    # Not a `asyncio.Runner`, which would wait for generators and threads that never end.
    loop = loop_factory()
    try:
        task = apart(loop.create_task(main))
        try:
            return _through(loop, task)
        finally:
            for one in _apart:
                # Now they are to be cancelled with all others.
                asyncio.tasks._register_task(one)
            ending = apart(loop.create_task(_end(task)))
            try:
                _through(loop, ending)
            finally:
                leave({ending, *asyncio.all_tasks(loop)})
    finally:
        # Threads of its default executor end by themselves.
        loop.close()


def _through(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if task.done() or isinstance(error, Interrupted) or _unhandled(error):
                raise
            _log.error("a Worker would have ended the event loop", exc_info=shortened(error))


async def _end(main: asyncio.Task[Any]) -> None:
    tasks = asyncio.all_tasks()
    for task in tasks:
        task.cancel()
    if not main.done():
        # It closes the state.
        await asyncio.wait([main])
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        if late:
            message = "%d task(s) do not end though they were cancelled:%s"
            _log.warning(message, len(late), places(late))
    await _end_generators()


async def _end_generators() -> None:
    loop = asyncio.get_running_loop()
    ending = apart(loop.create_task(loop.shutdown_asyncgens()))
    for _ in range(2):
        _, late = await asyncio.wait([ending], timeout=_GRACE_SECONDS)
        if not late:
            return
        ending.cancel()
    _log.warning("an asynchronous generator does not end though it was cancelled")


def leave(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Have nothing wait for those of the tasks that go on, not even the end of the event loop."""
    if left := [one for one in tasks if isinstance(one, asyncio.Task) and not one.done()]:
        # Imported here because hardly a Worker needs it.
        from ctypes import py_object, pythonapi

        for task in left:
            asyncio.tasks._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            # Never freed: Python would throw GeneratorExit into it, which it may swallow as well.
            pythonapi.Py_IncRef(py_object(task))


def apart(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Have a task of the server's not be among `asyncio.all_tasks`, which a Worker may cancel."""
    asyncio.tasks._unregister_task(task)
    _apart.add(task)
    return task


def _unhandled(error: BaseException) -> bool:
    """Whether it is Ctrl-C while the server begins."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(error, KeyboardInterrupt) and handler is signal.default_int_handler
