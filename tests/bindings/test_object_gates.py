"""Input and output gates, critical sections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectReset
from bunflare.store.operation import LATER, Operation, deliver
from tests.support import PATIENCE, eventually


class Account(DurableObject):
    def __init__(self, ctx: bunflare.DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        self.ready = False
        self.log: list[str] = []
        self.opened = asyncio.Event()

        async def load() -> None:
            await asyncio.sleep(0.01)
            self.ready = True

        ctx.block_concurrency_while(load)

    async def is_ready(self) -> bool:
        return self.ready

    async def add(self, amount: int) -> int:
        value = (await self.ctx.storage.get("sum") or 0) + amount
        await self.ctx.storage.put("sum", value)
        return value

    async def add_in_transaction(self, amount: int) -> None:
        async def change(txn: bunflare.DurableObjectTransaction) -> None:
            value = await txn.get("sum") or 0
            await asyncio.sleep(0.001)
            await txn.put("sum", value + amount)

        await self.ctx.storage.transaction(change)

    async def hang_in_transaction(self, *, stubborn: bool) -> None:
        async def change(txn: bunflare.DurableObjectTransaction) -> None:
            await txn.put("sum", 5)
            over: asyncio.Event = self.env.over
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    if not stubborn:
                        raise
            # By now, nothing that it does reaches the object.
            await txn.put("sum", 6)

        await self.ctx.storage.transaction(change)

    async def fail_in_transaction(self) -> None:
        async def change(txn: bunflare.DurableObjectTransaction) -> None:
            await txn.put("sum", 5)
            raise ValueError("undone")

        await self.ctx.storage.transaction(change)

    async def walk(self, name: str) -> None:
        for step in range(3):
            self.log.append(f"{name}{step}")
            await asyncio.sleep(0)

    async def block(self, name: str, error: str | None = None, *, hang: bool = False) -> str:
        async def section() -> str:
            self.log.append(f"<{name}")
            for _ in range(20):
                await asyncio.sleep(0)
            if hang:
                await asyncio.Event().wait()
            if error is not None:
                raise ValueError(error)
            self.log.append(f"{name}>")
            return name

        return await self.ctx.block_concurrency_while(section)

    async def nested(self) -> list[str]:
        async def outer() -> str:
            async def inner() -> str:
                await asyncio.sleep(0)
                return "inner"

            return "outer " + await self.ctx.block_concurrency_while(inner)

        return [await self.ctx.block_concurrency_while(outer)]

    async def logged(self) -> list[str]:
        return self.log

    async def tell(self, key: str) -> None:
        await self.ctx.storage.put("told", key)
        await self.env.kv("OUTSIDE").put(key, "told")


@pytest.fixture
def account(state: bunflare.State) -> Any:
    return state.durable_objects(Account, env=state).get_by_name("a")


async def test_no_event_enters_before_the_constructor_is_done(account: Any) -> None:
    assert await account.is_ready() is True


async def test_increments_sent_at_once_lose_nothing(account: Any) -> None:
    results = await asyncio.gather(*[account.add(1) for _ in range(10)])
    assert sorted(results) == list(range(1, 11))
    assert await account.add(0) == 10


async def test_transactions_that_wait_do_not_interleave(account: Any) -> None:
    await asyncio.gather(*[account.add_in_transaction(1) for _ in range(10)])
    assert await account.add(0) == 10


async def test_a_critical_section_holds_new_events_and_those_under_way(account: Any) -> None:
    await account.is_ready()
    calls = [account.walk("a"), account.block("x"), account.walk("b")]
    await asyncio.gather(*calls)
    log = await account.logged()
    start, end = log.index("<x"), log.index("x>")
    assert end == start + 1
    assert log[:start]
    assert len(log) == 8


async def test_critical_sections_queue_up_and_nest(account: Any) -> None:
    names = ["x", "y", "z"]
    assert await asyncio.gather(*[account.block(name) for name in names]) == names
    assert await account.logged() == ["<x", "x>", "<y", "y>", "<z", "z>"]
    assert await account.nested() == ["outer inner"]


async def test_a_failing_critical_section_resets_the_object(account: Any) -> None:
    waiting = account.walk("a")
    with pytest.raises(ValueError, match="broken"):
        await account.block("x", "broken")
    await asyncio.gather(waiting, return_exceptions=True)
    assert await account.logged() == []


async def test_a_critical_section_may_take_30_seconds(
    account: Any, clock: bunflare.ManualClock
) -> None:
    await account.is_ready()
    blocked = account.block("x", hang=True)
    later = account.logged()
    await clock.advance(seconds=29)
    assert not blocked.done()
    await clock.advance(seconds=2)
    with pytest.raises(DurableObjectReset, match="waited for too long"):
        await blocked
    with pytest.raises(DurableObjectReset, match="waited for too long"):
        await later
    assert await account.logged() == []


class _Over:
    """What an object is given to hang on."""

    def __init__(self) -> None:
        self.over = asyncio.Event()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_transaction_may_take_30_seconds(
    state: bunflare.State, clock: bunflare.ManualClock, stubborn: bool
) -> None:
    env = _Over()
    account: Any = state.durable_objects(Account, env=env).get_by_name("a")
    assert await account.add(1) == 1
    with pytest.raises(ValueError, match="undone"):
        await account.fail_in_transaction()
    # A failure resets nothing.
    await account.walk("a")
    hanging = account.hang_in_transaction(stubborn=stubborn)
    later = account.logged()
    await clock.advance(seconds=29)
    assert not hanging.done()
    await clock.advance(seconds=2)
    for call in (hanging, later):
        with pytest.raises(DurableObjectReset, match="waited for too long"):
            await asyncio.wait_for(call, PATIENCE)
    assert await account.logged() == []
    env.over.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert await account.add(0) == 1


async def test_nothing_leaves_before_it_is_on_disk(
    account: Any, state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the object's write is held up, no reply comes and no other write is made."""
    await account.is_ready()
    held: list[Operation] = []
    monkeypatch.setattr(state.database, "write_now", lambda *_, **_more: LATER)
    monkeypatch.setattr(state.database, "enqueue", held.append)
    reply, told = account.add(1), account.tell("message")
    await eventually(lambda: bool(held))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not reply.done()
    assert not told.done()
    assert await state.kv("OUTSIDE").get("message") is None
    monkeypatch.undo()
    for operation in held:
        state.database.enqueue(operation)
    assert await reply == 1
    await told
    assert await state.kv("OUTSIDE").get("message") == "told"


async def test_a_failed_write_resets_the_object_and_fails_the_reply(
    account: Any, state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await account.add(1) == 1

    def full(operation: Operation) -> None:
        operation.error = bunflare.DatabaseFull("the disk is full")
        asyncio.get_running_loop().call_soon(deliver, operation)

    with monkeypatch.context() as patch:
        patch.setattr(state.database, "write_now", lambda *_, **_more: LATER)
        patch.setattr(state.database, "enqueue", full)
        with pytest.raises(bunflare.DatabaseFull):
            await account.add(1)
    assert await account.add(1) == 2


async def test_writes_of_one_event_are_one_commit(account: Any, state: bunflare.State) -> None:
    await account.is_ready()
    counter = state.database._start().checkpointer
    before = counter.commits
    await asyncio.gather(*[account.add(1) for _ in range(100)])
    assert counter.commits - before <= 2


async def test_wait_until_outlives_its_event_and_keeps_the_object(
    state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    done = asyncio.Event()

    class Late(DurableObject):
        async def start(self) -> str:
            async def later() -> None:
                await done.wait()
                await self.ctx.storage.put("late", True)

            self.ctx.wait_until(later())
            return "started"

        async def late(self) -> Any:
            return await self.ctx.storage.get("late")

    stub = state.durable_objects(Late).get_by_name("a")
    assert await stub.start() == "started"
    await clock.advance(seconds=60)
    [actor] = state._objects["Late"].actors.values()
    done.set()
    await eventually(lambda: not actor.background)
    assert await stub.late() is True


async def test_a_section_that_nobody_awaits_outlives_the_one_that_has_opened_it(
    state: bunflare.State,
) -> None:
    ending = asyncio.Event()

    class Nesting(DurableObject):
        async def start(self) -> None:
            async def inner() -> None:
                await ending.wait()

            async def outer() -> None:
                self.ctx.block_concurrency_while(inner)

            await self.ctx.block_concurrency_while(outer)

        async def answer(self) -> int:
            return 42

    stub = state.durable_objects(Nesting).get_by_name("a")
    started = stub.start()
    for _ in range(50):
        await asyncio.sleep(0)
    answer = stub.answer()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not answer.done()
    ending.set()
    assert await asyncio.wait_for(answer, PATIENCE) == 42
    await started
