"""A program that repairs, imports, restores or snapshots a state, and is killed meanwhile.

Each line that it reads is an order. A fork carries it out and dies at a step, which is a call of
the operating system that changes files, or after a time; how that ended is printed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bunflare
from bunflare.bindings.imports import import_state

STEPS = [
    *("open", "write", "fsync", "rename", "replace", "unlink", "remove", "utime", "mkdir"),
    *("rmdir", "link", "close", "copy_file_range", "sendfile", "chmod", "listdir", "scandir"),
]


def count_steps(at: int) -> Iterator[int]:
    """Have every step counted, and let this process die at one of them; 0: at none."""
    steps = itertools.count(1)  # which counts right, whatever threads it is asked by

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        if hasattr(os, name):
            setattr(os, name, watched(getattr(os, name)))
    return steps


def on_state(work: Callable[[bunflare.State], Any]) -> Callable[[Path, Path], None]:
    def deed(directory: Path, other: Path) -> None:
        async def whole() -> None:
            async with bunflare.open(directory) as state:
                await work(state)

        asyncio.run(whole())

    return deed


def bring_in(directory: Path, other: Path) -> None:
    import_state(other, directory, config=None, keep=True, progress=lambda done, whole: None)


DEEDS: dict[str, Callable[[Path, Path], object]] = {
    "repair": on_state(lambda state: state.repair()),
    "import": bring_in,
    "restore": lambda directory, other: bunflare.restore(other, directory, replace=True),
    "snapshot": on_state(lambda state: state.snapshot("new")),
    "drop": on_state(lambda state: state.drop_snapshot("old")),
    "go back": lambda directory, other: bunflare.go_back("old", directory),
}


def carry_out(order: dict[str, Any]) -> tuple[bool, int]:
    """Whether it was killed, and how many steps it had."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            steps = count_steps(order["step"])
            DEEDS[order["deed"]](Path(order["directory"]), Path(order["other"]))
            os.write(writer, str(next(steps)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    if order["seconds"]:
        time.sleep(order["seconds"])
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    told = os.read(reader, 100)
    os.close(reader)
    assert told or os.WIFSIGNALED(status), f"it has ended with {status}"
    return not told, int(told or 0)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(carry_out(json.loads(line))) + "\n")
        sys.stdout.flush()
