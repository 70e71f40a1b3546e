"""The consumers of a state whose event loop ends, and those of several event loops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import bunflare
from bunflare import ManualClock, MessageBatch, State, StateError
from tests.support import PATIENCE


async def _leave(state: State) -> None:
    """End an event loop while a consumer has a message."""
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    async def handler(_batch: MessageBatch) -> None:
        begun.set()
        await asyncio.sleep(0)
        # As a program does that stops its event loop in the middle.
        loop.stop()
        await asyncio.Event().wait()

    await state.consume("jobs", handler, max_batch_timeout=0).start()
    await state.queue("jobs").send("held")
    await begun.wait()
    await asyncio.Event().wait()


def _stopped(state: State) -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(_leave(state))
    for task in asyncio.all_tasks(loop):
        # It is not to be told of: nobody can await it any more.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def test_what_consumers_of_a_closed_event_loop_had_is_delivered_in_the_next(
    tmp_path: Path,
) -> None:
    state = bunflare.open(tmp_path)
    _stopped(state)

    async def go_on() -> list[str]:
        queue, all_there = state.queue("jobs"), asyncio.Event()
        seen: list[object] = []
        await queue.send("sent")

        async def handler(batch: MessageBatch) -> None:
            seen.extend(message.body for message in batch.messages)
            if len(seen) == 3:
                all_there.set()

        async with state.consume("jobs", handler, max_batch_timeout=0):
            await queue.send("more")
            await asyncio.wait_for(all_there.wait(), PATIENCE)
        await asyncio.wait_for(state.close(), PATIENCE)
        return sorted(map(str, seen))

    assert asyncio.run(go_on()) == ["held", "more", "sent"]


def test_a_state_can_be_closed_after_the_event_loop_of_its_consumers(tmp_path: Path) -> None:
    state = bunflare.open(tmp_path)
    _stopped(state)

    async def close() -> None:
        await asyncio.wait_for(state.close(), PATIENCE)
        async with bunflare.open(tmp_path) as again:
            assert [one.state for one in await again.queue("jobs").peek()] == ["ready"]

    asyncio.run(close())


async def test_consumers_of_one_state_share_an_event_loop(state: State) -> None:
    def elsewhere() -> None:
        async def inside() -> None:
            with pytest.raises(StateError, match="belong to the event loop"):
                await state.consume("jobs", print).start()

        asyncio.run(inside())

    async with state.consume("jobs", print):
        await asyncio.to_thread(elsewhere)


def test_what_is_due_later_is_done_though_the_event_loop_was_another(tmp_path: Path) -> None:
    clock = ManualClock()
    state = bunflare.open(tmp_path, clock=clock)

    async def first() -> None:
        async with state.consume("other", print):
            await state.queue("other").send(1, delay_seconds=60)
            await state.kv("a").put("k", "v", expiration_ttl=60)

    async def then() -> None:
        seen: list[object] = []
        async with state.consume("jobs", seen.append, max_batch_timeout=0):
            await state.queue("jobs").send(1, delay_seconds=3600)
            await clock.advance(hours=1)
            assert len(seen) == 1
        await asyncio.wait_for(state.close(), PATIENCE)

    asyncio.run(first())
    asyncio.run(then())
