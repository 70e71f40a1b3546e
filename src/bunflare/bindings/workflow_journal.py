"""What the runs of a workflow add to their logs: all that one turn of the event loop adds is a
single operation of the writer's, and one statement.

Entries that come while an operation is under way are the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from ..store import loops
from ..store import workflow_log as log

if TYPE_CHECKING:
    from ..store.database import Database
    from ..store.transaction import Transaction

#: An entry, and who waits for it: told whether the run was the instance's still.
_Item = tuple[tuple[object, ...], asyncio.Future[bool]]


class Journal:
    """Belongs to the event loop that the instances run in."""

    __slots__ = ("_database", "_items", "_loop")

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop
        self._items: list[_Item] = []

    def add(self, entry: tuple[object, ...]) -> asyncio.Future[bool]:
        """Add an entry, of which see `workflow_log.record`; done when it is on disk.

        If the future is cancelled before, it is not added.
        """
        waiting: asyncio.Future[bool] = self._loop.create_future()
        items = self._items
        items.append((entry, waiting))
        if len(items) == 1:
            self._begin(items)
        return waiting

    def _begin(self, items: list[_Item]) -> None:
        try:
            written = self._database.submit(self._write, items)
        except StateError as error:
            self._fail(items, error)
        else:
            written.add_done_callback(partial(self._ended, items))

    def _write(self, tx: Transaction, items: list[_Item]) -> None:
        # Perhaps in another event loop's thread, while this one's adds more: those come later.
        taken = items.copy()
        wanted = [item for item in taken if not item[1].done()]
        kept = log.record_all(tx, [entry for entry, _ in wanted])
        tx.after(partial(self._written, items, len(taken), wanted, kept))

    def _written(
        self, items: list[_Item], taken: int, wanted: list[_Item], kept: Sequence[bool]
    ) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._tell(items, taken, wanted, kept)
        else:
            loops.call_soon(self._loop, partial(self._tell, items, taken, wanted, kept))

    def _tell(
        self, items: list[_Item], taken: int, wanted: list[_Item], kept: Sequence[bool]
    ) -> None:
        if self._items is items:
            self._items = items[taken:]
            if self._items:
                self._begin(self._items)
        for (_, waiting), told in zip(wanted, kept, strict=True):
            if not waiting.done():
                waiting.set_result(told)

    def _ended(self, items: list[_Item], written: asyncio.Future[Any]) -> None:
        error = written.exception()
        if error is None:
            return
        if len(items) == 1:
            self._fail(items, error)
            return
        # One of them may have been at fault.
        if self._items is items:
            self._items = []
        for item in items:
            self._begin([item])

    def _fail(self, items: list[_Item], error: BaseException) -> None:
        if self._items is items:
            self._items = []
        for _, waiting in items:
            if not waiting.done():
                waiting.set_exception(error)
