"""A moment of many files: those at rest, those that come to life, those that go."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.store import moment as moments
from bunflare.store.images import alone, put_in_place
from bunflare.store.restoring import restore_backup
from tests.support import child


@pytest.fixture
async def filled(state: bunflare.State, monkeypatch: pytest.MonkeyPatch) -> bunflare.State:
    """A state with D1 databases that count as at rest, however young they are."""
    for number in range(5):
        await state.d1(f"db{number}").exec("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    monkeypatch.setattr(moments, "_REST_NS", 0)
    return state


async def counts(directory: Path) -> list[int]:
    async with bunflare.open(directory, durability="normal") as state:
        found = [await state.d1(f"db{n}").prepare("SELECT n FROM t").first() for n in range(5)]
        return [row["n"] for row in found]


async def test_files_at_rest_are_not_held(
    filled: bunflare.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []
    begin = moments._Held.begin

    def note(self: moments._Held) -> apsw.Connection:
        held.append(self.path.name)
        return begin(self)

    monkeypatch.setattr(moments._Held, "begin", note)
    await filled.backup(tmp_path / "b.tar")
    assert held == ["data.sqlite"]
    await asyncio.to_thread(restore_backup, tmp_path / "b.tar", tmp_path / "copy", False)
    assert await counts(tmp_path / "copy") == [1] * 5


async def test_a_file_that_comes_to_life_begins_all_anew(
    filled: bunflare.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    read = moments._bytes

    def write_meanwhile(source: apsw.Connection) -> bytes:
        copied.append(Path(source.filename).name)
        if copied.count("db2.sqlite") == 1 and copied[-1] == "db2.sqlite":
            other = apsw.Connection(str(filled.directory / "d1/db2.sqlite"))
            other.execute("UPDATE t SET n = 2")
            other.close()
        return read(source)

    monkeypatch.setattr(moments, "_bytes", write_meanwhile)
    await filled.backup(tmp_path / "b.tar")
    assert copied.count("db2.sqlite") == 2
    await asyncio.to_thread(restore_backup, tmp_path / "b.tar", tmp_path / "copy", False)
    assert await counts(tmp_path / "copy") == [1, 1, 2, 1, 1]


async def test_a_file_that_goes_is_left_out(
    filled: bunflare.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (filled.directory / "do-sql/N").mkdir(parents=True)
    doomed = filled.directory / "do-sql/N/x.sqlite"
    connection = apsw.Connection(str(doomed))
    connection.execute("CREATE TABLE t (n)")
    connection.close()
    read = moments._bytes

    def remove_meanwhile(source: apsw.Connection) -> bytes:
        doomed.unlink(missing_ok=True)
        return read(source)

    monkeypatch.setattr(moments, "_bytes", remove_meanwhile)
    await filled.backup(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        names = set(archive.getnames())
    assert {"state/data.sqlite", "state/d1/db4.sqlite"} <= names
    assert "state/do-sql/N/x.sqlite" not in names
    assert not doomed.exists()


async def test_a_long_writer_is_told_of(
    filled: bunflare.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "_PATIENCE", 0.0)
    monkeypatch.setattr(moments, "_STEP_SECONDS", 0.01)
    async with filled.transaction():
        with pytest.raises(bunflare.StateError, match="open transaction"):
            await filled.backup(tmp_path / "b.tar")
        other = asyncio.create_task(asyncio.to_thread(_back_up, filled, tmp_path / "b.tar"))
        with pytest.raises(bunflare.DatabaseBusy, match="data.sqlite has been written to"):
            await other
    assert list(tmp_path.glob("*.tar*")) == []
    await filled.backup(tmp_path / "b.tar")


def _back_up(state: bunflare.State, target: Path) -> None:
    from bunflare.store.archive import write_backup

    write_backup(state.database.directory, target)


OPENER = """
import asyncio, sys, time, bunflare

def first_sleep(seconds, sleep=time.sleep):
    # Whoever opens a state sleeps between two tries for a lock.
    time.sleep = sleep
    print("waits", flush=True)
    sleep(seconds)

async def main():
    input()
    time.sleep = first_sleep
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        await state.kv("K").put("written", "late")
        print(await state.kv("K").get("which"), flush=True)
asyncio.run(main())
"""


async def test_whoever_waits_for_a_state_that_is_replaced_gets_the_new_one(
    directory: Path, tmp_path: Path
) -> None:
    for text, path in (("old", directory), ("new", tmp_path / "new")):
        async with bunflare.open(path, durability="normal") as state:
            await state.kv("K").put("which", text)
    with child(OPENER, directory) as process:
        with alone(directory):
            process.tell("")
            assert process.line() == "waits"
            put_in_place(tmp_path / "new", directory)
        assert process.line() == "new"
    async with bunflare.open(directory, durability="normal") as state:
        assert await state.kv("K").get("written") == "late"
