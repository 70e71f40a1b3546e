"""The one timer: nothing late, nothing asked in vain, nothing lost to a failure."""

from __future__ import annotations

import asyncio

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


class SlowWork(Work):
    """Work that lasts until it is let go."""

    def __init__(self, *times: float) -> None:
        super().__init__(*times)
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def act(self, now: int) -> None:
        self.begun.set()
        await self.go_on.wait()
        await super().act(now)


async def test_it_wakes_for_the_earliest_and_for_what_comes_later() -> None:
    clock = ManualClock(0)
    work, other = Work(5000, 9000), Work()
    timer = Timer(clock, (work.chore(), other.chore()))
    timer.start()
    await clock.advance(seconds=4.999)
    assert work.done == []
    await clock.advance(seconds=1)
    assert work.done == [(5000, [5000])]
    other.times.append(7000)
    timer.at(7000)
    work.times.append(8000)
    timer.at(8000)
    await clock.advance(seconds=10)
    assert other.done == [(7000, [7000])]
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


async def test_it_starts_with_the_first_thing_that_is_due() -> None:
    clock = ManualClock(0)
    work, older = Work(2000), Work(1000)
    timer = Timer(clock, (work.chore(), older.chore()))
    await clock.advance(seconds=5)
    assert (work.asked, older.done) == (0, [])
    timer.at(7000)
    work.times.append(7000)
    # It looks for itself what else there is.
    await clock.advance(milliseconds=1)
    assert [ready for _, ready in older.done] == [[1000]]
    assert [ready for _, ready in work.done] == [[2000]]
    await clock.advance(seconds=5)
    assert [ready for _, ready in work.done] == [[2000], [7000]]
    await timer.close()


async def test_fractions_of_a_millisecond_are_not_early() -> None:
    clock = ManualClock(0)
    work = Work(1000.5)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(milliseconds=1000)
    assert work.done == []
    await clock.advance(milliseconds=2)
    assert work.done == [(1001, [1000.5])]
    await timer.close()


@pytest.mark.usefixtures("impatient")
async def test_what_becomes_due_while_it_works_is_not_lost() -> None:
    clock = ManualClock(0)
    work = SlowWork(1000)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(seconds=2)
    assert work.begun.is_set()
    work.times.append(2500)
    timer.at(2500)
    work.go_on.set()
    await clock.advance(seconds=2)
    assert [ready for _, ready in work.done] == [[1000], [2500]]
    await timer.close()


async def test_a_failure_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(0)
    work, other = Work(1000), Work(1000)
    work.fail = True
    timer = Timer(clock, (work.chore(), other.chore()))
    timer.start()
    await clock.advance(seconds=2)
    assert "the test's work" in caplog.text
    assert [ready for _, ready in other.done] == [[1000]]  # others are not held up by it
    work.fail = False
    await clock.advance(minutes=2)
    assert [ready for _, ready in work.done] == [[1000]]
    await timer.close()


async def test_what_is_due_earlier_than_the_next_try_is_in_time() -> None:
    clock = ManualClock(0)
    work = Work(1000)
    work.fail = True
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(seconds=2)
    work.fail = False
    timer.at(5000)
    work.times.append(5000)
    await clock.advance(seconds=4)
    assert work.done == [(5000, [1000, 5000])]
    await timer.close()


async def test_a_closed_timer_does_nothing() -> None:
    clock = ManualClock(0)
    work = Work(1000)
    timer = Timer(clock, (work.chore(),))
    timer.at(1000)
    await timer.close()
    timer.start()
    timer.at(2000)
    await clock.advance(seconds=5)
    assert work.done == []


@pytest.mark.usefixtures("impatient")
async def test_closing_waits_for_what_is_being_done() -> None:
    clock = ManualClock(0)
    work = SlowWork(1000)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(seconds=2)
    closing = asyncio.ensure_future(timer.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    work.go_on.set()
    await closing
    assert [ready for _, ready in work.done] == [[1000]]


@pytest.mark.usefixtures("impatient")
async def test_work_that_was_cancelled_harms_neither_closing_nor_what_is_due_later() -> None:
    """Some programs cancel all tasks that they find before they end, or end a test so."""
    clock = ManualClock(0)
    work = SlowWork(1000)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    await clock.advance(seconds=2)
    assert timer._task is not None
    timer._task.cancel()
    await asyncio.sleep(0)
    work.go_on.set()
    timer.at(3000)
    work.times.append(3000)
    await clock.advance(seconds=2)
    assert work.done == [(3000, [1000, 3000])]

    work.go_on.clear()
    work.times.append(5000)
    timer.at(5000)
    await clock.advance(seconds=2)
    assert timer._task is not None
    timer._task.cancel()
    await timer.close()


async def test_work_that_was_cancelled_before_it_began_is_done_with_what_comes_next() -> None:
    clock = ManualClock(0)
    work = Work(1000)
    timer = Timer(clock, (work.chore(),))
    timer.start()
    assert timer._alarm is not None
    timer._alarm.cancel()
    clock.set(1001)
    timer._fire()
    assert timer._task is not None
    timer._task.cancel()
    await asyncio.sleep(0)
    work.times.append(3000)
    timer.at(3000)
    await clock.advance(seconds=3)
    assert work.done == [(3000, [1000, 3000])]
    await timer.close()
