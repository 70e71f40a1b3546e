"""huey (PyPI): a task queue with SQLite as its storage, from Python, without a server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..report import tell

NAME = "huey (SQLite), fsync"


class Huey:
    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def send(self, bodies: Sequence[object]) -> int:
        for body in bodies:
            self._storage.enqueue(json.dumps(body).encode())
        return len(bodies)

    def fill(self, count: int) -> int:
        self._storage.flush_queue()
        return self.send([{"job": number} for number in range(count)])

    def consume(self, count: int) -> int:
        """Taken is gone: it has no acknowledgement."""
        for _ in range(count):
            assert self._storage.dequeue() is not None
        return count


def start(path: Path, stack: AsyncExitStack) -> Huey | None:
    """An empty storage that is as durable as ours."""
    try:
        storage = importlib.import_module("huey.storage")
    except ImportError as error:
        tell(f"huey is not measured: {error}")
        return None
    queue = storage.SqliteStorage("bench", filename=str(path), fsync=True)
    stack.callback(queue.close)
    return Huey(queue)
