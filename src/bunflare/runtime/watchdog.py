"""Says where a Worker is that keeps everything else waiting: in a busy loop, or a blocking call.

Python cannot interrupt it from outside. A thread looks once a second whether the event loop's
thread is in anybody's code, and only then asks the loop for a sign of life: an idle server sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from .traces import is_inside

_LOOP = str(Path("runtime", "looping.py"))
# Where the event loop's thread is while there is nothing to do: in uvloop, or in asyncio's loop.
_IDLE = (_LOOP, "selectors.py")
_log = logging.getLogger("bunflare")

_PERIOD_SECONDS = 1.0
#: Missing signs of life, one after the other, before something is said.
_PATIENCE = 2


class Watchdog:
    """Watches the running event loop. To be made in its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._asked = self._alive = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="bunflare-watchdog")
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        self._alive += 1

    def _watch(self) -> None:
        missing = 0
        while not self._ended.wait(_PERIOD_SECONDS):
            if self._alive == self._asked:
                missing = 0
                frame = sys._current_frames().get(self._watched)
                if frame is not None and not frame.f_code.co_filename.endswith(_IDLE):
                    self._asked += 1
                    self._loop.call_soon_threadsafe(self._beat)
                continue
            missing += 1
            # After 2, 4, 8 … seconds.
            if missing >= _PATIENCE and missing & (missing - 1) == 0:
                self._tell(missing)

    def _tell(self, seconds: int) -> None:
        frame = sys._current_frames().get(self._watched)
        frames = list(_frames(frame))
        if any(Path(one.f_code.co_filename).name in ("pdb.py", "bdb.py") for one in frames):
            return  # a person is looking at it
        # What is inside of the event loop.
        at = next(
            (at for at, one in enumerate(frames) if one.f_code.co_filename.endswith(_LOOP)), None
        )
        shown = [one for one in frames[:at] if not is_inside(one.f_code.co_filename)]
        walked = ((one, one.f_lineno) for one in reversed(shown))
        text = "".join(traceback.StackSummary.extract(walked).format())
        _log.warning(
            "nothing else could run for %d seconds: the Worker computes or blocks in\n%s",
            seconds,
            text.rstrip(),
        )


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back
