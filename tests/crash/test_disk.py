"""Disks that are full, locked or damaged, and clocks that jump: each ends in a clear behaviour."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare import ManualClock, Response
from tests.support import child, files

KEEP = {"cache-control": "max-age=60"}

# -- a full disk -------------------------------------------------------------------------------

# Without the right to mount a small disk, a limit on the size of files stands for one.
FULL = """
import asyncio, os, resource, signal, sys, bunflare
from bunflare import Response

limited = sys.argv[2] == "limit"
KEEP = {"cache-control": "max-age=60"}

async def stream():
    for _ in range(64):
        yield bytes(1024 * 1024)

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        kv = state.kv("A")
        await kv.put("key", "kept")
        await state.caches.default.put("http://a/", Response("kept", headers=KEEP))
        if limited:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 2**20, limits[1]))
        for _ in range(2):
            failed = 0
            for attempt in (
                lambda: kv.put("key", os.urandom(10 * 2**20)),
                lambda: kv.put_many({"key": f"k{i}", "value": os.urandom(2**20)} for i in range(9)),
                lambda: state.caches.default.put("http://a/", Response(stream(), headers=KEEP)),
            ):
                try:
                    await attempt()
                except bunflare.DatabaseError as error:
                    if not limited:
                        assert isinstance(error, bunflare.DatabaseFull), error
                        assert "full" in str(error), error
                    failed += 1
            assert failed == 3, failed
            # Nothing is half, and reads go on.
            assert await kv.get("key") == "kept"
            assert [key.name for key in (await kv.list()).keys] == ["key"]
            found = await state.caches.default.match("http://a/")
            assert await found.text() == "kept"
            assert list(os.scandir(state.database.directory.cache_bodies)) == []
        if limited:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        else:
            os.remove(sys.argv[3])
        # There is room again.
        await kv.put("key", bytes(2**20))
        await kv.put("other", "value")
    async with bunflare.open(sys.argv[1]) as state:
        assert len(await state.kv("A").get("key")) == 2**20
        assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    print("fine", flush=True)

asyncio.run(main())
"""


def test_a_full_disk_undoes_the_write_and_nothing_else(
    small_disk: Path | None, tmp_path: Path
) -> None:
    if small_disk is None:
        arguments = [tmp_path / "state", "limit"]
    else:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(6 * 2**20))
        arguments = [small_disk / "state", "disk", ballast]
    with child(FULL, *arguments) as process:
        assert process.line() == "fine"


def test_a_directory_cannot_be_made_on_a_full_disk(small_disk: Path | None, tmp_path: Path) -> None:
    if small_disk is None:
        # Every file is too large for a limit of nothing.
        source = """
import resource, signal, sys, bunflare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    bunflare.open(sys.argv[1])
except bunflare.BunflareError:
    print("fine", flush=True)
"""
        with child(source, tmp_path / "state") as process:
            assert process.line() == "fine"
        return
    with (small_disk / "ballast").open("wb") as ballast, pytest.raises(OSError):
        while True:
            ballast.write(bytes(2**16))
            ballast.flush()
    with pytest.raises(bunflare.DatabaseFull):
        bunflare.open(small_disk / "state")


# -- a disk that cannot be written to ----------------------------------------------------------


@pytest.fixture
def read_only(tmp_path: Path, small_disk: Path | None) -> Iterator[Path]:
    """A data directory with a key, on a disk that has become read-only."""
    place = (small_disk or tmp_path) / "state"
    source = """
import asyncio, sys, bunflare
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        await state.kv("A").put("key", "value")
asyncio.run(main())
print("done", flush=True)
"""
    with child(source, place) as process:
        assert process.line() == "done"
        process.process.wait(30)
    if small_disk is not None:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        yield place
    else:
        for path in (place, *place.iterdir()):
            path.chmod(0o500 if path.is_dir() else 0o400)
        yield place
        place.chmod(0o700)


def test_a_read_only_directory_is_a_clear_error(read_only: Path) -> None:
    before = files(read_only)
    with pytest.raises(bunflare.DirectoryError, match="cannot be written to"):
        bunflare.open(read_only)
    with pytest.raises(bunflare.DirectoryError, match="cannot be written to"):
        bunflare.open(read_only / "below")
    assert files(read_only) == before


# -- damaged files -----------------------------------------------------------------------------


async def filled(directory: Path) -> Path:
    async with bunflare.open(directory, durability="normal") as state:
        entries = [{"key": f"k{i:05}", "value": os.urandom(500)} for i in range(2000)]
        await state.kv("A").put_many(entries)
    return directory / "data.sqlite"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: os.urandom(len(data)),
        lambda data: b"this is a text file\n" * 500,
        lambda data: data[:1000],
        lambda data: b"SQLite format 3\0" + b"\xff" * 5000,
    ],
    ids=["garbage", "text", "cut", "header"],
)
async def test_a_file_that_is_no_database_is_left_as_it_is(directory: Path, damage: object) -> None:
    path = await filled(directory)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(bunflare.DatabaseCorrupt, match=r"data\.sqlite is damaged"):
        bunflare.open(directory)
    assert path.read_bytes() == before


async def test_a_damaged_page_is_an_error_for_who_meets_it(directory: Path) -> None:
    path = await filled(directory)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 40 * 4096] = bytes(40 * 4096)
    path.write_bytes(data)
    with pytest.raises(bunflare.DatabaseCorrupt, match=r"data\.sqlite is damaged"):
        async with bunflare.open(directory) as state:
            for i in range(2000):
                await state.kv("A").get(f"k{i:05}", "bytes")


# -- a write-ahead log of another program ------------------------------------------------------

OTHER_PROGRAM = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=WAL")
c.execute("PRAGMA wal_autocheckpoint=0")
for i in range(int(sys.argv[2])):
    c.execute("INSERT OR REPLACE INTO kv VALUES ('A', ?, ?, NULL, NULL)", (f"theirs{i}", str(i)))
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("torn", [False, True])
async def test_a_log_that_another_program_left_is_read(directory: Path, torn: bool) -> None:
    path = await filled(directory)
    with child(OTHER_PROGRAM, path, 20) as other:
        assert other.line() == "done"
        other.kill()
    log = directory / "data.sqlite-wal"
    if torn:
        # The last commit did not reach the disk whole.
        log.write_bytes(log.read_bytes()[:-100])
        (directory / "data.sqlite-shm").unlink()
    async with bunflare.open(directory) as state:
        kv = state.kv("A")
        found = [await kv.get(f"theirs{i}") for i in range(20)]
        assert found == [*map(str, range(19)), None if torn else "19"]
        await kv.put("ours", "value")
        assert await kv.get("ours") == "value"
        assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    assert not log.exists()


async def test_a_log_of_another_database_is_ignored(tmp_path: Path, directory: Path) -> None:
    path = await filled(directory)
    await filled(tmp_path / "other")
    with child(OTHER_PROGRAM, tmp_path / "other" / "data.sqlite", 1) as other:
        assert other.line() == "done"
        other.kill()
    log = (tmp_path / "other" / "data.sqlite-wal").read_bytes()
    # Its frames are of no use: their salts are not those of its header.
    (directory / "data.sqlite-wal").write_bytes(log[:16] + b"12345678" + log[24:])
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("theirs0") is None
        assert len(await state.kv("A").get("k00000", "bytes")) == 500
        await state.kv("A").put("ours", "value")
    assert apsw.Connection(str(path)).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- the clock ---------------------------------------------------------------------------------


async def test_a_clock_that_jumps_back_and_forward_loses_nothing(
    directory: Path, clock: ManualClock
) -> None:
    hour = 3_600_000
    async with bunflare.open(directory, clock=clock) as state:
        kv, cache = state.kv("A"), state.caches.default
        await kv.put("short", "1", expiration_ttl=60)
        await kv.put("long", "2", expiration_ttl=7200)
        await kv.put("for ever", "3")
        await cache.put("http://a/", Response("x", headers=KEEP))
        now = clock.now()
        clock.set(now - hour)
        for key in ("short", "long", "for ever"):
            assert await kv.get(key) is not None
        assert await cache.match("http://a/") is not None
        clock.set(now + hour)
        assert await kv.get("short") is None
        assert await cache.match("http://a/") is None
        assert await kv.get("long") == "2"
        clock.set(now)
        # Nobody has removed it yet, and it is not due.
        assert await kv.get("short") == "1"
        await clock.advance(hours=1)
        clock.set(now)
        # Now it has been removed, and no clock brings it back.
        assert await kv.get("short") is None
        assert await kv.get("long") == "2"
        await clock.advance(hours=3)
        assert await kv.get("long") is None
        assert await kv.get("for ever") == "3"
        # The timer goes on.
        await kv.put("again", "4", expiration_ttl=60)
        await clock.advance(minutes=2)
        rows = state.database.view.all("SELECT key FROM kv")
        assert rows == [("for ever",)]
