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

_MOST = 1024


class _Batch:
    __slots__ = ("layers", "open")

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        #: Whether it has not been written yet.
        self.open = True


class Flusher:
    """Writes what the objects of a host send."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch: _Batch | None = None

    def send(self, layer: Layer) -> None:
        """Have a layer written; its object is told what has become of it, in order."""
        batch = self._batch
        if batch is None or not batch.open or len(batch.layers) >= _MOST:
            batch = _Batch()
            future = self._database.submit(_write, batch)
            future.add_done_callback(partial(_landed, batch))
            self._batch = batch
        batch.layers.append(layer)


def _write(tx: Transaction, batch: _Batch) -> None:
    # It may be run once more, with what it has now.
    batch.open = False
    for layer in batch.layers:
        layer.data.write(tx, layer)


def _landed(batch: _Batch, future: asyncio.Future[None]) -> None:
    # Where the writer was closed, it was never run.
    batch.open = False
    error: BaseException | None
    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    for layer in batch.layers:
        layer.data.landed(layer, error)
