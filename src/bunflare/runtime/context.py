"""What a Worker is given beside its request: the execution context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..errors import WorkerError
from .looping import leave
from .traces import places

if TYPE_CHECKING:
    from .services import Exports

_log = logging.getLogger("bunflare")
# How long a task that was cancelled may take to end.
_GRACE_SECONDS = 5.0


class Background:
    """Tasks that outlive the response that started them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()
        self._talks: set[asyncio.Future[Any]] = set()
        self._endings: list[Callable[[], Awaitable[Any]]] = []
        self._hung_up = asyncio.Event()
        #: What the Worker at work exports.
        self.exports: Exports | None = None

    def at_end(self, ending: Callable[[], Awaitable[Any]]) -> None:
        """Await ``ending()`` at shutdown, after the tasks."""
        self._endings.append(ending)

    def add(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(_contained(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def keep(self, talk: Awaitable[Any]) -> None:
        """Run a conversation over a WebSocket: a reload lets it go on to its end."""
        task = asyncio.ensure_future(_contained(talk))
        self._talks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        self._talks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task given to wait_until failed", exc_info=error)

    def tasks(self) -> list[asyncio.Future[Any]]:
        """Those that go on."""
        return list(self._tasks)

    async def talked(self) -> None:
        """Wait for the ends of all conversations, or until `hang_up` is called."""
        hung_up = asyncio.ensure_future(self._hung_up.wait())
        try:
            while self._talks and not hung_up.done():
                ends = {*self._talks, hung_up}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hung_up.cancel()

    def hang_up(self) -> None:
        """Let nothing wait for conversations any more."""
        self._hung_up.set()

    async def drain(self, timeout: float) -> None:
        """Wait for all of them, at most ``timeout`` seconds; then they are cancelled.

        Those that do not end though they are cancelled are left to themselves after 5 seconds more.
        """
        tasks = self._tasks | self._talks
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                _log.warning("%d task(s) given to wait_until did not end in time", len(late))
                _, stubborn = await asyncio.wait(late, timeout=_GRACE_SECONDS)
                if stubborn:
                    _log.warning(
                        "%d task(s) given to wait_until go on though they were cancelled:%s",
                        *(len(stubborn), places(stubborn)),
                    )
                    leave(stubborn)
        while self._endings:
            try:
                await asyncio.wait_for(self._endings.pop()(), timeout)
            except Exception:
                _log.exception("the Worker failed at shutdown")


async def _contained(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except SystemExit as error:
        # It would end the server, which is not the Worker's to end.
        raise WorkerError("sys.exit was called in a task given to wait_until") from error


class ExecutionContext:
    """``self.ctx`` of a Worker."""

    __slots__ = ("_background", "props")

    def __init__(self, background: Background) -> None:
        self._background = background
        self.props: dict[str, Any] = {}

    @property
    def exports(self) -> Exports | None:
        """The Worker's own entrypoints and the namespaces of its objects, by their names."""
        return self._background.exports

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Keep ``work`` going after the response has been sent; it is awaited at shutdown."""
        self._background.add(work)

    waitUntil = wait_until

    def pass_through_on_exception(self) -> None:
        """Accepted and without effect: there is no origin to pass to."""

    passThroughOnException = pass_through_on_exception
