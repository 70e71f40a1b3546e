"""What is sent in one turn of the event loop, gathered into one write.

Group commit makes one flush of many writes; here they are one statement, too, which halves what a
message costs when many are sent at once. They join whatever else is written in that turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..store import queues as store
from ..store.gate import output_gate
from ..store.loops import call_soon

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.transaction import Transaction

# So that no turn takes too long.
_MOST = 1000

Sending = asyncio.Future[store.Metrics]


class _Parcel:
    """Messages of one turn, until the writer takes them, which may be on another thread."""

    __slots__ = ("closed", "loop", "mutex", "rows", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.mutex = threading.Lock()
        self.closed = False
        self.rows: list[tuple[store.Sent, int]] = []
        self.waiting: list[Sending] = []

    def add(self, row: store.Sent, size: int) -> Sending | None:
        """Take a message along; None if it is too late for that."""
        sending: Sending = self.loop.create_future()
        with self.mutex:
            if self.closed or len(self.rows) >= _MOST:
                return None
            self.rows.append((row, size))
            self.waiting.append(sending)
        return sending

    def close(self) -> list[tuple[store.Sent, int]]:
        """Nothing more comes to it. What it has to send: who gave up waiting sends nothing."""
        with self.mutex:
            if not self.closed:
                self.closed = True
                pairs = zip(self.rows, self.waiting, strict=True)
                kept = [(row, one) for row, one in pairs if not one.cancelled()]
                self.rows = [row for row, _ in kept]
                self.waiting = [one for _, one in kept]
        return self.rows


class Outbox:
    """Sends messages of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One for each event loop, the last one that was begun.
        self._parcels: dict[asyncio.AbstractEventLoop, _Parcel] = {}

    @property
    def hindered(self) -> bool:
        """Whether `Database.admit` has to be asked first."""
        return self._database.in_transaction or output_gate.get() is not None

    def send(self, row: store.Sent, size: int) -> Sending:
        """Send a message whose body has ``size`` bytes; done when it is on disk."""
        loop = asyncio.get_running_loop()
        parcel = self._parcels.get(loop)
        sending = None if parcel is None else parcel.add(row, size)
        if sending is None:
            parcel = self._parcels[loop] = _Parcel(loop)
            sending = parcel.add(row, size)
            assert sending is not None
            written = self._database.submit(_send, parcel)
            written.add_done_callback(partial(self._over, parcel))
        return sending

    def _over(self, parcel: _Parcel, written: asyncio.Future[None]) -> None:
        """The write has succeeded, which was told already, or failed."""
        if self._parcels.get(parcel.loop) is parcel:
            del self._parcels[parcel.loop]
        if not written.cancelled() and (error := written.exception()) is not None:
            parcel.close()
            for sending in parcel.waiting:
                if not sending.done():
                    sending.set_exception(error)


def _send(tx: Transaction, parcel: _Parcel) -> None:
    metrics = store.send_gathered(tx, parcel.close())
    tx.after(partial(_anywhere, parcel, metrics))


def _anywhere(parcel: _Parcel, metrics: dict[str, store.Metrics]) -> None:
    """Tell the senders, in their event loop."""
    deliver: Callable[[], None] = partial(_deliver, parcel, metrics)
    try:
        current: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        current = None
    if current is parcel.loop:
        deliver()
    else:
        call_soon(parcel.loop, deliver)


def _deliver(parcel: _Parcel, metrics: dict[str, store.Metrics]) -> None:
    if parcel.loop.is_closed():
        return
    for (row, _), sending in zip(parcel.rows, parcel.waiting, strict=True):
        if not sending.done():
            sending.set_result(metrics[row[1]])
