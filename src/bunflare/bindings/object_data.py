"""What a running object has stored, and the way of its changes to the disk.

At the end of the event loop's turn, or earlier when something is to leave the object, the layer
that has taken its writes (`object_values`) is flushed as one commit. So all writes that follow each
other without waiting for anything else are one commit. A transaction is a further layer. The SQL
file's commit carries the other changes along.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ValueCorrupt
from ..store import objects as store
from ..store.loops import call_soon
from ..store.object_bookmarks import SLOTS, end_restore
from ..store.told import give
from .object_commits import Aside
from .object_flush import MOST
from .object_known import Known
from .object_layer import NOTHING, Layer
from .object_past import drop, open_file, remember
from .object_travel import go_back
from .object_values import Values

if TYPE_CHECKING:
    from ..store.object_sql import ObjectFile
    from ..store.told import Outcome
    from ..store.transaction import Transaction
    from .actor import Actor
    from .object_host import ObjectHost
    from .object_layer import Waiter


class ObjectData(Values):
    """One object's storage, of which all its interfaces are views."""

    __slots__ = (
        *("__weakref__", "_actor", "aside", "bookmark", "file", "host", "known", "name"),
        *("recorded", "successor"),
    )

    def __init__(
        self,
        host: ObjectHost,
        actor: Actor,
        name: str | None,
        before: ObjectData | None = None,
    ) -> None:
        flying = None if before is None else before.flying
        super().__init__(host.database, host.namespace, actor.digits, flying)
        self.host = host
        self.name = name
        #: Whom it belongs to, while that lives.
        self._actor: Actor | None = actor
        #: The object's next instance, which has seen what this one had sent.
        self.successor: ObjectData | None = None
        if before is not None:
            before.successor = self
        #: What is being committed to the SQL file on a thread.
        self.aside: Aside | None = None
        #: Whether its row is on disk, and what else is, where one has to know.
        self.recorded = False
        self.known = None
        if host.history is not None:
            self.known = Known(host.database, host.namespace, actor.digits)
        #: Its SQL file, once that was asked for.
        self.file: ObjectFile | None = None
        #: The number of the kept state that is the same as this one.
        self.bookmark: int | None = None
        if not go_back(self) and os.path.exists(self._path):  # noqa: PTH110 - in a tenth of the time
            # What its last owner may have left half-way.
            self.sql()

    @property
    def _path(self) -> str:
        return f"{self.host.sql_directory}/{self.digits}.sqlite"

    def clear(self) -> None:
        """Delete everything: keys, tables and the alarm."""
        layer = Layer()
        more = layer.more()
        more.cleared = True
        more.alarm = None
        self._texts.clear()
        if self.file is None:
            self.top = layer
            self._schedule()
            return
        # Dropping tables is a commit of its own, which carries the rest along.
        self.top = Layer()
        try:
            sequence = self.file.clear(layer.text())
        except Exception as error:
            # What was to be deleted, and written before, is neither here nor there.
            self._fail(error)
            raise
        more.sequence = sequence
        self._send(layer)

    # -- SQL -------------------------------------------------------------------------------

    def sql(self) -> ObjectFile:
        """The object's SQL file, opened when it is first asked for."""
        if self.file is None:
            if self._failed is not None:
                # Code that goes on after the end of its instance is not to open it once more.
                raise self._failed
            file = self.file = self._open()
            try:
                self._recover(file)
            except ValueCorrupt:
                self._close_file()
                raise
            for level, _ in enumerate(self.below, 1):
                self.file.savepoint(level)
        return self.file

    def copy_sql(self, path: Path) -> bool:
        """Copy the SQL file as it is on disk; False if there is none."""
        if self.file is None and not os.path.exists(self._path):  # noqa: PTH110
            return False
        self.sql().copy(path)
        return True

    def replace(self, entries: dict[str, str], copy: Path | None) -> None:
        """Put a kept state in the place of what is on disk: keys, and a copy of the SQL file."""
        layer = Layer()
        more = layer.more()
        more.restores = True
        present = dict(self.rows("", None, None, reverse=False))
        layer.entries.update(dict.fromkeys(present.keys() - entries.keys()))
        layer.entries.update(entries.items() - present.items())
        text = self._under_way(layer)
        if copy is not None:
            applied = store.applied(self._database.view, self._namespace, self.digits)
            self.file = self._open()
            more.sequence = self.file.replace(copy, text, applied)
        elif os.path.exists(self._path):  # noqa: PTH110
            self.file = self._open()
            more.sequence = self.file.clear(text)
        self._send(layer)

    def _open(self) -> ObjectFile:
        file = open_file(self.host, Path(self._path))
        self.host.files.opened(self.digits)
        return file

    def touch(self) -> None:
        """A statement has run, so there may be something to commit."""
        if not self.scheduled:
            self._schedule()

    def _recover(self, file: ObjectFile) -> None:
        applied = store.applied(self._database.view, self._namespace, self.digits)
        if file.sequence > applied and not self.flying:
            layer = Layer()
            more = layer.more()
            try:
                more.cleared, entries, more.alarm = json.loads(file.changes)
                layer.entries = dict(entries)
            except (ValueError, TypeError) as error:
                raise ValueCorrupt(f"the last changes of {self._path} are damaged") from error
            more.sequence = file.sequence
            self._send(layer)

    # -- transactions ----------------------------------------------------------------------

    def begin(self) -> None:
        """What is written from now on can be undone."""
        self.below.append(self.top)
        self.top = Layer()
        if self.file is not None:
            self.file.savepoint(len(self.below))

    def end(self, commit: bool) -> None:
        """Keep what was written since `begin`, or undo it."""
        level = len(self.below)
        layer, self.top = self.top, self.below.pop()
        if self.file is not None:
            if commit:
                self.file.release(level)
            else:
                self.file.undo(level)
        if commit:
            self.top.put(layer)
        else:
            self._texts.clear()
        self._schedule()

    # -- to the disk -----------------------------------------------------------------------

    def flush(self) -> None:
        """Send what was written on its way, if no transaction is open."""
        self.scheduled = False
        if self.below or self._failed is not None:
            return
        layer = self.top
        file = self.file
        if file is not None and file.open:
            self._flush_sql(file, layer)
        elif layer.entries or layer:
            self.top = Layer()
            self._send(layer)

    def _flush_sql(self, file: ObjectFile, layer: Layer) -> None:
        try:
            changes = self._under_way(layer) if layer or self.flying else None
            if file.changed:
                self.bookmark = None
                if self.host.commits.slow:
                    self._commit_aside(layer, changes)
                    return
                with self.host.commits:
                    sequence = file.commit(changes)
            else:
                sequence = file.commit(changes)
        except Exception as error:
            self._fail(error)
            return
        if sequence is not None:
            layer.more().sequence = sequence
        elif not layer:
            return
        self.top = Layer()
        self._send(layer)

    def _under_way(self, layer: Layer) -> str:
        """For the redo record, which replaces the last one: all that is not on disk yet."""
        if not self.flying:
            return layer.text()
        whole = Layer()
        for one in (*self.flying, layer):
            whole.put(one)
        return whole.text()

    def _commit_aside(self, layer: Layer, changes: str | None) -> None:
        """Commit to the SQL file on a thread, while the object stands still.

        What runs in it all the same, as a task of its own, waits where it touches the file, or
        sends further changes.
        """
        assert self.file is not None
        assert self._actor is not None
        self.end_aside()
        aside = Aside(layer)
        loop = asyncio.get_running_loop()
        layer.more().sequence, aside.committing = self.file.commit_aside(
            changes,
            self.host.commits.threads(),
            lambda _: call_soon(loop, lambda: self.end_aside(aside)),
        )
        self.top = Layer()
        if self.known is not None:
            remember(self, self.known, layer)
        layer.data = self
        self.flying.append(layer)
        self.aside = aside
        self._actor.block(aside.stand, resets=False)

    def end_aside(self, which: Aside | None = None) -> None:
        """Go on after a commit on a thread; wait for it, where that is not over."""
        aside = self.aside
        if aside is None or which not in (None, aside):
            return
        error = aside.committing.result()
        self.aside = None
        if self.file is not None:
            self.file.settle()
            self.host.commits.took(self.file.took)
        aside.release()
        if error is not None:
            self.landed(aside.layer, error, [])
        else:
            self._hand_over(aside.layer)

    def _send(self, layer: Layer) -> None:
        if self.aside is not None:
            self.end_aside()
        if self.known is not None:
            remember(self, self.known, layer)
        self._join(layer)

    def _join(self, layer: Layer) -> None:
        """Have it written with what others send."""
        layer.data = self
        self.bookmark = None
        self.flying.append(layer)
        together = self.host.flusher.layers
        if together is not None and len(together) < MOST:
            together.append(layer)
        else:
            self._hand_over(layer)

    def _hand_over(self, layer: Layer) -> None:
        try:
            self.host.flusher.begin(layer)
        except Exception as error:
            self._fail(error)

    def write(self, tx: Transaction, layer: Layer) -> None:
        """Write a layer that was sent."""
        namespace, digits = self._namespace, self.digits
        if not self.recorded:
            store.add(tx, namespace, digits, self.name, self.host.clock.now())
        extra = layer.extra
        if extra.cleared:
            store.clear(tx, namespace, digits)
        for key, text in layer.entries.items():
            store.put(tx, namespace, digits, key, text)
        if extra.alarm != store.KEEP:
            store.set_alarm(tx, namespace, digits, extra.alarm)
        if extra.restores:
            end_restore(tx, namespace, digits)
            tx.after(lambda: drop(self.host, digits, *SLOTS))
        if extra.sequence is not None:
            store.set_applied(tx, namespace, digits, extra.sequence)

    def landed(self, layer: Layer, error: BaseException | None, told: list[Outcome]) -> None:
        """A layer that was sent is on disk, or not. They come in the order of sending."""
        if error is not None:
            self._fail(error)
            self.flying.remove(layer)
            return
        del self.flying[0]
        self.recorded = True
        extra = layer.extra
        if extra is not NOTHING and extra.alarm is not None and extra.alarm != store.KEEP:
            self.host.alarms.set(extra.alarm)
        if self.known is not None:
            self.known.learn(layer)
        if layer.waiting is not None:
            layer.settle(None, told)
        elif layer.outcome is not None:
            told.append(layer.outcome)

    def _fail(self, error: BaseException) -> None:
        if self._failed is None:
            self._failed = error
            if self._actor is not None:
                self._actor.reset(error)
        # What was sent later is of no use without it.
        told: list[Outcome] = []
        for layer in self.flying:
            layer.settle(error, told)
        give(told)
        if self.successor is not None:
            self.successor._fail(error)

    def confirm(self, outcome: Outcome) -> bool:
        """Tell one once all that was written until now is on disk; False if it is already.

        Raises what a write has failed with.
        """
        if self.scheduled:
            layer = self.top
            if (
                layer.entries
                and self.file is None
                and not self.below
                and self.known is None
                and self._failed is None
            ):
                # What most have to say, by what `flush` and `_send` do then.
                self.scheduled = False
                self.top = Layer()
                layer.outcome = outcome
                self._join(layer)
                return True
            self.flush()
        if self._failed is not None:
            raise self._failed
        if not self.flying:
            return False
        layer = self.flying[-1]
        if layer.outcome is None and layer.waiting is None:
            layer.outcome = outcome
        else:
            layer.wait(outcome)
        return True

    def wait(self, waiter: Waiter) -> bool:
        """The same for one that has something to do then."""
        if self.scheduled:
            self.flush()
        if self._failed is not None:
            raise self._failed
        if not self.flying:
            return False
        self.flying[-1].wait(waiter)
        return True

    def confirmed(self) -> asyncio.Future[None] | None:
        """What to await until all that was written is on disk; None if it is."""
        if self.scheduled:
            self.flush()
        if not self.flying and self._failed is None:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._failed is not None:
            future.set_exception(self._failed)
        else:
            self.flying[-1].wait((future, None, None))
        return future

    @property
    def clean(self) -> bool:
        """Whether all is on disk."""
        return not (self.flying or self.scheduled or self.top or any(self.below))

    def close(self) -> None:
        """Forget what was not sent, and let go of the SQL file."""
        self.end_aside()
        self._failed = self._failed or RuntimeError("this object's storage was closed")
        self._close_file()
        self._actor = None

    def _close_file(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
            self.host.files.closed(self.digits)
