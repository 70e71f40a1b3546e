"""What objects of key-value classes are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectError, DurableObjectValueError
from bunflare.bindings.object_limits import key_value_classes
from bunflare.config import MigrationConfig, RenamedClass
from bunflare.config_rules import ExportConfig

Do = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]


class Box(DurableObject):
    async def do(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(self.ctx.storage)


@pytest.fixture
def do(state: bunflare.State) -> Do:
    stub = state.durable_objects(Box, sqlite=False).get_by_name("box")

    async def do(work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await stub.do(work)

    return do


async def test_the_largest_key_value_and_batch_are_stored(do: Do) -> None:
    async def work(storage: Any) -> None:
        await storage.put("k" * 2048, "v" * 131072)
        await storage.put("raw", b"\xff" * 131072)
        await storage.put({str(number): number for number in range(128)})
        assert len(await storage.get([str(number) for number in range(128)])) == 128
        assert await storage.get("raw") == b"\xff" * 131072
        assert await storage.delete([str(number) for number in range(128)]) == 128

        async def closure(txn: Any) -> None:
            await txn.put("in", "txn")

        await storage.transaction(closure)
        assert await storage.get("in") == "txn"

    await do(work)


async def test_what_is_larger_is_refused_before_anything_is_written(do: Do) -> None:
    long = "é" * 1025
    key = r"Keys cannot be larger than 2048 bytes. A key of size 2050 was provided."
    value = r"Values cannot be larger than 131072 bytes. A value of size 131107 was provided."
    many = {str(number): number for number in range(129)}

    async def work(storage: Any) -> None:
        for call in (
            storage.put(long, 1),
            storage.put({"fine": 1, long: 1}),
            storage.get(long),
            storage.get([long]),
            storage.delete(long),
        ):
            with pytest.raises(DurableObjectValueError, match=key):
                await call
        with pytest.raises(DurableObjectValueError, match=value):
            await storage.put("key", "x" * 131107)
        with pytest.raises(DurableObjectValueError, match=value):
            await storage.put({"fine": 1, "key": b"x" * 131107})
        with pytest.raises(DurableObjectValueError, match=r"Values cannot be larger"):
            await storage.put("key", "\u0430" * 70_000)
        with pytest.raises(DurableObjectValueError, match=r"Maximum number of pairs is 128\."):
            await storage.put(many)
        for call in (storage.get(list(many)), storage.delete(list(many))):
            with pytest.raises(DurableObjectValueError, match=r"Maximum number of keys is 128\."):
                await call

        async def closure(txn: Any) -> None:
            await txn.put(many)

        with pytest.raises(DurableObjectValueError, match="Maximum number of pairs"):
            await storage.transaction(closure)
        assert await storage.list() == {}

    await do(work)


async def test_what_only_sqlite_classes_have_is_refused(do: Do) -> None:
    async def work(storage: Any) -> None:
        with pytest.raises(DurableObjectError, match=r"^SQL is not enabled for this Durable"):
            storage.sql.exec("SELECT 1")
        with pytest.raises(DurableObjectError, match="SQL is not enabled"):
            _ = storage.sql.database_size
        with pytest.raises(DurableObjectError, match="SQL is not enabled"):
            storage.transaction_sync(lambda: None)
        calls: list[Callable[[], Any]] = [
            lambda: storage.kv.get("a"),
            lambda: storage.kv.put("a", 1),
            lambda: storage.kv.delete("a"),
            lambda: storage.kv.list(prefix="a"),
        ]
        for kv in calls:
            with pytest.raises(DurableObjectError, match=r"^The storage\.kv \(synchronous KV\)"):
                kv()
        for late in (
            storage.get_current_bookmark(),
            storage.get_bookmark_for_time(1),
            storage.on_next_session_restore_bookmark("b"),
        ):
            with pytest.raises(DurableObjectError, match="point-in-time recovery"):
                await late

    await do(work)


async def test_a_transaction_of_the_state_has_the_limits_too(state: bunflare.State) -> None:
    box = state.durable_objects(Box, sqlite=False).get_by_name("box")
    async with state.transaction(objects=[box]) as tx:
        with pytest.raises(DurableObjectValueError, match="Values cannot be larger"):
            await tx.object_storage(box).put("key", "x" * 200_000)
        await tx.object_storage(box).put("key", "x")


def test_which_classes_are_key_value_classes() -> None:
    migrations = [
        MigrationConfig("v1", new_classes=("A", "B", "C"), new_sqlite_classes=("S",)),
        MigrationConfig("v2", renamed_classes=(RenamedClass("A", "A2"), RenamedClass("S", "S2"))),
        MigrationConfig("v3", deleted_classes=("B",)),
        MigrationConfig("v4", new_sqlite_classes=("A", "B")),
    ]
    assert key_value_classes(migrations, {}) == {"A2", "C"}
    exports = {
        "A": ExportConfig("durable-object", storage="legacy-kv"),
        "B": ExportConfig("durable-object", storage="sqlite"),
        "C": ExportConfig("durable-object", "legacy-kv", "expecting-transfer", transfer_from="w"),
        "D": ExportConfig("durable-object", state="deleted"),
    }
    assert key_value_classes((), exports) == {"A", "C"}
