"""Many commands as processes, each in hundredths of a second: forks of one that has it loaded.

A fork does what the console script does, with outputs and an exit code of its own.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

import bunflare.cli
from tests.support import Child, child


class Outcome(NamedTuple):
    code: int
    out: str
    told: str


class Forks:
    """Runs commands in a directory."""

    def __init__(self, program: Child) -> None:
        self._program = program

    def __call__(
        self, directory: Path, *words: str | Path, input: bytes = b"", **environment: str
    ) -> Outcome:
        order = {
            "directory": str(directory),
            "words": list(map(str, words)),
            "input": input.decode("latin-1"),
            "environment": {**os.environ, **environment},
        }
        self._program.tell(json.dumps(order))
        outcome = Outcome(*json.loads(self._program.line()))
        assert "Traceback" not in outcome.told, (words, outcome.told)
        return outcome


_ROOT = Path(__file__).parents[2]
_PROGRAM = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_module("tests.cli.forks", run_name="__main__")
"""


@contextmanager
def forks(*, bare: bool = False) -> Iterator[Forks]:
    """``bare``: each imports for itself what its command needs, and ends as an interpreter does."""
    with child(_PROGRAM, _ROOT, "bare" if bare else "loaded") as program:
        yield Forks(program)


@functools.cache
def shared() -> Forks:
    """One for all tests of this process."""
    program = Child(_PROGRAM, _ROOT, "loaded")
    atexit.register(program.close)
    return Forks(program)


def carry_out(order: dict[str, Any], loaded: bool) -> tuple[int, str, str]:
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as told,
    ):
        given.write(order["input"].encode("latin-1"))
        given.seek(0)
        process = os.fork()
        if process == 0:
            os.environ.clear()
            os.environ.update(order["environment"])
            os.environ.pop("BUNFLARE_DIR", None)
            os.chdir(order["directory"])
            for number, file in enumerate((given, out, told)):
                os.dup2(file.fileno(), number)
            sys.stdin = os.fdopen(0, closefd=False)
            be_the_script(order["words"], loaded)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts = []
        for file in (out, told):
            file.seek(0)
            texts.append(file.read().decode())
        return code, texts[0], texts[1]


def be_the_script(words: list[str], loaded: bool) -> NoReturn:
    """What the console script does, to the end of the process."""
    sys.argv = ["bunflare", *words]
    code: object = 0
    try:
        bunflare.cli.main()
    except SystemExit as end:
        code = end.code
    if not loaded:
        sys.exit(code)  # type: ignore[arg-type]
    # To take apart all that is loaded would be half of the work.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def main(loaded: bool) -> None:
    if loaded:
        import bunflare.state

        for name in bunflare.cli.cli.list_commands(click.Context(bunflare.cli.cli)):
            bunflare.cli.cli.get_command(click.Context(bunflare.cli.cli), name)
    # What is loaded is nothing that a fork has to look through, or copy.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(carry_out(json.loads(line), loaded)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[2] == "loaded")
