"""One commit over several systems, and who is woken by it."""

from __future__ import annotations

import asyncio

import pytest

import bunflare
from bunflare import ManualClock, MessageBatch, Response, State
from tests.bindings.test_queue_consumer import Seen, settled
from tests.support import files

KEEP = {"cache-control": "max-age=1000"}


class GivenUp(Exception):
    pass


async def test_writes_of_all_systems_are_there_together_and_wake_who_waits(state: State) -> None:
    found: list[object] = []

    async def handler(batch: MessageBatch) -> None:
        found.append(await state.kv("orders").get("1"))
        cached = await state.caches.default.match("http://host/1")
        found.append(cached and await cached.text())

    async with state.consume("mail", handler, max_batch_timeout=0):
        async with state.transaction() as tx:
            await tx.queue("mail").send({"order": 1})
            await asyncio.sleep(0.02)
            assert found == []
            assert (await tx.queue("mail").metrics()).backlog_count == 1
            assert (await state.queue("mail").metrics()).backlog_count == 0
            await tx.kv("orders").put("1", "paid")
            await tx.caches.default.put("http://host/1", Response("page", headers=KEEP))
            assert await state.caches.default.match("http://host/1") is None
        await settled(state, "mail", 0)
    assert found == ["paid", "page"]


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_an_exception_leaves_nothing_of_any_of_them(state: State, size: int) -> None:
    seen = Seen()
    url = "http://host/1"
    await state.caches.default.put(url, Response("old", headers=KEEP))
    async with state.consume("mail", seen, max_batch_timeout=0):
        with pytest.raises(GivenUp):
            async with state.transaction() as tx:
                await tx.kv("orders").put("1", "paid")
                await tx.queue("mail").send_batch([1, 2, 3])
                await tx.caches.default.put(url, Response("x" * size, headers=KEEP))
                cached = await tx.caches.default.match(url)
                assert cached is not None
                assert len(await cached.text()) == size
                raise GivenUp
        await asyncio.sleep(0.02)
    assert seen.batches == []
    assert await state.kv("orders").get("1") is None
    assert (await state.queue("mail").metrics()).backlog_count == 0
    cached = await state.caches.default.match(url)
    assert cached is not None
    assert await cached.text() == "old"
    assert not files(state.database.directory.cache_bodies)


async def test_a_large_response_is_kept_by_the_commit(state: State) -> None:
    async with state.transaction() as tx:
        cache = await tx.caches.open("pages")
        await cache.put("http://host/", Response("x" * 2_000_000, headers=KEEP))
        await cache.put("http://host/", Response("y" * 2_000_000, headers=KEEP))
    found = await (await state.caches.open("pages")).match("http://host/")
    assert found is not None
    assert await found.text() == "y" * 2_000_000
    assert len(files(state.database.directory.cache_bodies)) == 1
    async with state.transaction() as tx:
        assert await (await tx.caches.open("pages")).delete("http://host/")
    assert not files(state.database.directory.cache_bodies)


async def test_pulling_and_acknowledging_join_in(state: State, clock: ManualClock) -> None:
    queue = state.queue("jobs")
    await queue.send(1)
    with pytest.raises(GivenUp):
        async with state.transaction() as tx:
            [message] = await tx.queue("jobs").pull()
            await tx.kv("done").put(message.id, "x")
            await tx.queue("jobs").ack([message.lease_id])
            raise GivenUp
    [message] = await queue.pull()
    assert message.attempts == 1
    async with state.transaction() as tx:
        await tx.kv("done").put(message.id, "x")
        await tx.queue("jobs").ack([message.lease_id])
    assert await queue.peek() == []
    assert await state.kv("done").get(message.id) == "x"


async def test_a_send_beside_an_open_transaction_is_told_apart(state: State) -> None:
    async with state.transaction():
        with pytest.raises(bunflare.StateError, match="tx"):
            await state.queue("jobs").send(1)
