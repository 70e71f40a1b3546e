"""The data directory: found, made, or refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store.directory import FORMAT_VERSION, locate, project_root
from bunflare.store.schema import is_current
from tests.support import child, files


def project(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).touch()
    return path


# -- found -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wrangler.toml", "wrangler.json", "wrangler.jsonc"])
def test_the_project_root_is_the_nearest_wrangler_file(tmp_path: Path, name: str) -> None:
    project(tmp_path, name)
    inner = project(tmp_path / "a", "pyproject.toml", ".git")
    below = project(inner / "b")
    assert project_root(below) == tmp_path
    project(inner, name)
    assert project_root(below) == inner


def test_without_a_wrangler_file_it_is_pyproject_and_then_git(tmp_path: Path) -> None:
    outer = project(tmp_path / "a", "pyproject.toml")
    inner = project(outer / "b", ".git")
    below = project(inner / "c")
    assert project_root(below) == outer
    (outer / "pyproject.toml").unlink()
    assert project_root(below) == inner


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
    monkeypatch.setenv("BUNFLARE_DIR", "")
    assert locate() == tmp_path / ".bunflare"


# -- made --------------------------------------------------------------------------------------


async def test_it_is_made_whole_on_first_use(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ".bunflare"
    async with bunflare.open(path) as state:
        assert state.directory == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "data.sqlite").stat().st_mode) == 0o600
        assert "*" in (path / ".gitignore").read_text().splitlines()
        assert state.database.view.one("PRAGMA user_version") == (FORMAT_VERSION,)


async def test_git_sees_nothing_of_it(tmp_path: Path) -> None:
    async with bunflare.open(tmp_path / ".bunflare") as state:
        await state.kv("A").put("key", "value")
        names = {path.name for path in state.directory.iterdir()}
    assert ".gitignore" in names
    assert not {name for name in names if name.startswith(".gitignore.")}
    lines = (tmp_path / ".bunflare" / ".gitignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*"]


async def test_a_gitignore_that_is_there_stays(directory: Path) -> None:
    directory.mkdir()
    (directory / ".gitignore").write_text("mine")
    async with bunflare.open(directory):
        assert (directory / ".gitignore").read_text() == "mine"


async def test_other_files_in_it_are_nobodys_business(directory: Path) -> None:
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    (directory / "r2").mkdir()
    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", "value")
    assert (directory / "notes.txt").read_text() == "mine"
    assert (directory / "r2").is_dir()


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


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path, below: bool) -> None:
    obstacle = tmp_path / "file"
    obstacle.write_text("precious")
    path = obstacle / ".bunflare" if below else obstacle
    with pytest.raises(bunflare.DirectoryError, match=r"not a directory|cannot be a directory"):
        bunflare.open(path)
    assert obstacle.read_text() == "precious"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.EACCES, bunflare.DirectoryError, "cannot be written to"),
        (errno.EROFS, bunflare.DirectoryError, "cannot be written to"),
        (errno.ENOSPC, bunflare.DatabaseFull, "is full"),
        (errno.EDQUOT, bunflare.DatabaseFull, "is full"),
        (errno.ENAMETOOLONG, bunflare.DirectoryError, "cannot be used"),
    ],
)
@pytest.mark.parametrize("what", ["mkdir", "replace"])
def test_what_the_system_refuses_is_a_clear_error(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[Exception],
    message: str,
    what: str,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, what, refuse)
    with pytest.raises(kind, match=message):
        bunflare.open(directory)


def test_a_directory_that_may_not_be_written_to_is_a_clear_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(bunflare.DirectoryError, match="owner and permissions"):
        bunflare.open(directory)
    assert list(directory.iterdir()) == []


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
@pytest.mark.parametrize("beside", ["another program uses it", "nobody uses it"])
def test_a_directory_from_the_future_is_left_untouched(
    directory: Path, where: str, beside: str
) -> None:
    directory.mkdir()
    (directory / "new.things").write_text("of a newer program")
    with child(FUTURE, directory / "data.sqlite", where) as other:
        assert other.line() == "done"
        if beside == "nobody uses it":
            other.kill()
        before = files(directory)
        for _ in range(2):
            with pytest.raises(bunflare.FutureFormatError, match="newer bunflare") as caught:
                bunflare.open(directory)
            assert "format 99" in str(caught.value)
            assert "Nothing was changed" in str(caught.value)
            after = files(directory)
            # SQLite rebuilds its shared memory to read a log that nobody has open; that is no
            # part of what is stored. Everything else is as it was, and nothing is new.
            for entries in (before, after):
                if where == "only in the log":
                    entries.pop("data.sqlite-shm", None)
            assert after == before


def test_a_version_that_is_in_a_log_only_is_still_there_for_the_newer_program(
    directory: Path,
) -> None:
    directory.mkdir()
    with child(FUTURE, directory / "data.sqlite", "only in the log") as other:
        assert other.line() == "done"
        other.kill()
    with pytest.raises(bunflare.FutureFormatError):
        bunflare.open(directory)
    source = """
    import apsw, sys
    print(apsw.Connection(sys.argv[1]).execute("PRAGMA user_version").fetchall(), flush=True)
    """
    with child(source, directory / "data.sqlite") as newer:
        assert newer.line() == "[(99,)]"


async def test_a_newer_program_that_was_quicker_is_not_set_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find a file of version 0; the newer one has finished when the older one may begin."""

    def late(*arguments: Any) -> bool:
        source = """
        import apsw, sys
        apsw.Connection(sys.argv[1]).execute("PRAGMA user_version = 99")
        print("done", flush=True)
        """
        current = is_current(*arguments)
        with child(source, directory / "data.sqlite") as newer:
            assert newer.line() == "done"
        return current

    monkeypatch.setattr("bunflare.store.systems.is_current", late)
    with pytest.raises(bunflare.FutureFormatError):
        bunflare.open(directory)
    with pytest.raises(bunflare.FutureFormatError):
        bunflare.open(directory)
