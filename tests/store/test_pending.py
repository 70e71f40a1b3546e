"""A call that has begun can be awaited, gathered, and made a task of."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from bunflare.store.pending import Pending, begins
from tests.support import PATIENCE


def pending(outcome: object) -> Pending[Any]:
    """One that comes to its end in the event loop's next turn."""
    loop = asyncio.get_running_loop()
    made: Pending[Any] = Pending(loop=loop)

    def end() -> None:
        if made.done():
            return
        if isinstance(outcome, Exception):
            made.set_exception(outcome)
        else:
            made.set_result(outcome)

    loop.call_soon(end)
    return made


async def awaited(one: Pending[Any]) -> Any:
    return await one


async def grouped(one: Pending[Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one)
    return task.result()


WAYS: tuple[Callable[[Pending[Any]], Awaitable[Any]], ...] = (
    awaited,
    lambda one: asyncio.create_task(one),
    lambda one: asyncio.wait_for(one, PATIENCE),
    lambda one: asyncio.shield(one),
)


@pytest.mark.parametrize("way", WAYS)
async def test_its_result_is_told(way: Callable[[Pending[Any]], Any]) -> None:
    one = pending(5)
    assert await way(one) == 5
    # And told again.
    assert [await one, *await asyncio.gather(one, one)] == [5] * 3


async def test_a_group_takes_it() -> None:
    assert await grouped(pending(5)) == 5


@pytest.mark.parametrize("way", WAYS)
async def test_its_error_is_raised(way: Callable[[Pending[Any]], Any]) -> None:
    with pytest.raises(ValueError, match="no"):
        await way(pending(ValueError("no")))


async def test_who_cancels_a_task_of_it_cancels_it() -> None:
    one = pending(5)
    task = asyncio.create_task(one)
    await asyncio.sleep(0)
    assert await task == 5
    for turns in (0, 1):
        one = Pending(loop=asyncio.get_running_loop())
        task = asyncio.create_task(one)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.cancelled()


async def test_who_gives_up_waiting_cancels_it() -> None:
    one: Pending[Any] = Pending(loop=asyncio.get_running_loop())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one, 0.001)
    assert one.cancelled()


async def test_an_exception_may_be_thrown_into_it_as_into_any_coroutine() -> None:
    one = pending(5)
    with pytest.raises(KeyError):
        one.throw(KeyError)
    with pytest.raises(KeyError, match="a"):
        one.throw(KeyError, KeyError("a"))
    with pytest.raises(KeyError, match="b"):
        one.throw(KeyError("b"))
    one.close()
    assert await one == 5


async def test_asyncio_waits_for_what_was_made_a_future_of() -> None:
    done, rest = await asyncio.wait([asyncio.ensure_future(pending(5)) for _ in range(2)])
    assert ([one.result() for one in done], rest) == ([5, 5], set())
    done, _ = await asyncio.wait([asyncio.create_task(pending(5)) for _ in range(2)])
    assert [one.result() for one in done] == [5, 5]
    assert [await one for one in asyncio.as_completed([pending(5), pending(5)])] == [5, 5]
    with pytest.raises(TypeError, match="Passing coroutines is forbidden"):
        await asyncio.wait([pending(5)])


async def test_it_passes_for_a_coroutine() -> None:
    one = pending(None)
    assert asyncio.iscoroutine(one)
    assert asyncio.isfuture(one)
    assert inspect.isawaitable(one)
    await one


def test_a_function_that_begins_passes_for_one_of_coroutines() -> None:
    class Binding:
        @begins
        async def call(self) -> None: ...

        @begins
        def other(self) -> Coroutine[Any, Any, None]:
            return self.call()

    asked = getattr(inspect, "markcoroutinefunction", None) and inspect.iscoroutinefunction
    asked = asked or asyncio.iscoroutinefunction
    assert asked(Binding().call)
    assert asked(Binding().other)
