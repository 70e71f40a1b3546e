"""Queues, pulling and administration: leases, retries, dead letters, purge, peek, requeue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bunflare import ManualClock, Queue, QueueError, QueueTypeError, QueueValueError, State
from tests.support import other_program


@pytest.fixture
def queue(state: State) -> Queue:
    return state.queue("jobs")


async def bodies(queue: Queue, **options: Any) -> list[Any]:
    return [one.body for one in await queue.pull(**options)]


# -- pulling -----------------------------------------------------------------------------------


async def test_a_pull_takes_five_the_oldest_first(queue: Queue) -> None:
    await queue.send_batch(range(12))
    assert await bodies(queue) == [0, 1, 2, 3, 4]
    assert await bodies(queue, batch_size=100) == [5, 6, 7, 8, 9, 10, 11]
    assert await bodies(queue) == []


@pytest.mark.parametrize("begun", [True, False])
async def test_a_pull_that_is_cancelled_gives_its_messages_back(
    queue: Queue, directory: Path, begun: bool
) -> None:
    await queue.send_batch([1, 2])
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        pulling = asyncio.create_task(queue.pull(batch_size=1))
        # In the next turn the writer takes up what it was asked for in this one.
        for _ in range(3 if begun else 1):
            await asyncio.sleep(0)
        pulling.cancel()
        await asyncio.wait([pulling])
        assert pulling.cancelled()
        run("COMMIT")
    found = await queue.pull()
    assert [(one.body, one.attempts) for one in found] == [(1, 1), (2, 1)]


async def test_what_is_not_acknowledged_in_time_is_visible_again(
    queue: Queue, clock: ManualClock
) -> None:
    await queue.send("a")
    [first] = await queue.pull()
    await clock.advance(seconds=29)
    assert await queue.pull() == []
    await clock.advance(seconds=2)
    [second] = await queue.pull(visibility_timeout_ms=1000)
    assert (second.id, second.attempts) == (first.id, 2)
    assert second.lease_id != first.lease_id
    # Somebody else has it now.
    result = await queue.ack([first.lease_id])
    assert (result.ack_count, list(result.warnings)) == (0, [first.lease_id])
    await clock.advance(hours=1)
    # Late, but nobody has pulled it since.
    assert (await queue.ack([second.lease_id])).ack_count == 1
    assert (await queue.ack([second.lease_id])).ack_count == 0
    assert (await queue.metrics()).backlog_count == 0


async def test_a_lease_cannot_be_guessed_nor_used_twice_nor_elsewhere(
    state: State, queue: Queue
) -> None:
    await queue.send_batch([1, 2])
    one, two = await queue.pull()
    wrong = [
        f"{one.id}.{two.lease_id.split('.')[1]}",
        one.id,
        f"{one.id}.",
        f"{one.id}.%",
        "",
        "x",
    ]
    assert (await queue.ack(wrong)).ack_count == 0
    assert (await state.queue("other").ack([one.lease_id])).ack_count == 0
    assert (await queue.ack([one.lease_id, one.lease_id])).ack_count == 1
    assert (await queue.ack(retries=[two.lease_id, (two.lease_id, 5)])).retry_count == 1
    assert (await queue.ack([two.lease_id])).ack_count == 0
    with pytest.raises(QueueTypeError, match="a lease id is a str"):
        await queue.ack([5])  # type: ignore[list-item]
    for kind in ("acks", "retries"):
        for given in (one.lease_id, None, {one.lease_id: 5}):
            with pytest.raises(QueueTypeError, match=f"{kind} are several lease ids"):
                await queue.ack(**{kind: given})  # type: ignore[arg-type]
    unknown = ["no dot", "", "\ud800.x"]
    assert list((await queue.ack(unknown)).warnings) == unknown
    with pytest.raises(QueueTypeError, match="a lease id is a str"):
        await queue.ack(retries=[(one.lease_id,)])  # type: ignore[list-item]
    leases: list[dict[str, object]] = [{}, {"id": "x"}, {"lease_id": "x", "delay": 1}]
    for lease in leases:
        with pytest.raises(QueueTypeError, match="a lease is {lease_id, delay_seconds}"):
            await queue.ack(retries=[lease])
        with pytest.raises(QueueTypeError, match="a lease is {lease_id, delay_seconds}"):
            await queue.ack([lease])


async def test_leases_are_taken_in_the_form_of_the_platforms_http_interface(
    queue: Queue, clock: ManualClock
) -> None:
    await queue.send_batch(["done", "later", "at once"])
    done, later, at_once = [one.lease_id for one in await queue.pull()]
    result = await queue.ack(
        acks=[{"lease_id": done}],
        retries=[{"lease_id": later, "delay_seconds": 10}, {"leaseId": at_once}],
    )
    assert (result.ack_count, result.retry_count, result.warnings) == (1, 2, {})
    assert await bodies(queue) == ["at once"]
    await clock.advance(seconds=10)
    assert await bodies(queue) == ["later"]
    again = {"lease_id": done, "delay_seconds": None}
    assert list((await queue.ack(retries=[again])).warnings) == [done]


async def test_a_retry_is_put_off_and_counts(queue: Queue, clock: ManualClock) -> None:
    await queue.configure(retry_delay=20)
    await queue.send_batch(["now", "in 10", "in 20"])
    leases = [one.lease_id for one in await queue.pull()]
    result = await queue.ack(retries=[(leases[0], 0), (leases[1], 10), leases[2]])
    assert (result.ack_count, result.retry_count, result.warnings) == (0, 3, {})
    assert [(one.body, one.attempts) for one in await queue.pull()] == [("now", 2)]
    await clock.advance(seconds=10)
    assert await bodies(queue) == ["in 10"]
    await clock.advance(seconds=10)
    assert await bodies(queue) == ["in 20"]
    with pytest.raises(QueueValueError, match="is invalid"):
        await queue.ack(retries=[(leases[0], 86_401)])


@pytest.mark.parametrize("how", ["retry", "time"])
async def test_after_its_retries_a_message_goes_to_the_dead_letter_queue(
    state: State, queue: Queue, clock: ManualClock, how: str
) -> None:
    await queue.configure(max_retries=2, dead_letter_queue="dead")
    await queue.send("a")
    attempts = []
    for _ in range(3):
        [message] = await queue.pull(visibility_timeout_ms=1000)
        attempts.append(message.attempts)
        if how == "retry":
            await queue.ack(retries=[message.lease_id])
        else:
            await clock.advance(seconds=1)
    assert attempts == [1, 2, 3]
    assert await queue.pull() == []
    [dead] = await state.queue("dead").peek()
    assert (dead.id, dead.timestamp, dead.attempts) == (message.id, message.timestamp, 0)
    assert dead.origin == "jobs"


async def test_without_a_dead_letter_queue_it_is_gone(queue: Queue) -> None:
    await queue.configure(max_retries=0)
    await queue.send("a")
    [message] = await queue.pull()
    await queue.ack(retries=[message.lease_id])
    assert await queue.peek() == []


async def test_what_is_dead_does_not_starve_what_is_behind_it(
    queue: Queue, clock: ManualClock
) -> None:
    await queue.configure(max_retries=0)
    await queue.send_batch(range(30))
    await queue.pull(batch_size=20, visibility_timeout_ms=1)
    await clock.advance(seconds=1)
    assert await bodies(queue) == [20, 21, 22, 23, 24]


async def test_a_body_that_cannot_be_read_is_told_and_starves_nobody(
    state: State, queue: Queue, clock: ManualClock
) -> None:
    await state.database.write(
        lambda tx: tx.run(
            "INSERT INTO queue_messages (id, queue, body, content_type, visible_at, created_at) "
            "VALUES ('00', 'jobs', '***', 'bytes', 1, ?1), ('01', 'jobs', 'x', 'odd', 1, ?1)",
            (clock.now(),),
        )
    )
    await queue.send("good")
    first, second, good = await queue.pull()
    assert (first.body, second.body, good.body) == (None, None, "good")
    assert "cannot be read" in str(first.corrupt)
    assert "odd" in str(second.corrupt)
    assert (await queue.ack([first.lease_id, second.lease_id])).ack_count == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 101}, "batch_size"),
        ({"visibility_timeout_ms": 0}, "visibility_timeout_ms"),
        ({"visibility_timeout_ms": 12 * 3600 * 1000 + 1}, "visibility_timeout_ms"),
    ],
)
async def test_a_pull_has_limits(queue: Queue, options: dict[str, int], text: str) -> None:
    with pytest.raises(QueueValueError, match=text):
        await queue.pull(**options)


async def test_the_visibility_timeout_that_was_set_counts(queue: Queue, clock: ManualClock) -> None:
    await queue.configure(visibility_timeout=5000)
    await queue.send(1)
    await queue.pull()
    await clock.advance(seconds=5)
    assert await bodies(queue) == [1]


# -- administration ----------------------------------------------------------------------------


async def test_a_paused_queue_cannot_be_pulled_and_takes_messages(queue: Queue) -> None:
    await queue.pause()
    await queue.send(1)
    with pytest.raises(QueueError, match="queue_delivery_paused") as info:
        await queue.pull()
    assert info.value.status == 409
    await queue.resume()
    assert await bodies(queue) == [1]


async def test_a_purge_deletes_everything(state: State, queue: Queue) -> None:
    for _ in range(25):
        await queue.send_batch(range(100))
    await queue.send("delayed", delay_seconds=100)
    await queue.pull(batch_size=100)
    await state.queue("other").send(1)
    assert await queue.purge() == 2501
    assert await queue.purge() == 0
    assert (await queue.metrics()).backlog_count == 0
    assert (await state.queue("other").metrics()).backlog_count == 1


async def test_peek_looks_and_takes_nothing(queue: Queue, clock: ManualClock) -> None:
    await queue.send_batch(["a", "b"])
    await clock.advance(seconds=1)
    await queue.send("c", delay_seconds=10)
    await queue.pull(batch_size=1)
    looked = await queue.peek()
    assert [(one.body, one.state, one.attempts) for one in looked] == [
        ("b", "ready", 0),
        ("c", "delayed", 0),
        ("a", "in flight", 1),
    ]
    assert [one.body for one in await queue.peek(2)] == ["b", "c"]
    assert looked == await queue.peek()
    with pytest.raises(QueueValueError, match="limit"):
        await queue.peek(0)


async def test_dead_letters_go_back_to_where_they_came_from(
    state: State, queue: Queue, clock: ManualClock
) -> None:
    dead = state.queue("dead")
    for name in ("jobs", "other"):
        await state.queue(name).configure(max_retries=0, dead_letter_queue="dead")
        await state.queue(name).send_batch([f"{name}1", f"{name}2"])
        leases = [one.lease_id for one in await state.queue(name).pull()]
        await state.queue(name).ack(retries=leases)
    await dead.send("sent here")
    [first, *_] = await dead.peek()
    assert await dead.requeue(ids=[first.id, "nothing"]) == {"jobs": 1}
    assert await dead.requeue() == {"jobs": 1, "other": 2}
    assert [one.body for one in await dead.peek()] == ["sent here"]
    assert await dead.requeue(to="third") == {"third": 1}
    assert await bodies(state.queue("third")) == ["sent here"]
    messages = await queue.pull()
    assert [(one.body, one.attempts) for one in messages] == [("jobs1", 1), ("jobs2", 1)]
    for wrong in ("abc", [5]):
        with pytest.raises(QueueTypeError, match="ids"):
            await dead.requeue(ids=wrong)  # type: ignore[arg-type]


# -- retention ---------------------------------------------------------------------------------


async def test_messages_are_kept_for_four_days(queue: Queue, clock: ManualClock) -> None:
    await queue.send("a")
    await queue.send("delayed", delay_seconds=3600)
    await clock.advance(days=3.9)
    assert (await queue.metrics()).backlog_count == 2
    await clock.advance(days=0.2)
    assert (await queue.metrics()).backlog_count == 0


async def test_how_long_can_be_set(state: State, queue: Queue, clock: ManualClock) -> None:
    await queue.configure(retention=3600)
    await queue.send("a")
    await state.queue("other").send("b")
    await clock.advance(hours=2)
    assert await queue.peek() == []
    assert len(await state.queue("other").peek()) == 1
    await state.queue("other").configure(retention=60)
    await clock.advance(seconds=1)
    assert await state.queue("other").peek() == []


async def test_a_dead_letter_is_kept_from_its_death_on(
    state: State, queue: Queue, clock: ManualClock
) -> None:
    await queue.configure(max_retries=0, dead_letter_queue="dead")
    await queue.send("a")
    await clock.advance(days=3)
    [message] = await queue.pull()
    await queue.ack(retries=[message.lease_id])
    await clock.advance(days=3.9)
    assert len(await state.queue("dead").peek()) == 1
    await clock.advance(days=0.2)
    assert await state.queue("dead").peek() == []


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("retention", 59, QueueValueError),
        ("retention", 14 * 86_400 + 1, QueueValueError),
        ("max_retries", 101, QueueValueError),
        ("delivery_delay", -1, QueueValueError),
        ("visibility_timeout", 0, QueueValueError),
        ("retry_delay", "1", QueueTypeError),
        ("dead_letter_queue", "", QueueTypeError),
        ("paused", True, QueueTypeError),
        ("colour", 1, QueueTypeError),
    ],
)
async def test_what_cannot_be_set_is_refused(
    queue: Queue, name: str, value: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=name):
        await queue.configure(**{name: value})
    await queue.configure(retention=60)
    await queue.configure(retention=None)
