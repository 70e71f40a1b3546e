"""Alarms of Durable Objects."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any, ClassVar

import pytest

import bunflare
from bunflare import AlarmInvocationInfo, DurableObject, DurableObjectTypeError, ManualClock
from tests.support import eventually

DAY = 86_400_000


class Bell(DurableObject):
    rung: ClassVar[list[tuple[str | None, AlarmInvocationInfo]]] = []
    fail = 0
    again: int | None = None
    seen: ClassVar[list[Any]] = []
    hold: asyncio.Event | None = None

    async def set(self, time: Any) -> Any:
        await self.ctx.storage.set_alarm(time)
        return await self.ctx.storage.get_alarm()

    async def look(self) -> Any:
        return await self.ctx.storage.get_alarm()

    async def delete(self) -> None:
        await self.ctx.storage.delete_alarm()

    async def alarm(self, info: AlarmInvocationInfo) -> None:
        Bell.rung.append((self.ctx.id.name, info))
        Bell.seen.append(await self.ctx.storage.get_alarm())
        if Bell.again is not None:
            await self.ctx.storage.set_alarm(Bell.again)
        if Bell.hold is not None:
            await Bell.hold.wait()
        if Bell.fail:
            Bell.fail -= 1
            raise ValueError("the bell is stuck")


@pytest.fixture(autouse=True)
def _silence() -> None:
    Bell.rung.clear()
    Bell.seen.clear()
    Bell.fail = 0
    Bell.again = None
    Bell.hold = None


@pytest.fixture
def bell(state: bunflare.State) -> Any:
    return state.durable_objects(Bell).get_by_name("tower")


async def test_an_alarm_rings_once_at_its_time(bell: Any, clock: ManualClock) -> None:
    when = clock.now() + 1000
    assert await bell.set(when) == when
    await clock.advance(milliseconds=999)
    assert Bell.rung == []
    await clock.advance(milliseconds=1)
    assert Bell.rung == [("tower", AlarmInvocationInfo(0, False, when))]
    # While it runs, no alarm is set.
    assert Bell.seen == [None]
    assert await bell.look() is None
    await clock.advance(days=1)
    assert len(Bell.rung) == 1


async def test_an_alarm_years_ahead(bell: Any, clock: ManualClock) -> None:
    await bell.set(clock.now() + 3650 * DAY)
    await clock.advance(days=3649)
    assert Bell.rung == []
    await clock.advance(days=2)
    assert len(Bell.rung) == 1


async def test_the_last_setting_counts_and_the_past_is_now(bell: Any, clock: ManualClock) -> None:
    await bell.set(clock.now() + 1000)
    await bell.set(clock.now() + 5000)
    await clock.advance(seconds=2)
    assert Bell.rung == []
    now = clock.now()
    assert await bell.set(1) == now
    await clock.advance(milliseconds=5)
    assert [info.scheduled_time for _, info in Bell.rung] == [now]


async def test_a_deleted_alarm_does_not_ring(bell: Any, clock: ManualClock) -> None:
    await bell.set(clock.now() + 1000)
    await bell.delete()
    assert await bell.look() is None
    await clock.advance(days=1)
    assert Bell.rung == []


async def test_a_failed_alarm_is_tried_six_times_more_after_two_seconds_doubling(
    bell: Any, clock: ManualClock
) -> None:
    Bell.fail = 100
    start = clock.now()
    await bell.set(start)
    times: list[int] = []
    for _ in range(300):
        known = len(Bell.rung)
        await clock.advance(seconds=1)
        times += [clock.now() - start] * (len(Bell.rung) - known)
    assert [info.retry_count for _, info in Bell.rung] == list(range(7))
    assert [info.is_retry for _, info in Bell.rung] == [False] + [True] * 6
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    for wait, expected in zip(waits, [2, 4, 8, 16, 32, 64], strict=True):
        assert expected * 1000 - 1000 <= wait <= expected * 1100 + 2000
    assert await bell.look() is None


async def until_rung(clock: ManualClock, times: int) -> None:
    """Let time pass in small steps: when a retry is due, only the end of the last try tells."""
    for _ in range(1000):
        await clock.advance(seconds=0.25)
        if len(Bell.rung) >= times:
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not ring")


async def test_retries_survive_a_restart(directory: Path, clock: ManualClock) -> None:
    Bell.fail = 2
    async with bunflare.open(directory, clock=clock) as state:
        await state.durable_objects(Bell).get_by_name("tower").set(clock.now())
        await until_rung(clock, 2)
    async with bunflare.open(directory, clock=clock) as state:
        state.durable_objects(Bell)
        await eventually(lambda: state._objects["Bell"].owner)
        await clock.advance(seconds=1)
        assert len(Bell.rung) == 2
        await until_rung(clock, 3)
    assert [info.retry_count for _, info in Bell.rung] == [0, 1, 2]


async def test_an_alarm_that_its_handler_sets_comes_before_the_retry(
    bell: Any, clock: ManualClock
) -> None:
    Bell.fail = 1
    Bell.again = clock.now() + 60_000
    await bell.set(clock.now())
    await clock.advance(seconds=30)
    assert len(Bell.rung) == 1
    Bell.again = None
    assert await bell.look() is not None
    await clock.advance(seconds=31)
    assert [info.retry_count for _, info in Bell.rung] == [0, 0]


async def test_an_alarm_rings_after_a_restart_without_any_call(
    directory: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.durable_objects(Bell).get_by_name("tower").set(clock.now() + DAY)
    clock.set(clock.now() + 2 * DAY)
    async with bunflare.open(directory, clock=clock) as state:
        state.durable_objects(Bell)
        await eventually(lambda: state._objects["Bell"].owner)
        await clock.advance(seconds=1)
        await eventually(lambda: bool(Bell.rung))
    assert [name for name, _ in Bell.rung] == ["tower"]


@pytest.mark.usefixtures("impatient")
async def test_many_alarms_ring_each_in_its_object_while_one_hangs(
    state: bunflare.State, clock: ManualClock
) -> None:
    bells = state.durable_objects(Bell)
    for number in range(300):
        await bells.get_by_name(str(number)).set(clock.now() + 1000)
    Bell.hold = asyncio.Event()
    await clock.advance(seconds=2)
    await eventually(lambda: len(Bell.rung) == 256)
    Bell.hold.set()
    await eventually(lambda: len(Bell.rung) >= 256 and not state._objects["Bell"].alarms._firing)
    await clock.advance(seconds=1)
    await eventually(lambda: len(Bell.rung) == 300)
    assert {name for name, _ in Bell.rung} == {str(number) for number in range(300)}


@pytest.mark.parametrize("time", [0, -1, float("nan"), "soon", None, True])
async def test_bad_times_are_refused(bell: Any, time: Any) -> None:
    with pytest.raises(DurableObjectTypeError):
        await bell.set(time)


async def test_a_class_without_a_handler_cannot_set_one(state: bunflare.State) -> None:
    class Mute(DurableObject):
        async def set(self) -> None:
            await self.ctx.storage.set_alarm(1)

    with pytest.raises(DurableObjectTypeError, match=r"must have an alarm\(\) handler"):
        await state.durable_objects(Mute).get_by_name("a").set()


async def test_an_alarm_of_an_undone_transaction_is_not_set(
    state: bunflare.State, clock: ManualClock
) -> None:
    class Timid(Bell):
        async def try_it(self) -> Any:
            async def change(txn: bunflare.DurableObjectTransaction) -> None:
                await txn.set_alarm(clock.now() + 1)
                txn.rollback()

            await self.ctx.storage.transaction(change)
            return await self.ctx.storage.get_alarm()

    assert await state.durable_objects(Timid).get_by_name("a").try_it() is None
    await clock.advance(days=1)
    assert Bell.rung == []


@pytest.mark.usefixtures("impatient")
async def test_a_handler_that_takes_too_long_is_stopped_and_tried_again(
    bell: Any, state: bunflare.State, clock: ManualClock
) -> None:
    await bell.set(clock.now() + 1000)
    Bell.hold = asyncio.Event()
    await clock.advance(seconds=2)
    await eventually(lambda: len(Bell.rung) == 1)
    await clock.advance(minutes=14)
    assert state._objects["Bell"].alarms._firing
    await clock.advance(minutes=1)
    await eventually(lambda: not state._objects["Bell"].alarms._firing)
    Bell.hold = None
    await clock.advance(seconds=3)
    await eventually(lambda: len(Bell.rung) == 2)
    assert [info.retry_count for _, info in Bell.rung] == [0, 1]
    assert await bell.look() is None


@pytest.mark.parametrize("again", [True, False])
async def test_an_object_that_aborts_may_say_that_its_alarm_is_not_to_be_tried_again(
    state: bunflare.State, clock: ManualClock, again: bool
) -> None:
    rung = []

    class Leaving(Bell):
        async def alarm(self, info: AlarmInvocationInfo) -> None:
            rung.append(info.retry_count)
            if info.retry_count == 0:
                self.ctx.abort("enough", {"retryAlarm": again})

    bell: Any = state.durable_objects(Leaving).get_by_name("a")
    await bell.set(clock.now() + 1)
    await clock.advance(seconds=10)
    assert rung == ([0, 1] if again else [0])
    assert await bell.look() is None
