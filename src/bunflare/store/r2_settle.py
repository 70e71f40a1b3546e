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
import time
from functools import partial
from weakref import WeakKeyDictionary

from ..errors import DatabaseBusy
from . import blobs, r2, r2_uploads
from . import r2_paths as paths
from .database import Database
from .loops import call_soon
from .r2_files import Mark, R2Files
from .threads import on_thread

_log = logging.getLogger("bunflare")

# How much may be unsettled before it is flushed without waiting for quieter times.
_FLUSH_OBJECTS = 4096
_FLUSH_BYTES = 16 * 1024 * 1024
_FLUSH_BATCH = 256
_FLUSH_SECONDS = 2.0
# What files may cost together before they leave the event loop's thread; and what one costs while
# nothing is known of the disk.
_SLOW_SECONDS = 0.005
_FIRST_COST = 0.00005
_COST_WEIGHT = 0.1
# How long another process may hold the lock.
_PATIENCE = 10.0


class Job:
    """A key that was written or deleted, and a promise that its file follows."""

    __slots__ = (
        "bucket",
        "data",
        "done",
        "elsewhere",
        "key",
        "loop",
        "mtime",
        "size",
        "version",
    )

    def __init__(
        self, bucket: str, key: str, row: r2.ObjectRow | None, data: bytes | None = None
    ) -> None:
        self.bucket = bucket
        self.key = key
        #: None if it was deleted.
        self.version = None if row is None else row.version
        self.size = 0 if row is None else row.size
        self.mtime = 0 if row is None else row.mtime or 0
        #: None if the bytes are in the staged file.
        self.data = data
        #: Whether another program's file, which it replaces, lies elsewhere.
        self.elsewhere = False
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

    __slots__ = ("flush", "jobs", "settled", "size", "started", "task")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.started = False
        self.task: asyncio.Task[None] | None = None
        #: What was settled, but may not be on disk.
        self.settled: list[r2.Unsettled] = []
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
        self._cost = _FIRST_COST

    # -- at once ---------------------------------------------------------------------------

    def submit(self, jobs: list[Job], elsewhere: list[str]) -> None:
        """Settle these soon, together with what else is waiting. From any thread.

        ``elsewhere`` are those of their keys under which other programs' files lie at paths that
        are not ours.
        """
        try:
            current: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            current = None
        for job in jobs:
            job.elsewhere = job.key in elsewhere
            if job.loop is current:
                self._enqueue(job)
            else:
                call_soon(job.loop, partial(self._enqueue, job))

    def _enqueue(self, job: Job) -> None:
        if job.loop.is_closed():
            return  # its entry stays, for whoever recovers
        queue = self._queue()
        queue.jobs.append(job)
        if not queue.started:
            queue.started = True
            job.loop.call_soon(self._start, queue)

    def _queue(self) -> _Queue:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue()
        return queue

    def _start(self, queue: _Queue) -> None:
        """Settle on the spot, while that is quick; else on a thread."""
        quick = self._cost * len(queue.jobs) < _SLOW_SECONDS
        if quick and (lock := self._lock_at_once()) is not None:
            batch, queue.jobs = queue.jobs, []
            failure: Exception | None = None
            started = time.perf_counter()
            try:
                _carry_out(self.files, *self._plan(batch, lock), lock)
            except Exception as error:
                failure = error
            took = (time.perf_counter() - started) / len(batch)
            self._cost += (took - self._cost) * _COST_WEIGHT
            self._finish(queue, batch, failure)
            queue.started = False
        else:
            queue.task = asyncio.get_running_loop().create_task(self._work(queue))

    async def _work(self, queue: _Queue) -> None:
        try:
            while queue.jobs:
                batch, queue.jobs = queue.jobs, []
                failure: Exception | None = None
                # The disk is given another chance when it has had some time.
                self._cost *= 1 - _COST_WEIGHT
                try:
                    lock = await self._lock()
                    steps, overtaken = self._plan(batch, lock)
                    await _in_thread(partial(_carry_out, self.files, steps, overtaken, lock))
                except Exception as error:
                    failure = error
                finally:
                    self._finish(queue, batch, failure)
        finally:
            queue.started = False
            queue.task = None

    def _finish(self, queue: _Queue, batch: list[Job], failure: Exception | None) -> None:
        if failure is not None:
            # Their rows and bytes are safe; recovery puts them in their places.
            _log.error("files of R2 could not be put in their places yet", exc_info=failure)
        for job in batch:
            if failure is None:
                queue.settled.append(r2.Unsettled(job.bucket, job.key, job.version, None))
                queue.size += len(job.data or b"")
            if not job.done.done():
                job.done.set_result(None)
        self._plan_flush(queue)

    def _plan(self, batch: list[Job], lock: int) -> tuple[list[_Step], list[str]]:
        """What to do, now that the lock is taken, and which staged files nobody needs any more."""
        steps: list[_Step] = []
        overtaken: list[str] = []
        view = self._database.view
        try:
            for job in batch:
                place = (job.bucket, job.key)
                if job.elsewhere:
                    self._clear(*place)
                if r2.version(view, *place) != job.version:
                    if job.version is not None and job.data is None:
                        overtaken.append(job.version)
                elif job.version is None:
                    steps.append(_Step(*place, None, None, False))
                else:
                    mark = Mark(job.version, job.size, job.mtime)
                    steps.append(_Step(*place, mark, job.data, self._is_taken(*place)))
        except BaseException:
            os.close(lock)
            raise
        return steps, overtaken

    def _clear(self, bucket: str, key: str) -> None:
        """Remove the file of another program's object, which is no more."""
        path = paths.verbatim(key)
        if path is not None:
            # The same path may be where an object of ours belongs, and has come to in between.
            other = self.files.key_of(path)
            row = r2.current(self._database.view, bucket, other)
            if other == key or row is None or not row.own:
                self.files.remove_path(bucket, path)

    def _is_taken(self, bucket: str, key: str) -> bool:
        """Whether another program has put an object where the first path of this one leads."""
        path = "/".join(paths.first(key, self.files.folding))
        return path != key and r2.is_foreign(self._database.view, bucket, path)

    def _lock_at_once(self) -> int | None:
        """A descriptor that holds the lock of all settling, to be closed; None if it is taken."""
        directory = str(self._database.directory.r2)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._database.directory.r2.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    async def _lock(self) -> int:
        """`_lock_at_once`, waited for on a thread. Raises `DatabaseBusy` in the end."""
        descriptor = self._lock_at_once()
        if descriptor is not None:
            return descriptor
        descriptor = os.open(self._database.directory.r2, os.O_RDONLY | os.O_CLOEXEC)
        waiting = on_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        try:
            await asyncio.wait_for(asyncio.shield(waiting), _PATIENCE)
        except (asyncio.CancelledError, TimeoutError) as error:
            waiting.add_done_callback(lambda _: os.close(descriptor))
            if isinstance(error, TimeoutError):
                raise DatabaseBusy(
                    f"another process has held the lock of {self._database.directory.r2} for more "
                    f"than {_PATIENCE:g} seconds"
                ) from None
            raise
        return descriptor

    async def drain(self) -> None:
        """Wait until what was submitted in this event loop has been settled."""
        queue = self._queues.get(asyncio.get_running_loop())
        while queue is not None and queue.started:
            if queue.jobs:
                await asyncio.wait([queue.jobs[-1].done])
            elif queue.task is not None:
                await asyncio.wait([queue.task])

    # -- for good --------------------------------------------------------------------------

    def _plan_flush(self, queue: _Queue) -> None:
        if self._closed or not queue.settled:
            return
        if len(queue.settled) >= _FLUSH_OBJECTS or queue.size >= _FLUSH_BYTES:
            self._begin_flush(queue)
        elif queue.flush is None:
            loop = asyncio.get_running_loop()
            queue.flush = loop.call_later(_FLUSH_SECONDS, self._begin_flush, queue)

    def _begin_flush(self, queue: _Queue) -> None:
        if queue.flush is not None:
            queue.flush.cancel()
            queue.flush = None
        if not self._flushing and not self._closed:
            task = asyncio.get_running_loop().create_task(self._flush(queue))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _flush(self, queue: _Queue) -> None:
        """Have the files of what was settled in this event loop on disk."""
        settled, queue.settled = queue.settled, []
        queue.size = 0
        try:
            await _in_thread(partial(self.files.sync, {(one.bucket, one.key) for one in settled}))
            for start in range(0, len(settled), _FLUSH_BATCH):
                batch = settled[start : start + _FLUSH_BATCH]
                await self._database.write(r2.settled, batch)
        except Exception:
            # They stay unsettled, which costs no more than space.
            _log.exception("files of R2 could not be flushed")

    async def recover(self) -> None:
        """Finish what a crash has interrupted, and remove the staged files that it has left."""
        await self.flush()
        staging = self._database.directory.r2_staging
        for name in await on_thread(blobs.leftovers, staging):
            view = self._database.view
            if not r2.awaits_file(view, name) and not r2_uploads.names_file(view, name):
                await on_thread(blobs.remove, staging / name)

    async def flush(self) -> None:
        """Have every file of the directory in its place and on disk, whoever has written it.

        Raises `DatabaseError` and its kinds.
        """
        while rows := r2.unsettled(self._database.view, _FLUSH_BATCH):
            lock = await self._lock()
            try:
                steps = [step for one in rows if (step := self._step(one)) is not None]
            except BaseException:
                os.close(lock)
                raise
            try:
                await _in_thread(partial(_make_sure, self.files, steps, lock))
            except OSError as error:
                raise blobs.translated(error, self._database.path) from error
            await self._database.write(r2.settled, rows)

    def _step(self, one: r2.Unsettled) -> _Step | None:
        """What is left to do for a key; None if its row has come from another program since."""
        row = r2.current(self._database.view, one.bucket, one.key)
        if row is None:
            return _Step(one.bucket, one.key, None, None, False)
        if not row.own or row.version != one.version:
            return None
        taken = self._is_taken(one.bucket, one.key)
        return _Step(one.bucket, one.key, mark_of(row), one.data, taken)

    async def close(self) -> None:
        """Settle and flush what is under way."""
        await self.drain()
        self._closed = True
        queue = self._queues.pop(asyncio.get_running_loop(), None)
        if queue is not None and queue.flush is not None:
            queue.flush.cancel()
        if self._flushing:
            await asyncio.wait(self._flushing)
        if queue is not None and queue.settled:
            await self._flush(queue)


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
        for step in steps:
            if step.mark is None:
                files.remove(step.bucket, step.key)
            elif not files.holds(step.bucket, step.key, step.mark, step.data):
                files.place(step.bucket, step.key, step.mark, step.data, step.taken)
        files.sync({(step.bucket, step.key) for step in steps})
    finally:
        os.close(lock)


async def _in_thread(work: partial[None]) -> None:
    # Whoever gives up waiting does not stop it: it holds the lock, and lets go of it at its end.
    await asyncio.shield(on_thread(work))
