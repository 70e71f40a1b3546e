"""What an object knows to be on disk is on disk, whoever has written it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bunflare
from bunflare import DurableObject
from bunflare.bindings.object_care import ObjectCare
from bunflare.store import reader
from tests.support import other_program

READ = "UPDATE do_storage SET value = '\"other\"' WHERE namespace = 'Box' AND key = 'key'"


class Box(DurableObject):
    async def get(self, key: str) -> Any:
        return await self.ctx.storage.get(key)

    async def put(self, key: str, value: Any) -> None:
        await self.ctx.storage.put(key, value)

    async def put_many(self, values: dict[str, Any]) -> None:
        await self.ctx.storage.put(values)

    async def delete(self, key: str) -> bool:
        return bool(await self.ctx.storage.delete(key))

    async def delete_all(self) -> None:
        await self.ctx.storage.delete_all()

    async def undo(self, key: str, value: Any) -> Any:
        async def work(_: Any) -> None:
            await self.ctx.storage.put(key, value)
            raise ValueError

        with pytest.raises(ValueError):
            await self.ctx.storage.transaction(work)
        return await self.ctx.storage.get(key)


@pytest.fixture
def box(state: bunflare.State) -> Any:
    return state.durable_objects(Box).get_by_name("box")


async def test_what_another_program_writes_is_seen_at_once(box: Any, directory: Path) -> None:
    await box.put("key", "own")
    assert await box.get("key") == "own"
    assert await box.get("missing") is None
    with other_program(directory) as run:
        run(READ)
        assert await box.get("key") == "other"
        await box.put("key", "own again")
        assert await box.get("key") == "own again"
        run("DELETE FROM do_storage")
        assert await box.get("key") is None
        run(
            "INSERT INTO do_storage (namespace, id, key, value)"
            " SELECT 'Box', id, 'missing', '5' FROM bunflare_objects"
        )
        assert await box.get("missing") == 5


async def test_what_other_writes_of_the_process_change_is_seen(
    state: bunflare.State, box: Any
) -> None:
    """A commit of the process' own says nothing to the object that it did not make."""
    await box.put("key", 1)
    assert await box.get("key") == 1
    async with state.transaction(objects=[box]) as tx:
        await tx.object_storage(box).put("key", 2)
    assert await box.get("key") == 2
    care = ObjectCare(state.database, state.clock)
    digits = care.find("Box", "box")
    await care.put("Box", digits, "key", 3)
    assert await box.get("key") == 3
    await care.delete("Box", digits, "key")
    assert await box.get("key") is None
    await state.kv("A").put("else", "x")
    assert await box.get("key") is None


async def test_what_was_written_while_the_reader_was_renewed_is_seen(
    state: bunflare.State, box: Any, directory: Path
) -> None:
    for value in range(5):
        await box.put("key", "own")
        assert await box.get("key") == "own"
        for _ in range(value):
            # Each reader begins to count anew.
            state.database.renew_readers()
            await box.get("missing")
        state.database.renew_readers()
        with other_program(directory) as run:
            run(READ)
        assert await box.get("key") == "other"


async def test_deleted_and_undone_is_as_it_was(box: Any) -> None:
    await box.put("a", 1)
    await box.put("b", 2)
    assert await box.undo("a", 9) == 1
    assert await box.delete("a")
    assert not await box.delete("a")
    assert await box.get("a") is None
    await box.put("a", 3)
    await box.delete_all()
    assert [await box.get(key) for key in "ab"] == [None, None]
    assert not await box.delete("b")


async def test_only_so_much_is_known(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_HOT_BYTES", 50 * reader.LENT_BYTES)
    values = {f"key{number}": number for number in range(120)}
    await box.put_many(values)
    for _ in range(2):
        for key, value in values.items():
            assert await box.get(key) == value


async def test_large_values_are_read_anew(box: Any) -> None:
    large = "x" * (reader.LENT_LARGEST + 1)
    await box.put("key", large)
    assert await box.get("key") == large
    await box.put("key", "small")
    assert await box.get("key") == "small"
    await box.put("key", large)
    assert await box.get("key") == large


KEYS = st.sampled_from(["a", "b"])
STEP = st.one_of(
    st.tuples(st.sampled_from(["get", "put", "delete"]), KEYS),
    st.tuples(st.sampled_from(["other puts", "other deletes"]), KEYS),
    st.tuples(st.sampled_from(["kv", "transaction", "evict"]), KEYS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=25))
def test_it_is_what_is_on_disk_whoever_writes_in_whatever_order(
    steps: list[tuple[str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_follow(Path(folder), steps))


async def _follow(directory: Path, steps: list[tuple[str, str]]) -> None:
    clock = bunflare.ManualClock()
    async with bunflare.open(directory, durability="off", clock=clock) as state:
        box = state.durable_objects(Box).get_by_name("box")
        await box.put("a", 0)
        other = apsw.Connection(str(directory / "data.sqlite"))
        where = other.execute("SELECT namespace, id FROM do_storage").fetchall()[0]
        expected: dict[str, int] = {"a": 0}
        for number, (what, key) in enumerate(steps, 1):
            match what:
                case "get":
                    assert await box.get(key) == expected.get(key)
                case "put":
                    await box.put(key, number)
                    expected[key] = number
                case "delete":
                    assert await box.delete(key) == (expected.pop(key, None) is not None)
                case "other puts":
                    other.execute(
                        "INSERT INTO do_storage (namespace, id, key, value) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET value = excluded.value",
                        (*where, key, str(number)),
                    )
                    expected[key] = number
                case "other deletes":
                    other.execute(
                        "DELETE FROM do_storage WHERE namespace = ? AND id = ? AND key = ?",
                        (*where, key),
                    )
                    expected.pop(key, None)
                case "kv":
                    await state.kv("A").put(key, "value")
                case "transaction":
                    async with state.transaction(objects=[box]) as tx:
                        await tx.object_storage(box).put(key, number)
                    expected[key] = number
                case "evict":
                    await clock.advance(seconds=20)
        for key in ("a", "b"):
            assert await box.get(key) == expected.get(key)
        other.close()
