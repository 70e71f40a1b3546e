"""The write-ahead log stays bounded, whoever writes and reads, and nobody pays for it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare.store import checkpoint
from tests.support import child, eventually, other_program

PAGE = 4096


def pages(directory: Path) -> int:
    """How many pages of the log have been in use at once."""
    return (directory / "data.sqlite-wal").stat().st_size // PAGE


async def write(state: bunflare.State, rounds: int, start: int = 0) -> None:
    """Each round is one commit of some 20 pages that differ from those of the round before."""
    kv = state.kv("A")
    for number in range(start, start + rounds):
        await asyncio.gather(*(kv.put(f"k{i}", b"%06d" % number * 180) for i in range(64)))


async def write_at_its_pace(state: bunflare.State, rounds: int, start: int = 0) -> None:
    """Wait after each round until no checkpoint is under way."""
    checkpointer = state.database._start().checkpointer
    for number in range(start, start + rounds):
        await write(state, 1, start=number)
        await eventually(lambda: not checkpointer._busy)


class Bound:
    """How long the log may become: the longer, the later its thread has its turns here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: The most pages that were written while one long copy was waited for.
        self.longest = 0
        begun = 0
        look, go_on = checkpoint.Checkpointer.look, checkpoint.Checkpointer._continue

        def begins(checkpointer: checkpoint.Checkpointer) -> None:
            nonlocal begun
            busy = checkpointer._busy
            look(checkpointer)
            if checkpointer._busy and not busy:
                begun = checkpointer._pages

        def ends(checkpointer: checkpoint.Checkpointer) -> None:
            self.longest = max(self.longest, checkpointer._pages - begun)
            go_on(checkpointer)

        monkeypatch.setattr(checkpoint.Checkpointer, "look", begins)
        monkeypatch.setattr(checkpoint.Checkpointer, "_continue", ends)

    def holds(self, directory: Path) -> bool:
        """A few times what makes writers wait; without checkpoints it would be some 9,000 pages."""
        return pages(directory) < 4000 + 2 * self.longest


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Bound:
    """Checkpoints are made often, so that a test can write little."""
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 100)
    monkeypatch.setattr(checkpoint, "_TOO_LONG", 1000)
    return Bound(monkeypatch)


class Restarts:
    """Counts how often writers are held up for a checkpoint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried = 0
        restart = checkpoint.Checkpointer._restart

        def counted(checkpointer: checkpoint.Checkpointer, connection: apsw.Connection) -> None:
            self.tried += 1
            restart(checkpointer, connection)

        monkeypatch.setattr(checkpoint.Checkpointer, "_restart", counted)


async def test_the_log_begins_anew_under_constant_writing(directory: Path, soon: Bound) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        await write(state, 400)
        assert soon.holds(directory)
        assert len((await state.kv("A").list()).keys) == 64


async def test_readers_do_not_keep_the_log_from_beginning_anew(
    directory: Path, soon: Bound
) -> None:
    """Their snapshots are taken anew all the time, and there is never a moment without one."""
    async with bunflare.open(directory, durability="normal") as state:
        ended = False

        async def read() -> None:
            while not ended:
                await state.kv("A").list()
                await asyncio.sleep(0)

        def read_in_a_thread() -> None:
            asyncio.run(read())

        reading = asyncio.ensure_future(read())
        thread = threading.Thread(target=read_in_a_thread)
        thread.start()
        await write(state, 400)
        ended = True
        await reading
        thread.join()
        assert soon.holds(directory)


async def test_a_reader_in_another_process_does_not_either(directory: Path, soon: Bound) -> None:
    source = """
    import asyncio, sys, bunflare

    async def main():
        async with bunflare.open(sys.argv[1], durability="normal") as state:
            await state.kv("A").list()
            print("ready", flush=True)
            while True:
                await state.kv("A").list()
                await asyncio.sleep(0)

    asyncio.run(main())
    """
    async with bunflare.open(directory, durability="normal") as state:
        with child(source, directory) as other:
            assert other.line() == "ready"
            await write(state, 400)
            assert other.process.poll() is None
        assert soon.holds(directory)


async def test_whoever_read_in_an_event_loop_that_has_ended_does_not_either(
    directory: Path, soon: Bound
) -> None:
    """A process that calls `asyncio.run` now and then, and waits for something else meanwhile."""
    source = """
    import asyncio, sys, bunflare

    state = bunflare.open(sys.argv[1], durability="normal")
    asyncio.run(state.kv("A").list())
    print("ready", flush=True)
    sys.stdin.readline()
    """
    async with bunflare.open(directory, durability="normal") as state:
        with child(source, directory) as other:
            assert other.line() == "ready"
            await write(state, 400)
        assert soon.holds(directory)


def test_the_log_begins_anew_where_each_write_has_an_event_loop_of_its_own(
    directory: Path, soon: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where that has ended whenever the long copy has, as on a busy machine."""
    first = checkpoint.Checkpointer._first

    def late(self: checkpoint.Checkpointer, loop: asyncio.AbstractEventLoop) -> None:
        while not loop.is_closed():
            time.sleep(0.001)
        first(self, loop)

    monkeypatch.setattr(checkpoint.Checkpointer, "_first", late)
    state = bunflare.open(directory, durability="normal")
    for number in range(200):
        asyncio.run(write(state, 2, start=2 * number))
    assert soon.holds(directory)
    asyncio.run(state.close())


def test_an_event_loop_that_ends_during_a_checkpoint_does_not_end_all_checkpoints(
    directory: Path, soon: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = bunflare.open(directory, durability="normal")
    first = checkpoint.Checkpointer._first
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def gated(self: checkpoint.Checkpointer, loop: asyncio.AbstractEventLoop) -> None:
        begun.set()
        assert go_on.wait(30)
        first(self, loop)
        ended.set()

    monkeypatch.setattr(checkpoint.Checkpointer, "_first", gated)
    loop = asyncio.new_event_loop()
    number = 0
    while not begun.is_set():
        loop.run_until_complete(write(state, 1, start=number))
        number += 1
    # The thread tells the event loop to go on, which does not turn any more.
    go_on.set()
    assert ended.wait(30)
    loop.close()
    asyncio.run(write(state, 400, start=number))
    assert soon.holds(directory)
    asyncio.run(state.close())


async def test_writers_are_held_up_when_others_keep_adding(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is never copied to its end would grow for ever."""
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 50)
    monkeypatch.setattr(checkpoint, "_TOO_LONG", 100)
    restarts = Restarts(monkeypatch)
    async with bunflare.open(directory, durability="normal") as state:
        with other_program(directory) as run:
            run("BEGIN")
            run("SELECT * FROM kv")
            # The long copy, on a thread, takes as many rounds as it likes.
            rounds = 0
            while not restarts.tried:
                assert rounds < 1000
                await write(state, 1, start=rounds)
                rounds += 1
            run("COMMIT")
            grown = pages(directory)
            await write_at_its_pace(state, rounds + 200, start=rounds)
            assert pages(directory) <= 2 * grown
        assert len((await state.kv("A").list()).keys) == 64


async def test_whoever_reads_for_long_does_not_hold_up_every_commit(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try costs all writers 0.2 seconds, so there is one for each so many pages."""
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 50)
    monkeypatch.setattr(checkpoint, "_TOO_LONG", 1000)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.01)
    restarts = Restarts(monkeypatch)
    async with bunflare.open(directory, durability="normal") as state:
        with other_program(directory) as run:
            run("BEGIN")
            run("SELECT * FROM kv")
            await write_at_its_pace(state, 300)
            length = pages(directory)
            assert length > 4000  # it cannot begin anew under such a reader
            assert 1 <= restarts.tried <= length // 1000 + 1
            run("COMMIT")
        # It begins anew as soon as it can, and is then as patient as it was.
        await write_at_its_pace(state, 300, start=300)
        assert pages(directory) <= length + 1000
        assert state.database._start().checkpointer._too_long == 1000


async def test_a_commit_does_not_wait_for_a_checkpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 50)
    begun, go_on = threading.Event(), threading.Event()
    first = checkpoint.Checkpointer._first

    def gated(self: checkpoint.Checkpointer, loop: asyncio.AbstractEventLoop) -> None:
        begun.set()
        assert go_on.wait(30)
        first(self, loop)

    monkeypatch.setattr(checkpoint.Checkpointer, "_first", gated)
    async with bunflare.open(directory, durability="normal") as state:
        try:
            await write(state, 20)
            await eventually(begun.is_set)
            await asyncio.wait_for(write(state, 20, start=20), 30)
        finally:
            go_on.set()


async def test_a_checkpoint_that_fails_is_told_and_tried_again(
    directory: Path,
    soon: Bound,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise bunflare.DatabaseFull("no room")

    async with bunflare.open(directory, durability="normal") as state:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "connect", fail)
            await write(state, 20)
            await eventually(lambda: "no room" in caplog.text)
        await write(state, 400, start=20)
        assert soon.holds(directory)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_database_that_was_closed_has_no_log(directory: Path, durability: Any) -> None:
    async with bunflare.open(directory, durability=durability) as state:
        await write(state, 2)
        assert pages(directory) > 0
    assert not (directory / "data.sqlite-wal").exists()
    assert not (directory / "data.sqlite-shm").exists()
    # The file alone is the whole database.
    connection = apsw.Connection(str(directory / "data.sqlite"))
    assert connection.execute("SELECT count(*) FROM kv").fetchall() == [(64,)]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_closing_leaves_the_log_to_other_processes_that_use_it(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await write(state, 2)
        with other_program(directory) as run:
            run("SELECT count(*) FROM kv")
            await state.close()
            assert (directory / "data.sqlite-wal").exists()
            run("INSERT INTO kv (namespace, key, value) VALUES ('A', 'theirs', 'value')")
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("theirs") == "value"
