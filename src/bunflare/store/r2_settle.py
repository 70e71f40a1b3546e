"""How the files of R2 follow their rows: at once if all goes well, later if it does not.

A write is acknowledged when its row is on disk and names its bytes: those in the table of what is
unsettled, or a staged file that was flushed before. From then on the object is what it is for every
reader, whatever becomes of the process. To *settle* it is to bring ``r2/<bucket>/<key>`` to what
the row says. That is done before the writer is told, so that whoever looks there finds it.

Two writers of one key may commit in one order and come to settle in the other. So one settles at a
time, by a lock that all processes share, and looks at the row again with the lock taken: who finds
another version there leaves it to that one's writer.

What was settled may still be lost with the power. So its entry stays unsettled until some time
later, when many files are flushed at once: `Settler.flush`. It compares bytes and does over what it
does not find, and is also what opening a directory after a crash needs.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from functools import partial
from weakref import WeakKeyDictionary

from . import blobs, r2, r2_uploads
from . import r2_paths as paths
from .database import Database
from .loops import call_soon
from .r2_files import Mark, R2Files

_log = logging.getLogger("bunflare")

# How much may be unsettled before it is flushed without waiting for quieter times.
_FLUSH_OBJECTS = 2048
_FLUSH_BYTES = 16 * 1024 * 1024
_FLUSH_BATCH = 256
_FLUSH_SECONDS = 2.0


class Job:
    """A key that was written or deleted, and a promise that its file follows."""

    __slots__ = ("bucket", "data", "done", "key", "loop", "version")

    def __init__(self, bucket: str, key: str, version: str | None, data: bytes | None) -> None:
        self.bucket = bucket
        self.key = key
        #: None if it was deleted.
        self.version = version
        #: None if the bytes are in the staged file.
        self.data = data
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()


class _Step:
    """What has to be done for one key."""

    __slots__ = ("bucket", "data", "key", "mark", "taken")

    def __init__(
        self, bucket: str, key: str, mark: Mark | None, data: bytes | None, taken: bool
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.mark = mark
        self.data = data
        self.taken = taken


class _Queue:
    """What one event loop has to settle."""

    __slots__ = ("flush", "jobs", "size", "task", "unflushed")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.task: asyncio.Task[None] | None = None
        self.unflushed = 0
        self.size = 0
        self.flush: asyncio.TimerHandle | None = None


class Settler:
    """Settles what the bindings of one state write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.files = R2Files(database.directory.r2, database.directory.r2_staging)
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()
        self._flushing: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- at once ---------------------------------------------------------------------------

    def submit(self, *jobs: Job) -> None:
        """Settle these soon, together with what else is waiting. From any thread."""
        for job in jobs:
            call_soon(job.loop, partial(self._enqueue, job))

    def _enqueue(self, job: Job) -> None:
        if job.loop.is_closed():
            return  # its entry stays, for whoever flushes
        queue = self._queue()
        queue.jobs.append(job)
        queue.unflushed += 1
        queue.size += len(job.data or b"")
        if queue.task is None:
            queue.task = job.loop.create_task(self._work(queue))

    def _queue(self) -> _Queue:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue()
        return queue

    async def _work(self, queue: _Queue) -> None:
        try:
            while queue.jobs:
                batch, queue.jobs = queue.jobs, []
                try:
                    await self._settle(batch)
                except Exception:
                    # Their rows and bytes are safe; the next flush tries again.
                    _log.exception("files of R2 could not be put in their places yet")
                finally:
                    for job in batch:
                        if not job.done.done():
                            job.done.set_result(None)
        finally:
            queue.task = None
            self._plan_flush(queue)

    async def _settle(self, batch: list[Job]) -> None:
        lock = await self._lock()
        try:
            steps: list[_Step] = []
            overtaken: list[str] = []
            for job in batch:
                row = r2.current(self._database.view, job.bucket, job.key)
                if job.version is None:
                    if row is None:
                        steps.append(_Step(job.bucket, job.key, None, None, False))
                elif row is not None and row.own and row.version == job.version:
                    steps.append(self._step(job.bucket, job.key, row, job.data))
                elif job.data is None:
                    overtaken.append(job.version)
            work = partial(_carry_out, self.files, steps, overtaken, lock)
        except BaseException:
            os.close(lock)
            raise
        await _in_thread(work)

    def _step(self, bucket: str, key: str, row: r2.ObjectRow, data: bytes | None) -> _Step:
        path = "/".join(paths.first(key, self.files.folding))
        taken = path != key and r2.is_foreign(self._database.view, bucket, path)
        assert row.version is not None
        return _Step(bucket, key, mark_of(row), data, taken)

    async def _lock(self) -> int:
        """A descriptor that holds the lock of all settling, to be closed on the thread."""
        directory = self._database.directory.r2
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting = asyncio.get_running_loop().run_in_executor(
                None, fcntl.flock, descriptor, fcntl.LOCK_EX
            )
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                waiting.add_done_callback(lambda _: os.close(descriptor))
                raise
        return descriptor

    async def drain(self) -> None:
        """Wait until what was submitted in this event loop has been settled."""
        queue = self._queues.get(asyncio.get_running_loop())
        # A task that this one waits for may be followed by another.
        while queue is not None and queue.task is not None:
            await asyncio.wait([queue.task])

    # -- for good --------------------------------------------------------------------------

    def _plan_flush(self, queue: _Queue) -> None:
        if self._closed or not queue.unflushed:
            return
        if queue.unflushed >= _FLUSH_OBJECTS or queue.size >= _FLUSH_BYTES:
            self._begin_flush(queue)
        elif queue.flush is None:
            loop = asyncio.get_running_loop()
            queue.flush = loop.call_later(_FLUSH_SECONDS, self._begin_flush, queue)

    def _begin_flush(self, queue: _Queue) -> None:
        if queue.flush is not None:
            queue.flush.cancel()
            queue.flush = None
        queue.unflushed = queue.size = 0
        if not self._flushing and not self._closed:
            task = asyncio.get_running_loop().create_task(self._flush_quietly())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except Exception:
            _log.exception("files of R2 could not be flushed; trying again with the next ones")

    async def flush(self) -> None:
        """Have the files of all that is unsettled on disk, and nothing unsettled any more."""
        while rows := r2.unsettled(self._database.view, _FLUSH_BATCH):
            lock = await self._lock()
            try:
                steps: list[_Step] = []
                for one in rows:
                    row = r2.current(self._database.view, one.bucket, one.key)
                    if row is None:
                        steps.append(_Step(one.bucket, one.key, None, None, False))
                    elif row.own and row.version == one.version:
                        steps.append(self._step(one.bucket, one.key, row, one.data))
                work = partial(_make_sure, self.files, steps, lock)
            except BaseException:
                os.close(lock)
                raise
            await _in_thread(work)
            await self._database.write(r2.settled, rows)

    async def recover(self) -> None:
        """Finish what a crash has interrupted, and remove the staged files that it has left."""
        await self.flush()
        staging = self._database.directory.r2_staging
        for name in await asyncio.to_thread(blobs.leftovers, staging):
            view = self._database.view
            if not r2.awaits_file(view, name) and not r2_uploads.names_file(view, name):
                await asyncio.to_thread(blobs.remove, staging / name)

    async def close(self) -> None:
        """Settle and flush what is under way."""
        await self.drain()
        self._closed = True
        queue = self._queues.pop(asyncio.get_running_loop(), None)
        if queue is not None and queue.flush is not None:
            queue.flush.cancel()
        if self._flushing:
            await asyncio.wait(self._flushing)
        if queue is not None and queue.unflushed:
            await self._flush_quietly()


def mark_of(row: r2.ObjectRow) -> Mark:
    """By what the file of an object of ours is known."""
    assert row.version is not None
    assert row.mtime is not None
    return Mark(row.version, row.size, row.mtime)


def _carry_out(files: R2Files, steps: list[_Step], overtaken: list[str], lock: int) -> None:
    failure: OSError | None = None
    try:
        for step in steps:
            try:
                if step.mark is None:
                    files.remove(step.bucket, step.key)
                else:
                    files.place(step.bucket, step.key, step.mark, step.data, step.taken)
            except OSError as error:
                failure = error
        for version in overtaken:
            files.discard(version)
    finally:
        os.close(lock)
    if failure is not None:
        raise failure


def _make_sure(files: R2Files, steps: list[_Step], lock: int) -> None:
    try:
        synced: set[tuple[str, ...]] = set()
        for step in steps:
            if step.mark is None:
                files.remove(step.bucket, step.key)
            elif not files.holds(step.bucket, step.key, step.mark, step.data):
                files.place(step.bucket, step.key, step.mark, step.data, step.taken)
            files.sync(step.bucket, step.key, synced)
    finally:
        os.close(lock)


async def _in_thread(work: partial[None]) -> None:
    # Whoever gives up waiting does not stop it: it holds the lock, and lets go of it at its end.
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))
