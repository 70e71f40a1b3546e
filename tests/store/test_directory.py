"""The data directory: found, made, or refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import bunflare
from bunflare.store.directory import FORMAT_VERSION, locate, project_root
from tests.support import child, files


def project(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).touch()
    return path


def test_the_project_root_is_the_nearest_wrangler_file(tmp_path: Path) -> None:
    project(tmp_path, "wrangler.jsonc")
    inner = project(tmp_path / "a", "pyproject.toml", ".git")
    below = project(inner / "b")
    assert project_root(below) == tmp_path
    (tmp_path / "wrangler.jsonc").unlink()
    assert project_root(below) == inner
    (inner / "pyproject.toml").unlink()
    assert project_root(below) == inner  # .git
    (inner / ".git").unlink()


def test_without_a_project_the_working_directory_is_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The temporary directory of the tests may itself lie in a project.
    monkeypatch.setattr("bunflare.store.directory._ROOT_MARKS", (("no such mark",),))
    assert project_root() == tmp_path
    assert locate() == tmp_path / ".bunflare"


def test_an_argument_wins_over_the_variable_and_that_over_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path, "wrangler.toml"))
    assert locate() == tmp_path / ".bunflare"
    monkeypatch.setenv("BUNFLARE_DIR", str(tmp_path / "elsewhere"))
    assert locate() == tmp_path / "elsewhere"
    assert locate("here") == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/there") == tmp_path / "there"


async def test_it_is_made_whole_on_first_use(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ".bunflare"
    async with bunflare.open(path) as state:
        assert state.directory == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "data.sqlite").stat().st_mode) == 0o600
        assert "*" in (path / ".gitignore").read_text().splitlines()
        assert state.database.view.one("PRAGMA user_version") == (FORMAT_VERSION,)


async def test_a_gitignore_that_is_there_stays(directory: Path) -> None:
    directory.mkdir()
    (directory / ".gitignore").write_text("mine")
    async with bunflare.open(directory):
        assert (directory / ".gitignore").read_text() == "mine"


@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path, below: bool) -> None:
    obstacle = tmp_path / "file"
    obstacle.write_text("precious")
    path = obstacle / ".bunflare" if below else obstacle
    with pytest.raises(bunflare.DirectoryError, match=r"not a directory|cannot be a directory"):
        bunflare.open(path)
    assert obstacle.read_text() == "precious"


FUTURE = """
import apsw, sys
c = apsw.Connection(sys.argv[1])
c.execute("PRAGMA journal_mode=WAL").fetchall()
c.execute("PRAGMA wal_autocheckpoint=0")
c.execute("CREATE TABLE kv (new_layout)")
c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
c.execute("PRAGMA user_version=99")
if sys.argv[2] == "checkpointed":
    c.close()
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("where", ["checkpointed", "only in the log"])
def test_a_directory_from_the_future_is_left_untouched(directory: Path, where: str) -> None:
    directory.mkdir()
    with child(FUTURE, directory / "data.sqlite", where) as other:
        assert other.line() == "done"
        other.kill()
    before = files(directory)
    with pytest.raises(bunflare.FutureFormatError, match="newer bunflare"):
        bunflare.open(directory)
    after = files(directory)
    # SQLite rebuilds its shared memory to read a log; what was stored is as it was.
    for name in ("data.sqlite", "data.sqlite-wal"):
        assert after.get(name) == before.get(name)
    assert not (directory / "writer.lock").exists()


async def test_many_processes_may_make_it_at_once(directory: Path) -> None:
    source = """
import asyncio, sys, bunflare
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    async with bunflare.open(sys.argv[1]) as state:
        await state.kv("A").put(sys.argv[2], "value")
    print("done", flush=True)
asyncio.run(main())
"""
    with (
        child(source, directory, 1) as a,
        child(source, directory, 2) as b,
        child(source, directory, 3) as c,
    ):
        for one in (a, b, c):
            assert one.line() == "ready"
        for one in (a, b, c):
            one.tell("go")
        for one in (a, b, c):
            assert one.line() == "done"
    async with bunflare.open(directory) as state:
        assert len((await state.kv("A").list()).keys) == 3
