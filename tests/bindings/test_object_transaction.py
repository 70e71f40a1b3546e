"""Durable Objects inside a transaction over several systems."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectError, StateError
from tests.support import PATIENCE, child


class Account(DurableObject):
    async def add(self, amount: int) -> int:
        balance = (await self.ctx.storage.get("balance") or 0) + amount
        await self.ctx.storage.put("balance", balance)
        return int(balance)

    async def look(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


async def test_keys_of_objects_and_other_systems_are_one_commit(state: bunflare.State) -> None:
    accounts = state.durable_objects(Account)
    a, b = accounts.get_by_name("a"), accounts.get_by_name("b")
    await a.add(10)
    async with state.transaction(objects=[a, b]) as tx:
        storage, other = tx.object_storage(a), tx.object_storage(b)
        await storage.put("balance", await storage.get("balance") - 4)
        await other.put({"balance": 4, "from": "a"})
        await tx.kv("audit").put("last", "a to b")
        assert await other.list(prefix="b") == {"balance": 4}
    assert await a.look() == {"balance": 6}
    assert await b.look() == {"balance": 4, "from": "a"}
    assert await state.kv("audit").get("last") == "a to b"
    with pytest.raises(ZeroDivisionError):
        async with state.transaction(objects=[a, b]) as tx:
            assert await tx.object_storage(b).delete("balance")
            assert not await tx.object_storage(b).delete("balance")
            await tx.kv("audit").put("last", "gone")
            raise ZeroDivisionError
    assert await b.add(0) == 4
    assert await state.kv("audit").get("last") == "a to b"


async def test_objects_stand_still_and_no_update_is_lost(state: bunflare.State) -> None:
    account = state.durable_objects(Account).get_by_name("a")

    async def by_calls() -> None:
        for _ in range(50):
            await account.add(1)

    async def by_transactions() -> None:
        for _ in range(20):
            async with state.transaction(objects=[account]) as tx:
                keys = tx.object_storage(account)
                balance = await keys.get("balance") or 0
                await asyncio.sleep(0)
                await keys.put("balance", balance + 1)

    working = asyncio.gather(by_calls(), by_calls(), by_transactions())
    await asyncio.wait_for(working, 2 * PATIENCE)
    assert await account.add(0) == 120


async def test_an_object_takes_part_only_if_it_was_named_before(state: bunflare.State) -> None:
    accounts = state.durable_objects(Account)
    a, b = accounts.get_by_name("a"), accounts.get_by_name("b")
    async with state.transaction() as tx:
        with pytest.raises(DurableObjectError, match="begun with it"):
            tx.object_storage(a)
    async with state.transaction(objects=[a]) as tx:
        with pytest.raises(DurableObjectError, match="begun with it"):
            tx.object_storage(b)
    with pytest.raises(TypeError, match="by their stubs"):
        async with state.transaction(objects=["a"]):  # type: ignore[list-item]
            pass
    assert await a.add(1) == 1


async def test_an_object_cannot_be_called_inside(state: bunflare.State) -> None:
    account = state.durable_objects(Account).get_by_name("a")
    async with state.transaction(objects=[account]) as tx:
        with pytest.raises(StateError, match="would wait for the transaction's end"):
            await account.add(1)
        with pytest.raises(StateError, match="would wait for the transaction's end"):
            await account.fetch("https://object/")
        await tx.object_storage(account).put("balance", 1)
    assert await account.add(1) == 2


async def test_an_object_cannot_wait_for_itself(state: bunflare.State) -> None:
    class Selfish(DurableObject):
        async def begin(self) -> None:
            async with state.transaction(objects=[stub]):
                pass

    stub = state.durable_objects(Selfish).get_by_name("a")
    with pytest.raises(DurableObjectError, match="stands still itself"):
        await stub.begin()


async def test_objects_of_another_process_are_refused(tmp_path: Path) -> None:
    source = """
    import asyncio, sys
    import bunflare
    class Account(bunflare.DurableObject):
        async def add(self, amount): return amount
    async def main():
        async with bunflare.open(sys.argv[1]) as state:
            print(await state.durable_objects(Account).get_by_name("a").add(1), flush=True)
            await asyncio.Event().wait()
    asyncio.run(main())
    """
    with child(source, tmp_path) as owner:
        assert owner.line() == "1"
        async with bunflare.open(tmp_path) as state:
            account = state.durable_objects(Account).get_by_name("a")
            with pytest.raises(DurableObjectError, match="run in another process"):
                async with state.transaction(objects=[account]):
                    pass
