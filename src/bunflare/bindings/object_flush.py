"""One write for all objects that have something to be written in the same turn.

They are many and their writes are small; each by itself would cost the writer more than the
statement. None of them can fail where the others do not: there is nothing that their rows violate.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.transaction import Transaction
    from .object_data import Layer

#: How many changes share a write.
MOST = 1024


class Batch:
    __slots__ = ("layers", "open")

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        #: Whether it is to be written, and takes more.
        self.open = False


class Flusher:
    """Writes what the objects of a host send."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: What the next layer joins, while it is open.
        self.batch = Batch()

    def begin(self, layer: Layer) -> None:
        """Have a layer written; its object is told what has become of it, in order."""
        batch = Batch()
        future = self._database.submit(_write, batch)
        future.add_done_callback(partial(_landed, batch))
        batch.open = True
        batch.layers.append(layer)
        self.batch = batch


def _write(tx: Transaction, batch: Batch) -> None:
    # It may be run once more, with what it has now.
    batch.open = False
    for layer in batch.layers:
        layer.data.write(tx, layer)


def _landed(batch: Batch, future: asyncio.Future[None]) -> None:
    # Where the writer was closed, it was never run.
    batch.open = False
    error: BaseException | None
    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    for layer in batch.layers:
        layer.data.landed(layer, error)
