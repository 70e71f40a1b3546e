"""Queues, push consumers: batches, acknowledgements, retries, dead letters, and claims."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    DatabaseError,
    ManualClock,
    MessageBatch,
    QueueTypeError,
    QueueValueError,
    State,
    StateError,
)
from bunflare.bindings import queue_broker, queue_consumer
from bunflare.store import queue_delivery
from tests.support import PATIENCE, eventually, other_program


class Seen:
    """A handler that notes what it gets and does what it is told."""

    def __init__(self, act: Any = None) -> None:
        self.batches: list[MessageBatch] = []
        self._act = act

    async def __call__(self, batch: MessageBatch) -> None:
        self.batches.append(batch)
        if self._act is not None:
            result = self._act(batch)
            if asyncio.iscoroutine(result):
                await result

    @property
    def bodies(self) -> list[list[Any]]:
        return [[one.body for one in batch.messages] for batch in self.batches]

    @property
    def attempts(self) -> list[int]:
        return [one.attempts for batch in self.batches for one in batch.messages]


async def settled(state: State, queue: str, count: int) -> None:
    """Wait until so many messages are left, none of them with a handler."""
    view = state.database.view
    held = "SELECT count(*) FROM queue_messages WHERE bunflare_holder IS NOT NULL"

    def done() -> bool:
        row = view.one("SELECT count(*) FROM queue_messages WHERE queue = ?", (queue,))
        return row == (count,) and view.one(held) == (0,)

    await eventually(done)


# -- batches -----------------------------------------------------------------------------------


async def test_a_full_batch_is_delivered_at_once(state: State) -> None:
    seen = Seen()
    queue = state.queue("jobs")
    async with state.consume("jobs", seen, max_batch_size=3):
        await queue.send_batch([1, 2])
        await asyncio.sleep(0.02)
        assert seen.bodies == []
        await queue.send(3)
        await settled(state, "jobs", 0)
    assert seen.bodies == [[1, 2, 3]]
    assert seen.batches[0].queue == "jobs"
    assert seen.attempts == [1, 1, 1]


async def test_a_batch_that_is_not_full_waits_from_its_first_message_on(
    state: State, clock: ManualClock
) -> None:
    seen = Seen()
    queue = state.queue("jobs")
    async with state.consume("jobs", seen):
        await queue.send(1)
        await clock.advance(seconds=3)
        await queue.send(2)
        await clock.advance(milliseconds=1999)
        assert seen.bodies == []
        await clock.advance(milliseconds=1)
        assert seen.bodies == [[1, 2]]
        await settled(state, "jobs", 0)


async def test_what_has_waited_for_long_is_delivered_when_a_consumer_comes(
    state: State, clock: ManualClock
) -> None:
    seen = Seen()
    await state.queue("jobs").send(1)
    await clock.advance(seconds=60)
    async with state.consume("jobs", seen):
        await settled(state, "jobs", 0)
    assert seen.bodies == [[1]]


async def test_delayed_messages_come_in_their_time(state: State, clock: ManualClock) -> None:
    seen = Seen()
    queue = state.queue("jobs")
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await queue.send("late", delay_seconds=3600)
        await queue.send("soon", delay_seconds=2)
        await clock.advance(seconds=1.9)
        assert seen.bodies == []
        await clock.advance(seconds=0.2)
        assert seen.bodies == [["soon"]]
        await clock.advance(hours=24)
        assert seen.bodies == [["soon"], ["late"]]
        await settled(state, "jobs", 0)


async def test_a_batch_is_in_the_order_of_time(state: State, clock: ManualClock) -> None:
    def once(batch: MessageBatch) -> None:
        if batch.messages[0].attempts == 1:
            batch.retry_all()

    seen = Seen(once)
    queue = state.queue("jobs")
    for number in range(5):
        await queue.send(number, delay_seconds=10 - number)
        await clock.advance(milliseconds=1)
    await clock.advance(seconds=20)
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert seen.bodies == [[0, 1, 2, 3, 4]] * 2


async def test_as_many_run_at_once_as_the_backlog_asks_for(state: State) -> None:
    running, most = 0, 0
    go = asyncio.Event()

    async def handler(batch: MessageBatch) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1

    await state.queue("jobs").send_batch(range(60))
    async with state.consume("jobs", handler):
        await eventually(lambda: running == 6)
        go.set()
        await settled(state, "jobs", 0)
    assert most == 6


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_run_at_once_than_max_concurrency(state: State, most: int) -> None:
    running: list[int] = []
    full = asyncio.Event()

    async def handler(batch: MessageBatch) -> None:
        running.append(running[-1] + 1 if running else 1)
        if running[-1] == most:
            full.set()
        await full.wait()
        await asyncio.sleep(0.001)
        running.append(running[-1] - 1)

    await state.queue("jobs").send_batch(range(100))
    async with state.consume("jobs", handler, max_batch_size=5, max_concurrency=most):
        await settled(state, "jobs", 0)
    assert max(running) == most


async def test_a_handler_may_be_a_plain_function(state: State) -> None:
    got: list[Any] = []
    await state.queue("jobs").send(1)
    async with state.consume("jobs", got.append, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert [batch.messages[0].body for batch in got] == [1]


async def test_a_batch_tells_its_queue_and_the_backlog(state: State, clock: ManualClock) -> None:
    counts: list[int] = []
    seen = Seen(lambda batch: counts.append(batch.metadata.metrics.backlog_count))
    await state.queue("jobs").send_batch(range(15))
    async with state.consume("jobs", seen, max_batch_timeout=0, max_concurrency=1):
        await settled(state, "jobs", 0)
    # What is being delivered is part of it.
    assert counts == [15, 5]
    assert seen.batches[0].messages[0].timestamp.timestamp() * 1000 == clock.now()


# -- what becomes of a message -----------------------------------------------------------------


async def test_an_exception_sends_all_again_and_then_to_the_dead_letter_queue(
    state: State, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no")

    seen = Seen(fail)
    queue, dead = state.queue("jobs"), state.queue("dead")
    await queue.send_batch(["a", "b"])
    sent = [one.id for one in await queue.peek()]
    told = (await queue.peek())[0].timestamp
    async with state.consume("jobs", seen, max_batch_timeout=0, dead_letter_queue="dead"):
        await settled(state, "jobs", 0)
    assert seen.bodies == [["a", "b"]] * 4
    assert seen.attempts == [1, 1, 2, 2, 3, 3, 4, 4]
    left = await dead.peek()
    assert [one.id for one in left] == sent
    assert (left[0].timestamp, left[0].attempts, left[0].origin) == (told, 0, "jobs")
    assert "the consumer of jobs failed" in caplog.text
    # The consumer of the dead-letter queue has its own full count of deliveries.
    again = Seen(fail)
    async with state.consume("dead", again, max_batch_timeout=0, max_retries=1):
        await settled(state, "dead", 0)
    assert again.attempts == [1, 1, 2, 2]


async def test_without_a_dead_letter_queue_a_message_is_gone_in_the_end(state: State) -> None:
    seen = Seen(lambda batch: batch.retry_all())
    await state.queue("jobs").send(1)
    async with state.consume("jobs", seen, max_batch_timeout=0, max_retries=0):
        await settled(state, "jobs", 0)
    assert seen.attempts == [1]


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, GeneratorExit])
async def test_whatever_a_handler_raises_its_messages_come_again(
    state: State, kind: type[BaseException]
) -> None:
    def act(batch: MessageBatch) -> None:
        if batch.messages[0].attempts == 1:
            raise kind

    seen = Seen(act)
    await state.queue("jobs").send(1)
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert seen.attempts == [1, 2]


async def test_what_was_said_before_an_exception_stands(state: State) -> None:
    def act(batch: MessageBatch) -> None:
        batch.messages[0].ack()
        batch.messages[1].retry(delay_seconds=100)
        raise RuntimeError("no")

    seen = Seen(act)
    queue = state.queue("jobs")
    await queue.send_batch(["acked", "put off", "again"])
    async with state.consume("jobs", seen, max_batch_timeout=0, retry_delay=7):
        await settled(state, "jobs", 2)
    assert seen.bodies == [["acked", "put off", "again"]]
    left = {one.body: one for one in await queue.peek()}
    now = ManualClock().now() / 1000
    assert left["put off"].visible_at.timestamp() == now + 100
    assert left["again"].visible_at.timestamp() == now + 7
    assert {one.attempts for one in left.values()} == {1}


async def test_ack_all_before_an_exception_stands(state: State) -> None:
    def act(batch: MessageBatch) -> None:
        batch.ack_all()
        raise RuntimeError("no")

    seen = Seen(act)
    await state.queue("jobs").send_batch([1, 2])
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert seen.bodies == [[1, 2]]


async def test_a_call_for_the_batch_leaves_alone_what_was_decided(
    state: State, clock: ManualClock
) -> None:
    def act(batch: MessageBatch) -> None:
        batch.messages[0].ack()
        batch.messages[1].retry(delay_seconds=5)
        batch.retry_all(delay_seconds=9)

    seen = Seen(act)
    queue = state.queue("jobs")
    await queue.send_batch(["a", "b", "c"])
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 2)
    left = [
        (one.body, one.visible_at.timestamp() * 1000 - clock.now()) for one in await queue.peek()
    ]
    assert left == [("b", 5000), ("c", 9000)]


CALLS = {
    "ack": lambda batch: batch.messages[0].ack(),
    "retry": lambda batch: batch.messages[0].retry(),
    "ackAll": lambda batch: batch.ack_all(),
    "retryAll": lambda batch: batch.retry_all(),
}


@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("second", CALLS)
async def test_the_first_call_wins_and_a_contrary_one_only_warns(
    state: State, first: str, second: str, caplog: pytest.LogCaptureFixture
) -> None:
    def act(batch: MessageBatch) -> None:
        CALLS[first](batch)
        CALLS[second](batch)

    seen = Seen(act)
    await state.queue("jobs").send(1)
    async with state.consume("jobs", seen, max_batch_timeout=0, retry_delay=1000):
        await settled(state, "jobs", 0 if first.startswith("ack") else 1)
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    contrary = first.startswith("ack") != second.startswith("ack")
    if contrary and not (second.endswith("All") and not first.endswith("All")):
        [text] = warned
        assert text.startswith(f"Received a call to {second}() ")
        assert f"after {first}() was already called." in text
        assert text.endswith("has no effect.")
    else:
        assert warned == []


async def test_the_delay_of_a_retry_is_checked_when_it_is_asked_for(state: State) -> None:
    errors: list[str] = []

    def act(batch: MessageBatch) -> None:
        for call in (batch.retry_all, batch.messages[0].retry):
            for delay in (-1, 86_401):
                with pytest.raises(QueueValueError, match="is invalid") as info:
                    call(delay)
                errors.append(str(info.value))

    await state.queue("jobs").send(1)
    async with state.consume("jobs", Seen(act), max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert len(errors) == 4


async def test_a_poison_message_does_not_stop_the_others(state: State) -> None:
    handled: list[int] = []

    def act(batch: MessageBatch) -> None:
        for message in batch.messages:
            if message.body % 10 == 0:
                raise ValueError(message.body)
            handled.append(message.body)
            message.ack()

    await state.queue("jobs").send_batch(range(50))
    async with state.consume(
        "jobs", Seen(act), max_batch_size=7, max_batch_timeout=0, dead_letter_queue="dead"
    ):
        await settled(state, "jobs", 0)
    # Whoever sat behind poison in a batch four times shares its fate; nothing is lost.
    dead = [one.body for one in await state.queue("dead").peek(100)]
    assert sorted(handled + dead) == list(range(50))
    assert {0, 10, 20, 30, 40} <= set(dead)


async def test_a_message_that_cannot_be_read_is_buried_without_the_others(
    state: State, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    await state.queue("jobs").send("good")
    await state.database.write(
        lambda tx: tx.run(
            "INSERT INTO queue_messages (id, queue, body, visible_at, created_at) "
            "VALUES ('bad', 'jobs', '{not json', 1, ?)",
            (clock.now(),),
        )
    )
    async with state.consume("jobs", seen, max_batch_timeout=0, dead_letter_queue="dead"):
        await settled(state, "jobs", 0)
    assert seen.bodies == [["good"]]
    [dead] = await state.queue("dead").peek()
    assert dead.id == "bad"
    assert dead.corrupt is not None
    assert "the message bad of jobs is not delivered" in caplog.text


async def test_messages_too_old_are_not_delivered(state: State, clock: ManualClock) -> None:
    seen = Seen()
    queue = state.queue("jobs")
    await queue.configure(retention=60)
    await queue.send("old", delay_seconds=60)
    clock.set(clock.now() + 61_000)
    await queue.send("new")
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert seen.bodies == [["new"]]


# -- claims ------------------------------------------------------------------------------------


async def test_a_state_that_closes_waits_for_its_handlers(
    directory: Any, clock: ManualClock
) -> None:
    ended = False

    async def handler(batch: MessageBatch) -> None:
        nonlocal ended
        started.set()
        await asyncio.sleep(0.05)
        ended = True

    started = asyncio.Event()
    async with bunflare.open(directory, clock=clock) as state:
        await state.queue("jobs").send(1)
        await state.consume("jobs", handler, max_batch_timeout=0).start()
        await started.wait()
    assert ended
    async with bunflare.open(directory, clock=clock) as state:
        assert (await state.queue("jobs").metrics()).backlog_count == 0


async def test_a_handler_that_is_cancelled_gives_its_messages_back(state: State) -> None:
    async def handler(batch: MessageBatch) -> None:
        batch.messages[0].ack()
        started.set()
        await asyncio.Event().wait()

    started = asyncio.Event()
    await state.queue("jobs").send_batch(["acked", "back"])
    consumer = await state.consume("jobs", handler, max_batch_timeout=0).start()
    await started.wait()
    await consumer.close(0)
    await settled(state, "jobs", 1)
    [left] = await state.queue("jobs").peek()
    assert (left.body, left.attempts, left.state) == ("back", 1, "ready")


async def test_a_claim_that_is_cancelled_while_it_is_written_gives_its_messages_back(
    state: State, directory: Path
) -> None:
    seen = Seen()
    await state.queue("jobs").send_batch([1, 2])
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        consumer = await state.consume("jobs", seen, max_batch_timeout=0).start()
        closing = asyncio.create_task(consumer.close(0))
        await eventually(lambda: all(task.cancelling() for task in consumer._tasks))
        run("COMMIT")
        await closing
    await settled(state, "jobs", 2)
    left = await state.queue("jobs").peek()
    assert [(one.attempts, one.state) for one in left] == [(0, "ready")] * 2
    assert seen.batches == []


async def test_what_was_acknowledged_stays_so_though_its_write_is_cancelled(
    state: State, directory: Path
) -> None:
    seen = Seen()
    with other_program(directory) as run:

        async def handler(batch: MessageBatch) -> None:
            await seen(batch)
            run("BEGIN IMMEDIATE")

        await state.queue("jobs").send_batch([1, 2, 3])
        consumer = await state.consume(
            "jobs", handler, max_batch_size=2, max_batch_timeout=0, max_concurrency=1
        ).start()
        await eventually(lambda: bool(seen.batches) and not consumer._held)
        closing = asyncio.create_task(consumer.close(0))
        await eventually(lambda: all(task.cancelling() for task in consumer._tasks))
        run("COMMIT")
        await closing
    await settled(state, "jobs", 1)
    [left] = await state.queue("jobs").peek()
    assert (left.body, left.attempts, left.state) == (3, 0, "ready")


@pytest.mark.parametrize("how", ["a lost consumer", "a new consumer"])
async def test_what_could_not_be_settled_is_let_go_of_in_the_end(
    state: State, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def fail(*_: object) -> None:
        raise DatabaseError("the disk is full")

    seen, other = Seen(), Seen()
    await state.queue("jobs").send(1)
    async with state.consume("others", other, max_batch_timeout=0):
        with monkeypatch.context() as patched:
            patched.setattr(queue_delivery, "settle_and_claim", fail)
            patched.setattr(queue_delivery, "settle", fail)
            consumer = await state.consume("jobs", seen, max_batch_timeout=0).start()
            await eventually(lambda: bool(seen.batches) and not consumer._held)
            await consumer.close(0)
        if how == "a lost consumer":
            await clock.advance(milliseconds=queue_broker.LEASE_MS)
    if how == "a new consumer":
        async with state.consume("others", other, max_batch_timeout=0):
            await settled(state, "jobs", 1)
    [left] = await state.queue("jobs").peek()
    assert (left.attempts, left.state) == (1, "ready")


async def test_a_consumer_that_could_not_start_delivers_nothing(
    state: State, directory: Path
) -> None:
    seen, other = Seen(), Seen()
    await state.queue("jobs").send(1)
    await state.database.write(
        lambda tx: tx.run("UPDATE queue_messages SET bunflare_holder = 'dead.1', visible_at = 0")
    )
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        starting = asyncio.create_task(state.consume("jobs", seen, max_batch_timeout=0).start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        run("COMMIT")
    assert starting.cancelled()
    async with state.consume("jobs", other, max_batch_timeout=0):
        await state.queue("jobs").send(2)
        await settled(state, "jobs", 0)
    assert seen.batches == []


async def test_a_consumer_that_was_closed_does_not_begin_anew(state: State) -> None:
    seen = Seen()
    consumer = state.consume("jobs", seen, max_batch_timeout=0)
    assert await consumer.start() is await consumer.start()
    await consumer.close()
    await consumer.close()
    with pytest.raises(StateError, match="does not begin anew"):
        await consumer.start()
    await state.queue("jobs").send(1)
    assert seen.batches == []


async def test_who_stays_is_told_of_what_another_consumer_gave_back(
    state: State, clock: ManualClock
) -> None:
    async def handler(batch: MessageBatch) -> None:
        batch.retry_all(delay_seconds=60)
        started.set()
        await over.wait()

    started, over, seen = asyncio.Event(), asyncio.Event(), Seen()
    leaving = await state.consume("jobs", handler, max_batch_timeout=0).start()
    await state.queue("jobs").send(1)
    await started.wait()
    async with state.consume("jobs", seen, max_batch_timeout=0):
        over.set()
        await leaving.close()
        await settled(state, "jobs", 1)
        await clock.advance(seconds=60)
        await settled(state, "jobs", 0)
    assert (seen.bodies, seen.attempts) == ([[1]], [2])


class Stubborn:
    """A handler that goes on though it is cancelled, until `over` is set."""

    def __init__(self) -> None:
        self.begun, self.over, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, batch: MessageBatch) -> None:
        batch.messages[0].ack()
        self.begun.set()
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                continue
        for message in batch.messages:
            message.ack()
        self.ended.set()


async def test_a_handler_that_swallows_its_cancellation_loses_its_messages_to_others(
    state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_consumer, "_GRACE_SECONDS", 0.01)
    handler, seen, release = Stubborn(), Seen(), asyncio.Event()
    await state.queue("jobs").send_batch(["acked", "back"])
    consumer = await state.consume("jobs", handler, max_batch_timeout=0).start()
    await handler.begun.wait()

    async def hold(batch: MessageBatch) -> None:
        await seen(batch)
        await release.wait()

    async with state.consume("jobs", hold, max_batch_timeout=0):
        await asyncio.wait_for(consumer.close(0), PATIENCE)
        await eventually(lambda: bool(seen.batches))
        assert (seen.bodies, seen.attempts) == ([["back"]], [2])
        # Its end takes nothing from whom the message is with now.
        handler.over.set()
        await handler.ended.wait()
        assert (await state.queue("jobs").metrics()).backlog_count == 1
        release.set()
        await settled(state, "jobs", 0)
    assert "handler(s) of jobs go on though they were cancelled" in caplog.text


async def test_a_state_closes_though_a_handler_swallows_its_cancellation(
    directory: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_consumer, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr("bunflare.state._PATIENCE_SECONDS", 0.01)
    handler = Stubborn()
    state = bunflare.open(directory)
    await state.queue("jobs").send_batch(["acked", "back"])
    await state.consume("jobs", handler, max_batch_timeout=0).start()
    await handler.begun.wait()
    await asyncio.wait_for(state.close(), PATIENCE)
    assert "handler(s) of jobs go on though they were cancelled" in caplog.text
    handler.over.set()
    await handler.ended.wait()
    async with bunflare.open(directory) as again:
        [left] = await again.queue("jobs").peek()
        assert (left.body, left.attempts, left.state) == ("back", 1, "ready")


async def test_a_long_handler_keeps_its_messages(state: State, clock: ManualClock) -> None:
    go = asyncio.Event()
    seen = Seen(lambda _: go.wait())
    await state.queue("jobs").send(1)
    async with state.consume("jobs", seen, max_batch_timeout=0), state.consume("jobs", seen):
        await eventually(lambda: len(seen.batches) == 1)
        await clock.advance(hours=5)
        [message] = await state.queue("jobs").peek()
        assert message.state == "in flight"
        assert message.visible_at.timestamp() * 1000 > clock.now()
        go.set()
        await settled(state, "jobs", 0)
    assert len(seen.batches) == 1


async def test_a_clock_that_jumps_loses_nothing_and_delivers_nothing_twice(
    state: State, clock: ManualClock
) -> None:
    go = asyncio.Event()
    seen = Seen(lambda _: go.wait())
    queue = state.queue("jobs")
    await queue.send_batch(range(10))
    async with (
        state.consume("jobs", seen, max_batch_size=5, max_batch_timeout=0),
        state.consume("jobs", seen, max_batch_size=5, max_batch_timeout=0),
    ):
        await eventually(lambda: len(seen.batches) == 2)
        for jump in (30 * 3600_000, -40 * 3600_000, 50 * 3600_000):
            clock.set(clock.now() + jump)
            await queue.send("more")
            await clock.advance(seconds=1)
        go.set()
        await clock.advance(hours=60)
        await settled(state, "jobs", 0)
    bodies = [body for batch in seen.bodies for body in batch]
    assert sorted(map(str, bodies)) == sorted([*map(str, range(10)), "more", "more", "more"])


async def test_claims_of_a_process_that_is_gone_come_back_when_one_looks(state: State) -> None:
    await state.queue("jobs").send(1)
    await state.database.write(
        lambda tx: tx.run(
            "UPDATE queue_messages SET bunflare_holder = 'dead.1', attempts = 1, visible_at = ?",
            (2**60,),
        )
    )
    seen = Seen()
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await settled(state, "jobs", 0)
    assert seen.attempts == [2]


async def test_a_lease_of_a_living_process_ends_only_when_nobody_makes_it_longer(
    state: State, clock: ManualClock
) -> None:
    """A state of this process that was left without being closed, say."""
    await state.queue("jobs").send(1)
    left = f"{state.database.presence.id}.999999"
    await state.database.write(
        lambda tx: tx.run(
            "UPDATE queue_messages SET bunflare_holder = ?, attempts = 1, visible_at = ?",
            (left, clock.now() - 1),
        )
    )
    seen = Seen()
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await clock.advance(milliseconds=queue_broker.LEASE_MS - 1000)
        assert seen.batches == []
        await clock.advance(seconds=2)
        await settled(state, "jobs", 0)
    assert seen.attempts == [2]


async def test_a_message_whose_handlers_die_with_their_process_is_buried_in_the_end(
    state: State,
) -> None:
    await state.queue("jobs").send("poison")
    await state.queue("jobs").send("good")
    await state.database.write(
        lambda tx: tx.run("UPDATE queue_messages SET attempts = 4 WHERE body = '\"poison\"'")
    )
    seen = Seen()
    async with state.consume("jobs", seen, max_batch_timeout=0, dead_letter_queue="dead"):
        await settled(state, "jobs", 0)
    assert seen.bodies == [["good"]]
    assert [one.body for one in await state.queue("dead").peek()] == ["poison"]


async def test_what_a_handler_is_called_from_does_not_reach_into_it(state: State) -> None:
    """Whoever sends inside a transaction, or an object's event, is not who consumes."""
    inside: list[bool] = []

    async def handler(batch: MessageBatch) -> None:
        inside.append(state.database.in_transaction)
        await state.kv("done").put("key", "value")

    async with state.consume("jobs", handler, max_batch_timeout=0):
        async with state.transaction() as tx:
            await tx.queue("jobs").send(1)
        await settled(state, "jobs", 0)
    assert inside == [False]
    assert await state.kv("done").get("key") == "value"


# -- pausing -----------------------------------------------------------------------------------


async def test_a_paused_queue_delivers_nothing_until_it_is_resumed(
    state: State, clock: ManualClock
) -> None:
    seen = Seen()
    queue = state.queue("jobs")
    async with state.consume("jobs", seen, max_batch_timeout=0):
        await queue.pause()
        await queue.send(1)
        await clock.advance(hours=1)
        assert seen.bodies == []
        await queue.resume()
        await settled(state, "jobs", 0)
    assert seen.bodies == [[1]]


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch_size": 0},
        {"max_batch_size": 101},
        {"max_batch_timeout": -1},
        {"max_batch_timeout": 61},
        {"max_retries": -1},
        {"max_retries": 101},
        {"max_concurrency": 0},
        {"max_concurrency": 251},
        {"retry_delay": -1},
        {"retry_delay": 86_401},
    ],
)
async def test_settings_beyond_the_platform_s_limits_are_refused(
    state: State, wrong: dict[str, Any]
) -> None:
    with pytest.raises(QueueValueError, match=next(iter(wrong))):
        state.consume("jobs", Seen(), **wrong)
    with pytest.raises(QueueTypeError, match=next(iter(wrong))):
        strings: dict[str, Any] = dict.fromkeys(wrong, "5")
        state.consume("jobs", Seen(), **strings)


async def test_a_consumer_needs_a_handler(state: State) -> None:
    with pytest.raises(QueueTypeError, match="needs a handler"):
        state.consume("jobs", None)  # type: ignore[arg-type]
    with pytest.raises(QueueTypeError, match="needs a name"):
        state.consume("jobs", Seen(), dead_letter_queue="")


# -- several states of one process -------------------------------------------------------------


async def test_a_send_of_one_state_wakes_the_consumer_of_another(
    state: State, directory: Any, clock: ManualClock
) -> None:
    seen = Seen()
    async with (
        bunflare.open(directory, clock=clock) as other,
        other.consume("jobs", seen, max_batch_timeout=0),
    ):
        await state.queue("jobs").send(1)
        await settled(state, "jobs", 0)
        async with state.transaction() as tx:
            await tx.queue("jobs").send(2)
        await settled(state, "jobs", 0)
    assert seen.bodies == [[1], [2]]


async def test_a_send_of_another_thread_wakes_a_consumer(state: State) -> None:
    seen = Seen()

    def send() -> None:
        async def inside() -> None:
            await state.queue("jobs").send("from a thread")

        asyncio.run(inside())

    async with state.consume("jobs", seen, max_batch_timeout=0):
        await asyncio.to_thread(send)
        await settled(state, "jobs", 0)
    assert seen.bodies == [["from a thread"]]


async def test_a_consumer_that_sends_to_its_own_queue_is_given_that_too(state: State) -> None:
    seen: list[int] = []

    async def handler(batch: MessageBatch) -> None:
        for message in batch.messages:
            seen.append(message.body)
            if message.body < 20:
                await state.queue("jobs").send(message.body + 1)

    await state.queue("jobs").send(1)
    async with state.consume("jobs", handler, max_batch_timeout=0, max_concurrency=1):
        await settled(state, "jobs", 0)
    assert seen == list(range(1, 21))
