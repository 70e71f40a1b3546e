"""Real processes for tests: programs that talk with the test line by line."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bunflare

#: How long a test waits for another process before it fails, in seconds: what takes one of them on
#: an idle machine may take a minute on a busy one.
PATIENCE = 60.0


class Child:
    """A Python program that was started for a test."""

    def __init__(self, source: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)
        self._rest = b""

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def line(self, busy: float = 0.0) -> str:
        """The next line that the program printed; fails if there is none in time.

        ``busy`` says for how many seconds the program will be at work before it prints.
        """
        deadline = time.monotonic() + PATIENCE + busy
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0, "the other process said nothing"
            if self._selector.select(left):
                assert self.process.stdout is not None
                data = self.process.stdout.read()
                assert data, f"the other process ended with {self.process.wait()}"
                self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def rest(self) -> list[str]:
        """Whole lines that were printed, after the program has ended."""
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        while data := self.process.stdout.read():
            self._rest += data
        lines = self._rest.split(b"\n")
        return [line.decode() for line in lines[:-1]]

    def kill(self) -> None:
        """SIGKILL: no handler, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


@contextmanager
def child(source: str, *arguments: object) -> Iterator[Child]:
    """Run a Python program beside the test."""
    running = Child(source, *arguments)
    try:
        yield running
    finally:
        running.close()


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


LOCKER = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
for line in sys.stdin:
    connection.execute(line).fetchall()
    print("done", flush=True)
"""


@contextmanager
def other_program(directory: Path) -> Iterator[Callable[[str], None]]:
    """Another process with a connection of its own: what it is given is a statement that it runs.

    It knows nothing of bunflare: no turnstile, no waiting.
    """
    with child(LOCKER, directory / "data.sqlite") as process:

        def run(statement: str) -> None:
            process.tell(statement)
            assert process.line() == "done"

        yield run


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process does; fails if it does not happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


async def chores_done(state: bunflare.State) -> None:
    """Wait for what the state's timer is doing: on a slow disk it does it on a thread."""
    while (task := state._timer._task) is not None and not task.done():
        await asyncio.wait([task])
