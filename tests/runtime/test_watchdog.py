"""What watches the event loop, and lets it sleep."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import uvloop

from bunflare.runtime import watchdog
from bunflare.runtime.looping import run
from tests.support import PATIENCE


def test_an_event_loop_that_waits_is_seen_as_idle() -> None:
    main = threading.get_ident()

    def look() -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            frame = sys._current_frames()[main]
            if frame.f_code.co_filename.endswith(watchdog._IDLE):
                return True
        return False

    async def wait() -> bool:
        return await asyncio.get_running_loop().run_in_executor(None, look)

    assert run(wait(), uvloop.new_event_loop)
    assert run(wait(), asyncio.new_event_loop)
