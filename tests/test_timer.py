"""The one timer: nothing late, nothing asked in vain, nothing lost to a failure."""

from __future__ import annotations

import pytest

from bunflare import ManualClock
from bunflare.timer import Chore, Timer


class Work:
    """Things that are due at given times."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)
        self.done: list[tuple[int, list[float]]] = []
        self.asked = 0
        self.fail = False

    def chore(self) -> Chore:
        return Chore("the test's work", self.due, self.act)

    def due(self) -> float | None:
        self.asked += 1
        return min(self.times, default=None)

    async def act(self, now: int) -> None:
        if self.fail:
            raise OSError("not now")
        ready = [when for when in self.times if when <= now]
        self.times = [when for when in self.times if when > now]
        self.done.append((now, ready))


async def test_it_wakes_for_the_earliest_and_for_what_comes_later() -> None:
    clock = ManualClock(0)
    work, other = Work(5000, 9000), Work()
    timer = Timer(clock, (work.chore(), other.chore()))
    timer.start()
    await clock.advance(seconds=4.999)
    assert work.done == []
    await clock.advance(seconds=1)
    assert work.done == [(5001, [5000])]
    other.times.append(7000)
    timer.at(7000)
    work.times.append(8000)
    timer.at(8000)
    await clock.advance(seconds=10)
    assert other.done == [(7001, [7000])]
    assert [ready for _, ready in work.done] == [[5000], [8000], [9000]]
    await timer.close()


async def test_it_asks_nothing_while_nothing_is_due() -> None:
    clock = ManualClock(0)
    work = Work(1_000_000_000)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    asked = work.asked
    await clock.advance(days=5)
    timer.at(2_000_000_000)
    assert work.asked == asked
    await timer.close()


async def test_a_failure_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(0)
    work = Work(1000)
    work.fail = True
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(seconds=2)
    assert "the test's work" in caplog.text
    work.fail = False
    await clock.advance(minutes=2)
    assert [ready for _, ready in work.done] == [[1000]]
    await timer.close()


async def test_a_closed_timer_does_nothing() -> None:
    clock = ManualClock(0)
    work = Work(1000)
    timer = Timer(clock, (work.chore(),))
    timer.at(1000)
    await timer.close()
    timer.start()
    await clock.advance(seconds=5)
    assert work.done == []
