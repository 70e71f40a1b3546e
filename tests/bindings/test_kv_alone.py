"""Values of one who writes alone: each is on disk at once, and what is read is what lies there."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare import KVNamespace, State
from bunflare.store import alone
from tests.bindings.test_queue_alone import before_the_next
from tests.store.test_writer import commits
from tests.store.test_writer_alone import turns
from tests.support import PATIENCE, other_program


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is never slow, and who writes alone may keep the event loop for long."""
    monkeypatch.setattr(alone, "_SLOW_COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(alone, "_TURN_SECONDS", 1e9)


async def test_the_event_loop_does_not_turn(state: State, kv: KVNamespace) -> None:
    await kv.put("first", "1")
    before = commits(state.database)
    with turns() as counted:
        for number in range(20):
            await kv.put("key", str(number), expiration_ttl=100, metadata=number)
            assert await kv.get_with_metadata("key") == bunflare.KVValue(str(number), number)
            assert commits(state.database) == before + 2 * number + 1
            await kv.delete("key")
            assert await kv.get("key") is None
            assert commits(state.database) == before + 2 * number + 2
        # There is nothing to be written.
        await kv.delete("key")
        assert commits(state.database) == before + 40
        assert counted.count == 1
    assert await kv.get("first") == "1"


async def test_what_others_write_in_between_is_read(
    state: State, kv: KVNamespace, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kv.put("first", "1")
    with other_program(directory) as run:
        for number in range(5):
            await kv.put("ours", "0")
            await kv.put("theirs", "0")
            assert [await kv.get("ours"), await kv.get("theirs")] == ["0", "0"]
            theirs = f"UPDATE kv SET value = CAST('{number} theirs' AS BLOB) WHERE key = 'theirs'"
            with monkeypatch.context() as patch:
                before_the_next(state, patch, partial(run, theirs))
                if number % 2:
                    await kv.put("ours", "1")
                else:
                    # One commit there is all the same: not ours.
                    await kv.delete("missing")
            assert await kv.get("ours") == str(number % 2)
            assert await kv.get("theirs") == f"{number} theirs"


async def test_one_that_fails_is_not_written_and_one_that_has_to_wait_is(
    state: State, kv: KVNamespace, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise apsw.IOError("broken")

    await kv.put("first", "1")
    assert await kv.get("key") is None
    with monkeypatch.context() as patch:
        before_the_next(state, patch, broken)
        with pytest.raises(bunflare.DatabaseError):
            await kv.put("key", "lost")
    assert await kv.get("key") is None
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(run, "COMMIT"))
        await asyncio.wait_for(kv.put("key", "2"), PATIENCE)
    assert await kv.get("key") == "2"
    await kv.delete("key")
    assert await kv.get("key") is None


async def test_beside_a_transaction(state: State, kv: KVNamespace) -> None:
    await kv.put("first", "1")
    await kv.put("key", "1")
    async with state.transaction() as tx:
        await tx.kv("test").put("key", "2")
        with pytest.raises(bunflare.StateError, match="would wait for itself"):
            await kv.put("key", "3")
        with pytest.raises(bunflare.StateError, match="would wait for itself"):
            await kv.delete("key")
    await kv.put("other", "4")
    assert await kv.get("key") == "1"
