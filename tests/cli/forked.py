"""The command line as processes that are forked from one that has loaded it already.

A new interpreter takes a quarter of a second, and most of a test that runs all commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVER = """
import json, os, sys
import bunflare.cli
from bunflare.cli import main

def command(asked):
    os.chdir(asked["directory"])
    for number, name in ((0, os.devnull), (1, asked["out"]), (2, asked["told"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["bunflare", *asked["words"]]
    main()

for line in sys.stdin:
    child = os.fork()
    if not child:
        command(json.loads(line))
        sys.exit()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

#: Runs a command in a directory, which must end with a code; what it printed to its two outputs.
Run = Callable[..., tuple[str, str]]


@contextmanager
def forking(scratch: Path) -> Iterator[Run]:
    """A `tests.cli.process.run` whose processes begin with everything loaded."""
    out, told = scratch / "out", scratch / "told"
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "BUNFLARE_DIR"},
    )

    def run(directory: Path, *words: str, code: int = 0) -> tuple[str, str]:
        assert server.stdin is not None
        assert server.stdout is not None
        asked = {"directory": str(directory), "words": words, "out": str(out), "told": str(told)}
        server.stdin.write(f"{json.dumps(asked)}\n")
        server.stdin.flush()
        ended = int(server.stdout.readline())
        errors = told.read_text()
        assert ended == code, (words, ended, errors)
        assert "Traceback" not in errors, errors
        return out.read_text(), errors

    try:
        yield run
    finally:
        server.communicate(timeout=60)
