"""How files follow their rows: on the spot, on a thread, after a crash, and in no other order."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

import bunflare
from bunflare import ManualClock, R2Bucket, State
from bunflare.store import r2, r2_settle
from bunflare.store.r2_settle import Settler
from tests.bindings.r2_tools import beside, objects_on_disk, read
from tests.support import PATIENCE, child, eventually

LARGE = b"large" * 100_000


def settler_of(state: State) -> Settler:
    return state._services.settler()


def unsettled(state: State) -> dict[str, bytes | None]:
    return {one.key: one.data for one in r2.unsettled(state.database.view, 1000)}


async def test_bytes_are_in_their_row_until_their_file_is_flushed(
    state: State, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by itself meanwhile, however long this takes.
    monkeypatch.setattr(r2_settle, "_FLUSH_SECONDS", 10 * PATIENCE)
    bucket = state.r2("bucket")
    await bucket.put("small", "value")
    await bucket.put("large", LARGE)
    await bucket.put("gone", "value")
    await bucket.delete("gone")
    assert unsettled(state) == {"small": b"value", "large": None, "gone": None}
    # The file is there all the same, for whoever looks.
    assert objects_on_disk(directory) == {"small": b"value", "large": LARGE}
    await settler_of(state).flush()
    assert unsettled(state) == {}
    assert (await read(bucket, "small"), await read(bucket, "large")) == (b"value", LARGE)


async def test_many_files_are_flushed_without_waiting(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r2_settle, "_FLUSH_OBJECTS", 100)
    bucket = state.r2("bucket")
    await asyncio.gather(*(bucket.put(f"key{number}", "value") for number in range(150)))
    await eventually(lambda: not unsettled(state))


async def test_a_few_files_are_flushed_when_it_is_quiet(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r2_settle, "_FLUSH_SECONDS", 0)
    await state.r2("bucket").put("key", "value")
    await eventually(lambda: not unsettled(state))


async def test_closing_flushes(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.r2("bucket").put("key", "value")
    async with bunflare.open(directory) as state:
        assert unsettled(state) == {}


async def test_a_slow_disk_does_not_hold_up_the_event_loop(
    state: State, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settler = settler_of(state)
    settler._cost = 1.0
    threads = set()
    place = settler.files.place

    def watched(*args: object) -> None:
        threads.add(threading.current_thread())
        place(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(settler.files, "place", watched)
    await asyncio.gather(*(state.r2("bucket").put(f"key{n}", "value") for n in range(10)))
    assert threading.main_thread() not in threads
    assert len(objects_on_disk(directory)) == 10
    for number in range(100):  # it is given another chance
        await state.r2("bucket").put(f"again{number}", "value")
    assert threading.main_thread() in threads


HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1] + "/r2", os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


async def test_whoever_settles_waits_for_other_processes_and_others_go_on(
    state: State, directory: Path
) -> None:
    bucket = state.r2("bucket")
    await bucket.put("key", "old")
    with child(HOLDER, directory) as holder:
        assert holder.line() == "held"
        waiting = asyncio.create_task(bucket.put("key", "new"))
        given_up = asyncio.create_task(bucket.put("other", "value"))
        await eventually(lambda: unsettled(state) == {"key": b"new", "other": b"value"})
        await asyncio.sleep(0.05)  # real time, in which it would end if it did not wait
        assert not waiting.done()
        # It is committed, and seen, though its file has yet to follow.
        assert await read(bucket, "key") == b"new"
        given_up.cancel()
        holder.tell("go")
        await waiting
    assert (directory / "r2" / "bucket" / "key").read_bytes() == b"new"
    await settler_of(state).drain()
    assert (directory / "r2" / "bucket" / "other").read_bytes() == b"value"


async def test_waiting_for_a_process_that_stands_still_has_an_end(
    state: State,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(r2_settle, "_PATIENCE", 0.05)
    bucket = state.r2("bucket")
    await bucket.put("key", "old")
    with child(HOLDER, directory) as holder, caplog.at_level(logging.ERROR):
        assert holder.line() == "held"
        await bucket.put("key", "new")
        assert await read(bucket, "key") == b"new"
        assert objects_on_disk(directory) == {"key": b"old"}
        with pytest.raises(bunflare.DatabaseBusy):
            await bucket.check()
        holder.tell("go")
        holder.process.wait(PATIENCE)
    assert "has held the lock" in caplog.text
    await settler_of(state).flush()
    assert objects_on_disk(directory) == {"key": b"new"}


async def test_a_version_that_was_overtaken_leaves_the_newer_file(
    state: State, directory: Path
) -> None:
    bucket = state.r2("bucket")
    await asyncio.gather(
        bucket.put("key", LARGE), bucket.put("key", LARGE + b"2"), bucket.put("key", "three")
    )
    found = await bucket.head("key")
    assert found is not None
    assert (directory / "r2" / "bucket" / "key").stat().st_size == found.size
    assert beside(directory) == {}


async def test_in_a_transaction_files_follow_its_end(state: State, directory: Path) -> None:
    await state.r2("bucket").put("old", "value")
    async with state.transaction() as tx:
        bucket = tx.r2("bucket")
        await bucket.put("small", "value")
        await bucket.put("large", LARGE)
        await bucket.delete("old")
        await tx.kv("NAMESPACE").put("key", "value")
        assert await read(bucket, "small") == b"value"
        assert await read(bucket, "large") == LARGE
        assert await bucket.get("old") is None
        assert set(objects_on_disk(directory)) == {"old"}
    assert objects_on_disk(directory) == {"small": b"value", "large": LARGE}
    with pytest.raises(ZeroDivisionError):
        async with state.transaction() as tx:
            await tx.r2("bucket").put("small", "other")
            await tx.r2("bucket").put("large", LARGE * 2)
            raise ZeroDivisionError
    assert objects_on_disk(directory) == {"small": b"value", "large": LARGE}
    assert beside(directory) == {}


async def test_a_file_that_cannot_be_placed_is_no_lost_object(
    state: State,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket = state.r2("bucket")
    settler = settler_of(state)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(settler.files, "place", full)
        await bucket.put("small", "value")
        await bucket.put("large", LARGE)
    assert "could not be put in their places yet" in caplog.text
    assert (await read(bucket, "small"), await read(bucket, "large")) == (b"value", LARGE)
    await settler.flush()
    assert objects_on_disk(directory) == {"small": b"value", "large": LARGE}


CRASHED = """
import asyncio, os, signal, sys, bunflare
from bunflare.store import r2_settle

more = asyncio.Event()

async def main():
    state = bunflare.open(sys.argv[1])
    bucket = state.r2("bucket")
    await bucket.put("gone", "value")
    await bucket.put("replaced", "value")
    r2_settle._carry_out = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    await bucket.create_multipart_upload("parts")
    upload = await bucket.create_multipart_upload("parts")
    await upload.upload_part(1, "part")
    print(upload.upload_id, flush=True)
    staged = asyncio.ensure_future(bucket.put("never", endless()))
    await more.wait()
    await asyncio.gather(
        bucket.put("small", "value"), bucket.put("large", b"large" * 100_000),
        bucket.put("replaced", "new"), bucket.delete("gone"),
    )

async def endless():
    yield bytes(3_000_000)
    more.set()
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_opening_after_a_crash_finishes_what_was_begun(
    directory: Path, clock: ManualClock
) -> None:
    with child(CRASHED, directory) as crashed:
        upload_id = crashed.line()
        crashed.process.wait(PATIENCE)
    async with bunflare.open(directory, clock=clock) as state:
        bucket = state.r2("bucket")
        # Nothing has been put right yet, and nobody sees it.
        before = {key: await read(bucket, key) for key in ("replaced", "gone", "never")}
        assert before["replaced"] in (b"value", b"new")
        assert before["never"] is None
        await settler_of(state).recover()
        names = {"small", "large", "replaced", "gone"}
        found = {key: await read(bucket, key) for key in names}
        assert objects_on_disk(directory) == {
            key: value for key, value in found.items() if value is not None
        }
        assert unsettled(state) == {}
        # What is left are the parts of an upload that may still be completed.
        assert list(beside(directory).values()) == [b"part"]
        upload = bucket.resume_multipart_upload("parts", upload_id)
        part = bunflare.R2UploadedPart(1, "1c0a86da0bcbbac2c1b1bb7b4c1a1e05")
        with pytest.raises(bunflare.R2Error):
            await upload.complete([part])
        await clock.advance(days=5000)
        assert beside(directory) == {}
        with pytest.raises(bunflare.R2Error, match="does not exist"):
            await upload.abort()


async def test_two_event_loops_settle_one_bucket(directory: Path) -> None:
    async with bunflare.open(directory) as state:

        async def put(name: str, bucket: R2Bucket) -> None:
            for number in range(50):
                await bucket.put(f"{name}{number}", "value")
                await bucket.put("shared", name * 1000)
            await settler_of(state).drain()

        other = asyncio.to_thread(asyncio.run, put("a", state.r2("bucket")))
        await asyncio.gather(other, put("b", state.r2("bucket")))
        found = await state.r2("bucket").check(digests=True)
        assert (found.objects, found.problems, found.strangers) == (101, [], [])
