"""The command line as a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("bunflare"))


def run(
    directory: Path, *words: str | Path, code: int = 0, input: bytes | None = None
) -> tuple[str, str]:
    """What a command prints to its two outputs. It must end with ``code``, and no traceback."""
    done = subprocess.run(
        [PROGRAM, *map(str, words)],
        cwd=directory,
        capture_output=True,
        input=input,
        timeout=60,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "BUNFLARE_DIR"},
    )
    told = done.stderr.decode()
    assert done.returncode == code, (words, done.returncode, told)
    assert "Traceback" not in told, told
    return done.stdout.decode(), told


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
