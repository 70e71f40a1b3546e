"""Queues, the producer's side: what is taken, what is refused, and what is told."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import (
    ManualClock,
    MessageSendRequest,
    Queue,
    QueueError,
    QueueTypeError,
    QueueValueError,
    State,
)
from bunflare.store.queues import METRICS
from tests.support import other_program


@pytest.fixture
def queue(state: State) -> Queue:
    return state.queue("jobs")


def at(clock: ManualClock) -> datetime:
    return datetime.fromtimestamp(clock.now() / 1000, UTC)


BODIES = [
    ("json", {"a": [1, None, "ü"], "b": 2.5}),
    ("json", None),
    ("json", "text"),
    ("json", {"when": datetime(2026, 1, 1, tzinfo=UTC), "data": b"\0\xff", "of": {1, 2}}),
    ("v8", {"when": datetime(2026, 1, 1, tzinfo=UTC), 1: 2**70}),
    ("text", "plain ✓ \0 text"),
    ("bytes", b""),
    ("bytes", bytes(range(256))),
]


@pytest.mark.parametrize(("kind", "body"), BODIES)
async def test_a_body_comes_out_as_it_went_in(queue: Queue, kind: Any, body: Any) -> None:
    await queue.send(body, content_type=kind)
    [message] = await queue.pull()
    assert message.body == body
    assert (message.content_type, message.attempts, message.corrupt) == (kind, 1, None)


async def test_the_column_of_the_bodies_can_be_read(state: State, queue: Queue) -> None:
    await queue.send({"a": [1, 2]})
    await queue.send("just text", "text")
    await queue.send(b"bytes", "bytes")
    await queue.send([1, 2], "v8")
    rows = state.database.view.all(
        "SELECT body, content_type, typeof(body) FROM queue_messages ORDER BY id"
    )
    assert [row[0] for row in rows] == ['{"a":[1,2]}', "just text", "Ynl0ZXM=", "[1,2]"]
    assert [row[1] for row in rows] == ["json", "text", "bytes", "v8"]
    assert {row[2] for row in rows} == {"text"}


async def test_a_lone_surrogate_in_a_text_becomes_the_replacement_character(queue: Queue) -> None:
    await queue.send("a\ud800b", "text")
    [message] = await queue.pull()
    assert message.body == "a\ufffdb"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (1, "text", 'Content Type "text" requires a value of type string, but received: number'),
        ({}, "text", 'Content Type "text" requires a value of type string, but received: object'),
        (True, "text", "received: boolean"),
        (
            "a",
            "bytes",
            'Content Type "bytes" requires a value of type ArrayBufferView, but received: string',
        ),
        ("a", "xml", "Unsupported queue message content type: xml"),
        ("a", 5, "Unsupported queue message content type: 5"),
        (lambda: 1, "json", "could not be cloned|not be serialized|serialize"),
        (object(), "v8", "could not be cloned|serialize"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused(
    state: State, queue: Queue, body: Any, kind: Any, text: str
) -> None:
    with pytest.raises(QueueTypeError, match=text):
        await queue.send(body, content_type=kind)
    with pytest.raises(TypeError, match=text):
        await queue.send_batch([MessageSendRequest("good"), MessageSendRequest(body, kind)])
    assert (await queue.metrics()).backlog_count == 0


async def test_a_message_may_have_128_000_bytes(queue: Queue) -> None:
    await queue.send("x" * 128_000, "text")
    await queue.send(b"x" * 128_000, "bytes")
    await queue.send("x" * 127_998)
    for body, kind, size in [
        ("x" * 128_001, "text", 128_001),
        ("ü" * 64_001, "text", 128_002),
        (b"x" * 128_001, "bytes", 128_001),
        ("x" * 128_000, "json", 128_002),
    ]:
        with pytest.raises(QueueValueError, match=f"message length of {size} bytes exceeds"):
            await queue.send(body, kind)  # type: ignore[arg-type]
    assert (await queue.metrics()).backlog_count == 3


async def test_a_batch_has_limits_of_its_own(queue: Queue) -> None:
    await queue.send_batch(range(100))
    with pytest.raises(QueueValueError, match="batch message count of 101 exceeds limit of 100"):
        await queue.send_batch(range(101))
    text = "x" * 85_000
    with pytest.raises(QueueValueError, match="batch size of 256003 bytes exceeds limit of 256000"):
        await queue.send_batch(
            [MessageSendRequest(text, "text")] * 3 + [MessageSendRequest("x" * 1003, "text")]
        )
    with pytest.raises(QueueValueError, match="message in batch has length 128001 bytes") as info:
        await queue.send_batch([MessageSendRequest("x" * 128_001, "text")])
    assert info.value.status == 413
    with pytest.raises(QueueTypeError, match=r"sendBatch\(\) requires at least one message"):
        await queue.send_batch([])
    with pytest.raises(QueueTypeError, match="takes several messages, not dict"):
        await queue.send_batch({"body": 1})
    with pytest.raises(QueueTypeError, match="takes several messages"):
        await queue.send_batch("abc")
    with pytest.raises(QueueTypeError, match="takes several messages"):
        await queue.send_batch(5)  # type: ignore[arg-type]
    assert (await queue.metrics()).backlog_count == 100


async def test_a_batch_takes_requests_dicts_of_both_spellings_and_bodies(queue: Queue) -> None:
    await queue.send_batch(
        one
        for one in [
            MessageSendRequest(b"a", "bytes"),
            {"body": "b", "contentType": "text"},
            {"body": "c", "content_type": "v8"},
            {"not": "a request"},
            {"body": 1, "and": "more"},
        ]
    )
    messages = await queue.pull(batch_size=100)
    assert [(one.body, one.content_type) for one in messages] == [
        (b"a", "bytes"),
        ("b", "text"),
        ("c", "v8"),
        ({"not": "a request"}, "json"),
        ({"body": 1, "and": "more"}, "json"),
    ]


async def test_a_delay_of_the_message_goes_before_that_of_the_call_and_of_the_queue(
    state: State, clock: ManualClock
) -> None:
    queue = state.queue("jobs", delivery_delay=60)
    await queue.send("queue")
    await queue.send("own", delay_seconds=0)
    await queue.send_batch(
        [MessageSendRequest("batch"), MessageSendRequest("mine", delay_seconds=1)], delay_seconds=30
    )
    seen: list[tuple[int, Any]] = []
    for second in (0, 1, 30, 60):
        await clock.advance(milliseconds=max(0, second * 1000 - _passed(clock)))
        seen += [(second, one.body) for one in await queue.pull(visibility_timeout_ms=40_000_000)]
    assert seen == [(0, "own"), (1, "mine"), (30, "batch"), (60, "queue")]


def _passed(clock: ManualClock) -> int:
    return clock.now() - ManualClock().now()


async def test_the_delay_that_was_set_of_a_queue_counts_in_all_processes(
    state: State, clock: ManualClock
) -> None:
    await state.queue("jobs").configure(delivery_delay=10)
    await state.queue("jobs").send(1)
    assert await state.queue("jobs").pull() == []
    await clock.advance(seconds=10)
    assert len(await state.queue("jobs").pull()) == 1


@pytest.mark.parametrize("delay", [-1, 86_401, float("nan"), float("inf")])
async def test_a_delay_is_at_most_a_day(queue: Queue, delay: float) -> None:
    await queue.send(1, delay_seconds=86_400)
    with pytest.raises(QueueValueError, match="message delay .* is invalid"):
        await queue.send(1, delay_seconds=delay)
    with pytest.raises(QueueValueError, match="is invalid"):
        await queue.send_batch([1], delay_seconds=delay)
    with pytest.raises(QueueValueError, match="is invalid"):
        await queue.send_batch([MessageSendRequest(1, delay_seconds=delay)])
    for wrong in ("1", True):
        with pytest.raises(QueueTypeError, match="a number of seconds"):
            await queue.send(1, delay_seconds=wrong)  # type: ignore[arg-type]
    assert (await queue.metrics()).backlog_count == 1


async def test_a_queue_needs_a_name(state: State) -> None:
    for name in ("", None, 5, "\ud800"):
        with pytest.raises(QueueTypeError, match="needs a name"):
            state.queue(name)  # type: ignore[arg-type]
        with pytest.raises(QueueTypeError, match="needs a name"):
            state.consume("a", print, dead_letter_queue=name or "")  # type: ignore[arg-type]


async def test_a_send_tells_the_backlog(queue: Queue, clock: ManualClock) -> None:
    first = at(clock)
    sent = await queue.send("abc", "text")
    metrics = sent.metadata.metrics
    assert (metrics.backlog_count, metrics.backlog_bytes) == (1, 3)
    assert metrics.oldest_message_timestamp == first
    await clock.advance(seconds=1)
    sent = await queue.send_batch([MessageSendRequest(b"12345", "bytes"), {"a": "ü"}])
    metrics = sent.metadata.metrics
    assert (metrics.backlog_count, metrics.backlog_bytes) == (3, 3 + 5 + len('{"a":"ü"}'.encode()))
    assert metrics.oldest_message_timestamp == first
    assert await queue.metrics() == metrics


async def test_metrics_of_an_empty_queue(queue: Queue) -> None:
    assert await queue.metrics() == bunflare.QueueMetrics(0, 0, None)


async def test_sends_of_one_turn_are_one_commit_and_are_told_what_it_came_to(
    state: State, queue: Queue
) -> None:
    before = state.database.foreign()
    commits = state.database.header()
    answers = await asyncio.gather(
        *[queue.send("x" * number, "text") for number in range(1, 51)],
        state.queue("other").send(1),
        state.kv("KV").put("key", "value"),
    )
    assert state.database.foreign() == before
    assert state.database.header() != commits
    told = [answer.metadata.metrics for answer in answers if answer is not None]
    assert [one.backlog_count for one in told] == [50] * 50 + [1]
    assert told[0].backlog_bytes == sum(range(51))
    assert await queue.metrics() == told[0]
    assert answers[0] == answers[1] != answers[50]
    assert "backlog_count=50," in repr(answers[0])
    assert [len(one.body) for one in await queue.peek(100)] == list(range(1, 51))


async def test_what_a_send_tells_is_what_counting_finds(
    state: State, queue: Queue, clock: ManualClock, directory: Path
) -> None:
    """Where nobody else has written, it is told without counting."""
    rng = random.Random(7)

    def counted() -> tuple[Any, ...] | None:
        return state.database.view.one(METRICS, ("jobs",))

    with closing(apsw.Connection(str(directory / "data.sqlite"))) as other:
        for step in range(120):
            await clock.advance(seconds=rng.randrange(3))
            delay = rng.choice([None, None, 1, 30])
            match rng.randrange(6):
                case 0 | 1:
                    sent = await queue.send("x" * rng.randrange(9), delay_seconds=delay)
                case 2:
                    sent = (await asyncio.gather(*[queue.send(n) for n in range(5)]))[-1]
                case 3:
                    sent = await queue.send_batch([{"body": n} for n in range(5)], delay)
                case 4:
                    pulled = await queue.pull(rng.randrange(1, 9), visibility_timeout_ms=2000)
                    await queue.ack([one.lease_id for one in pulled[::2]])
                    sent = await queue.send(step)
                case _:
                    other.execute(
                        "DELETE FROM queue_messages WHERE id IN "
                        "(SELECT min(id) FROM queue_messages)"
                    )
                    sent = await queue.send(step)
            told = sent.metadata.metrics
            oldest = told.oldest_message_timestamp
            assert oldest is not None
            found = (told.backlog_count, told.backlog_bytes, round(oldest.timestamp() * 1000))
            assert found == counted()


async def test_more_sends_at_once_than_one_write_takes(queue: Queue) -> None:
    await asyncio.gather(*[queue.send(number) for number in range(2500)])
    assert [one.body for one in await queue.peek(2500)] == list(range(2500))


async def test_a_send_that_is_given_up_before_it_began_sends_nothing(queue: Queue) -> None:
    async def give_up(number: int) -> None:
        task = asyncio.ensure_future(queue.send(number))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await asyncio.gather(give_up(1), queue.send(2), give_up(3))
    found = [one.body for one in await queue.peek()]
    assert 2 in found
    assert len(found) == (await queue.metrics()).backlog_count


async def test_sends_that_fail_together_all_say_so(
    state: State, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise bunflare.DatabaseFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr("bunflare.store.queues._grown", refuse)
        results = await asyncio.gather(
            *[queue.send(number) for number in range(5)], return_exceptions=True
        )
    assert [type(one) for one in results] == [bunflare.DatabaseFull] * 5
    await queue.send("again")
    assert [one.body for one in await queue.peek()] == ["again"]


async def test_the_oldest_message_is_known_whatever_happens_to_it(
    state: State, queue: Queue, clock: ManualClock
) -> None:
    async def oldest() -> timedelta | None:
        found = (await queue.metrics()).oldest_message_timestamp
        return None if found is None else found - start

    start = at(clock)
    await queue.send("delayed", delay_seconds=100)
    await clock.advance(seconds=1)
    await queue.send("second")
    assert await oldest() == timedelta(0)
    await clock.advance(seconds=100)
    messages = await queue.pull(visibility_timeout_ms=1000)
    assert await oldest() == timedelta(0)
    await queue.ack([one.lease_id for one in messages if one.body == "delayed"])
    assert await oldest() == timedelta(seconds=1)
    async with state.consume("jobs", _forever, max_batch_timeout=0) as consumer:
        await clock.advance(seconds=10)
        assert (await queue.metrics()).backlog_count == 1
        assert await oldest() == timedelta(seconds=1)
        await consumer.close(0)
    assert await oldest() == timedelta(seconds=1)
    await queue.purge()
    assert await oldest() is None


async def _forever(_: object) -> None:
    await asyncio.Event().wait()


async def test_what_other_programs_write_counts_and_is_delivered(
    queue: Queue, directory: Path
) -> None:
    await queue.send("ours", "text")
    with other_program(directory) as run:
        run(
            "INSERT INTO queue_messages (id, queue, body, visible_at, created_at) "
            "VALUES ('theirs', 'jobs', '{\"a\":1}', 1, 1)"
        )
        metrics = await queue.metrics()
        assert (metrics.backlog_count, metrics.backlog_bytes) == (2, 4 + 7)
        assert [one.body for one in await queue.peek()] == [{"a": 1}, "ours"]
        run("DELETE FROM queue_messages WHERE id = 'theirs'")
        assert (await queue.metrics()).backlog_count == 1


async def test_messages_outlive_the_state(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.queue("jobs").send({"a": 1}, delay_seconds=1)
    async with bunflare.open(directory) as state:
        [message] = await state.queue("jobs").peek()
        assert message.body == {"a": 1}
        assert message.state == "delayed"


async def test_ids_are_unique_and_grow(queue: Queue) -> None:
    await queue.send_batch(range(100))
    found = await queue.peek(100)
    assert [one.body for one in found] == list(range(100))
    assert len({one.id for one in found}) == 100
    assert all(len(one.id) == 32 and int(one.id, 16) for one in found)


async def test_two_queues_are_two(state: State) -> None:
    await state.queue("a").send(1)
    assert await state.queue("b").pull() == []
    assert (await state.queue("b").metrics()).backlog_count == 0
    assert issubclass(QueueError, bunflare.BunflareError)
    assert json.dumps([one.body for one in await state.queue("a").peek()]) == "[1]"


async def test_a_check_finds_what_is_wrong_with_queues_and_repair_mends_it(
    state: State, queue: Queue
) -> None:
    await queue.send_batch([1, 22])
    await queue.send(b"bytes", "bytes")
    assert not (await state.check()).problems

    def damage(tx: Any) -> None:
        tx.run("UPDATE bunflare_queue_counts SET messages = 7 WHERE queue = 'jobs'")
        tx.run("UPDATE queue_messages SET body = '{' WHERE body = '22'")

    await state.database.write(damage)
    found = (await state.check()).problems
    assert sorted((one.system, one.kind) for one in found) == [
        ("queues", "body"),
        ("queues", "count"),
    ]
    await state.repair()
    assert [one.kind for one in (await state.check()).problems] == ["body"]
    view = state.database.view
    assert view.all("SELECT messages, bytes FROM bunflare_queue_counts") == [(3, 1 + 1 + 5)]


async def test_peek_says_what_is_too_old_to_be_delivered(
    queue: Queue, state: State, clock: ManualClock
) -> None:
    async def states(one: Queue) -> list[str]:
        return [message.state for message in await one.peek()]

    await queue.configure(retention=60, max_retries=0, dead_letter_queue="dead")
    await state.queue("dead").configure(retention=90)
    await queue.send_batch(["old", {"body": "late", "delay_seconds": 3600}])
    await clock.advance(seconds=59)
    assert await states(queue) == ["ready", "delayed"]
    [lease] = [one.lease_id for one in await queue.pull()]
    await queue.ack(retries=[lease])
    await clock.advance(seconds=1)
    assert await queue.pull() == []
    assert await states(queue) == ["expired"]
    await clock.advance(seconds=88)
    assert await states(state.queue("dead")) == ["ready"]
    await clock.advance(seconds=1)
    assert await states(state.queue("dead")) == ["expired"]
