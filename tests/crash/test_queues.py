"""Producers and consumers in many processes, killed at any moment.

All write what they do into one file, each line at once, so that its order is that of time: a
producer each message whose send was acknowledged, a consumer the beginning and end of its handlers.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import bunflare
from bunflare import MessageBatch
from tests.crash.victims import seed_of_the_day
from tests.support import PATIENCE, Child, child

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
SECONDS = 60.0 if LONG else 3.0
OF_EACH = 4 if LONG else 2
PAUSE = 1.0 if LONG else 0.5
#: How many messages must have been sent.
ENOUGH = 100

_COMMON = """
import asyncio, os, random, sys
import bunflare

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def tell(*words):
    os.write(log, (" ".join(map(str, words)) + chr(10)).encode())

async def stopped():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
"""

_PRODUCER = (
    _COMMON
    + """
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        queue = state.queue("jobs")
        print("ready", flush=True)
        end = asyncio.ensure_future(stopped())

        async def work(lane):
            number = 0
            while not end.done():
                names = [f"{os.getpid()}.{lane}.{number + at}" for at in range(1 + lane * 3)]
                number += len(names)
                delay = random.choice([0, 0, 0, 0.05])
                if lane == 0:
                    await queue.send(names[0], delay_seconds=delay)
                elif lane == 1:
                    await queue.send_batch(names, delay_seconds=delay)
                else:
                    async with state.transaction() as tx:
                        await tx.queue("jobs").send_batch(names)
                        await tx.kv("sent").put(str(os.getpid()), names[-1])
                for name in names:
                    tell("sent", name)
                await asyncio.sleep(random.uniform(0, 0.02))

        await asyncio.gather(*[work(lane) for lane in range(3)])
asyncio.run(main())
"""
)

_CONSUMER = (
    _COMMON
    + """
async def main():
    async def handler(batch):
        times = [message.timestamp for message in batch.messages]
        if times != sorted(times):
            tell("disorder", os.getpid())
        for message in batch.messages:
            tell("begin", os.getpid(), message.body, message.attempts)
        await asyncio.sleep(random.uniform(0, 0.02))
        failing = random.random() < 0.05
        for message in batch.messages:
            done = "failed"
            if random.random() < 0.05:
                message.retry(delay_seconds=random.choice([0, 0.02]))
            elif not failing:
                done = "end"
            tell(done, os.getpid(), message.body, message.attempts)
        if failing:
            raise RuntimeError

    import logging
    logging.disable()
    async with (
        bunflare.open(sys.argv[1]) as state,
        state.consume("jobs", handler, max_batch_timeout=0.01, max_retries=100,
                      dead_letter_queue="dead", max_concurrency=5),
    ):
        print("ready", flush=True)
        await stopped()
asyncio.run(main())
"""
)


async def test_nothing_is_lost_nor_in_two_hands_whoever_is_killed(tmp_path: Path) -> None:
    directory, log = tmp_path / "state", tmp_path / "log"
    chance = random.Random(seed_of_the_day())
    killed: set[str] = set()
    with ExitStack() as stack:

        def begin(source: str) -> Child:
            return stack.enter_context(child(source, directory, log))

        async with bunflare.open(directory) as state:
            workers = [(source, begin(source)) for source in (_PRODUCER, _CONSUMER) * OF_EACH]
            for _, running in workers:
                assert running.line() == "ready"
            over = time.monotonic() + SECONDS
            # On a busy machine it takes longer until there is something to be judged.
            latest = over + 4 * PATIENCE
            while (now := time.monotonic()) < over or (now < latest and not enough(log)):
                await asyncio.sleep(PAUSE * chance.uniform(0.5, 1.5))
                at = chance.randrange(len(workers))
                source, victim = workers[at]
                victim.kill()
                killed.add(str(victim.process.pid))
                workers[at] = (source, begin(source))
            for source, running in workers:
                if source is _PRODUCER:
                    running.tell("stop")
                    running.process.wait(PATIENCE)
            deadline = time.monotonic() + PATIENCE + SECONDS
            while (await state.queue("jobs").metrics()).backlog_count:
                assert time.monotonic() < deadline, await state.queue("jobs").peek()
                await asyncio.sleep(0.02)
            for source, running in workers:
                if source is _CONSUMER:
                    running.tell("stop")
                    assert running.process.wait(PATIENCE) == 0
            assert await state.queue("dead").peek() == []
            assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
    _judge(log.read_text().splitlines(), killed)


def enough(log: Path) -> bool:
    return sum(line.startswith("sent ") for line in log.read_text().splitlines()) > ENOUGH


def _judge(lines: list[str], killed: set[str]) -> None:
    sent: set[str] = set()
    handled: set[str] = set()
    open_in: dict[str, str] = {}
    attempts: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        word, *rest = line.split()
        assert word != "disorder", "a batch was not in the order of time"
        if word == "sent":
            sent.add(rest[0])
            continue
        process, name, attempt = rest
        if word == "begin":
            # Whoever had it and never ended it must be dead.
            assert open_in.get(name) in (None, *killed), f"{name} is in two hands"
            open_in[name] = process
            attempts[name].append(int(attempt))
        else:
            assert open_in.pop(name, None) == process, f"{name} was in two hands"
            if word == "end":
                handled.add(name)
    assert len(sent) > ENOUGH
    assert sent <= handled, f"lost: {sorted(sent - handled)[:10]}"
    for name, seen in attempts.items():
        # One more each time; a claim whose process died before its handler began counts, too.
        assert seen == sorted(set(seen)), f"{name}: {seen}"
        assert seen[0] >= 1


_HANGING = (
    _COMMON
    + """
async def main():
    async def handler(batch):
        print(*[message.body for message in batch.messages], flush=True)
        await asyncio.Event().wait()

    async with (
        bunflare.open(sys.argv[1]) as state,
        state.consume("jobs", handler, max_batch_timeout=0),
    ):
        await stopped()
asyncio.run(main())
"""
)


async def test_what_a_killed_process_held_is_delivered_to_another_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with bunflare.open(tmp_path / "state") as state:
        await state.queue("jobs").send_batch([1, 2])
        with child(_HANGING, tmp_path / "state", log) as victim:
            assert victim.line() == "1 2"
            got: asyncio.Future[MessageBatch] = asyncio.get_running_loop().create_future()
            async with state.consume("jobs", got.set_result, max_batch_timeout=0):
                await asyncio.sleep(0.05)
                assert not got.done()
                victim.kill()
                batch = await asyncio.wait_for(got, PATIENCE)
    assert [(one.body, one.attempts) for one in batch.messages] == [(1, 2), (2, 2)]


_SENDER = (
    _COMMON
    + """
import time
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        print("ready", flush=True)
        for line in sys.stdin:
            await state.queue("jobs").send(time.monotonic())
asyncio.run(main())
"""
)


async def test_a_send_in_another_process_wakes_a_consumer(tmp_path: Path) -> None:
    waits: list[float] = []
    came = asyncio.Event()

    def handler(batch: MessageBatch) -> None:
        waits.append(time.monotonic() - batch.messages[0].body)
        came.set()

    with child(_SENDER, tmp_path / "state", tmp_path / "log") as sender:
        assert sender.line() == "ready"
        async with (
            bunflare.open(tmp_path / "state") as state,
            state.consume("jobs", handler, max_batch_timeout=0),
        ):
            for _ in range(20):
                came.clear()
                sender.tell("send")
                await asyncio.wait_for(came.wait(), PATIENCE)
    # What is promised is 50 ms on an idle machine; this only tells it from polling.
    assert sorted(waits)[10] < 0.5


async def test_two_processes_share_a_queue(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with bunflare.open(tmp_path / "state") as state:
        with (
            child(_CONSUMER, tmp_path / "state", log) as one,
            child(_CONSUMER, tmp_path / "state", log) as two,
        ):
            assert (one.line(), two.line()) == ("ready", "ready")
            shares = [0, 0]
            # A process that the system keeps waiting has its share of what comes later.
            for start in range(0, 20_000, 2000):
                for first in range(start, start + 2000, 100):
                    await state.queue("jobs").send_batch(range(first, first + 100))
                deadline = time.monotonic() + 2 * PATIENCE
                while (await state.queue("jobs").metrics()).backlog_count:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
                lines = log.read_text().splitlines()
                ended = [line.split()[1] for line in lines if line.startswith("end")]
                shares = [ended.count(str(running.process.pid)) for running in (one, two)]
                if min(shares) > 400:
                    break
            for running in (one, two):
                running.tell("stop")
                running.process.wait(PATIENCE)
    assert min(shares) > 400, shares
