"""What the operating system reports of files, in an event loop: inotify."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncinotify import Mask

HAS_INOTIFY = sys.platform == "linux"


class Reports:
    """Calls ``reported`` in ``loop`` when something has happened to one of the files."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reported: Callable[[], object]) -> None:
        # Imported here because most programs wait for nobody.
        from asyncinotify import Inotify

        self._loop = loop
        self._reported = reported
        self._inotify = Inotify()
        self._descriptor: int = self._inotify.fd
        loop.add_reader(self._descriptor, self._read)

    def follow(self, path: Path | str, mask: Mask) -> None:
        """Have what happens to a file, or in a directory, reported."""
        self._inotify.add_watch(path, mask)

    def _read(self) -> None:
        try:
            os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        self._reported()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
        self._inotify.close()

    def abandon(self) -> None:
        """Close without a word to the event loop, which a fork shares with its parent."""
        self._inotify.close()
