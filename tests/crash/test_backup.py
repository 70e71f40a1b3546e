"""Backups under load equal one moment; a restore that is killed is before or after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bunflare
from tests.support import child, files

LONG = os.environ.get("BUNFLARE_CRASH") == "long"

_OBJECT = """
import asyncio, sys
import bunflare

class Pair(bunflare.DurableObject):
    async def count(self, number):
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)")
        await self.ctx.storage.put("n", number)
        sql.exec("INSERT INTO t VALUES (1, ?) ON CONFLICT DO UPDATE SET n = excluded.n", number)

    async def look(self):
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)")
        rows = sql.exec("SELECT n FROM t").to_array()
        return [await self.ctx.storage.get("n") or 0, rows[0]["n"] if rows else 0]
"""

# Counts in one system after the other, always in this order.
_WRITER = (
    _OBJECT
    + """
UPSERT = "INSERT INTO t VALUES (1, ?) ON CONFLICT DO UPDATE SET n = excluded.n"
KEEP = {"cache-control": "max-age=999"}

async def main():
    name = sys.argv[2]
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        db = state.d1(f"db-{name}")
        await db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
        pairs = state.durable_objects(Pair, f"Pair{name}")
        number = 0
        while True:
            number += 1
            await db.prepare(UPSERT).bind(number).run()
            await state.kv("COUNT").put(name, str(number))
            await state.r2("count").put(f"{name}/small", str(number))
            await state.r2("count").put(f"{name}/large", b"%09d" % number * 12_000)
            await pairs.get_by_name("one").count(number)
            await state.caches.default.put(
                f"https://example.com/{name}",
                bunflare.Response(b"%09d" % number * 30_000, headers=KEEP),
            )
            if number == 3:
                print("going", flush=True)

asyncio.run(main())
"""
)


class Pair(bunflare.DurableObject):
    """As in the writers."""

    async def look(self) -> list[int]:
        rows = self.ctx.storage.sql.exec("SELECT n FROM t").to_array()
        return [await self.ctx.storage.get("n") or 0, rows[0]["n"] if rows else 0]


async def counts(state: bunflare.State, name: str) -> list[int]:
    """How far each system has come, in the order in which they are written to."""
    row = await state.d1(f"db-{name}").prepare("SELECT n FROM t").first()
    kv = await state.kv("COUNT").get(name)
    small = await state.r2("count").get(f"{name}/small")
    large = await state.r2("count").get(f"{name}/large")
    assert isinstance(small, bunflare.R2ObjectBody)
    assert isinstance(large, bunflare.R2ObjectBody)
    body = await large.bytes()
    assert body == body[:9] * 12_000
    pair = await state.durable_objects(Pair, f"Pair{name}").get_by_name("one").look()
    assert pair[0] == pair[1]
    cached = await state.caches.default.match(f"https://example.com/{name}")
    assert cached is not None
    kept = await cached.bytes()
    assert kept == kept[:9] * 30_000
    return [row["n"], int(kv or 0), int(await small.text()), int(body[:9]), pair[0], int(kept[:9])]


@pytest.mark.parametrize("writers", [3])
async def test_a_backup_under_load_is_one_moment(
    directory: Path, tmp_path: Path, writers: int
) -> None:
    names = [str(number) for number in range(writers)]
    seen: list[list[int]] = []
    with (
        child(_WRITER, directory, "0") as one,
        child(_WRITER, directory, "1") as two,
        child(_WRITER, directory, "2") as three,
    ):
        for process in (one, two, three):
            assert process.line() == "going"
        async with bunflare.open(directory, durability="normal") as state:
            for number in range(20 if LONG else 3):
                made = await state.backup(tmp_path / f"{number}.tar")
                assert made.files > 6
                # Writers are at work all the time, however seldom they have their turns here.
                before = await state.kv("COUNT").get("0")
                while await state.kv("COUNT").get("0") == before:
                    assert one.process.poll() is None
                    await asyncio.sleep(0.001)
            # Nor does a look at what changes all the time find anything wrong.
            assert (await state.check()).problems == ()
    for number in range(20 if LONG else 3):
        copy = tmp_path / "copy"
        await asyncio.to_thread(bunflare.restore, tmp_path / f"{number}.tar", copy)
        async with bunflare.open(copy, durability="normal") as state:
            found = await state.check(full=True)
            assert found.problems == ()
            for name in names:
                far = await counts(state, name)
                seen.append(far)
                assert far == sorted(far, reverse=True), far
                assert far[0] - far[-1] <= 1, far
        shutil.rmtree(copy)
    assert seen[-writers] > seen[0]


_RESTORER = """
import sys, bunflare
print("begin", flush=True)
bunflare.restore(sys.argv[1], sys.argv[2], replace=True)
print("end", flush=True)
"""


async def test_a_restore_that_is_killed_is_before_or_after(directory: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    for text, target in (("new", new), ("old", old)):
        shutil.rmtree(directory, ignore_errors=True)
        async with bunflare.open(directory, durability="normal") as state:
            await state.kv("K").put("which", text)
            for number in range(60):
                await state.r2("files").put(f"{number}", text * (number + 1))
            await state.backup(target)
    outcomes: list[str] = []
    rng = random.Random(1)
    least = 60 if LONG else 4
    # Where this process has its turns late, a restore may be done before each of the kills.
    while len(outcomes) < least or ("old" not in outcomes and len(outcomes) < 50 * least):
        with child(_RESTORER, new, directory) as process:
            assert process.line() == "begin"
            time.sleep(rng.uniform(0, 0.08))
            process.kill()
        async with bunflare.open(directory, durability="normal") as state:
            which = await state.kv("K").get("which")
            outcomes.append(str(which))
            for number in range(60):
                found = await state.r2("files").get(f"{number}")
                assert isinstance(found, bunflare.R2ObjectBody)
                assert await found.text() == str(which) * (number + 1)
        await asyncio.to_thread(bunflare.restore, old, directory, replace=True)
        # What the killed ones have left is gone.
        assert [path.name for path in tmp_path.iterdir() if "making" in path.name] == []
    assert "old" in outcomes


_KEEPER = """
import asyncio, sys, bunflare
from bunflare.bindings.care import go_back

async def main():
    for number in range(1000):
        async with bunflare.open(sys.argv[1], durability="normal") as state:
            await state.kv("K").put("which", str(number))
            await state.r2("files").put("which", str(number) * 100)
            await state.d1("db").exec(f"UPDATE t SET n = {number}")
            print(number, flush=True)
            await state.snapshot(f"s{number}")
        if number % 3 == 2:
            go_back(f"s{number - 1}", sys.argv[1])
        async with bunflare.open(sys.argv[1], durability="normal") as state:
            if number >= 5:
                await state.drop_snapshot(f"s{number - 5}")
            await state.repair()

asyncio.run(main())
"""


async def test_snapshots_survive_being_killed(directory: Path) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        await state.d1("db").exec("CREATE TABLE t (n); INSERT INTO t VALUES (-1)")
    rng = random.Random(2)
    for _ in range(40 if LONG else 3):
        with child(_KEEPER, directory) as process:
            for _ in range(rng.randrange(2, 8)):
                last = int(process.line())
            time.sleep(rng.uniform(0, 0.08))
            process.kill()
        async with bunflare.open(directory, durability="normal") as state:
            assert (await state.check()).problems == ()
            kept = await state.snapshots()
            # None is lost on the way back to another.
            numbers = [int(one.name[1:]) for one in kept]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[-1] >= last - 1
        # Each is whole: what was written one after the other is there, or not yet.
        for one in kept[-3:]:
            copy = directory.with_name("copy")
            async with bunflare.open(directory, durability="normal") as state:
                await state.branch(copy, one.name)
            async with bunflare.open(copy, durability="normal") as state:
                assert (await state.check()).problems == ()
                found = await state.r2("files").get("which")
                assert isinstance(found, bunflare.R2ObjectBody)
                row = await state.d1("db").prepare("SELECT n FROM t").first()
                number = one.name[1:]
                assert await state.kv("K").get("which") == number
                assert await found.text() == number * 100
                assert row["n"] == int(number)
            shutil.rmtree(copy)
        async with bunflare.open(directory, durability="normal") as state:
            for one in await state.snapshots():
                await state.drop_snapshot(one.name)
            # The next round begins with its first snapshot.
            assert await state.snapshots() == []


async def test_a_damaged_backup_changes_nothing(directory: Path, tmp_path: Path) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        await state.kv("K").put("a", "b")
        await state.r2("files").put("c", "d" * 100_000)
        await state.backup(tmp_path / "whole.tar")
        await state.backup(tmp_path / "whole.tgz")
    before = files(directory)
    whole = (tmp_path / "whole.tar").read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:-2000], whole[:700], b"", b"text", os.urandom(9999)]
    for place in (len(whole) // 3, len(whole) // 2, 530):
        changed = bytearray(whole)
        changed[place] ^= 1
        damaged.append(bytes(changed))
    packed = (tmp_path / "whole.tgz").read_bytes()
    for place in range(20, len(packed), len(packed) // 7):
        changed = bytearray(packed)
        changed[place] ^= 255
        damaged.append(bytes(changed))
    for data in damaged:
        (tmp_path / "bad.tar").write_bytes(data)
        with pytest.raises(bunflare.BackupError):
            await asyncio.to_thread(bunflare.restore, tmp_path / "bad.tar", directory, replace=True)
        assert files(directory) == before
    with pytest.raises(bunflare.BackupError, match="no file"):
        bunflare.restore(tmp_path / "none.tar", directory, replace=True)


async def test_a_full_disk_undoes_a_backup_and_a_restore(
    small_disk: Path | None, directory: Path, tmp_path: Path
) -> None:
    if small_disk is None:
        pytest.skip("no disk can be mounted here")
    async with bunflare.open(directory, durability="normal") as state:
        await state.r2("files").put("large", os.urandom(20_000_000))
        with pytest.raises(bunflare.DatabaseFull, match="disk"):
            await state.backup(small_disk / "b.tar")
        assert list(small_disk.iterdir()) == []
        await state.backup(tmp_path / "b.tar")
    with pytest.raises(bunflare.DatabaseFull, match="disk"):
        bunflare.restore(tmp_path / "b.tar", small_disk / "state")
    assert list(small_disk.iterdir()) == []


async def test_commands_on_a_full_disk_end_in_a_sentence(
    small_disk: Path | None, tmp_path: Path
) -> None:
    if small_disk is None:
        pytest.skip("no disk can be mounted here")
    directory = small_disk / "state"
    async with bunflare.open(directory, durability="normal") as state:
        for number in range(3):
            await state.kv("K").put(f"{number}", os.urandom(1_500_000))
        await state.backup(tmp_path / "b.tar")
    filler = small_disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    for arguments in (
        ("backup", str(small_disk / "b.tar")),
        ("snapshot", "create", "one"),
        ("branch", str(small_disk / "branch")),
        ("restore", str(tmp_path / "b.tar"), "--replace"),
        ("vacuum",),
    ):
        done = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-c", "from bunflare.cli import main; main()", "state"),
                *(*arguments, "--persist-to", str(directory)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, arguments
        assert "is full" in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
    filler.unlink()
    async with bunflare.open(directory, durability="normal") as state:
        assert (await state.check()).problems == ()
        assert await state.snapshots() == []
    assert sorted(path.name for path in small_disk.iterdir()) == ["state"]
