"""Queues in a Worker: producers in ``env``, and its ``queue`` handler."""

from __future__ import annotations

import signal
import textwrap
import time
from pathlib import Path

import pytest

import bunflare
from bunflare.config import load_config
from bunflare.errors import WorkerError
from bunflare.runtime.program import Program
from bunflare.runtime.services import unknown
from bunflare.runtime.worker import Worker
from bunflare.testing.client import WorkerClient
from tests.bindings.test_queue_consumer import settled
from tests.runtime.test_dev import dev, project
from tests.support import PATIENCE

_CONFIG = """
name = "t"
main = "src/entry.py"
kv_namespaces = [{ binding = "KV" }]
[[queues.producers]]
binding = "JOBS"
queue = "jobs"
[[queues.producers]]
binding = "LATER"
queue = "later"
delivery_delay = 60
[[queues.consumers]]
queue = "jobs"
max_batch_timeout = 0
max_retries = 1
dead_letter_queue = "dead"
[[queues.consumers]]
queue = "pulled"
type = "http_pull"
max_retries = 7
visibility_timeout_ms = 5000
dead_letter_queue = "dead"
"""

# Written as for the platform: its spellings, options in a dict, results with attributes.
_WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if "later" in request.url:
            await self.env.LATER.send("x", {"contentType": "text"})
            return Response("later")
        sent = await self.env.JOBS.send({"key": "a"}, {"contentType": "json", "delaySeconds": 0})
        told = sent.metadata.metrics
        assert told.backlogCount == 1 and told["backlogBytes"] == 11, told
        assert told.oldestMessageTimestamp.tzinfo is None
        await self.env.JOBS.sendBatch(
            [{"body": b"raw", "contentType": "bytes"}, {"body": "fail", "delaySeconds": 0}],
            {"delaySeconds": 0},
        )
        try:
            await self.env.JOBS.send({"pair": (1, 2)})
        except TypeError as error:
            assert "tuple" in str(error) and "cannot be sent over RPC" in str(error), error
        else:
            raise AssertionError("a tuple was sent")
        try:
            await self.env.JOBS.sendBatch([{"contentType": "text"}])
        except TypeError as error:
            return Response(str(error))

    async def queue(self, batch, env, ctx):
        lines = []
        for message in batch.messages:
            assert message.timestamp.tzinfo is None and len(message.id) == 32
            if message.body == "fail":
                message.retry({"delaySeconds": 0})
            elif isinstance(message.body, memoryview):
                message.ack()
                message.retry(delaySeconds=5)
                lines.append(bytes(message.body).decode())
            else:
                lines.append(message.body.key)
            lines.append(str(message.attempts))
        metrics = batch.metadata.metrics
        lines.append(f"{batch.queue} {metrics.backlogCount}")
        seen = await env.KV.get("seen") or ""
        await env.KV.put("seen", seen + " ".join(lines) + ";")
        batch.ackAll()
"""


def find(name: str) -> Worker:
    raise unknown(name, {})


async def make(path: Path, state: bunflare.State, source: str, config: str = _CONFIG) -> Worker:
    project(path, source, config)
    settings = load_config(path / "wrangler.toml")
    worker = Worker(settings, state, find, Program(settings, state.caches, resident=False))
    try:
        await worker.bind(state)
    except BaseException:
        await worker.close(0)
        raise
    return worker


async def test_a_worker_sends_and_its_handler_gets_what_was_sent(
    tmp_path: Path, state: bunflare.State
) -> None:
    worker = await make(tmp_path, state, _WORKER)
    response = await worker.fetch(bunflare.Request("http://host/"))
    assert await response.text() == "Message body cannot be undefined"
    await settled(state, "jobs", 0)
    seen = await state.kv("KV").get("seen")
    assert seen is not None
    assert seen.count("a 1") == seen.count("raw 1") == 1
    [dead] = await state.queue("dead").peek()
    assert dead.body == "fail"
    await worker.fetch(bunflare.Request("http://host/later"))
    [later] = await state.queue("later").peek()
    assert (later.visible_at - later.timestamp).total_seconds() == 60
    found = state.database.view.one(
        "SELECT max_retries, visibility_timeout, dead_letter_queue FROM bunflare_queues"
    )
    assert found == (7, 5000, "dead")
    await worker.close(1)
    # Nobody consumes any more.
    await state.queue("jobs").send(1)
    assert (await state.queue("jobs").peek())[0].state == "ready"


async def test_a_handler_written_as_a_function(tmp_path: Path, state: bunflare.State) -> None:
    source = """
    async def on_queue(batch, env):
        await env.KV.put("seen", batch.messages[0].body)
    """
    worker = await make(tmp_path, state, source)
    await state.queue("jobs").send("hello", "text")
    await settled(state, "jobs", 0)
    assert await state.kv("KV").get("seen") == "hello"
    await worker.close(1)


async def test_a_consumer_without_a_handler_is_refused(
    tmp_path: Path, state: bunflare.State
) -> None:
    source = """
    from workers import WorkerEntrypoint
    class Default(WorkerEntrypoint):
        async def fetch(self): ...
    """
    with pytest.raises(WorkerError, match=r"does not export a queue\(\) function"):
        await make(tmp_path, state, source)


async def test_a_test_calls_the_handler_and_learns_what_became_of_each(
    tmp_path: Path, state: bunflare.State
) -> None:
    source = """
    async def on_queue(batch):
        batch.messages[0].retry({"delaySeconds": 5})
        assert batch.messages[1].body == "second" and batch.messages[1].attempts == 3
    """
    worker = await make(tmp_path, state, source)
    client = WorkerClient(worker, find)
    second = bunflare.Message("id", 0, "second", attempts=3)
    result = await client.queue("jobs", [{"n": 1}, second])
    assert result.acked == ["id"]
    assert list(result.retried.values()) == [5]
    await worker.close(1)


def _handler(name: str) -> str:
    return textwrap.dedent(f"""
    from workers import Response, WorkerEntrypoint
    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            path = request.url.split("/", 3)[3]
            if path.startswith("send"):
                await self.env.JOBS.send(path)
            return Response(await self.env.KV.get("seen") or "")
        async def queue(self, batch):
            for message in batch.messages:
                seen = await self.env.KV.get("seen") or ""
                await self.env.KV.put("seen", seen + "{name}:" + message.body + " ")
    """)


def test_a_reload_takes_the_queue_over_and_messages_outlive_a_kill(tmp_path: Path) -> None:
    project(tmp_path, _handler("old"), _CONFIG)
    with dev(tmp_path) as server:
        server.fetch("/send1")
        _until(lambda: server.text("/") == "old:send1 ")
        (tmp_path / "src" / "entry.py").write_text(_handler("new"))
        assert server.process.stdout is not None
        while "Reloaded" not in server.process.stdout.readline():
            continue
        server.fetch("/send2")
        _until(lambda: server.text("/") == "old:send1 new:send2 ")
        server.stop(signal.SIGKILL)

    async def send() -> None:
        async with bunflare.open(tmp_path / ".bunflare") as state:
            await state.queue("jobs").send("send3")

    import asyncio

    asyncio.run(send())
    with dev(tmp_path) as server:
        _until(lambda: server.text("/").endswith("new:send3 "))
        # And from another process, while it runs.
        asyncio.run(send())
        _until(lambda: server.text("/").count("send3") == 2)


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
