"""The command line, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import bunflare
from tests.cli.tree import COMMANDS


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("bunflare")), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "BUNFLARE_DIR"},
    )


def test_every_command_and_every_option_says_what_it_does() -> None:
    silent = [
        (words, option.opts)
        for words, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not (option.hidden or option.help)
    ]
    assert silent == []
    assert [words for words, command in COMMANDS.items() if not command.help] == []


def test_it_says_what_it_can_do(tmp_path: Path) -> None:
    result = run(tmp_path, "--help")
    assert result.returncode == 0
    assert "dev " in result.stdout
    assert "init " in result.stdout
    assert run(tmp_path, "--version").stdout.strip() == f"bunflare, version {bunflare.__version__}"
    assert "--persist-to" in run(tmp_path, "dev", "-h").stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["dev", "--nonsense"], ["dev", "--port", "x"]])
def test_wrong_arguments_end_with_2(tmp_path: Path, arguments: list[str]) -> None:
    result = run(tmp_path, *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
