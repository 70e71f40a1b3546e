"""One write for all objects that have something to be written in the same turn.

They are many and their writes are small; each by itself would cost the writer more than the
statement. None of them can fail where the others do not: there is nothing that their rows violate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..store import object_history
from ..store import objects as store
from ..store.operation import LATER, Joint
from ..store.reader import LENT_BYTES
from ..store.told import Outcome, tell
from .object_layer import NOTHING

if TYPE_CHECKING:
    from ..store.history_files import Settings
    from ..store.transaction import Transaction
    from .object_host import ObjectHost
    from .object_layer import Layer

#: How many changes share a write.
MOST = 1024
# So few texts the reader need not hear of.
_MANY = 256


class Batch(Joint):
    """What is written together."""

    __slots__ = ("_host", "layers")

    def __init__(self, host: ObjectHost, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` is where the objects of ``host`` run."""
        super().__init__(self.write, loop)
        self._host = host
        self.layers: list[Layer] = []

    def asker(self) -> object:
        return self.layers[0].data

    @property
    def several(self) -> bool:
        return len(self.layers) > 1

    @property
    def single(self) -> bool:
        """Whether one statement writes all of it."""
        layer = self.layers[0]
        return (
            len(self.layers) == len(layer.entries) == 1
            and layer.extra is NOTHING
            and layer.data.recorded
            and not layer.earlier
        )

    def write(self, tx: Transaction) -> None:
        """The write function."""
        # It may be run once more, with what it has now.
        self._host.flusher.close(self)
        layer = self.layers[0]
        if len(self.layers) == len(layer.entries) == 1:
            layer.data.write(tx, layer)
        else:
            self._write_all(tx)
        if self._host.history is not None:
            self._keep(tx, self._host.history.settings)

    def _write_all(self, tx: Transaction) -> None:
        puts: list[Any] = []
        namespace = self._host.namespace
        for layer in self.layers:
            data = layer.data
            if layer.extra is NOTHING and data.recorded:
                # Most have stored something and done nothing else.
                digits = data.digits
                for key, text in layer.entries.items():
                    puts.append((namespace, digits, key, text))
            else:
                if puts:
                    store.put_all(tx, puts)
                    puts = []
                data.write(tx, layer)
        if puts:
            store.put_all(tx, puts)

    def _keep(self, tx: Transaction, kept: Settings) -> None:
        """Keep what the keys were before, all in one."""
        changes = [
            (layer.data.digits, layer.extra.sequence, layer.earlier)
            for layer in self.layers
            if layer.earlier
        ]
        if changes:
            host = self._host
            object_history.add(tx, host.namespace, host.clock.now(), changes, kept)

    def settle(self, told: list[Outcome]) -> None:
        flusher = self._host.flusher
        # Where the writer was closed, it was never run.
        flusher.close(self)
        layers, self.layers = self.layers, []
        # It is in no circle from now on.
        self.function = None
        error = self.error
        for layer in layers:
            layer.data.landed(layer, error, told)
        flusher.weigh(len(layers))


class Flusher:
    """Writes what the objects of a host send."""

    def __init__(self, host: ObjectHost) -> None:
        self._host = host
        #: What the next layer joins, until that is written.
        self.layers: list[Layer] | None = None
        #: How many texts the objects remember that the reader has not heard of.
        self._texts = 0
        #: Whether the event loop has turned since something was written on the spot.
        self._turned = True

    def begin(self, layer: Layer) -> None:
        """Have a layer written; its object is told what has become of it, in order."""
        loop = asyncio.get_running_loop()
        batch = Batch(self._host, loop)
        batch.layers.append(layer)
        if not (self._turned and self._write_now(batch, loop)):
            self._host.database.enqueue(batch)
            self.layers = batch.layers

    def close(self, batch: Batch) -> None:
        """Let nothing more join what is to be written now."""
        if self.layers is batch.layers:
            self.layers = None

    def weigh(self, layers: int) -> None:
        """So many layers were written, whose texts their objects remember: mostly one each."""
        self._texts += layers
        if self._texts > _MANY:
            self._host.database.reader.weigh(self._texts * LENT_BYTES)
            self._texts = 0

    def _write_now(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> bool:
        """Write what an object sends that is alone, and has sent nothing else in this turn."""
        try:
            database = self._host.database
            if database.write_now(batch.asker(), batch.write, single=batch.single) is LATER:
                return False
        except Exception as error:
            batch.error = error
        self._turned = False
        loop.call_soon(self._turn)
        told: list[Outcome] = []
        batch.settle(told)
        tell(loop, told)
        return True

    def _turn(self) -> None:
        self._turned = True
