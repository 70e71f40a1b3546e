"""Commits of other processes are reported, and nothing is asked while there are none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store import watch
from tests.support import child

WRITER = """
import asyncio, sys, time, bunflare
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        print("ready", flush=True)
        while sys.stdin.readline():
            await state.kv("A").put("key", str(time.monotonic()))
            print("done", flush=True)
asyncio.run(main())
"""


@pytest.fixture(params=["reported", "looked for"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "looked for":
        monkeypatch.setattr(watch, "HAS_INOTIFY", False)
    return request.param


async def test_a_commit_of_another_process_wakes_within_50_ms(directory: Path, way: str) -> None:
    delays = []
    async with bunflare.open(directory) as state:
        kv = state.kv("A")
        with child(WRITER, directory) as other:
            assert other.line() == "ready"
            for number in range(20):
                woken = asyncio.get_running_loop().create_future()

                def wake(woken: Any = woken) -> None:
                    if not woken.done():
                        woken.set_result(time.monotonic())

                unsubscribe = state.database.watch.subscribe(wake)
                other.tell(f"write {number}")
                at = await asyncio.wait_for(woken, 30)
                unsubscribe()
                delays.append(at - float(await kv.get("key")))
                assert other.line() == "done"
    # The machine may be busy with something else now and then.
    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_one_can_wait_until_something_is_true(directory: Path, way: str) -> None:
    async with bunflare.open(directory) as state:
        kv = state.kv("A")
        view = state.database.view
        exists = "SELECT 1 FROM kv WHERE key = 'key'"
        with child(WRITER, directory) as other:
            assert other.line() == "ready"
            waiting = asyncio.ensure_future(
                state.database.watch.wait(lambda: view.one(exists) is not None)
            )
            await asyncio.sleep(0)
            other.tell("write")
            await asyncio.wait_for(waiting, 30)
            assert float(await kv.get("key")) > 0
            # What is true already is not waited for.
            await asyncio.wait_for(state.database.watch.wait(lambda: True), 1)


async def test_own_commits_are_reported_too(state: bunflare.State, way: str) -> None:
    woken = asyncio.Event()
    unsubscribe = state.database.watch.subscribe(woken.set)
    await state.kv("A").put("key", "value")
    await asyncio.wait_for(woken.wait(), 30)
    unsubscribe()


async def test_without_commits_nothing_is_looked_at(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.kv("A").put("key", "value")
    looks = 0
    header = state.database.header

    def counted() -> object:
        nonlocal looks
        looks += 1
        return header()

    monkeypatch.setattr(state.database, "header", counted)
    unsubscribe = state.database.watch.subscribe(lambda: None)
    looks = 0
    await asyncio.sleep(0.2)  # a stretch of real time in which nothing may happen
    assert looks == 0
    unsubscribe()


async def test_a_commit_that_takes_its_time_is_not_missed(state: bunflare.State) -> None:
    """The report comes with the write to the log; the commit counts only after the flush."""
    woken = asyncio.Event()
    database = state.database
    unsubscribe = database.watch.subscribe(woken.set)
    header = database.header()
    late = asyncio.get_running_loop().time() + 0.1

    def slow() -> object:
        return database_header() if asyncio.get_running_loop().time() > late else header

    database_header = database.header
    database.header = slow  # type: ignore[method-assign]
    await state.kv("A").put("key", "value")
    await asyncio.wait_for(woken.wait(), 30)
    unsubscribe()
