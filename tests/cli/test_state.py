"""``bunflare state``, as the processes that people start."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bunflare
from tests.cli.forks import Outcome, shared

BUNFLARE = [sys.executable, "-c", "from bunflare.cli import main; main()", "state"]


Run = Callable[..., Outcome]


@pytest.fixture
def run(directory: Path) -> Run:
    """Run a command, as a process, on the directory of the test."""

    def run(*arguments: str, code: int = 0, where: Path = directory) -> Outcome:
        done = shared()(Path.cwd(), "state", *arguments, "--persist-to", where)
        assert done.code == code, done.told
        return done

    return run


@pytest.fixture
async def filled(directory: Path) -> Path:
    """A state with something of every system in it."""
    async with bunflare.open(directory, durability="normal") as state:
        await fill(state)
    return directory


async def fill(state: bunflare.State, text: str = "first") -> None:
    await state.kv("SETTINGS").put("colour", text)
    await state.kv("SETTINGS").put("size", "large", metadata={"a": 1}, expiration_ttl=3600)
    await state.r2("files").put("a/small.txt", text)
    await state.r2("files").put("large.bin", text.encode() * 40_000)
    db = state.d1("shop")
    await db.exec("CREATE TABLE IF NOT EXISTS items (name TEXT)")
    await db.prepare("INSERT INTO items VALUES (?)").bind(text).run()
    cache = state.caches.default
    for path, size in (("small", 1), ("large", 300_000)):
        response = bunflare.Response(text * size, headers={"cache-control": "max-age=3600"})
        await cache.put(f"https://example.com/{path}", response)


async def test_info_counts_every_system(filled: Path, run: Run) -> None:
    told = json.loads(run("info", "--json").out)
    counts = {(one["system"], one["kind"], one["name"]): one for one in told["figures"]}
    assert counts["kv", "key", "SETTINGS"]["count"] == 2
    assert counts["kv", "key", "SETTINGS"]["size"] == len("firstlarge")
    assert counts["r2", "object", "files"]["count"] == 2
    assert counts["r2", "object", "files"]["size"] == 5 * 40_001
    assert counts["d1", "database", "shop"]["size"] > 0
    assert counts["cache", "response", "default"]["count"] == 2
    assert told["cache_size"] > 300_000
    lines = run("info").out.splitlines()
    assert any(line.split()[:4] == ["kv", "key", "SETTINGS", "2"] for line in lines)


def test_a_directory_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    told = run("info", where=missing, code=1)
    assert told.told.startswith(f"error: there is no state in {missing}")
    assert not missing.exists()
    (tmp_path / "foreign").mkdir()
    told = run("info", where=tmp_path / "foreign", code=1)
    assert "there is no state in" in told.told
    assert not list((tmp_path / "foreign").iterdir())
    assert "No such command" in run("inof", code=2).told


async def test_a_backup_comes_back(filled: Path, run: Run, tmp_path: Path) -> None:
    for name in ("b.tar", "b.tgz", "b.tar.xz"):
        made = json.loads(run("backup", str(tmp_path / name), "--json").out)
        # Beside them is what D1 keeps for time travel.
        assert made["files"] >= 6
        told = run("backup", str(tmp_path / name), code=1)
        assert "--force replaces it" in told.told
        run("backup", str(tmp_path / name), "--force")
        copy = tmp_path / f"copy-{name}"
        run("restore", str(tmp_path / name), where=copy)
        async with bunflare.open(copy, durability="normal") as state:
            assert await state.kv("SETTINGS").get("colour") == "first"
            found = await state.r2("files").get("large.bin")
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.text() == "first" * 40_000
            assert not (await state.r2("files").check(digests=True)).problems
            cached = await state.caches.default.match("https://example.com/large")
            assert cached is not None
            assert len(await cached.text()) == 5 * 300_000
            row = await state.d1("shop").prepare("SELECT name FROM items").first()
            assert row == {"name": "first"}
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "xf", str(tmp_path / "b.tgz")], cwd=unpacked, check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=unpacked, check=True)


async def test_restore_replaces_only_a_state_that_nobody_uses(
    filled: Path, run: Run, tmp_path: Path
) -> None:
    file = str(tmp_path / "b.tar")
    run("backup", file)
    assert "say that it is to be replaced" in run("restore", file, code=1).told
    async with bunflare.open(filled, durability="normal") as state:
        await state.kv("SETTINGS").put("colour", "second")
        told = run("restore", file, "--replace", code=1)
        assert "in use by another process" in told.told
        assert await state.kv("SETTINGS").get("colour") == "second"
    run("restore", file, "--replace")
    async with bunflare.open(filled, durability="normal") as state:
        assert await state.kv("SETTINGS").get("colour") == "first"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    told = run("restore", file, "--replace", where=foreign, code=1)
    assert "something else than a state" in told.told
    assert "no directory" in run("restore", file, where=tmp_path / "a/b", code=1).told
    assert "not a backup" in run("restore", str(foreign / "letter.txt"), "--replace", code=1).told
    assert "not a backup" in run("restore", str(foreign), "--replace", code=1).told
    assert "no file" in run("restore", str(tmp_path / "none"), "--replace", code=1).told
    assert "no directory" in run("backup", str(tmp_path / "x/y.tar"), code=1).told


async def test_snapshots_are_gone_back_to(filled: Path, run: Run, tmp_path: Path) -> None:
    run("snapshot", "create", "one")
    assert "already" in run("snapshot", "create", "one", code=1).told
    assert "is no name" in run("snapshot", "create", "../x", code=1).told
    async with bunflare.open(filled, durability="normal") as state:
        await fill(state, "second")
        await state.r2("files").delete("a/small.txt")
        await state.kv("SETTINGS").delete("size")
        await state.d1("shop").exec("CREATE INDEX by_name ON items (name)")
    run("snapshot", "create", "two")
    assert run("diff", "two").out == ""
    assert run("diff", "one").out == run("diff", "one", "two").out
    assert run("diff", "one", "two").out.splitlines() == [
        "~ kv key SETTINGS colour",
        "- kv key SETTINGS size",
        "~ r2 object files large.bin",
        "- r2 object files a/small.txt",
        "~ cache response default https://example.com/large",
        "~ cache response default https://example.com/small",
        "~ d1 table shop items",
    ]
    assert json.loads(run("diff", "two", "one", "--json").out)[0] == {
        "change": "added",
        "system": "kv",
        "kind": "key",
        "name": "SETTINGS",
        "key": "size",
    }
    run("branch", str(tmp_path / "branch"), "--from", "one")
    run("branch", str(tmp_path / "now"))
    assert "already" in run("branch", str(tmp_path / "now"), code=1).told
    run("snapshot", "restore", "one")
    assert "no snapshot" in run("snapshot", "restore", "none", code=1).told
    for path in (filled, tmp_path / "branch"):
        async with bunflare.open(path, durability="normal") as state:
            assert await state.kv("SETTINGS").get("colour") == "first"
            assert await state.kv("SETTINGS").get("size") == "large"
            found = await state.r2("files").get("large.bin")
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.text() == "first" * 40_000
            assert not (await state.r2("files").check(digests=True)).problems
            rows = await state.d1("shop").prepare("SELECT name FROM items").all()
            assert rows.results == [{"name": "first"}]
            await state.r2("files").put("large.bin", "of the branch")
    names = [one["name"] for one in json.loads(run("snapshot", "list", "--json").out)]
    assert names == ["one", "two"]
    run("snapshot", "restore", "two")
    run("snapshot", "drop", "one")
    assert [line.split()[0] for line in run("snapshot", "list").out.splitlines()[2:]] == ["two"]
    for path in (filled, tmp_path / "now"):
        async with bunflare.open(path, durability="normal") as state:
            assert await state.kv("SETTINGS").get("colour") == "second"
            assert await state.r2("files").head("a/small.txt") is None
            found = await state.r2("files").get("large.bin")
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.text() == "second" * 40_000


async def test_check_finds_and_repair_mends(filled: Path, run: Run) -> None:
    assert json.loads(run("check", "--json").out)["problems"] == []
    body = next((filled / "cache").iterdir())
    body.unlink()
    (filled / "cache" / "0123").write_text("left over")
    (filled / "r2-staging" / "4567").write_text("left over")
    (filled / "r2/files/a/small.txt").write_text("other")
    (filled / "r2/files/large.bin").unlink()
    (filled / "r2/files/stranger").write_text("of mine")
    with sqlite3.connect(filled / "data.sqlite") as connection:
        connection.execute("UPDATE kv SET metadata = '{' WHERE key = 'size'")
        connection.execute(
            "INSERT INTO do_alarms (namespace, id, alarm_time) VALUES ('N', 'x', 'soon')"
        )
        connection.execute("INSERT INTO do_storage VALUES ('N', 'x', 'key', 'no JSON')")
        connection.execute(
            "INSERT INTO bunflare_objects (namespace, id, created_at, applied)"
            " VALUES ('N', 'x', 0, 1)"
        )
    connection.close()
    told = run("check", code=1)
    assert "7 things" in told.told
    for line in (
        "problem: cache: missing: default/https://example.com/large: its body's file",
        "problem: kv: metadata: SETTINGS/size: the metadata is not JSON",
        "problem: objects: alarm: N/x: the alarm is set for no time",
        "problem: objects: value: N/x/key: the value is not JSON",
        "problem: objects: missing: N/x: its SQL file is not there",
        "problem: r2: changed: files/a/small.txt: ",
        "problem: r2: missing: files/large.bin: there is no file",
        "note: r2: stranger: files/stranger",
    ):
        assert line in told.out
    told = run("repair", code=1)
    assert "3 things cannot be mended" in told.told
    mended = [line for line in told.out.splitlines() if line.startswith("mended")]
    assert len(mended) == 4
    assert not (filled / "cache/0123").exists()
    assert not (filled / "r2-staging/4567").exists()
    left = {line.split(": ")[3] for line in told.out.splitlines() if line.startswith("left")}
    assert left == {"N/x/key", "N/x", "files/large.bin"}
    async with bunflare.open(filled) as state:
        assert await state.kv("SETTINGS").get_with_metadata("size") is not None
        found = await state.r2("files").get("a/small.txt")
        assert isinstance(found, bunflare.R2ObjectBody)
        assert await found.text() == "other"
        await state.r2("files").delete("large.bin")
    assert (filled / "r2/files/stranger").read_text() == "of mine"


def test_a_damaged_file_is_found(filled: Path, run: Run) -> None:
    shop = filled / "d1/shop.sqlite"
    with sqlite3.connect(shop) as connection:
        connection.executescript(
            "CREATE INDEX by_name ON items (name);"
            "PRAGMA writable_schema = 1;"
            "UPDATE sqlite_schema SET sql = replace(sql, '(name)', '(name COLLATE NOCASE)')"
            " WHERE name = 'by_name';"
        )
    connection.close()
    with sqlite3.connect(shop) as connection:
        connection.executescript("INSERT INTO items VALUES ('B'), ('a'), ('A'), ('c')")
        connection.executescript(
            "PRAGMA writable_schema = 1;"
            "UPDATE sqlite_schema SET sql = replace(sql, ' COLLATE NOCASE', '')"
            " WHERE name = 'by_name';"
        )
    connection.close()
    assert "problem: d1: damaged: d1/shop.sqlite" in run("check", "--full", code=1).out
    assert "its indexes are built anew" in run("repair", "--full").out
    run("check", "--full")
    data = bytearray(shop.read_bytes())
    data[4096:8192] = bytes(range(256)) * 16
    shop.write_bytes(data)
    assert "problem: d1: damaged: d1/shop.sqlite" in run("check", code=1).out
    shop.write_text("not a database at all, and long enough to be seen as such" * 9)
    assert "not a SQLite database" in run("check", code=1).out


async def test_prune_and_vacuum_make_room(
    directory: Path, clock: bunflare.ManualClock, run: Run
) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        await fill(state)
        await state.kv("SETTINGS").put("filler", "x" * 3_000_000)
        await state.d1("shop").exec("CREATE VIRTUAL TABLE words USING fts5(text)")
        for name in ("one", "two", "three"):
            await state.snapshot(name)
        await state.kv("SETTINGS").delete("filler")
        await state.r2("files").create_multipart_upload("never")
    (directory / "cache" / "0123").write_text("left over")
    (directory / "snapshots" / ".making-1").mkdir()
    with sqlite3.connect(directory / "data.sqlite") as connection:
        connection.execute("UPDATE kv SET expiration = 1 WHERE key = 'size'")
        connection.execute("UPDATE cache_entries SET bunflare_expires = 1 WHERE url LIKE '%small'")
        connection.execute("UPDATE bunflare_r2_uploads SET created = 1")
    connection.close()
    run("prune", "--keep-snapshots", "2")
    assert [one["name"] for one in json.loads(run("snapshot", "list", "--json").out)] == [
        "two",
        "three",
    ]
    told = json.loads(run("prune", "--snapshots-older-than", "0", "--json").out)
    assert told["snapshots"] == ["two", "three"]
    with sqlite3.connect(directory / "data.sqlite") as connection:
        for table in ("kv WHERE key = 'size'", "bunflare_r2_uploads"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    connection.close()
    assert len(list((directory / "cache").iterdir())) == 1
    assert list((directory / "snapshots").iterdir()) == []
    told = json.loads(run("vacuum", "--json").out)
    shrunk = {one["name"]: one for one in told}
    assert shrunk["data.sqlite"]["before"] > 3_000_000 > shrunk["data.sqlite"]["after"]
    assert shrunk["d1/shop.sqlite"]["left"] == "it has virtual tables"
    assert "data.sqlite: " in run("vacuum").out
    assert "problem" not in run("check").out


async def test_prune_counts_what_it_removes(
    state: bunflare.State, clock: bunflare.ManualClock, directory: Path
) -> None:
    await fill(state)
    upload = await state.r2("files").create_multipart_upload("never")
    await upload.upload_part(1, b"part")
    state._timer._closed = True  # so that it is us who remove it
    await clock.advance(8 * 24 * 3600)
    done = await state.prune()
    assert (done.keys, done.responses, done.uploads, done.snapshots) == (1, 2, 1, ())
    assert [path.name for path in (directory / "cache").iterdir()] == []


async def test_watch_prints_what_changes(filled: Path) -> None:
    words = [*BUNFLARE, "watch", "--persist-to", str(filled)]
    process = subprocess.Popen(
        [*words, "--count", "3", "--system", "kv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "is on now" in process.stderr.readline()
    async with bunflare.open(filled, durability="normal") as state:
        await state.kv("SETTINGS").put("colour", "blue")
        await state.r2("files").put("other", "x")
        await state.kv("SETTINGS").put("new", "12")
        await state.kv("SETTINGS").delete("new")
        out, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
        assert [line.split(maxsplit=1)[1] for line in out.splitlines()] == [
            "~ kv key SETTINGS colour (4)",
            "+ kv key SETTINGS new (2)",
            "- kv key SETTINGS new",
        ]
        again = subprocess.run(
            [*words, "--after", "0", "--count", "1", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(again.stdout)["key"] == "colour"
        subprocess.run([*words, "--off"], check=True, capture_output=True)
        assert not state.changes.enabled
