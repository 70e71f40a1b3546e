"""Many commands as processes, each in a hundredth of a second: forks of one that has it loaded.

A fork does what the console script does, with outputs and an exit code of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from tests.support import Child, child


class Outcome(NamedTuple):
    code: int
    out: str
    told: str


class Forks:
    """Runs commands in a directory."""

    def __init__(self, program: Child) -> None:
        self._program = program

    def __call__(self, directory: Path, *words: str | Path) -> Outcome:
        order = {"directory": str(directory), "words": list(map(str, words))}
        self._program.tell(json.dumps(order))
        outcome = Outcome(*json.loads(self._program.line()))
        assert "Traceback" not in outcome.told, (words, outcome.told)
        return outcome


@contextmanager
def forks() -> Iterator[Forks]:
    with child(Path(__file__).read_text()) as program:
        yield Forks(program)


def carry_out(order: dict[str, Any]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        process = os.fork()
        if process == 0:
            os.chdir(order["directory"])
            # Nobody is there to be asked.
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(told.fileno(), 2)
            from bunflare.cli import main

            sys.argv = ["bunflare", *order["words"]]
            try:
                main()
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts = []
        for file in (out, told):
            file.seek(0)
            texts.append(file.read().decode())
        return code, texts[0], texts[1]


if __name__ == "__main__":
    import bunflare.cli
    import bunflare.state

    os.environ.pop("BUNFLARE_DIR", None)
    for name in bunflare.cli.cli.list_commands(click.Context(bunflare.cli.cli)):
        bunflare.cli.cli.get_command(click.Context(bunflare.cli.cli), name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(carry_out(json.loads(line))) + "\n")
        sys.stdout.flush()
