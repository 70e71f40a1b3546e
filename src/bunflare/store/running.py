"""What is open while a database is in use: its connections, its writer, its checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import apsw

from .checkpoint import Checkpointer
from .connection import BusyWait, Durability, connect, keep_plans
from .directory import Directory
from .entry import Entry
from .log_space import LogSpace
from .reader import Reader
from .systems import prepare
from .turnstile import Turnstile
from .walindex import SUPPORTED, WalIndex
from .writer import Writer

if TYPE_CHECKING:
    from concurrent.futures import Executor, ThreadPoolExecutor

#: How long a write waits for other processes before it fails with `DatabaseBusy`, in seconds.
BUSY_TIMEOUT = 10.0


def no_mark() -> None:
    """The mark of commits where there is none: `Running.mark`."""


class Running:
    """What is open while a database is in use."""

    def __init__(self, directory: Directory, durability: Durability) -> None:
        self.path = directory.database
        self.durability = durability
        self._mutex = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        # A reader belongs to its thread and goes with it.
        self._readers: WeakValueDictionary[int, Reader] = WeakValueDictionary()
        self.busy = busy = BusyWait(BUSY_TIMEOUT)
        self._connection = connect(self.path, durability, busy)
        try:
            self.prepare(self._connection, directory)
        except BaseException:
            self._connection.close()
            raise
        self._turnstile = Turnstile(directory.turnstile)
        self.index = WalIndex(self.path) if SUPPORTED else None
        #: What changes with every commit of any process; None where that is not known at once.
        self.mark: Callable[[], bytes | None] = no_mark if self.index is None else self.index.header
        self.checkpointer = Checkpointer(
            self._connection,
            directory,
            durability,
            self.executor,
            self._release_readers,
            lambda work: self.writer.pause(work),
            self,
            LogSpace(self._connection, self.path, busy) if durability == "full" else None,
        )
        self.writer = Writer(
            self._connection,
            self.path,
            Entry(self._connection, self.path, busy, self._turnstile),
            self.checkpointer,
            self.remembering(),
            self.mark,
            self.committed(),
            self.executor,
        )

    def prepare(self, connection: apsw.Connection, directory: Directory) -> None:
        """Make the file ready to be written to through this connection."""
        prepare(connection, directory, BUSY_TIMEOUT)

    def remembering(self) -> Mapping[int, Reader]:
        """The readers of threads, if they remember rows."""
        return self._readers

    def committed(self) -> Callable[[], None]:
        """What is called after each commit."""
        return self.checkpointer.look

    def kept(self) -> AbstractContextManager[None]:
        """What a checkpoint runs inside."""
        return nullcontext()

    def trim(self) -> None:
        """What is done after a checkpoint, on its thread."""

    def close_connection(self) -> None:
        """Close the connection that writes, after all others."""
        self._connection.close()

    def executor(self) -> Executor:
        """Threads for what may block."""
        with self._mutex:
            if self._threads is None:
                # Imported here because most programs never need a thread.
                from concurrent.futures import ThreadPoolExecutor

                self._threads = ThreadPoolExecutor(4, thread_name_prefix="bunflare")
            return self._threads

    def open_reader(self) -> Reader:
        connection = connect(self.path, self.durability, BusyWait(BUSY_TIMEOUT))
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        connection.execute("PRAGMA query_only=1")
        # The whole file, however large: what is mapped is the system's own cache of it.
        connection.execute(f"PRAGMA mmap_size={1 << 40}")
        reader = self.make_reader(connection)
        number = threading.get_ident()
        with self._mutex:
            before = self._readers.get(number)
            self._readers[number] = reader
        if before is not None:
            # Somebody has kept it beyond its thread, whose number was then given to this one.
            before.close()
        return reader

    def _all_readers(self) -> list[Reader]:
        # In one step, while other threads begin and end.
        found = (reference() for reference in self._readers.valuerefs())
        return [reader for reader in found if reader is not None]

    def make_reader(self, connection: apsw.Connection) -> Reader:
        keep_plans(connection)
        return Reader(connection, self.path, self.index)

    def only_used_by_this_thread(self) -> bool:
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        return self.writer.idle and others.isdisjoint(self._readers)

    def opened(self) -> list[object]:
        """Everything that holds a connection."""
        return [self, *self._all_readers()]

    def _release_readers(self) -> None:
        """Let go of the snapshots that would keep the write-ahead log from starting anew."""
        own = self._readers.get(threading.get_ident())
        for reader in self._all_readers():
            if reader is own or reader.abandoned:
                reader.release()

    def close(self) -> None:
        self.writer.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        for reader in self._all_readers():
            reader.close()
        self.checkpointer.close()
        self.close_connection()
        if self.index is not None:
            self.index.close()
        self._turnstile.close()
