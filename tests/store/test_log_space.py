"""The file of a log is longer than the log, and what it is filled with harms nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.store.connection import BusyWait, connect, enter_wal
from bunflare.store.log_space import LogSpace
from tests.support import child, other_program

WRITER = """
import asyncio, sys
from pathlib import Path
import bunflare

async def main():
    async with bunflare.open(Path(sys.argv[1])) as state:
        kv = state.kv("A")
        for number in range(200):
            await kv.put(f"k{number}", "v")
        print("written", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


class Log:
    """A small database with its log, and who makes room for that."""

    def __init__(self, path: Path, page_size: int = 4096) -> None:
        self.path = path
        self.file = Path(f"{path}-wal")
        self.frame = page_size + 24
        made = apsw.Connection(str(path))
        made.execute(f"PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (a)")
        made.close()
        busy = BusyWait(10)
        self.connection = connect(path, "full", busy)
        enter_wal(self.connection, path, 1)
        self.space = LogSpace(self.connection, path, busy)
        self.pages = 0
        self.connection.set_wal_hook(self._count)

    def _count(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.pages = pages
        return apsw.SQLITE_OK

    def insert(self, value: int) -> None:
        self.connection.execute("INSERT INTO t VALUES (?)", (value,))

    def room(self) -> int:
        return (self.file.stat().st_size - 32) // self.frame


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_file_is_ahead_of_the_log(tmp_path: Path, page_size: int) -> None:
    log = Log(tmp_path / "a.sqlite", page_size)
    sizes = set()
    for number in range(400):
        log.insert(number)
        if log.pages >= log.space.enough:
            log.space.extend(log.pages)
        if log.pages > 16:
            assert log.room() > log.pages
        sizes.add(log.room())
    steps = log.file.stat().st_size // (512 * 1024)
    assert len(sizes) < 30 + steps, "it grew in large steps"


def test_a_log_that_stays_short_keeps_its_size(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.sqlite")
    log.insert(1)
    assert log.pages < log.space.enough
    assert log.room() == log.pages


def test_frames_of_others_are_left_alone(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.sqlite")
    other = apsw.Connection(str(log.path))
    for number in range(300):
        log.insert(number)
        other.execute("INSERT INTO t VALUES (?)", (-number,))
        log.space.extend(log.pages)
    fresh = apsw.Connection(str(log.path))
    assert fresh.execute("SELECT count(*), sum(a) FROM t").fetchall() == [(600, 0)]
    assert fresh.execute("PRAGMA integrity_check").get == "ok"


def test_it_does_not_wait_for_who_is_writing(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.sqlite")
    log.insert(1)
    other = apsw.Connection(str(log.path))
    other.execute("BEGIN IMMEDIATE")
    log.space.extend(100)
    assert log.room() == log.pages
    assert log.space.enough > 100, "it does not try again at once"
    other.execute("ROLLBACK")
    log.space.extend(100)
    assert log.room() > 100


def test_a_full_disk_only_means_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path / "a.sqlite")
    log.insert(1)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        log.space.extend(100)
    assert not log.connection.in_transaction
    log.insert(2)
    assert log.connection.execute("SELECT count(*) FROM t").get == 2


async def test_commits_of_every_kind_find_room(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        kv, db = state.kv("A"), state.d1("b")
        await db.exec("CREATE TABLE t (a)")
        for number in range(64):
            await kv.put(f"k{number}", "v")
            await db.prepare("INSERT INTO t VALUES (?)").bind(number).run()
        for path in (directory / "data.sqlite-wal", directory / "d1" / "b.sqlite-wal"):
            assert not any(path.read_bytes()[-4096:]), "zeros follow the log"


async def test_what_is_not_flushed_needs_none(directory: Path) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        for number in range(64):
            await state.kv("A").put(f"k{number}", "v")
        assert any((directory / "data.sqlite-wal").read_bytes()[-4096:])


async def test_a_killed_process_leaves_a_log_that_opens(directory: Path) -> None:
    with child(WRITER, directory) as process:
        assert process.line() == "written"
        process.kill()
    assert not any((directory / "data.sqlite-wal").read_bytes()[-4096:])
    with other_program(directory) as run:
        run("INSERT INTO kv (namespace, key, value) VALUES ('A', 'other', '')")
    async with bunflare.open(directory) as state:
        assert len((await state.kv("A").list()).keys) == 201
