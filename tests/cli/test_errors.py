"""Whatever is wrong, every command ends in a sentence and the right exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import bunflare
from tests.cli.forks import Forks, Outcome, forks
from tests.cli.process import PROGRAM, on_terminal, run
from tests.cli.tree import COMMANDS, ON_STATE, takes, understood
from tests.crash.conftest import small_disk as small_disk
from tests.support import files


@pytest.fixture(scope="module")
def ended() -> Iterator[Forks]:
    """Runs commands, each as a process."""
    with forks() as run_in_fork:
        yield run_in_fork


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with what the words of `understood` name."""
    return with_names(tmp_path / "project")


def with_names(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    (path / "pyproject.toml").touch()
    (path / "x").write_text("x")
    (path / "migrations").mkdir()
    return path


def sentence(outcome: Outcome) -> str:
    """The one line that says what is wrong, which must be no essay."""
    (told,) = (one for one in outcome.told.splitlines() if one.lower().startswith("error: "))
    assert 10 < len(told) < 500, told
    return told


def test_all_groups_are_told_a_directory_alike() -> None:
    assert len(ON_STATE) > 90
    for words in ON_STATE:
        for option in ("--config", "--env", "--persist-to", "--local", "--remote"):
            assert takes(words, option), (words, option)


def test_what_is_not_understood_ends_with_2(ended: Forks, project: Path) -> None:
    for words, command in COMMANDS.items():
        assert ended(project, *words, "--help").code == 0
        outcome = ended(project, *words, "--nonsense-that-nobody-takes")
        assert outcome.code == 2, outcome.told
        assert "No such option" in sentence(outcome)
        if any(one.required for one in command.params):
            outcome = ended(project, *words)
            assert outcome.code == 2, outcome.told
            assert "Missing " in sentence(outcome)
        if words != ("cache", "purge"):  # which takes any number of them
            outcome = ended(project, *understood(words), "1", "2", "3", "4")
            assert outcome.code == 2, (words, outcome.told)
            assert "Got unexpected extra argument" in sentence(outcome)
    assert sorted(path.name for path in project.iterdir()) == ["migrations", "pyproject.toml", "x"]


def test_there_is_nothing_remote(ended: Forks, project: Path) -> None:
    for words in ON_STATE:
        outcome = ended(project, *understood(words), "--remote")
        assert outcome.code == 2, outcome.told
        assert "there is no --remote" in sentence(outcome)
        outcome = ended(project, *understood(words), "--config", "none.toml")
        assert outcome.code == 2, (words, outcome.told)
        assert "'none.toml' does not exist" in sentence(outcome), words


def test_a_directory_that_cannot_be_one_is_left_as_it_is(
    ended: Forks, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/data.sqlite").write_bytes(b"not a database" * 100)
    (tmp_path / "newer").mkdir()
    connection = apsw.Connection(str(tmp_path / "newer/data.sqlite"))
    connection.execute("PRAGMA user_version = 999999")
    connection.close()
    before = files(tmp_path)
    for words in ON_STATE:
        given = understood(words)
        for name in ("other", "foreign", "newer", "file/below"):
            outcome = ended(project, *given, "--persist-to", str(tmp_path / name))
            assert outcome.code in (1, 2), (given, name, outcome)
            sentence(outcome)
    found = {name: data for name, data in files(tmp_path).items() if "writer.lock" not in name}
    assert {name for name in found if found[name] != before.get(name)} == set()


def test_to_look_at_a_state_that_is_not_there_makes_none(ended: Forks, project: Path) -> None:
    looking = ("list", "get", "head", "info", "verify", "check", "diff", "describe", "peek")
    for words in ON_STATE:
        if words[-1] in looking:
            outcome = ended(project, *understood(words))
            if words != ("d1", "migrations", "list"):  # all of them are to be applied
                assert outcome.code == 1, (words, outcome.told)
                assert "no state" in sentence(outcome)
            assert not (project / ".bunflare").exists()


DAMAGE = """
UPDATE kv SET metadata = '{';
UPDATE r2_objects SET custom_metadata = '{' WHERE key = 'x';
UPDATE queue_messages SET visible_at = 'soon';
UPDATE do_storage SET value = 'no JSON';
UPDATE workflow_instances SET params = '{';
UPDATE cache_entries SET headers = '{';
INSERT INTO bunflare_queues (name, created_at) VALUES ('x', 'soon');
"""


async def test_what_is_damaged_ends_in_a_sentence(ended: Forks, project: Path) -> None:
    state = project / ".bunflare"
    await fill(state)
    connection = apsw.Connection(str(state / "data.sqlite"))
    connection.execute(DAMAGE)
    connection.close()
    looking = ("list", "get", "head", "info", "describe", "peek", "copy", "export", "check")
    failed = set()
    for words in ON_STATE:
        if words[-1] in looking:
            outcome = ended(project, *understood(words))
            assert outcome.code in (0, 1), (words, outcome)
            if outcome.code:
                sentence(outcome)
                failed.add(words)
    assert {("kv", "key", "list"), ("r2", "object", "head"), ("state", "check")} <= failed


def test_what_nobody_has_foreseen_is_a_sentence_too_and_a_traceback_who_asks(project: Path) -> None:
    fault = (
        "from bunflare.bindings.queue_admin import QueueAdmin; QueueAdmin.names = None; "
        "from bunflare.cli import main; main()"
    )
    run(project, "queues", "create", "x", "--persist-to", "state")
    for environment in ({}, {"BUNFLARE_TRACEBACK": "1"}):
        found = subprocess.run(
            [sys.executable, "-c", fault, "queues", "list", "--persist-to", "state"],
            cwd=project,
            capture_output=True,
            env={**os.environ, **environment},
            check=False,
        )
        told = found.stderr.decode()
        assert found.returncode == 1
        assert "TypeError: 'NoneType' object is not callable" in told
        assert ("Traceback" in told) is bool(environment)
        assert told.startswith("error: ") is not bool(environment)


# -- disks and pipes -------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    run(tmp_path, "kv", "key", "put", "a", "1", "--namespace-id", "N")
    for words in (
        ("kv", "key", "get", "a", "--namespace-id", "N"),
        ("kv", "namespace", "list"),
        ("state", "info"),
        ("completion", "fish"),
    ):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [PROGRAM, *words], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False
            )
        assert done.returncode == 1
        assert done.stderr.decode() == "error: No space left on device\n", words


class Named(bunflare.DurableObject):
    async def fill(self) -> None:
        await self.ctx.storage.put("x", "x" * 1000)
        self.ctx.storage.sql.exec("CREATE TABLE t (a)")


class Flow(bunflare.WorkflowEntrypoint):
    pass


async def fill(directory: Path) -> None:
    """A state in which everything is called x."""
    async with bunflare.open(directory) as state:
        await state.kv("x").put("x", "x")
        await state.r2("x").put("x/x", "x" * 10_000)
        await state.r2("x").put("x", "x" * 200_000)
        await state.d1("x").exec("CREATE TABLE x (a); INSERT INTO x VALUES (1)")
        await state.durable_objects(Named, "x").get_by_name("x").fill()
        await state.queue("x").send("x")
        await state.workflow(Flow, "x").create("x")
        kept = bunflare.Response("x" * 200_000, headers={"cache-control": "max-age=9999"})
        await state.caches.default.put("https://example.com/", kept)
        await state.snapshot("x")


@pytest.mark.parametrize("spare", [0, 256 * 1024])
async def test_every_command_on_a_full_disk_ends_in_a_sentence(
    ended: Forks, small_disk: Path | None, tmp_path: Path, spare: int
) -> None:
    """It has done its work, or says what is wrong; and what was there is there."""
    if small_disk is None:
        pytest.skip("small disks cannot be made here")
    await fill(tmp_path / "whole")
    project = with_names(small_disk / "project")
    (project / "migrations/0001_y.sql").write_text("CREATE TABLE y (a)")
    state = small_disk / "project/.bunflare"
    told: dict[tuple[str, ...], str] = {}
    for words in [*ON_STATE, ("d1", "migrations", "create"), ("init",)]:
        (project / "x").write_bytes(b"x" * 1_000_000)
        shutil.copytree(tmp_path / "whole", state, copy_function=shutil.copy2)
        fill_up(small_disk / "filler", spare)
        outcome = ended(project, *understood(words))
        (small_disk / "filler").unlink()
        assert outcome.code in (0, 1), (words, outcome)
        if outcome.code:
            told[words] = sentence(outcome)
        connection = apsw.Connection(str(state / "data.sqlite"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], words
        connection.close()
        await asyncio.to_thread(shutil.rmtree, state)
        for left in ("new", ".making", "out"):
            await asyncio.to_thread(shutil.rmtree, project / left, ignore_errors=True)
    full = [words for words, said in told.items() if "full" in said or "No space left" in said]
    # To open a state, SQLite makes a file of 32 KiB. Where it can, little is written, too, and what
    # is only looked at is told.
    assert (("kv", "key", "get") in full) is (spare == 0)
    assert (("kv", "key", "put") in full) is (spare == 0)
    for words in (("r2", "object", "put"), ("state", "backup"), ("state", "branch")):
        assert words in full, (words, told.get(words))


def fill_up(filler: Path, spare: int) -> None:
    """Take all of a disk but for so many bytes."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    os.truncate(filler, filler.stat().st_size - spare)


def test_a_full_disk_ends_in_a_sentence(small_disk: Path | None, tmp_path: Path) -> None:
    if small_disk is None:
        pytest.skip("small disks cannot be made here")
    (tmp_path / "large").write_bytes(os.urandom(32 * 2**20))
    (small_disk / "pyproject.toml").touch()
    run(small_disk, "kv", "key", "put", "a", "1", "--namespace-id", "N")
    run(small_disk, "r2", "object", "put", "b/a", "--file", small_disk / "pyproject.toml")
    source = tmp_path / "source"
    run(tmp_path, "r2", "object", "put", "b/large", "-f", "large", "--persist-to", source)
    large = tmp_path / "large"
    for words in (
        ("kv", "key", "put", "b", "--path", "huge", "--namespace-id", "N"),
        ("r2", "object", "put", "b/large", "--file", str(large)),
        ("r2", "object", "sync", str(tmp_path / "folder"), "r2:b"),
        ("r2", "object", "get", "b/large", "--file", "copy", "--persist-to", str(source)),
        ("state", "import", str(source), "--keep-existing"),
        ("state", "export", "out", "--persist-to", str(source)),
    ):
        (tmp_path / "folder").mkdir(exist_ok=True)
        if not (tmp_path / "folder/large").exists():
            os.link(large, tmp_path / "folder/large")
        given = [str(tmp_path / "huge") if word == "huge" else word for word in words]
        (tmp_path / "huge").write_bytes(bytes(24 * 2**20))
        told = run(small_disk, *given, code=1)[1]
        assert "full" in told or "No space left" in told, told
        assert told.strip().splitlines()[-1].startswith("error: "), told
    assert run(small_disk, "kv", "key", "get", "a", "--namespace-id", "N")[0] == "1"
    assert run(small_disk, "r2", "check", "b")[0] == "1 object, 0 bytes\n"


def test_who_stops_it_sees_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    run(tmp_path, "kv", "key", "put", "a", "1", "--namespace-id", "N")
    process = subprocess.Popen(
        [PROGRAM, "state", "watch"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "is on now" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].strip() == "Aborted!"
    assert process.returncode == 1


# -- terminals -----------------------------------------------------------------------------------


def test_a_terminal_shows_tables_and_colours(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    put = ("kv", "key", "put", "--namespace-id", "N")
    run(tmp_path, *put, "a", "1", "--metadata", '{"n": 1}', "--expiration", "9000000000")
    shown = on_terminal(tmp_path, "kv", "key", "list", "--namespace-id", "N")
    assert "\x1b[1mkey" in shown
    assert "2255-03-14" in shown
    plain = on_terminal(tmp_path, "kv", "key", "list", "--namespace-id", "N", NO_COLOR="1")
    assert "\x1b" not in plain
    assert '{"n": 1}' in plain
    as_json = on_terminal(tmp_path, "kv", "key", "list", "--namespace-id", "N", "--json")
    assert '"name": "a"' in as_json
    error = on_terminal(tmp_path, "kv", "key", "get", "b", "--namespace-id", "N")
    assert "\x1b[31merror\x1b[0m: 'b': Value not found" in error
