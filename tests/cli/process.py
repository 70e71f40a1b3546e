"""The command line as a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.cli.forks import shared

PROGRAM = str(Path(sys.executable).with_name("bunflare"))


def run(
    directory: Path, *words: str | Path, code: int = 0, input: bytes = b"", **environment: str
) -> tuple[str, str]:
    """What a command prints to its two outputs. It must end with ``code``, and no traceback."""
    outcome = shared()(directory, *words, input=input, **environment)
    assert outcome.code == code, (words, outcome.code, outcome.told)
    return outcome.out, outcome.told


def on_terminal(directory: Path, *words: str, typed: str = "", **environment: str) -> str:
    """What a person sees, who has typed something."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *words],
        cwd=directory,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while True:
        try:
            data = os.read(ours, 10_000)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    process.wait(30)
    return shown.decode()
