"""`bunflare.open` and the state that it gives."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import Response
from bunflare.state import default_directory
from bunflare.store.database import _registry
from tests.support import PATIENCE, child, chores_done

# -- opening -----------------------------------------------------------------------------------


async def test_a_state_knows_where_it_lives_and_what_time_it_is(
    directory: Path, clock: bunflare.ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        assert state.directory == directory
        assert state.clock is clock
        assert state.database.directory.path == directory
    async with bunflare.open(directory) as state:
        assert isinstance(state.clock, bunflare.SystemClock)


async def test_without_an_argument_the_project_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrangler.toml").touch()
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    async with bunflare.open() as state:
        assert state.directory == tmp_path / ".bunflare"
    monkeypatch.setenv("BUNFLARE_DIR", str(tmp_path / "elsewhere"))
    async with bunflare.open() as state:
        assert state.directory == tmp_path / "elsewhere"


async def test_a_program_whose_threads_are_stuck_holds_up_itself_alone(directory: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on = threading.Event()
    stuck = asyncio.ensure_future(asyncio.to_thread(go_on.wait))
    try:
        async with asyncio.timeout(PATIENCE), bunflare.open(directory) as state:
            bucket, db, cache = state.r2("files"), state.d1("db"), state.caches.default
            await asyncio.gather(*(bucket.put(f"key{i}", bytes(2**20)) for i in range(3)))
            found = await bucket.get("key1")
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.bytes() == bytes(2**20)
            await bucket.delete("key2")
            await db.exec("CREATE TABLE t (a)")
            assert "CREATE TABLE t" in str(await db.export_sql())
            kept = Response(bytes(2**21), headers={"cache-control": "max-age=60"})
            await cache.put("https://example.com/", kept)
            assert (await state.check()).problems == ()
        assert not stuck.done()
    finally:
        go_on.set()
    await stuck


def test_the_directory_of_a_project_is_in_it_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_directory(tmp_path) == tmp_path / ".bunflare"
    monkeypatch.setenv("BUNFLARE_DIR", "/elsewhere")
    assert default_directory(tmp_path) == Path("/elsewhere")


def test_a_state_may_be_opened_before_there_is_an_event_loop(
    directory: Path, clock: bunflare.ManualClock
) -> None:
    state = bunflare.open(directory, clock=clock)

    async def use() -> None:
        async with state:
            await state.kv("A").put("key", "value", expiration_ttl=60)
            await clock.advance(seconds=61)
            await chores_done(state)
            assert state.database.view.all("SELECT key FROM kv") == []

    asyncio.run(use())
    with pytest.raises(bunflare.StateError, match="closed"):
        asyncio.run(state.kv("A").get("key"))


async def test_what_was_written_is_there_after_opening_again(directory: Path) -> None:
    for number in range(5):
        async with bunflare.open(directory) as state:
            kv = state.kv("A")
            assert await kv.get("key") == (str(number - 1) if number else None)
            await kv.put("key", str(number), metadata={"number": number})
            assert (await kv.get_with_metadata("key")).metadata == {"number": number}


async def test_what_was_acknowledged_survives_the_end_of_the_process(directory: Path) -> None:
    source = """
    import asyncio, sys, bunflare

    async def main():
        state = bunflare.open(sys.argv[1])
        number = 0
        while True:
            await state.kv("A").put(f"k{number}", "value")
            print(number, flush=True)
            number += 1

    asyncio.run(main())
    """
    with child(source, directory) as process:
        for _ in range(50):
            process.line()
        process.kill()
        told = [int(line) for line in process.rest()]
    async with bunflare.open(directory) as state:
        found = {key.name async for key in state.kv("A").scan()}
        assert {f"k{number}" for number in range(max(told, default=49) + 1)} <= found


async def test_a_state_that_cannot_begin_leaves_nothing_open(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(bunflare.ManualClock):
        def call_at(self, when: int, callback: Any) -> Any:
            raise RuntimeError("no time")

    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
    with pytest.raises(RuntimeError, match="no time"):
        bunflare.open(directory, clock=Broken())
    assert directory not in _registry
    assert not (directory / "data.sqlite-wal").exists()
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("key") == "value"


# -- closing -----------------------------------------------------------------------------------


async def test_closing_twice_is_closing_once(directory: Path) -> None:
    one, two = bunflare.open(directory), bunflare.open(directory)
    await one.close()
    await one.close()
    async with one:
        pass
    await two.kv("A").put("key", "value")
    await two.close()
    with pytest.raises(bunflare.StateError, match="closed"):
        await one.kv("A").get("key")


async def test_an_exception_that_leaves_the_block_closes_too(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with bunflare.open(directory) as state:
            await state.kv("A").put("key", "value")
            raise ZeroDivisionError
    assert directory not in _registry
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("key") == "value"


async def test_a_state_is_not_closed_inside_a_transaction_of_its_own(
    state: bunflare.State,
) -> None:
    async with state.transaction() as tx:
        await tx.kv("A").put("key", "value")
        with pytest.raises(bunflare.StateError, match="inside a transaction"):
            await asyncio.wait_for(state.close(), 30)
        with pytest.raises(bunflare.StateError, match="inside a transaction"):
            await state.close()
    assert await state.kv("A").get("key") == "value"


async def test_closing_waits_for_the_transaction_of_another_task(directory: Path) -> None:
    state = bunflare.open(directory)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with state.transaction() as tx:
            await tx.kv("A").put("key", "value")
            entered.set()
            await leave.wait()

    working = asyncio.ensure_future(work())
    await entered.wait()
    closing = asyncio.ensure_future(state.close())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    leave.set()
    await working
    await closing
    async with bunflare.open(directory) as again:
        assert await again.kv("A").get("key") == "value"


async def test_nothing_timed_happens_after_closing(
    directory: Path, clock: bunflare.ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
    await clock.advance(hours=1)
    async with bunflare.open(directory, clock=bunflare.ManualClock()) as state:
        assert state.database.view.all("SELECT key FROM kv") == [("key",)]


# -- transactions ------------------------------------------------------------------------------


async def test_a_transaction_covers_namespaces_and_reads_its_own_writes(
    state: bunflare.State,
) -> None:
    async with state.transaction() as tx:
        await tx.kv("A").put("key", "new", metadata=1, expiration_ttl=60)
        await tx.kv("B").put_many([{"key": f"k{i}", "value": "v"} for i in range(3)])
        await tx.kv("B").delete("k1")
        assert await tx.kv("A").get("key") == "new"
        assert [key.name for key in (await tx.kv("B").list()).keys] == ["k0", "k2"]
        assert await state.kv("A").get("key") is None
    assert await state.kv("A").get("key") == "new"
    assert await state.kv("B").get(["k0", "k1", "k2"]) == {"k0": "v", "k1": None, "k2": "v"}


async def test_a_failed_write_inside_is_undone_alone(state: bunflare.State) -> None:
    async with state.transaction() as tx:
        kv = tx.kv("A")
        await kv.put("before", "value")
        with pytest.raises(bunflare.KVError):
            await kv.put_many([{"key": "x", "value": "v"}, {"key": "", "value": "v"}])
        await kv.put("after", "value")
    assert [key.name for key in (await state.kv("A").list()).keys] == ["after", "before"]


async def test_what_a_transaction_had_changed_is_forgotten_when_it_is_undone(
    state: bunflare.State,
) -> None:
    kv = state.kv("A")
    await kv.put("key", "old")
    for _ in range(3):
        assert await kv.get("key") == "old"
        with pytest.raises(ZeroDivisionError):
            async with state.transaction() as tx:
                await tx.kv("A").put("key", "new")
                assert await tx.kv("A").get("key") == "new"
                assert await kv.get("key") == "old"
                raise ZeroDivisionError
    assert await kv.get("key") == "old"


async def test_nothing_works_in_a_transaction_that_has_ended(state: bunflare.State) -> None:
    async with state.transaction() as tx:
        pass
    with pytest.raises(bunflare.StateError, match="ended"):
        await tx.kv("A").put("key", "value")
    with pytest.raises(bunflare.StateError, match="ended"):
        await tx.kv("A").get("key")
