"""The end of the process, whatever a Worker has left that would keep it.

Python waits at its end for every thread that is no daemon, and what closes a state may wait for
threads, too. A state may be left at any time, so nothing is lost where that is not waited for.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from .traces import is_inside

_STDERR = 2
# How long Python may take to end once there is nothing else to do, in seconds.
_GRACE_SECONDS = 5.0


def end_soon(status: int) -> None:
    """There is nothing else to do: end the process with ``status`` if it does not end now."""
    end_within(_GRACE_SECONDS, status)


def end_within(seconds: float, status: int) -> None:
    """End the process with ``status`` if it has not ended after so many seconds."""
    # A daemon, which nothing waits for.
    threading.Thread(target=_end, args=(seconds, status), daemon=True).start()


def _end(seconds: float, status: int) -> None:
    time.sleep(seconds)
    places = "".join(f"\n  {place}" for place in _places())
    text = f"WARNING: it ends though something does not:{places}\n"
    try:
        # Past all that may wait for somebody who reads.
        if select.select((), (_STDERR,), (), 1.0)[1]:
            os.write(_STDERR, text.encode(errors="replace")[: select.PIPE_BUF])
    finally:
        os._exit(status)


def _places() -> Iterator[str]:
    """Where the threads are that keep Python from its end."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = None if thread.daemon else frames.get(thread.ident or 0)
        while frame is not None and _is_machinery(frame):
            frame = frame.f_back
        if frame is not None:
            name, code = thread.name, frame.f_code
            yield f"{name}: {code.co_name} ({code.co_filename}:{frame.f_lineno})"
        elif not thread.daemon and thread is not threading.main_thread():
            yield thread.name


def _is_machinery(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return is_inside(file) or file == threading.__file__ or "concurrent" in file
