"""Those who wait for what was written together hear of it in order, each whatever others do."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from bunflare.store import told
from bunflare.store.told import tell


def futures(count: int) -> list[asyncio.Future[Any]]:
    loop = asyncio.get_running_loop()
    return [loop.create_future() for _ in range(count)]


async def test_all_are_called_in_order_and_no_sooner_than_the_loop_turns() -> None:
    heard: list[Any] = []
    several = futures(3)

    def hear(number: int, callback: str, done: asyncio.Future[Any]) -> None:
        heard.append((number, callback, done.exception()))

    for number, future in enumerate(several):
        for callback in "ab":
            future.add_done_callback(partial(hear, number, callback))
    failure = ValueError("no")
    tell(
        asyncio.get_running_loop(),
        [(several[0], 1, None), (several[1], None, failure), (several[2], 3, None)],
    )
    assert heard == []
    assert [future.done() for future in several] == [True] * 3
    await asyncio.sleep(0)
    assert heard == [
        (number, callback, failure if number == 1 else None)
        for number in range(3)
        for callback in "ab"
    ]


@pytest.mark.parametrize("kind", ["asyncio's in Python", "another's"])
async def test_futures_of_other_kinds_are_told_too(kind: str) -> None:
    from asyncio.futures import _PyFuture  # type: ignore[attr-defined]

    class Closed(_PyFuture):  # type: ignore[misc]
        """One that keeps to itself who waits for it."""

        def __getattribute__(self, name: str) -> Any:
            if name == "_callbacks" and sys._getframe(1).f_globals["__name__"] == told.__name__:
                raise AttributeError(name)
            return super().__getattribute__(name)

    made = Closed if kind == "another's" else _PyFuture
    several = [made(loop=asyncio.get_running_loop()) for _ in range(2)]
    heard: list[Any] = []
    for number, future in enumerate(several):
        for callback in "ab":
            future.add_done_callback(lambda _, say=(number, callback): heard.append(say))
    tell(asyncio.get_running_loop(), [(future, 5, None) for future in several])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


async def test_tasks_go_on_and_each_sees_its_own_context() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    several = futures(3)

    async def wait(number: int) -> tuple[Any, int]:
        variable.set(number)
        return await several[number], variable.get()

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    seen: list[int] = []
    variable.set(7)
    several[0].add_done_callback(lambda _: seen.append(variable.get()))
    variable.set(8)
    await asyncio.sleep(0)
    tell(asyncio.get_running_loop(), [(future, "done", None) for future in several])
    assert await asyncio.gather(*waiting) == [("done", 0), ("done", 1), ("done", 2)]
    assert seen == [7]


async def test_who_gave_up_is_passed_over() -> None:
    several = futures(3)
    several[1].cancel()
    tell(asyncio.get_running_loop(), [(future, 5, None) for future in several])
    assert await several[0] == await several[2] == 5
    assert several[1].cancelled()


async def test_a_callback_that_fails_keeps_nobody_from_hearing() -> None:
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    several = futures(2)
    failure = ValueError("broken")

    def broken(_: asyncio.Future[Any]) -> None:
        raise failure

    several[0].add_done_callback(broken)
    tell(loop, [(future, 5, None) for future in several])
    await asyncio.sleep(0)
    assert await several[1] == 5
    assert [context["exception"] for context in failures] == [failure]


def test_an_interrupt_ends_the_loop_and_the_others_hear_when_it_goes_on() -> None:
    heard: list[str] = []

    def interrupt(_: asyncio.Future[Any]) -> None:
        raise KeyboardInterrupt

    async def begin() -> None:
        several = futures(2)
        several[0].add_done_callback(interrupt)
        several[1].add_done_callback(lambda _: heard.append("second"))
        tell(loop, [(future, 5, None) for future in several])
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(begin())
        assert heard == []
        loop.run_until_complete(asyncio.sleep(0))
        assert heard == ["second"]
    finally:
        for task in asyncio.all_tasks(loop):
            loop.run_until_complete(task)
        loop.close()
