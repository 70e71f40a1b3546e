"""Nobody ever reads what was true before a commit that they have heard of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import bunflare
from bunflare.store import reader
from bunflare.store.walindex import SUPPORTED
from tests.support import child, eventually

COMMITTER = """
import asyncio, sys, bunflare

async def main():
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        kv = state.kv("A")
        print("ready", flush=True)
        for number in range(int(sys.argv[2])):
            await kv.put("counter", str(number))
            await kv.put("other", str(number))
            print(number, flush=True)
            if number % 7 == 0:
                sys.stdin.readline()   # now and then, wait until it was read

asyncio.run(main())
"""


async def test_a_commit_of_another_process_is_seen_by_whoever_was_told_of_it(
    directory: Path,
) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        kv = state.kv("A")
        await kv.put("counter", "-1")
        with child(COMMITTER, directory, 3000) as other:
            assert other.line() == "ready"
            for number in range(3000):
                told = int(other.line())
                assert told == number
                # Twice: from SQLite, and from what was remembered of it.
                for _ in range(2):
                    assert int(await kv.get("counter")) >= number
                    assert int(await kv.get("other")) >= number
                if number % 5 == 0:
                    # Our own commits keep what is remembered; theirs in between must not.
                    await kv.put("mine", str(number))
                    assert await kv.get("mine") == str(number)
                    assert int(await kv.get("counter")) >= number
                if number % 3 == 0:
                    assert len((await kv.list()).keys) >= 2
                if number % 7 == 0:
                    other.tell("go on")


async def test_own_writes_are_read_at_once(state: bunflare.State) -> None:
    kv = state.kv("A")
    for number in range(300):
        await kv.put("key", str(number))
        assert await kv.get("key") == str(number)
        assert await kv.get("key") == str(number)
        if number % 3 == 0:
            await kv.delete("key")
            assert await kv.get("key") is None
        async with state.transaction() as tx:
            await tx.kv("A").put("key", "in a transaction")
        assert await kv.get("key") == "in a transaction"


async def test_what_is_absent_is_remembered_only_until_it_is_there(state: bunflare.State) -> None:
    kv = state.kv("A")
    assert await kv.get("key") is None
    assert await kv.get("key") is None
    await kv.put("key", "value")
    assert await kv.get("key") == "value"


async def test_two_event_loops_of_one_process_do_not_see_stale_values(directory: Path) -> None:
    state = bunflare.open(directory, durability="normal")
    kv = state.kv("A")
    told = 0
    ended = False

    async def write() -> None:
        nonlocal told
        for number in range(1, 1500):
            await kv.put("counter", str(number))
            told = number

    def write_in_thread() -> None:
        nonlocal ended
        try:
            asyncio.run(write())
        finally:
            ended = True

    await kv.put("counter", "0")
    writing = asyncio.ensure_future(asyncio.to_thread(write_in_thread))
    while not ended:
        for _ in range(20):
            least = told
            assert int(await kv.get("counter")) >= least
        await kv.put("mine", "value")
        await asyncio.sleep(0)
    await writing
    assert told == 1499
    await state.close()


async def test_without_the_shared_memory_every_read_asks_sqlite(
    directory: Path, monkeypatch: object
) -> None:
    import pytest

    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr("bunflare.store.running.SUPPORTED", False)
    async with bunflare.open(directory, durability="normal") as state:
        kv = state.kv("A")
        with child(COMMITTER, directory, 50) as other:
            assert other.line() == "ready"
            for number in range(50):
                assert int(other.line()) == number
                assert int(await kv.get("counter")) >= number
                await kv.put("mine", str(number))
                assert await kv.get("mine") == str(number)
                if number % 7 == 0:
                    other.tell("go on")


async def test_what_is_remembered_is_bounded(state: bunflare.State) -> None:
    kv = state.kv("A")
    await kv.put_many({"key": f"k{i:05}", "value": bytes(2000)} for i in range(15_000))
    for i in range(15_000):
        await kv.get(f"k{i:05}")
    view = state.database.view
    assert isinstance(view, reader.Reader)
    if SUPPORTED:
        remembered = [row for rows in (view._hot, view._warm) for row in rows.values()]
        size = sum(len(row[0]) for row in remembered if row is not None)
        assert 0 < size <= reader._HOT_BYTES
    await kv.put("large", bytes(10 * reader._HOT_LARGEST))
    await kv.get("large", "bytes")
    assert all(row is None or len(row[0]) <= reader._HOT_LARGEST for row in view._hot.values())


async def test_a_snapshot_is_not_held_for_long(state: bunflare.State) -> None:
    kv = state.kv("A")
    await kv.put("key", "value")
    await kv.list()
    view = state.database.view
    assert isinstance(view, reader.Reader)
    assert view._held is SUPPORTED
    await eventually(lambda: not view._held)
    await kv.list()
    assert await kv.get("key") == "value"
