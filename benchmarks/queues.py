"""Queues as a library, beside bare APSW on the seed's table with the index that claiming needs."""

from __future__ import annotations

import asyncio
import itertools
import resource
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import apsw

import bunflare
from bunflare import MessageBatch, Queue, State
from bunflare.store.queues import QUEUE_MESSAGES, Sent

from .measure import Contender, compare, contender
from .peers import huey, litequeue, miniflare
from .report import Report, Row, rate, tell, times

_AT_ONCE = 256
_BATCH = 100
_BACKLOG = 1_000_000
_IDLE_QUEUES = 1_000
_IDLE_SECONDS = 10
_QUEUE = "bench"
_INDEX = "CREATE INDEX IF NOT EXISTS waiting ON queue_messages (queue, visible_at)"
SEND = """
INSERT INTO queue_messages (id, queue, body, content_type, visible_at, created_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
_CLAIM = """
UPDATE queue_messages SET visible_at = ?, attempts = attempts + 1 WHERE id IN (
  SELECT id FROM queue_messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?
) RETURNING id, body, attempts
"""
_DELETE = "DELETE FROM queue_messages WHERE id = ?"

# A process that sends the time (system-wide, seconds) whenever it is told to.
_SENDER = """
import asyncio, sys, time, bunflare

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        queue = state.queue(sys.argv[2])
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            await queue.send(time.monotonic())

asyncio.run(main())
"""

_numbers = itertools.count()
Bodies = Sequence[dict[str, object]]


def bodies(count: int) -> list[dict[str, object]]:
    """Small jobs, as they are in life."""
    return [{"job": "thumbnail", "key": f"cats/{next(_numbers):08d}.jpg"} for _ in range(count)]


class _Floor:
    """What one would write by hand: the seed's table, one index, one connection."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.connection = apsw.Connection(str(path))
        assert self.connection.pragma("journal_mode", "wal") == "wal"
        self.connection.pragma("synchronous", "full")
        self.connection.pragma("cache_size", -16384)
        self.connection.execute(QUEUE_MESSAGES)
        self.connection.execute(_INDEX)
        self._execute = self.connection.cursor().execute

    def send(self, batch: Bodies) -> int:
        for row in rows(batch):
            self._execute(SEND, row)
        return len(batch)

    def send_batches(self, batch: Bodies) -> int:
        for start in range(0, len(batch), _BATCH):
            with self.connection:
                self.send(batch[start : start + _BATCH])
        return len(batch)

    def consume(self, size: int) -> int:
        """Everything that is there."""
        done = 0
        while True:
            now = time.time_ns() // 1_000_000
            claimed = self._execute(_CLAIM, (now + 60_000, _QUEUE, now, size)).fetchall()
            if not claimed:
                return done
            with self.connection:
                for row in claimed:
                    self._execute(_DELETE, (row[0],))
            done += len(claimed)

    def close(self) -> None:
        self.connection.close()


def rows(batch: Bodies) -> list[Sent]:
    """As they lie in the table."""
    now = time.time_ns() // 1_000_000
    tail = secrets.token_hex(6)
    made = []
    for body in batch:
        text = '{{"job":"{job}","key":"{key}"}}'.format(**body)
        made.append((f"{now:012x}{next(_numbers):08x}{tail}", _QUEUE, text, "json", now, now))
    return made


def load(path: Path, count: int) -> None:
    """Put messages into a queue quickly, beside whoever has the file open."""
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "off")
    connection.set_busy_timeout(10_000)
    with connection:
        connection.executemany(SEND, rows(bodies(count)))
    connection.close()


async def _send(queue: Queue, batch: Bodies) -> int:
    for body in batch:
        await queue.send(body)
    return len(batch)


async def _send_at_once(queue: Queue, batch: Bodies) -> int:
    """As many tasks as that, each of which awaits its own sends one after the other."""
    await asyncio.gather(*(_send(queue, batch[task::_AT_ONCE]) for task in range(_AT_ONCE)))
    return len(batch)


async def _send_batches(queue: Queue, batch: Bodies) -> int:
    for start in range(0, len(batch), _BATCH):
        await queue.send_batch(batch[start : start + _BATCH])
    return len(batch)


async def _consume(state: State, size: int, count: int) -> int:
    """That many messages, with a handler that does nothing."""
    done = 0
    over = asyncio.Event()

    async def handler(batch: MessageBatch) -> None:
        nonlocal done
        done += len(batch.messages)
        if done >= count:
            over.set()

    async with state.consume(_QUEUE, handler, max_batch_size=size, max_batch_timeout=0):
        await over.wait()
    return done


def _consumer(state: State, size: int, count: int) -> Contender:
    def prepare() -> None:
        load(state.directory / "data.sqlite", count)

    return contender(prepare, lambda _: _consume(state, size, count))


def _bare_consumer(floor: _Floor, path: Path, size: int, count: int) -> Contender:
    return contender(lambda: load(path, count), lambda _: floor.consume(size))


async def measure(scratch: Path) -> Report:
    report = Report()
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(bunflare.open(scratch / "ours"))
        queue = state.queue(_QUEUE)
        floor_path = scratch / "floor.sqlite"
        floor = _Floor(floor_path)
        stack.callback(floor.close)
        lite = litequeue.start(scratch / "litequeue", stack)
        hue = huey.start(scratch / "huey", stack)
        mini = miniflare.start(scratch / "miniflare", stack)
        await report.compare(
            "queue send, durable, one at a time",
            0.7,
            lambda: bodies(200),
            floor.send,
            lambda batch: _send(queue, batch),
            {
                litequeue.NAME: lite.send if lite else None,
                huey.NAME: hue.send if hue else None,
                miniflare.QUEUE_NAME: mini.send if mini else None,
            },
            seconds=0.5,
        )
        await report.compare(
            f"queue send, durable, {_AT_ONCE} at once",
            12,
            lambda: bodies(_AT_ONCE * 20),
            lambda batch: floor.send(batch[: _AT_ONCE * 2]),
            lambda batch: _send_at_once(queue, batch),
            seconds=0.5,
        )
        await report.compare(
            f"queue send_batch of {_BATCH}",
            0.5,
            lambda: bodies(_BATCH * 20),
            floor.send_batches,
            lambda batch: _send_batches(queue, batch),
        )
        await queue.purge()
        floor.connection.execute("DELETE FROM queue_messages")
        for size, count in ((10, 2_000), (100, 10_000)):
            work = f"queue consume and ack in batches of {size}, durable"
            contenders = {
                "floor": _bare_consumer(floor, floor_path, size, count),
                "ours": _consumer(state, size, count),
            }
            if size == 10:
                if lite is not None:
                    contenders[litequeue.NAME] = contender(lambda: lite.fill(500), lite.consume)
                if hue is not None:
                    contenders[huey.NAME] = contender(lambda: hue.fill(500), hue.consume)
            rates = await compare(contenders, seconds=0.4)
            report.at_least(work, 0.4, rates)
            if size == 10:
                for name in (litequeue.NAME, huey.NAME):
                    report.peer(work, name, rates)
    await _growth(report, scratch)
    await _idle(report, scratch / "idle")
    await _latency(report, scratch / "latency")
    await _latency_across(report, scratch / "across")
    return report


async def _growth(report: Report, scratch: Path) -> None:
    """The same work on an empty queue, on a long one, and after as much was acknowledged."""
    async with AsyncExitStack() as stack:
        empty = await stack.enter_async_context(bunflare.open(scratch / "empty"))
        full = await stack.enter_async_context(bunflare.open(scratch / "full"))
        used = await stack.enter_async_context(bunflare.open(scratch / "used"))
        for state in (full, used):
            began = time.monotonic()
            for _ in range(_BACKLOG // 100_000):
                load(state.directory / "data.sqlite", 100_000)
            tell(f"{_BACKLOG:,} messages loaded in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        await _consume(used, 100, _BACKLOG)
        tell(f"{_BACKLOG:,} messages consumed in {time.monotonic() - began:.0f} s")
        states = {"empty": empty, "full": full, "used": used}
        works: dict[str, Callable[[State], Contender]] = {
            "send": lambda state: contender(
                lambda: bodies(200), lambda batch: _send(state.queue(_QUEUE), batch)
            ),
            "send, 256 at once": lambda state: contender(
                lambda: bodies(_AT_ONCE * 10),
                lambda batch: _send_at_once(state.queue(_QUEUE), batch),
            ),
            "consume in batches of 10": lambda state: _consumer(state, 10, 2_000),
        }
        for work, make in works.items():
            rates = await compare({name: make(one) for name, one in states.items()}, seconds=0.4)
            for name, what in (
                ("full", f"with a backlog of {_BACKLOG:,}"),
                ("used", f"after {_BACKLOG:,} acked"),
            ):
                cost = rates.ratio("empty", name)
                report.add(
                    Row(
                        f"queue {work}, cost {what} to that on an empty one",
                        rate(rates["empty"]),
                        rate(rates[name]),
                        times(cost),
                        "at most 1.5 x",
                        cost <= 1.5,
                    )
                )
            if work.startswith("send"):
                for one in (empty, used):
                    await one.queue(_QUEUE).purge()


async def _idle(report: Report, path: Path) -> None:
    """A thousand consumers of queues in which nothing happens."""

    async def handler(batch: MessageBatch) -> None:
        raise AssertionError(batch)

    async with bunflare.open(path) as state:
        for number in range(_IDLE_QUEUES):
            await state.consume(f"queue{number}", handler).start()
            if number % 10 == 0:
                await state.queue(f"queue{number}").send(1, delay_seconds=3600)
        await asyncio.sleep(11)  # the looks that follow a commit end after ten seconds
        before = _processor_seconds()
        await asyncio.sleep(_IDLE_SECONDS)
        share = (_processor_seconds() - before) / _IDLE_SECONDS * 100
    report.at_most(
        f"consumers of {_IDLE_QUEUES:,} idle queues",
        0.5,
        0.5,
        max(share, 0.001),
        "0.5 % of a core",
        lambda percent: f"{percent:.3f} %",
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _latency(report: Report, path: Path) -> None:
    """From the call of `send` to that of the handler."""
    came: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(batch: MessageBatch) -> None:
        came.set_result(time.perf_counter())

    waits = []
    async with (
        bunflare.open(path) as state,
        state.consume(_QUEUE, handler, max_batch_timeout=0),
    ):
        for _ in range(300):
            came = asyncio.get_running_loop().create_future()
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            await state.queue(_QUEUE).send(1)
            waits.append((await came - began) * 1000)
    report.at_most(
        "queue send to handler, idle, same process, median",
        3.0,
        3.0,
        median(waits),
        "3 ms",
        lambda wait: f"{wait:.2f} ms",
    )


async def _latency_across(report: Report, path: Path) -> None:
    """From the call of `send` in another process to that of the handler."""
    came: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(batch: MessageBatch) -> None:
        came.set_result(time.monotonic() - batch.messages[0].body)

    waits = []
    async with (
        bunflare.open(path) as state,
        state.consume(_QUEUE, handler, max_batch_timeout=0),
    ):
        sender = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SENDER, path, _QUEUE, stdin=asyncio.subprocess.PIPE
        )
        assert sender.stdin is not None
        for _ in range(100):
            came = asyncio.get_running_loop().create_future()
            await asyncio.sleep(0.02)
            sender.stdin.write(b"now\n")
            waits.append(await came * 1000)
        sender.stdin.close()
        await sender.wait()
    waits.sort()
    for name, wait in (("median", median(waits)), ("95 of 100", waits[94])):
        report.at_most(
            f"queue send to handler, idle, another process, {name}",
            50.0,
            50.0,
            wait,
            "50 ms",
            lambda wait: f"{wait:.2f} ms",
        )
