"""Events of one turn share a task until one of them waits, and know nothing of each other."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectReset

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
seen: list[str] = []


class Worker(DurableObject):
    async def here(self, who: str, waits: int = 0) -> list[str]:
        before = name.get()
        name.set(who)
        seen.append(who)
        for _ in range(waits):
            await asyncio.sleep(0)
        return [before, name.get()]

    async def task(self, waits: int = 0) -> int:
        for _ in range(waits):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return id(task)

    async def hurried(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            return "too late"
        return "never"

    async def cancels_itself(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "cancelled"

    async def groups(self) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return [task.result() for task in tasks]

    async def blocks(self, who: str) -> None:
        async def section() -> None:
            seen.append(who)
            await asyncio.sleep(0)
            seen.append(f"{who} again")

        await self.ctx.block_concurrency_while(section)

    async def fails(self) -> None:
        raise ValueError("no")

    async def ends(self) -> None:
        self.ctx.abort("enough")

    async def calls(self, others: list[str]) -> list[Any]:
        found = []
        for other in others:
            found.append(await stubs[other].here("called"))
        return found


stubs: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def made(state: bunflare.State) -> None:
    seen.clear()
    namespace = state.durable_objects(Worker)
    stubs.update({one: namespace.get_by_name(one) for one in "abcd"})


async def test_those_that_do_not_wait_share_a_task_and_others_have_their_own() -> None:
    await stubs["a"].here("x")
    tasks = await asyncio.gather(*[stubs[one].task() for one in "abcd"])
    # The first may be the only one, and has nothing to do with others.
    assert tasks[0] != tasks[1] == tasks[2] == tasks[3]
    tasks = await asyncio.gather(*[stubs[one].task(3) for one in "abcd"])
    assert len(set(tasks)) == 4


@pytest.mark.parametrize("waits", [0, 2])
async def test_each_has_a_context_of_its_own(waits: int) -> None:
    found = await asyncio.gather(
        *[stubs[one].here(f"{one}{number}", waits) for number in range(3) for one in "abcd"]
    )
    whole = [f"{one}{number}" for number in range(3) for one in "abcd"]
    assert found == [["nobody", one] for one in whole]
    # And they begin in the order of their calls.
    assert seen == whole


async def test_what_ends_one_of_them_harms_no_other() -> None:
    failed = stubs["d"].fails()
    found = await asyncio.gather(
        stubs["a"].hurried(0.001),
        stubs["b"].cancels_itself(),
        stubs["c"].hurried(0.001),
        stubs["c"].groups(),
        stubs["a"].here("last"),
    )
    with pytest.raises(ValueError, match="no"):
        await failed
    assert list(found) == ["too late", "cancelled", "too late", [0, 1, 2], ["nobody", "last"]]


async def test_a_reset_ends_those_of_its_object_alone() -> None:
    found = await asyncio.gather(
        stubs["a"].here("before"),
        stubs["b"].hurried(60),
        stubs["b"].ends(),
        stubs["b"].here("never"),
        stubs["c"].here("after"),
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [list, *[DurableObjectReset] * 3, list]
    assert seen == ["before", "after"]
    assert await stubs["b"].here("again") == ["nobody", "again"]


async def test_objects_that_call_each_other_do_not_wait_for_ever() -> None:
    found = await asyncio.gather(*[stubs[one].calls(list("abcd")) for one in "abcd"])
    assert found == [[["nobody", "called"]] * 4] * 4


async def test_those_that_have_not_begun_when_their_task_is_cancelled_fail() -> None:
    await asyncio.gather(*[stubs[one].here("before") for one in "ab"])
    # As an event loop does with all tasks at its end.
    replies = [stubs[one].here("never") for one in "ab"]
    for task in asyncio.all_tasks():
        if task.get_name() == "event":
            task.cancel()
    found = await asyncio.gather(*replies, return_exceptions=True)
    assert [type(one) for one in found] == [DurableObjectReset] * 2
    assert seen == ["before"] * 2
    assert await stubs["a"].here("again") == ["nobody", "again"]


async def test_those_of_one_object_keep_their_order_when_one_of_them_has_to_wait() -> None:
    await asyncio.gather(*[stubs[one].here("x") for one in "ab"])
    seen.clear()
    calls = [
        stubs["b"].here("b1"),
        stubs["a"].blocks("a1"),
        stubs["a"].here("a2"),
        stubs["b"].here("b2"),
        stubs["a"].here("a3"),
    ]
    await asyncio.gather(*calls)
    assert [one for one in seen if one[0] == "a"] == ["a1", "a1 again", "a2", "a3"]
    assert [one for one in seen if one[0] == "b"] == ["b1", "b2"]


async def test_what_is_called_meanwhile_comes_after_those_that_were_called_before() -> None:
    await asyncio.gather(*[stubs[one].here("x") for one in "abc"])
    seen.clear()
    calls = [
        stubs["b"].here("first"),
        stubs["a"].calls(["c"]),
        stubs["c"].here("called before"),
        stubs["c"].here("called before"),
    ]
    await asyncio.gather(*calls)
    assert seen == ["first", "called before", "called before", "called"]
