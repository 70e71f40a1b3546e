"""Whatever is wrong, every command ends in a sentence and the right exit code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bunflare.cli import main
from tests.cli.process import PROGRAM, on_terminal, run
from tests.cli.tree import COMMANDS, ON_STATE, takes, understood
from tests.crash.conftest import small_disk as small_disk
from tests.support import files


class Outcome:
    def __init__(self, code: int, told: str) -> None:
        self.code = code
        self.told = told


@pytest.fixture
def ended(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a command in this process, which is quicker."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "x").write_text("x")
    (project / "migrations").mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("BUNFLARE_DIR", raising=False)
    # Nobody is there to be asked.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))

    def call(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bunflare", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Outcome(int(end.value.code or 0), capfd.readouterr().err)

    return call


def test_all_groups_are_told_a_directory_alike() -> None:
    assert len(ON_STATE) > 90
    for words in ON_STATE:
        for option in ("--config", "--env", "--persist-to", "--local", "--remote"):
            assert takes(words, option), (words, option)


def test_what_is_not_understood_ends_with_2(ended: Callable[..., Outcome]) -> None:
    for words in COMMANDS:
        outcome = ended(*words, "--nonsense-that-nobody-takes")
        assert outcome.code == 2, outcome.told
        assert "No such option" in outcome.told
        assert ended(*words, "--help").code == 0


def test_a_directory_that_cannot_be_one_is_left_as_it_is(
    ended: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/data.sqlite").write_bytes(b"not a database" * 100)
    before = files(tmp_path)
    for words in ON_STATE:
        given = understood(words)
        for name in ("other", "foreign", *(("file/below",) if words[-1] == "list" else ())):
            outcome = ended(*given, "--persist-to", str(tmp_path / name))
            assert outcome.code in (1, 2), (given, name, outcome.told)
            assert outcome.told.strip(), (given, name)
            last = outcome.told.strip().splitlines()[-1]
            assert last.lower().startswith("error: "), outcome.told
            assert len(last) < 500, last
    found = {name: data for name, data in files(tmp_path).items() if "writer.lock" not in name}
    assert {name for name in found if found[name] != before.get(name)} == set()


def test_to_look_at_a_state_that_is_not_there_makes_none(
    ended: Callable[..., Outcome], tmp_path: Path
) -> None:
    looking = ("list", "get", "head", "info", "verify")
    for words in ON_STATE:
        if words[-1] in looking:
            outcome = ended(*understood(words))
            if words != ("d1", "migrations", "list"):  # all of them are to be applied
                assert outcome.code == 1, (words, outcome.told)
                assert "no state" in outcome.told
            assert not (tmp_path / "project/.bunflare").exists()


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
    assert run(small_disk, "r2", "check", "b")[0] == "1 objects, 0 bytes\n"


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
