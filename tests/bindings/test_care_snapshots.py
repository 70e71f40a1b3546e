"""A snapshot that is not as it was made is found by a check, and by what it lacks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import bunflare
from tests.cli.process import run

Harm = Callable[[Path], object]


@pytest.fixture
async def snapshot(directory: Path) -> Path:
    """A snapshot whose files are no longer those of the state."""
    async with bunflare.open(directory, durability="normal") as state:
        await state.kv("SETTINGS").put("colour", "red")
        await state.r2("files").put("dir/key", "x" * 100_000)
        upload = await state.r2("files").create_multipart_upload("never")
        await upload.upload_part(1, b"part")
        db = state.d1("shop")
        await db.exec("CREATE TABLE items (name TEXT); INSERT INTO items VALUES ('first')")
        await db.bookmark()
        await state.caches.default.put(
            "https://example.com/",
            bunflare.Response("x" * 2_000_000, headers={"cache-control": "max-age=9999999"}),
        )
        await state.snapshot("one")
        await state.r2("files").put("dir/key", "of later")
    return directory / "snapshots/one"


def only(path: Path, pattern: str) -> Path:
    (found,) = path.glob(pattern)
    return found


def spoil(path: Path, at: int = 0) -> None:
    """Other bytes, as many as there were, with the time that the file had."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[at : at + 16] = bytes(255 - one for one in data[at : at + 16])
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_to(path: Path) -> None:
    """What a program does that takes a snapshot for a state, and is killed."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL; CREATE TABLE more (a)").fetchall()
    shutil.copy2(f"{path}-wal", f"{path}.kept")
    connection.close()
    Path(f"{path}.kept").rename(f"{path}-wal")


HARMS: list[tuple[str, str, Harm]] = [
    ("manifest", "snapshot.json", lambda path: (path / "snapshot.json").unlink()),
    ("manifest", "snapshot.json", lambda path: (path / "snapshot.json").write_text("{")),
    ("manifest", "snapshot.json", lambda path: (path / "snapshot.json").write_text('{"at": "x"}')),
    (
        "manifest",
        "snapshot.json",
        lambda path: (path / "snapshot.json").write_text('{"at": 1, "files": {"a": "b"}}'),
    ),
    ("missing", "data.sqlite", lambda path: (path / "data.sqlite").unlink()),
    ("missing", "d1/shop.sqlite", lambda path: (path / "d1/shop.sqlite").unlink()),
    ("damaged", "data.sqlite", lambda path: spoil(path / "data.sqlite", 8192)),
    ("damaged", "d1/shop.sqlite", lambda path: spoil(path / "d1/shop.sqlite", 100)),
    ("damaged", "d1/.shop.history/", lambda path: spoil(only(path, "d1/.shop.history/*.wal"), 8)),
    ("changed", "d1/shop.sqlite", lambda path: write_to(path / "d1/shop.sqlite")),
    ("missing", "r2/files/dir/key", lambda path: (path / "r2/files/dir/key").unlink()),
    ("changed", "r2/files/dir/key", lambda path: (path / "r2/files/dir/key").write_text("other")),
    ("digest", "r2/files/dir/key", lambda path: spoil(path / "r2/files/dir/key")),
    ("missing", "r2-staging/", lambda path: only(path, "r2-staging/*").unlink()),
    (
        "missing",
        "cache/default/https://example.com/",
        lambda path: only(path, "cache/*").unlink(),
    ),
]


def contents(path: Path) -> set[str]:
    return {one.relative_to(path).as_posix() for one in path.rglob("*")}


async def test_a_whole_snapshot_is_no_problem_and_is_left_as_it_is(snapshot: Path) -> None:
    before = contents(snapshot)
    async with bunflare.open(snapshot.parents[1]) as state:
        found = await state.check(full=True)
        assert found.problems == ()
        # Its files are looked at beside those of the state.
        await state.drop_snapshot("one")
        assert (await state.check(full=True)).files < found.files
        await state.snapshot("one")
        await state.check()
    assert contents(snapshot) == before


@pytest.mark.parametrize(("kind", "name", "harm"), HARMS)
async def test_what_is_wrong_with_a_snapshot_is_named(
    snapshot: Path, kind: str, name: str, harm: Harm
) -> None:
    harm(snapshot)
    async with bunflare.open(snapshot.parents[1]) as state:
        found = await state.check(full=True)
        assert {one.system for one in found.problems} == {"snapshots"}
        assert {one.name for one in found.problems} == {"one"}
        told = [one.key for one in found.problems if one.kind == kind]
        assert any(one.startswith(name) for one in told), found.problems
        assert all(one.detail for one in found.problems)
        # Nothing puts it right, and what is to be got rid of can be.
        assert (await state.repair(full=True)).left == found.problems
        await state.drop_snapshot("one")
        assert (await state.check(full=True)).problems == ()


async def test_bytes_that_the_state_shares_are_read_there(snapshot: Path) -> None:
    async with bunflare.open(snapshot.parents[1]) as state:
        await state.snapshot("two")
        spoil(snapshot.parent / "two/r2/files/dir/key")
        found = await state.check()
        assert [(one.system, one.kind) for one in found.problems] == [("r2", "digest")]
        await state.r2("files").put("dir/key", "of even later")
        found = await state.check()
        assert [(one.name, one.kind) for one in found.problems] == [("two", "digest")]
        assert (await state.check(digests=False)).problems == ()


async def test_how_far_a_check_is_counts_what_it_reads_of_snapshots(snapshot: Path) -> None:
    async def told(state: bunflare.State, digests: bool) -> int:
        seen: list[tuple[int, int | None]] = []
        await state.check(digests=digests, progress=lambda done, whole: seen.append((done, whole)))
        assert seen == sorted(seen)
        done = seen[-1][0]
        assert {whole for _, whole in seen} == {done}
        return done

    async with bunflare.open(snapshot.parents[1]) as state:
        of_r2 = 100_000 + len("of later")
        assert await told(state, True) - await told(state, False) == of_r2
        # What is the same by another name is not read again.
        await state.snapshot("two")
        await state.snapshot("three")
        assert await told(state, True) - await told(state, False) == of_r2
        large = 9_000_000
        await state.r2("files").put("large", bytes(large))
        await state.snapshot("four")
        await state.r2("files").delete("large")
        await state.snapshot("five")
        assert await told(state, True) - await told(state, False) == of_r2 + large


async def test_copied_snapshots_are_whole(snapshot: Path, tmp_path: Path) -> None:
    """A copy of the directory has new times, but the same bytes."""
    shutil.copytree(snapshot, snapshot.parent / "copy", copy_function=shutil.copyfile)
    async with bunflare.open(snapshot.parents[1]) as state:
        assert (await state.check(full=True)).problems == ()


async def test_a_snapshot_that_lists_no_files_is_checked_all_the_same(snapshot: Path) -> None:
    (snapshot / "snapshot.json").write_text(json.dumps({"at": 1}))
    async with bunflare.open(snapshot.parents[1]) as state:
        assert (await state.check()).problems == ()
        (snapshot / "r2/files/dir/key").unlink()
        assert [one.kind for one in (await state.check()).problems] == ["missing"]


def test_the_command_names_the_snapshot(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / "d1/shop.sqlite").unlink()
    told, error = run(tmp_path, "state", "check", "--persist-to", str(snapshot.parents[1]), code=1)
    assert "problem: snapshots: missing: one/d1/shop.sqlite: the file is not there" in told
    assert "1 thing is not" in error
    run(tmp_path, "state", "snapshot", "drop", "one", "--persist-to", str(snapshot.parents[1]))
    run(tmp_path, "state", "check", "--persist-to", str(snapshot.parents[1]))
