"""Clocks: the system's, and the one that tests move."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bunflare import ManualClock, SystemClock


async def test_the_system_clock_counts_epoch_milliseconds_and_fires() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time() * 1000) < 5000
    fired = asyncio.Event()
    clock.call_at(clock.now() - 1, fired.set)
    await asyncio.wait_for(fired.wait(), 30)
    cancelled = clock.call_at(clock.now(), lambda: pytest.fail("it was cancelled"))
    cancelled.cancel()
    await asyncio.sleep(0.01)


async def test_the_system_clock_never_fires_before_the_wall_clock_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    offset = 0
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + offset)
    monkeypatch.setattr(SystemClock, "_LOOK_AGAIN_SECONDS", 0.005)
    fired = asyncio.Event()
    timer = clock.call_at(clock.now() + 5, fired.set)
    offset = -3_600_000_000_000  # set back by an hour
    await asyncio.sleep(0.05)  # real time passes, which must not count
    assert not fired.is_set()
    offset = 0
    await asyncio.wait_for(fired.wait(), 30)
    timer.cancel()


async def test_a_manual_clock_fires_in_order_at_the_right_moments() -> None:
    clock = ManualClock(0)
    seen: list[tuple[str, int]] = []
    clock.call_at(2000, lambda: seen.append(("b", clock.now())))
    clock.call_at(1000, lambda: seen.append(("a", clock.now())))
    clock.call_at(1500, lambda: seen.append(("cancelled", 0))).cancel()

    def again() -> None:
        seen.append(("c", clock.now()))
        clock.call_at(clock.now() + 500, lambda: seen.append(("d", clock.now())))

    clock.call_at(2000, again)
    await clock.advance(seconds=1)
    assert seen == [("a", 1000)]
    await clock.advance(milliseconds=1500)
    assert seen == [("a", 1000), ("b", 2000), ("c", 2000), ("d", 2500)]
    await clock.advance(minutes=1, hours=1, days=1)
    assert clock.now() == 2500 + 60_000 + 3_600_000 + 86_400_000


async def test_a_manual_clock_starts_where_it_is_told() -> None:
    assert ManualClock().now() == datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000
    east = timezone(timedelta(hours=2))
    assert ManualClock(datetime(1970, 1, 1, 2, tzinfo=east)).now() == 0
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))
    clock = ManualClock(5)
    with pytest.raises(ValueError, match="set"):
        await clock.advance(seconds=-1)
    clock.set(1)
    assert clock.now() == 1
