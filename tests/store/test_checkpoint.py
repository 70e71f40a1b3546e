"""The write-ahead log stays bounded, whoever writes and reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import bunflare
from bunflare.store import checkpoint

PAGE = 4096


async def write(state: bunflare.State, rounds: int) -> None:
    kv = state.kv("A")
    for number in range(rounds):
        await asyncio.gather(*(kv.put(f"k{i}", b"%06d" % number * 300) for i in range(64)))


async def test_the_log_begins_anew_under_constant_writing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 100)
    async with bunflare.open(directory, durability="normal") as state:
        largest = 0
        for _ in range(40):
            await write(state, 10)
            largest = max(largest, (directory / "data.sqlite-wal").stat().st_size)
        # Without copies it would have had 40 * 10 * 64 pages and more.
        assert largest < 5000 * PAGE


async def test_readers_do_not_keep_the_log_from_beginning_anew(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 100)
    async with bunflare.open(directory, durability="normal") as state:
        ended = False

        async def read() -> None:
            while not ended:
                await state.kv("A").list()
                await asyncio.sleep(0)

        reading = asyncio.ensure_future(read())
        await write(state, 300)
        ended = True
        await reading
        assert (directory / "data.sqlite-wal").stat().st_size < 5000 * PAGE


async def test_the_log_is_cut_when_others_keep_adding(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the higher limit, writers are held up until the log is copied to its end."""
    monkeypatch.setattr(checkpoint, "_WORTH_IT", 50)
    monkeypatch.setattr(checkpoint, "_TOO_LONG", 60)
    restarts = 0
    restart = checkpoint.Checkpointer._restart

    def counted(self: checkpoint.Checkpointer, connection: object) -> None:
        nonlocal restarts
        restarts += 1
        restart(self, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint.Checkpointer, "_restart", counted)
    async with bunflare.open(directory, durability="normal") as state:
        # A snapshot of an older state, as a slow reader of another process would hold it.
        other = state.database._start().open_reader()
        other._connection.execute("BEGIN")
        other._connection.execute("SELECT * FROM kv").fetchall()
        await write(state, 20)
        other._connection.execute("COMMIT")
        await write(state, 20)
        other.close()
        assert len((await state.kv("A").list()).keys) == 64
    assert restarts > 0


async def test_a_database_that_was_closed_has_no_log(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await write(state, 2)
        assert (directory / "data.sqlite-wal").exists()
    assert not (directory / "data.sqlite-wal").exists()
