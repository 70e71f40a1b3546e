"""What other programs have spoilt is said in an error of ours, and spoils nothing else."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from pathlib import Path
from typing import Any

import apsw
import pytest

import bunflare
from bunflare.bindings.queue_admin import QueueAdmin
from tests.cli.process import run
from tests.support import PATIENCE, eventually


def spoil(directory: Path, sql: str) -> None:
    connection = apsw.Connection(str(directory / "data.sqlite"))
    try:
        connection.execute(sql)
    finally:
        connection.close()


@pytest.mark.parametrize("text", ["{", "[1, 2", "nan?"])
async def test_metadata_of_keys(state: bunflare.State, directory: Path, text: str) -> None:
    kv = state.kv("A")
    await kv.put("bad", "value", metadata={"a": 1})
    await kv.put("good", "value", metadata={"a": 1})
    spoil(directory, f"UPDATE kv SET metadata = '{text}' WHERE key = 'bad'")
    with pytest.raises(bunflare.ValueCorrupt, match="the metadata that is stored cannot be read"):
        await kv.list()
    with pytest.raises(bunflare.ValueCorrupt):
        await kv.get_with_metadata("bad")
    assert await kv.get("bad") == "value"
    assert (await kv.get_with_metadata("good")).metadata == {"a": 1}


async def test_texts_that_are_none(state: bunflare.State, directory: Path) -> None:
    kv, queue = state.kv("A"), state.queue("jobs")
    await kv.put("bad", "value", metadata={"a": 1})
    await kv.put("good", "value")
    await queue.send("bad")
    spoil(directory, "UPDATE kv SET metadata = CAST(x'ff' AS TEXT) WHERE key = 'bad'")
    spoil(directory, "UPDATE queue_messages SET body = CAST(x'ff' AS TEXT)")
    for work in (kv.list, queue.pull, queue.peek):
        with pytest.raises(bunflare.DatabaseCorrupt, match="has a text that is not UTF-8"):
            await work()
    with pytest.raises(UnicodeDecodeError):
        async with state.transaction() as tx:
            with pytest.raises(bunflare.DatabaseCorrupt, match="has a text that is not UTF-8"):
                await tx.kv("A").list()
            # What a program itself cannot decode is its own matter.
            b"\xff".decode()
    assert await kv.get("good") == "value"
    assert {one.kind for one in (await state.check()).problems} == {"metadata", "body"}
    await state.repair()
    assert len((await kv.list()).keys) == 2


@pytest.mark.parametrize("column", ["http_metadata", "custom_metadata", "bunflare_checksums"])
@pytest.mark.parametrize("text", ["{", "[1]", '{"sha1": 5}'])
async def test_what_belongs_to_objects(
    state: bunflare.State, directory: Path, column: str, text: str
) -> None:
    bucket = state.r2("files")
    for key in ("bad", "good"):
        await bucket.put(key, b"x", http_metadata={"content_type": "a/b"})
    spoil(directory, f"UPDATE r2_objects SET {column} = '{text}' WHERE key = 'bad'")
    if text == '{"sha1": 5}' and column != "bunflare_checksums":
        assert (await bucket.head("bad")) is not None
    else:
        with pytest.raises(bunflare.ValueCorrupt, match="stored cannot be read"):
            await bucket.head("bad")
    found = await bucket.head("good")
    assert found is not None
    assert found.http_metadata is not None
    assert found.http_metadata.content_type == "a/b"


async def test_the_size_of_an_object(state: bunflare.State, directory: Path) -> None:
    await state.r2("files").put("a", b"ten bytes!")
    spoil(directory, "UPDATE r2_objects SET size = 'large'")
    for digests in (False, True):
        found = await state.check(digests=digests)
        assert {one.kind for one in found.problems} >= {"size"}
    await state.repair()
    assert (await state.check()).problems == ()
    mended = await state.r2("files").head("a")
    assert mended is not None
    assert mended.size == 10


# -- Durable Objects and D1 ---------------------------------------------------------------------


class Box(bunflare.DurableObject):
    async def fill(self) -> None:
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        sql.exec("CREATE TABLE b (a REFERENCES a (id))")
        sql.exec("CREATE VIRTUAL TABLE words USING fts5 (text)")
        await self.ctx.storage.put("key", 1)

    async def clear(self) -> None:
        await self.ctx.storage.delete_all()

    async def refer(self) -> None:
        self.ctx.storage.sql.exec("INSERT INTO b VALUES (7)")

    async def look(self) -> list[Any]:
        count = "SELECT count(*) AS n FROM sqlite_schema WHERE name IN ('a', 'b', 'words')"
        return [await self.ctx.storage.get("key"), self.ctx.storage.sql.exec(count).one()["n"]]


async def test_tables_that_cannot_be_dropped_are_all_kept(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.durable_objects(Box).get_by_name("one").fill()
    (file,) = (directory / "do-sql" / "Box").glob("*.sqlite")
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA writable_schema=1")
    connection.execute("DELETE FROM sqlite_schema WHERE name LIKE 'words_%'")
    connection.close()
    async with bunflare.open(directory) as state:
        box = state.durable_objects(Box).get_by_name("one")
        with pytest.raises(bunflare.DatabaseError, match="vtable constructor failed: words"):
            await box.clear()
        assert await box.look() == [1, 3]
        # Its foreign keys are looked at again.
        with pytest.raises(bunflare.DurableObjectSqlError, match="FOREIGN KEY constraint"):
            await box.refer()


@pytest.mark.parametrize("value", ["sequence = x'00ff'", "changes = 7", "changes = '[1'"])
async def test_the_redo_record(directory: Path, value: str) -> None:
    async with bunflare.open(directory) as state:
        await state.durable_objects(Box).get_by_name("one").fill()
    (file,) = (directory / "do-sql" / "Box").glob("*.sqlite")
    connection = apsw.Connection(str(file))
    # As after a crash: it is of a commit that is not among the rows yet.
    connection.execute("UPDATE _cf_bunflare_redo SET sequence = sequence + 1")
    connection.execute(f"UPDATE _cf_bunflare_redo SET {value}")
    connection.close()
    async with bunflare.open(directory) as state:
        box = state.durable_objects(Box).get_by_name("one")
        for _ in range(2):
            with pytest.raises(bunflare.ValueCorrupt, match="damaged"):
                await box.look()
        found = (await state.check()).problems
        assert [one.kind for one in found] == (["damaged"] if "sequence" in value else [])


async def test_the_number_of_an_objects_last_commit(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.durable_objects(Box).get_by_name("one").fill()
    spoil(directory, "UPDATE bunflare_objects SET applied = 'many'")
    async with bunflare.open(directory) as state:
        with pytest.raises(bunflare.ValueCorrupt, match="damaged"):
            await state.durable_objects(Box).get_by_name("one").look()
        assert [one.kind for one in (await state.check()).problems] == ["damaged"]


async def test_states_that_are_kept(directory: Path) -> None:
    for number in range(3):
        async with bunflare.open(directory) as state:
            await state.d1("shop").exec(f"CREATE TABLE t{number} (a)")
    for kind in ("*.sqlite", "*.wal"):
        for kept in (directory / "d1" / ".shop.history").glob(kind):
            kept.write_bytes(b"nothing that SQLite knows" * 1000)
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        with pytest.raises(bunflare.DatabaseCorrupt, match="shop.history is damaged"):
            await db.keep_history(days=0)
        await db.exec("CREATE TABLE t3 (a)")


@pytest.mark.parametrize("name", ["lineage", "settings", "sealed"])
@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b'{"retention_ms": "long"}', b"[1]"])
async def test_notes_of_a_history(directory: Path, name: str, text: bytes) -> None:
    async with bunflare.open(directory) as state:
        await state.d1("shop").exec("CREATE TABLE t (a)")
    (directory / "d1" / ".shop.history" / name).write_bytes(text)
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        mark = await db.bookmark()
        await db.exec("INSERT INTO t VALUES (1)")
        await db.restore(mark)
        assert await db.prepare("SELECT a FROM t").raw() == []


# -- queues ------------------------------------------------------------------------------------

# What is no time: text, a blob, infinity. And what is one, if an odd one: a fraction, and a time in
# no calendar.
NO_TIMES = ["'soon'", "x'00ff'", "9e999", "-9e999"]
ODD_TIMES = ["12.5", "8999999999999999999"]


async def spoilt_queue(state: bunflare.State, directory: Path, column: str, value: str) -> None:
    """One spoilt message among good ones."""
    await state.queue("jobs").send_batch(["a", "bad", "b"])
    spoil(directory, f"UPDATE queue_messages SET {column} = {value} WHERE body = '\"bad\"'")


@pytest.mark.parametrize("value", [*NO_TIMES, *ODD_TIMES])
@pytest.mark.parametrize("column", ["visible_at", "created_at"])
async def test_peeking_shows_a_message_without_a_time(
    state: bunflare.State, directory: Path, clock: bunflare.ManualClock, column: str, value: str
) -> None:
    await spoilt_queue(state, directory, column, value)
    queue = state.queue("jobs")
    found = {one.body: one for one in await queue.peek()}
    assert found.keys() == {"a", "bad", "b"}
    assert found["a"].corrupt is found["b"].corrupt is None
    problems = (await state.check()).problems
    if value in NO_TIMES:
        assert "is no time" in str(found["bad"].corrupt)
        assert found["bad"].timestamp.timestamp() * 1000 == clock.now()
        assert found["bad"].state == "ready"
        assert [(one.system, one.kind, one.key) for one in problems] == [
            ("queues", "time", found["bad"].id)
        ]
    else:
        assert found["bad"].corrupt is None
        assert problems == ()
    assert (await queue.metrics()).backlog_count == 3


@pytest.mark.parametrize("value", ["'soon'", "x'00ff'", "9e999", *ODD_TIMES])
@pytest.mark.parametrize("column", ["visible_at", "created_at", "bunflare_expires"])
async def test_a_spoilt_message_stops_no_pull(
    state: bunflare.State, directory: Path, column: str, value: str
) -> None:
    await spoilt_queue(state, directory, column, value)
    queue = state.queue("jobs")
    pulled = [one for _ in range(3) for one in await queue.pull(100)]
    expected = {"a", "b", "bad"}
    if (column, value) == ("visible_at", "8999999999999999999"):
        expected.remove("bad")  # it is not due for long
    elif (column, value) in (("created_at", "12.5"), ("bunflare_expires", "12.5")):
        expected.remove("bad")  # it is too old
    assert {one.body for one in pulled} == expected
    assert all(one.timestamp for one in pulled)
    result = await queue.ack([one.lease_id for one in pulled])
    assert (result.ack_count, result.warnings) == (len(expected), {})


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("value", ["'soon'", "x'00ff'", "9e999"])
@pytest.mark.parametrize("column", ["visible_at", "created_at", "bunflare_expires"])
async def test_a_spoilt_message_stops_no_consumer(
    state: bunflare.State, directory: Path, column: str, value: str, size: int
) -> None:
    await spoilt_queue(state, directory, column, value)
    seen: list[Any] = []

    def handler(batch: bunflare.MessageBatch) -> None:
        assert all(one.timestamp for one in batch.messages)
        seen.extend(one.body for one in batch.messages)

    async with state.consume("jobs", handler, max_batch_size=size, max_batch_timeout=0):
        await eventually(lambda: len(seen) == 3)
        assert sorted(seen) == ["a", "b", "bad"]
        # It goes on to consume what comes, and only that.
        await state.queue("jobs").send("c")
        await eventually(lambda: seen[3:] == ["c"])
    assert (await state.queue("jobs").metrics()).backlog_count == 0


async def test_a_spoilt_message_waits_for_no_others(state: bunflare.State, directory: Path) -> None:
    await spoilt_queue(state, directory, "visible_at", "'soon'")
    spoil(directory, "UPDATE queue_messages SET visible_at = 8e12 WHERE body <> '\"bad\"'")
    seen: list[Any] = []
    async with state.consume(
        "jobs", lambda batch: seen.extend(one.body for one in batch.messages), max_batch_timeout=0
    ):
        await eventually(lambda: seen == ["bad"])


async def test_a_message_may_be_due_at_a_fraction_of_a_millisecond(
    state: bunflare.State, directory: Path, clock: bunflare.ManualClock
) -> None:
    await spoilt_queue(state, directory, "visible_at", str(clock.now() + 0.5))
    seen: list[Any] = []
    async with state.consume(
        "jobs", lambda batch: seen.extend(one.body for one in batch.messages), max_batch_timeout=0
    ):
        await eventually(lambda: sorted(seen) == ["a", "b"])
        await clock.advance(milliseconds=2)
        await eventually(lambda: seen[2:] == ["bad"])


SETTINGS = ["paused", "delivery_delay", "retention", "max_retries", "retry_delay"]


@pytest.mark.parametrize("value", ["'soon'", "x'00ff'", "9e999", "-9e999"])
@pytest.mark.parametrize("column", ["created_at", *SETTINGS, "visibility_timeout"])
async def test_what_is_set_of_a_queue(
    state: bunflare.State, directory: Path, tmp_path: Path, column: str, value: str
) -> None:
    queue = state.queue("jobs")
    await queue.configure(retention=3600)
    await queue.send("a")
    spoil(directory, f"UPDATE bunflare_queues SET {column} = {value}")
    info = QueueAdmin(state.database, state.clock).info("jobs")
    assert (info.created is None) is (column == "created_at")
    assert (info.retention, info.paused) == (345600 if column == "retention" else 3600, False)
    (problem,) = (await state.check()).problems
    assert (problem.system, problem.kind, problem.name) == ("queues", "setting", "jobs")
    assert [one.body for one in await queue.pull()] == ["a"]
    assert (await state.repair()).mended == (problem,)
    assert (await state.check()).problems == ()
    info = QueueAdmin(state.database, state.clock).info("jobs")
    assert info.created is not None


async def test_a_spoilt_message_that_is_all_there_is(
    state: bunflare.State, directory: Path, clock: bunflare.ManualClock
) -> None:
    await state.queue("jobs").send("bad")
    spoil(directory, "UPDATE queue_messages SET visible_at = 'soon', created_at = 'now'")
    found = await state.queue("jobs").metrics()
    assert (found.backlog_count, found.oldest_message_timestamp) == (1, None)
    # What removes old messages has no time to go by.
    await clock.advance(hours=2)
    seen: list[Any] = []
    async with state.consume("jobs", lambda batch: seen.extend(one.body for one in batch.messages)):
        await clock.advance(seconds=10)
        await eventually(lambda: seen == ["bad"])


def test_the_command_shows_a_queue_without_a_time(directory: Path, tmp_path: Path) -> None:
    words = ("--persist-to", str(directory))
    run(tmp_path, "queues", "create", "jobs", *words)
    spoil(directory, "UPDATE bunflare_queues SET created_at = 'soon'")
    told, _ = run(tmp_path, "queues", "info", "jobs", "--json", *words)
    assert (json.loads(told)["queue"], json.loads(told)["created"]) == ("jobs", None)


@pytest.mark.parametrize("value", ["'soon'", "x'00ff'", "9e999"])
@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_an_instance_without_a_time(
    directory: Path, tmp_path: Path, column: str, value: str
) -> None:
    words = ("--persist-to", str(directory))
    run(tmp_path, "workflows", "trigger", "order", "1", "--id", "a", *words)
    spoil(directory, f"UPDATE workflow_instances SET {column} = {value}")
    told, _ = run(tmp_path, "workflows", "instances", "list", "order", "--json", *words)
    assert json.loads(told)[0][column] is None
    assert run(tmp_path, "workflows", "instances", "list", "order", *words)[0].startswith("id")
    assert "order" in run(tmp_path, "workflows", "list", *words)[0]
    assert "queued" in run(tmp_path, "workflows", "instances", "describe", "order", "a", *words)[0]
    told, _ = run(tmp_path, "state", "check", *words, code=1)
    assert "when it was created or last changed is no time" in told
    run(tmp_path, "state", "repair", *words)
    told, _ = run(tmp_path, "workflows", "instances", "list", "order", "--json", *words)
    assert json.loads(told)[0][column] is not None


async def test_an_instance_without_a_time_is_run_all_the_same(
    state: bunflare.State, directory: Path
) -> None:
    await state.workflow("Order").create("a")
    spoil(directory, "UPDATE workflow_instances SET created_at = 'soon'")

    class Order(bunflare.WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> int:
            return int(event.timestamp.timestamp())

    async with bunflare.open(directory) as other:
        instance = await other.workflow(Order).get("a")
        assert (await instance.wait(PATIENCE)).output == 0


class Paying(bunflare.WorkflowEntrypoint):
    """Fails, tries anew, sleeps, and waits for an event."""

    async def run(self, event: Any, step: Any) -> Any:
        tries = 0

        async def pay() -> int:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise ValueError("no")
            return 7

        await step.do("pay", {"retries": {"limit": 2, "delay": 0}}, pay)
        await step.sleep("rest", "1 day")
        sent = await step.wait_for_event("answer", {"type": "answer"})
        return [sent.payload, int(sent.timestamp.timestamp())]


async def paid(state: bunflare.State) -> Any:
    """An instance that has come to its sleep."""
    instance = await state.workflow(Paying, "order").create("a")
    subscription = await instance.subscribe(filter=["sleep_started"])
    await asyncio.wait_for(subscription.next(), PATIENCE)
    return instance


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *product(("at", "started_at", "due"), ("'soon'", "x'00ff'", "9e999", "8e18")),
        ("started_at", "NULL"),
        ("due", "NULL"),
    ],
)
async def test_a_log_without_times(
    directory: Path, tmp_path: Path, column: str, value: str
) -> None:
    clock = bunflare.ManualClock()
    async with bunflare.open(directory, clock=clock) as state:
        await paid(state)
    spoil(directory, f"UPDATE bunflare_workflow_log SET {column} = {value}")
    words = ("--persist-to", str(directory))
    described = ("workflows", "instances", "describe", "order", "a", *words)
    shown, _ = await asyncio.to_thread(run, tmp_path, *described)
    assert ["pay" in line or "rest" in line for line in shown.splitlines()].count(True) == 2
    assert "attempt 1 failed after" in shown
    told, _ = await asyncio.to_thread(run, tmp_path, *described, "--json")
    steps = json.loads(told)["steps"]
    assert [one["name"] for one in steps] == ["pay", "rest"]
    if value == "8e18":
        # It is a time, if one beyond all calendars.
        return
    if column == "at":
        assert (steps[0]["end"], steps[0]["success"]) == (None, True)
    if column == "started_at":
        assert steps[0]["attempts"][0]["start"] is None
    told, _ = await asyncio.to_thread(run, tmp_path, "state", "check", *words, code=1)
    assert "when it was, had begun or is due is no time" in told
    await asyncio.to_thread(run, tmp_path, "state", "repair", *words)
    told, _ = await asyncio.to_thread(run, tmp_path, *described, "--json")
    pay = json.loads(told)["steps"][0]
    assert None not in (pay["start"], pay["end"], pay["attempts"][0]["start"])


@pytest.mark.parametrize("value", ["'soon'", "9e999"])
async def test_a_workflow_with_a_spoilt_log_goes_on(directory: Path, value: str) -> None:
    clock = bunflare.ManualClock()
    async with bunflare.open(directory, clock=clock) as state:
        instance = await paid(state)
        await instance.send_event(type="answer", payload=5)
    for column in ("at", "started_at", "due"):
        spoil(directory, f"UPDATE bunflare_workflow_log SET {column} = {value}")
    spoil(directory, f"UPDATE bunflare_workflow_events SET at = {value}")
    async with bunflare.open(directory, clock=clock) as state:
        instance = await state.workflow(Paying, "order").get("a")
        waiting = asyncio.ensure_future(instance.wait())

        async def over() -> None:
            # The sleep, of which nobody knows when it began, begins anew.
            while not waiting.done():
                await clock.advance(days=1)
                await asyncio.sleep(0.001)

        await asyncio.wait_for(over(), PATIENCE)
        assert (await waiting).output == [5, 0]
        assert {one.type async for one in await instance.subscribe()} >= {"sleep_completed"}


def test_the_command_shows_a_message_without_a_time(directory: Path, tmp_path: Path) -> None:
    words = ("--persist-to", str(directory))
    run(tmp_path, "queues", "message", "send", "jobs", '"good"', *words)
    run(tmp_path, "queues", "message", "send", "jobs", '"bad"', *words)
    spoil(directory, "UPDATE queue_messages SET visible_at = 'soon' WHERE body = '\"bad\"'")
    told, _ = run(tmp_path, "queues", "message", "peek", "jobs", "--json", *words)
    good, bad = json.loads(told)
    assert (good["body"], good["corrupt"]) == ("good", None)
    assert (bad["body"], bad["corrupt"]) == ("bad", "when it is due is no time")
    run(tmp_path, "state", "repair", *words)
    told, _ = run(tmp_path, "queues", "message", "peek", "jobs", "--json", *words)
    assert [list(one) for one in json.loads(told)] == [
        ["id", "timestamp", "state", "attempts", "content_type", "origin", "body"]
    ] * 2
