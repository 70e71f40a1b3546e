"""Clocks: the system's, and the one that tests move."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bunflare import ManualClock, SystemClock
from tests.support import eventually

HOUR = 3_600_000_000_000  # in nanoseconds


class WallClock:
    """The system's wall clock, which somebody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0
        self.looks = 0
        self._real = time.time_ns
        monkeypatch.setattr(time, "time_ns", self._now)

    def _now(self) -> int:
        self.looks += 1
        return self._real() + self.offset


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


# -- the system's ------------------------------------------------------------------------------


async def test_the_system_clock_counts_epoch_milliseconds() -> None:
    before = time.time() * 1000
    now = SystemClock().now()
    assert isinstance(now, int)
    assert before - 1 <= now <= time.time() * 1000


async def test_the_system_clock_fires_at_once_what_is_past_and_later_what_is_to_come() -> None:
    clock = SystemClock()
    loop = asyncio.get_running_loop()
    past: asyncio.Future[int] = loop.create_future()
    future: asyncio.Future[int] = loop.create_future()
    when = clock.now() + 5
    clock.call_at(when, lambda: future.set_result(clock.now()))
    clock.call_at(0, lambda: past.set_result(clock.now()))
    assert not past.done()  # never on the spot
    assert await asyncio.wait_for(past, 30) > 0
    assert await asyncio.wait_for(future, 30) >= when


async def test_a_wake_up_that_was_cancelled_does_not_come() -> None:
    clock = SystemClock()
    fired = asyncio.Event()
    cancelled = clock.call_at(clock.now(), lambda: pytest.fail("it was cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    late = clock.call_at(clock.now() + 1, fired.set)
    await asyncio.wait_for(fired.wait(), 30)
    late.cancel()


async def test_the_system_clock_never_fires_before_the_wall_clock_says_so(
    wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "_LOOK_AGAIN_SECONDS", 0.001)
    clock = SystemClock()
    fired = asyncio.Event()
    timer = clock.call_at(clock.now() + 5, fired.set)
    wall.offset = -HOUR
    wall.looks = 0
    await eventually(lambda: wall.looks > 20)  # real time passes, which does not count
    assert not fired.is_set()
    wall.offset = 0
    await asyncio.wait_for(fired.wait(), 30)
    timer.cancel()


async def test_a_wall_clock_that_is_set_forward_is_noticed(
    wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "_LOOK_AGAIN_SECONDS", 0.001)
    clock = SystemClock()
    fired = asyncio.Event()
    clock.call_at(clock.now() + 1_800_000, fired.set)
    wall.offset = HOUR
    await asyncio.wait_for(fired.wait(), 30)


async def test_times_far_away_are_waited_for_without_counting_over(
    wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peers' timers overflow after 24.8 days and fire at once."""
    monkeypatch.setattr(SystemClock, "_LOOK_AGAIN_SECONDS", 0.001)
    clock = SystemClock()
    timers = [
        clock.call_at(clock.now() + days * 86_400_000, lambda: pytest.fail("not yet"))
        for days in (25, 365, 100_000)
    ]
    wall.looks = 0
    await eventually(lambda: wall.looks > 20)
    for timer in timers:
        timer.cancel()


# -- the one that tests move -------------------------------------------------------------------


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


async def test_a_manual_clock_gives_tasks_their_turn_at_each_moment() -> None:
    clock = ManualClock(0)
    seen: list[int] = []

    async def sleeper() -> None:
        for _ in range(3):
            woken = asyncio.Event()
            clock.call_at(clock.now() + 1000, woken.set)
            await woken.wait()
            seen.append(clock.now())

    task = asyncio.ensure_future(sleeper())
    await clock.advance(seconds=10)
    assert seen == [1000, 2000, 3000]
    await task


async def test_a_manual_clock_fires_what_is_past_without_going_back() -> None:
    clock = ManualClock(5000)
    seen: list[int] = []
    clock.call_at(1000, lambda: seen.append(clock.now()))
    await clock.advance()
    assert seen == [5000]
    assert clock.now() == 5000


async def test_a_manual_clock_that_is_set_fires_nothing_by_itself() -> None:
    clock = ManualClock(0)
    seen: list[int] = []
    clock.call_at(1000, lambda: seen.append(clock.now()))
    clock.set(9000)
    await asyncio.sleep(0)
    assert seen == []
    clock.set(1)
    assert clock.now() == 1
    await clock.advance(seconds=1)
    assert seen == [1000]


def test_a_manual_clock_starts_where_it_is_told() -> None:
    assert ManualClock().now() == datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000
    east = timezone(timedelta(hours=2))
    assert ManualClock(datetime(1970, 1, 1, 2, tzinfo=east)).now() == 0
    assert ManualClock(5).now() == 5
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))


async def test_time_only_advances() -> None:
    clock = ManualClock(5)
    with pytest.raises(ValueError, match="set"):
        await clock.advance(seconds=-1)
    assert clock.now() == 5
