"""Where objects' SQL files are committed: here and now, or on a thread if that has been slow.

On a fast disk the hand-over would cost more than the commit. On a slow one, the event loop and with
it all other objects would wait for the disk.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import DatabaseError
    from .object_layer import Layer

#: What a commit may cost on average, in seconds, before commits go to a thread.
SLOW_SECONDS = 0.001
_WEIGHT = 0.2
# More would not make one disk faster.
_THREADS = 4


class Commits:
    """What the commits of a host's SQL files cost. To time one: ``with commits: …``."""

    def __init__(self) -> None:
        #: The average of the last ones, in seconds.
        self.cost = 0.0
        self._started = 0.0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def slow(self) -> bool:
        return self.cost > SLOW_SECONDS

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *failure: object) -> None:
        self.took(time.perf_counter() - self._started)

    def took(self, seconds: float) -> None:
        self.cost += (seconds - self.cost) * _WEIGHT

    def threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "bunflare-object-commits")
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class Aside:
    """A commit on a thread, and the object that stands still for it."""

    def __init__(self, layer: Layer) -> None:
        #: The keys that are to be written after it.
        self.layer = layer
        self.committing: Future[DatabaseError | None]
        self._over = asyncio.get_running_loop().create_future()

    async def stand(self) -> None:
        """The critical section in which the object waits."""
        await self._over

    def release(self) -> None:
        if not self._over.done():
            self._over.set_result(None)
