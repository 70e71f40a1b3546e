"""litequeue (PyPI): a queue in SQLite, from Python, without a server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..report import tell

NAME = "litequeue, synchronous=FULL"


class LiteQueue:
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def send(self, bodies: Sequence[object]) -> int:
        for body in bodies:
            self._queue.put(json.dumps(body))
        return len(bodies)

    def fill(self, count: int) -> int:
        self._queue.conn.execute("DELETE FROM " + self._queue.table)
        return self.send([{"job": number} for number in range(count)])

    def consume(self, count: int) -> int:
        for _ in range(count):
            self._queue.done(self._queue.pop().message_id)
        return count


def start(path: Path, stack: AsyncExitStack) -> LiteQueue | None:
    """An empty queue that is as durable as ours."""
    try:
        litequeue = importlib.import_module("litequeue")
    except ImportError as error:
        tell(f"litequeue is not measured: {error}")
        return None
    queue = litequeue.LiteQueue(str(path))
    queue.conn.execute("PRAGMA synchronous = FULL")
    stack.callback(queue.conn.close)
    return LiteQueue(queue)
