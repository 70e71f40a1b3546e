"""One write for all objects that have something to be written in the same turn.

They are many and their writes are small; each by itself would cost the writer more than the
statement. None of them can fail where the others do not: there is nothing that their rows violate.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ..store.loops import call_soon

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.transaction import Transaction
    from .object_layer import Layer

#: How many changes share a write.
MOST = 1024


class Batch:
    """What is written together."""

    __slots__ = ("layers", "loop", "open")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.layers: list[Layer] = []
        #: Where the objects run.
        self.loop = loop
        #: Whether it is to be written, and takes more.
        self.open = loop is not None

    def write(self, tx: Transaction) -> None:
        # It may be run once more, with what it has now.
        self.open = False
        for layer in self.layers:
            layer.data.write(tx, layer)
        tx.after(self._written)

    def _written(self) -> None:
        # Another event loop may have done the writing. In our own, this is a turn earlier than the
        # future would tell.
        if self.loop is asyncio._get_running_loop():
            self._landed(None)
        elif self.loop is not None:
            call_soon(self.loop, partial(self._landed, None))

    def ended(self, future: asyncio.Future[None]) -> None:
        """It was written, or not."""
        # Where the writer was closed, it was never run.
        self.open = False
        if future.cancelled():
            self._landed(asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            self._landed(error)

    def _landed(self, error: BaseException | None) -> None:
        layers, self.layers = self.layers, []
        for layer in layers:
            layer.data.landed(layer, error)


class Flusher:
    """Writes what the objects of a host send."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: What the next layer joins, while it is open.
        self.batch = Batch()

    def begin(self, layer: Layer) -> None:
        """Have a layer written; its object is told what has become of it, in order."""
        batch = Batch(asyncio.get_running_loop())
        self._database.submit(batch.write).add_done_callback(batch.ended)
        batch.layers.append(layer)
        self.batch = batch
