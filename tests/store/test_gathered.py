"""What is asked for in one turn becomes one write, and each who asks hears of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

import bunflare
from bunflare.store.gathered import Gatherer
from bunflare.store.operation import Joint
from bunflare.store.told import Outcome
from bunflare.store.transaction import Transaction
from tests.support import PATIENCE


def doubled(_tx: Transaction, items: list[int]) -> list[Any]:
    return [ValueError(str(item)) if item < 0 else 2 * item for item in items]


async def test_each_gets_a_result_or_an_error_of_their_own(state: bunflare.State) -> None:
    sizes: list[int] = []

    def work(tx: Transaction, items: list[int]) -> list[Any]:
        sizes.append(len(items))
        return doubled(tx, items)

    gatherer = Gatherer[int, int](state.database, work)
    given_up = gatherer.add(7)
    given_up.cancel()
    outcomes = await asyncio.gather(
        *[gatherer.add(item) for item in (1, -2, 3)], return_exceptions=True
    )
    assert [type(one) if isinstance(one, Exception) else one for one in outcomes] == [
        *(2, ValueError, 6)
    ]
    assert sizes == [3]


async def test_what_was_asked_for_in_between_keeps_its_place(state: bunflare.State) -> None:
    seen: list[Any] = []

    def work(_tx: Transaction, items: list[int]) -> list[None]:
        seen.extend(items)
        return [None] * len(items)

    gatherer = Gatherer[int, None](state.database, work)
    first = gatherer.add(1)
    gatherer.part()
    between = state.database.submit(lambda _tx: seen.append("between"))
    await asyncio.gather(first, between, gatherer.add(2))
    assert seen == [1, "between", 2]


async def test_those_who_wait_hear_when_the_results_cannot_be_told(state: bunflare.State) -> None:
    def finish(_items: Sequence[int], _done: Sequence[Any]) -> Sequence[int]:
        raise bunflare.StateError("the state is closed")

    gatherer = Gatherer[int, int](state.database, doubled, finish)
    for future in (gatherer.add(1), gatherer.add(2)):
        with pytest.raises(bunflare.StateError, match="closed"):
            await future
    # And others go on.
    await state.kv("A").put("key", "value")


async def test_what_fails_after_a_write_does_not_stop_the_writer(
    state: bunflare.State, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Joint):
        def settle(self, told: list[Outcome]) -> None:
            raise ValueError("no")

    with caplog.at_level(logging.ERROR, "bunflare"):
        state.database.enqueue(Broken(lambda _tx: None, asyncio.get_running_loop()))
        await asyncio.wait_for(state.kv("A").put("key", "value"), PATIENCE)
    assert "what follows a write failed" in caplog.text
    assert await state.kv("A").get("key") == "value"
