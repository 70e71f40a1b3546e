"""Messages of one who sends alone: each is on disk at once, and what is told is true."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import ManualClock, Queue, State
from bunflare.store import alone, entry, running
from bunflare.store.queues import METRICS
from bunflare.store.turnstile import Turnstile
from tests.store.test_writer import commits
from tests.store.test_writer_alone import turns
from tests.support import PATIENCE, other_program

_INSERT = (
    "INSERT INTO queue_messages (id, queue, body, visible_at, created_at)"
    " VALUES ('{}', 'jobs', '[]', 1, 1)"
)


@pytest.fixture
def queue(state: State, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """A queue on a disk that is never slow, whose senders may keep the event loop for long."""
    monkeypatch.setattr(alone, "_SLOW_COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(alone, "_TURN_SECONDS", 1e9)
    return state.queue("jobs")


async def count(queue: Queue, body: object = "") -> int:
    return (await queue.send(body)).metadata.metrics.backlog_count


def before_the_next(state: State, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Have something happen between the last look and the statement of the next message."""
    writer = state.database._start().writer
    execute, acts = writer._execute, [act]

    def acted(sql: str, parameters: tuple[Any, ...] = ()) -> object:
        if acts:
            acts.pop()()
        return execute(sql, parameters)

    monkeypatch.setattr(writer, "_execute", acted)


async def test_the_event_loop_does_not_turn(state: State, queue: Queue) -> None:
    await queue.send("first")
    before = commits(state.database)
    with turns() as counted:
        for number in range(2, 50):
            told = (await queue.send(number)).metadata.metrics
            assert told == (await queue.metrics())
            assert told.backlog_count == number
            assert commits(state.database) == before + number - 1
        assert counted.count == 1
    bodies = [one.body for one in await queue.peek(100)]
    assert bodies == ["first", *range(2, 50)]
    assert not (await state.check()).problems


async def test_it_turns_now_and_then(
    state: State, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.send("first")
    monkeypatch.setattr(state.database._start().writer, "_turn_by", 0.0)
    with turns() as counted:
        assert await count(queue) == 2
        assert counted.count == 3
        # And they go on.
        assert await count(queue) == 3
        assert counted.count == 3
    monkeypatch.setattr(alone, "_TURN_SECONDS", -1.0)
    monkeypatch.setattr(state.database._start().writer, "_turn_by", 0.0)
    with turns() as counted:
        for number in range(4, 20):
            assert await count(queue) == number
        assert counted.count >= 16


async def test_what_others_ask_for_in_that_turn_is_gathered(
    state: State, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.send("first")
    monkeypatch.setattr(state.database._start().writer, "_turn_by", 0.0)
    before = commits(state.database)
    others = [asyncio.ensure_future(count(queue)) for _ in range(5)]
    assert await count(queue) == 7
    assert await asyncio.gather(*others) == [7] * 5
    assert commits(state.database) == before + 1


async def test_what_others_send_counts(
    state: State, queue: Queue, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.send("first")
    assert await count(queue) == 2
    with other_program(directory) as run:
        run(_INSERT.format("a"))
        assert await count(queue) == 4
        assert await count(queue) == 5
        before_the_next(state, monkeypatch, lambda: run(_INSERT.format("b")))
        assert await count(queue) == 7
        assert (await queue.metrics()).backlog_count == 7
        run("DELETE FROM queue_messages WHERE queue = 'jobs'")
    assert await count(queue) == 1
    assert await count(queue, "text") == 2
    told = (await queue.send([])).metadata.metrics
    assert (told.backlog_count, told.backlog_bytes) == (3, 2 + 6 + 2)
    assert not (await state.check()).problems


async def test_what_was_taken_does_not_count(queue: Queue) -> None:
    await queue.send("first")
    assert await count(queue) == 2
    pulled = await queue.pull()
    assert await count(queue) == 3
    await queue.ack([one.lease_id for one in pulled])
    assert await count(queue) == 2
    await queue.purge()
    assert await count(queue) == 1


async def test_two_queues_and_a_namespace_beside_each_other(state: State, queue: Queue) -> None:
    await queue.send("first")
    kv, other = state.kv("A"), state.queue("other")
    for number in range(1, 20):
        assert await count(queue) == number + 1
        await kv.put("key", str(number))
        assert await kv.get("key") == str(number)
        assert await count(other) == number
        assert await kv.get("key") == str(number)
        assert (await queue.metrics()).backlog_count == number + 1


async def test_a_delay_that_is_set_meanwhile_counts(
    state: State, queue: Queue, clock: ManualClock, directory: Path
) -> None:
    await queue.send("first")

    async def due(body: str) -> int:
        await queue.send(body)
        [found] = [one for one in await queue.peek(100) if one.body == body]
        return round(found.visible_at.timestamp() * 1000 - clock.now()) // 1000

    assert await due("a") == 0
    await state.queue("jobs").configure(delivery_delay=5)
    assert [await due("b"), await due("c")] == [5, 5]
    with other_program(directory) as run:
        run("UPDATE bunflare_queues SET delivery_delay = 7")
    assert [await due("d"), await due("e")] == [7, 7]
    # At once, too.
    await asyncio.gather(*map(queue.send, "fgh"))
    with other_program(directory) as run:
        run("UPDATE bunflare_queues SET delivery_delay = 9")
    await asyncio.gather(*map(queue.send, "ijk"))
    found = {
        one.body: one.visible_at.timestamp() * 1000 - clock.now() for one in await queue.peek(99)
    }
    assert {round(found[body]) for body in "fgh"} == {7000}
    assert {round(found[body]) for body in "ijk"} == {9000}


async def test_it_is_sent_once_whatever_fails_beside_it(
    state: State, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is its own transaction is on disk at once, so no failure may be told after that."""
    await queue.send("first")

    def fails(*_: object) -> Any:
        raise bunflare.DatabaseError("the disk reported an error")

    def busy() -> None:
        raise apsw.BusyError("busy")

    def broken() -> None:
        raise apsw.IOError("broken")

    assert await count(queue) == 2
    with monkeypatch.context() as patch:
        before_the_next(state, patch, broken)
        with pytest.raises(bunflare.DatabaseError):
            await queue.send("lost")
    with monkeypatch.context() as patch:
        # Where somebody else is busy, it is sent a moment later.
        before_the_next(state, patch, busy)
        assert await count(queue, "third") == 3
    with monkeypatch.context() as patch:
        # Somebody else writes meanwhile, and then one cannot look.
        def write() -> None:
            with apsw.Connection(str(state.database.path)) as connection:
                connection.execute(_INSERT.format("a"))
            patch.setattr("bunflare.store.queues.metrics", fails)

        before_the_next(state, patch, write)
        assert await count(queue, "fourth") >= 4
    assert await count(queue) == 6
    found = [one.body for one in await queue.peek()]
    assert found == [[], "first", "", "third", "fourth", ""]


async def test_who_waits_in_line_goes_first(
    state: State, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.send("first")
    monkeypatch.setattr(entry, "_LOOK_SECONDS", -1.0)
    assert await count(queue) == 2
    line = Turnstile(state.database.directory.turnstile)
    assert line.try_enter()
    sending = asyncio.ensure_future(_two(queue))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not sending.done()
    line.leave()
    assert await asyncio.wait_for(sending, PATIENCE) == [3, 4]
    line.close()


async def _two(queue: Queue) -> list[int]:
    return [await count(queue), await count(queue)]


async def test_another_program_that_writes_is_waited_for(queue: Queue, directory: Path) -> None:
    await queue.send("first")
    assert await count(queue) == 2
    with other_program(directory) as run:
        run("BEGIN IMMEDIATE")
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(run, "COMMIT"))
        assert await asyncio.wait_for(count(queue), PATIENCE) == 3
    assert await count(queue) == 4


async def test_beside_a_transaction(state: State, queue: Queue) -> None:
    await queue.send("first")
    assert await count(queue) == 2
    async with state.transaction() as tx:
        assert await count(tx.queue("jobs")) == 3
        with pytest.raises(bunflare.StateError, match="would wait for itself"):
            await queue.send("no")
    assert await count(queue) == 4


async def test_a_closed_state_refuses(directory: Path) -> None:
    state = bunflare.open(directory)
    queue = state.queue("jobs")
    assert [await count(queue), await count(queue)] == [1, 2]
    await state.close()
    with pytest.raises(bunflare.StateError, match="closed"):
        await queue.send("no")


async def test_what_the_reader_knows_is_what_lies_there(state: State, queue: Queue) -> None:
    await queue.send("first")
    view = state.database.view
    for number in range(2, 30):
        assert await count(queue, {"number": number}) == number
        known = view.hot(METRICS, ("jobs",))
        assert known == view.one(METRICS, ("jobs",))
    [row] = view.all("SELECT messages, bytes FROM bunflare_queue_counts")
    sizes = [len(json.dumps(one.body, separators=(",", ":"))) for one in await queue.peek(99)]
    assert row == (29, sum(sizes))


async def test_where_commits_are_not_seen_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_SLOW_COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(alone, "_TURN_SECONDS", 1e9)
    monkeypatch.setattr(running, "SUPPORTED", False)
    async with bunflare.open(directory) as state:
        queue = state.queue("jobs")
        assert await count(queue) == 1
        with turns() as counted:
            assert [await count(queue) for _ in range(3)] == [2, 3, 4]
            assert counted.count == 1
        with other_program(directory) as run:
            run(_INSERT.format("a"))
        assert await count(queue) == 6
        assert (await queue.metrics()).backlog_count == 6
