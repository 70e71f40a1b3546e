"""Which processes use a directory, so that what a dead one held can be taken over at once.

Each process that claims work has a file of its own under ``processes/``, named by its id, and a
lock on it, which the system drops when the process ends, however suddenly. The lock is of the kind
that belongs to a process (POSIX): the child of a fork does not hold what its parent holds.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import reports
from .reports import Reports

# Where nothing reports the end of a process, for as long as somebody listens.
_LOOK_SECONDS = 0.5


class Presence:
    """This process, as others that use the directory know it."""

    def __init__(self, directory: Path) -> None:
        #: Where the files of all processes are.
        self.directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        #: What claims are signed with. It is never used again by another process.
        self.id = secrets.token_hex(8)
        with self._alone():
            self._sweep()
            self._descriptor = os.open(
                directory / self.id, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._loops: dict[asyncio.AbstractEventLoop, _Ends] = {}

    def alive(self, process: str) -> bool:
        """Whether the process of that id still runs."""
        if process == self.id:
            return True
        try:
            # For reading only: to close a file that could be written is reported to listeners.
            descriptor = os.open(self.directory / process, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        finally:
            os.close(descriptor)
        return False

    def subscribe(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` in the running event loop whenever a process has ended.

        Which one it was, `alive` tells. Returns what ends the subscription.
        """
        loop = asyncio.get_running_loop()
        ends = self._loops.get(loop)
        if ends is None:
            ends = self._loops[loop] = _Ends(self.directory, loop)
        ends.listeners.append(listener)

        def unsubscribe() -> None:
            if listener in ends.listeners:
                ends.listeners.remove(listener)
            if not ends.listeners and self._loops.pop(loop, None) is not None:
                ends.close()

        return unsubscribe

    def ring(self) -> None:
        """Call the listeners of all processes, as if one had ended: there is something for them."""
        # A file that was open for writing is closed, which is what they listen to.
        descriptor = os.open(
            self.directory / "bell", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        os.close(descriptor)

    def close(self) -> None:
        """This process holds nothing any more."""
        for ends in self._loops.values():
            ends.close()
        self._loops.clear()
        for mailbox in self.directory.glob(f"{self.id}.*"):
            mailbox.unlink(missing_ok=True)
        (self.directory / self.id).unlink(missing_ok=True)
        os.close(self._descriptor)

    def abandon(self) -> None:
        """This is the child of a fork: the file and its lock are the parent's."""
        for ends in self._loops.values():
            ends.abandon()
        os.close(self._descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process makes or removes files meanwhile."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what killed processes have left."""
        for left in self.directory.iterdir():
            # A mailbox begins with the name of its process.
            if not self.alive(left.name.partition(".")[0]):
                left.unlink(missing_ok=True)


class _Ends:
    """Tells the listeners of one event loop of the ends of processes."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.listeners: list[Callable[[], object]] = []
        self._reports: Reports | None = None
        self._timer: asyncio.TimerHandle | None = None
        if reports.HAS_INOTIFY:
            from asyncinotify import Mask

            self._reports = Reports(loop, self._tell)
            self._reports.follow(directory, Mask.CLOSE_WRITE)
        else:
            self._timer = loop.call_later(_LOOK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._tick)
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._reports is not None:
            self._reports.close()

    def abandon(self) -> None:
        """This is the child of a fork."""
        if self._reports is not None:
            self._reports.abandon()
