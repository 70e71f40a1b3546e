"""The times of states are known, however fast these follow each other and however that ends."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import bunflare
from bunflare.bindings.d1 import D1Database
from bunflare.store.history_files import NOTE
from bunflare.store.history_times import Times
from tests.support import PATIENCE, child

FAST = """
import asyncio, sys
import bunflare

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("shop")
        await db.exec("CREATE TABLE t (a)")
        add = db.prepare("INSERT INTO t VALUES (?)")
        for number in range(30):
            await add.bind(number).run()
        # The event loop does not turn any more, so nothing is written a moment later.
        print("done", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


def read(path: Path) -> list[tuple[int, int]]:
    return list(NOTE.iter_unpack(path.read_bytes()))


async def count(db: D1Database) -> int:
    return int(await db.prepare("SELECT count(*) AS n FROM t").first("n"))


async def test_each_of_many_states_has_its_time(
    state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a)")
    add = db.prepare("INSERT INTO t VALUES (1)")
    moments = []
    for _ in range(20):
        await add.run()
        moments.append((clock.now(), await db.bookmark()))
        await clock.advance(0.001)
    for moment, bookmark in moments:
        at = datetime.fromtimestamp(moment / 1000, UTC)
        assert await db.bookmark(at) == bookmark


async def test_the_newest_state_of_a_killed_process_has_its_time(tmp_path: Path) -> None:
    with child(FAST, tmp_path / "state") as process:
        assert process.line() == "done"
        process.kill()
    async with bunflare.open(tmp_path / "state") as state:
        db = state.d1("shop")
        killed = await db.bookmark(datetime.now(UTC))
        await db.prepare("DELETE FROM t").run()
        await db.restore(killed)
        assert await count(db) == 30


def test_notes_that_follow_each_other_are_written_together_soon(tmp_path: Path) -> None:
    path = tmp_path / "1.times"

    async def main() -> None:
        times = Times()
        times.open(path)
        for number in range(1, 5):
            times.note(number, 1_000_000)
        assert read(path) == [(1, 1_000_000)]
        deadline = time.monotonic() + PATIENCE
        while len(read(path)) < 4:
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        times.note(5, 1_000_004)
        times.flush()
        assert read(path)[4:] == [(5, 1_000_004)]
        times.note(6, 1_000_005)
        assert read(path)[5:] == [(6, 1_000_005)]
        times.note(7, 1_000_006)
        times.close()

    asyncio.run(main())
    assert read(path)[6:] == [(7, 1_000_006)]


def test_what_waits_in_an_event_loop_that_ends_is_written(tmp_path: Path) -> None:
    path = tmp_path / "1.times"
    times = Times()
    times.open(path)

    async def main() -> None:
        times.note(1, 1000)
        times.note(2, 1001)

    asyncio.run(main())
    assert read(path) == [(1, 1000), (2, 1001)]


def test_where_no_event_loop_runs_each_is_written_at_once(tmp_path: Path) -> None:
    times = Times()
    times.open(tmp_path / "1.times")
    for number in range(3):
        times.note(number, 1000)
    assert len(read(tmp_path / "1.times")) == 3
    thread = threading.Thread(target=times.note, args=(3, 1000))
    thread.start()
    thread.join()
    assert len(read(tmp_path / "1.times")) == 4


def test_another_file_gets_none_of_the_last_ones_notes(tmp_path: Path) -> None:
    async def main() -> None:
        times = Times()
        times.open(tmp_path / "1.times")
        times.note(1, 1000)
        times.note(2, 1000)
        times.open(tmp_path / "2.times")
        times.note(1, 1000)
        times.close()

    asyncio.run(main())
    assert [read(tmp_path / name) for name in ("1.times", "2.times")] == [
        [(1, 1000), (2, 1000)],
        [(1, 1000)],
    ]


async def test_those_of_one_that_is_prompt_are_written_at_once(tmp_path: Path) -> None:
    times = Times(prompt=True)
    times.open(tmp_path / "1.times")
    times.note(1, 1000)
    times.note(2, 1000)
    assert read(tmp_path / "1.times") == [(1, 1000), (2, 1000)]
    times.close()
