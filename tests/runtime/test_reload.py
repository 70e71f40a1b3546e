"""Reload: what changes on disk is taken up, and nothing that is under way is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

import bunflare
from bunflare.bindings.queue_consumer import Consumer
from bunflare.config import load_config
from bunflare.runtime.workers import Workers
from tests.support import PATIENCE

from .test_dev import Server, dev, project
from .test_worker_faults import STUBBORN, lines_until
from .test_workers import BACK, FRONT, workers


def changed(server: Server, expected: str, path: str = "/word") -> None:
    begun = time.monotonic()
    while server.text(path) != expected:
        assert time.monotonic() - begun < PATIENCE
        time.sleep(0.01)  # until the files have been looked at


def refused(server: Server) -> None:
    """Wait until the server says that a change cannot be taken up."""
    assert server.process.stderr is not None
    while "not reloaded" not in server.process.stderr.readline():
        assert server.process.poll() is None


def test_a_changed_file_makes_a_new_worker_and_loses_no_request(tmp_path: Path) -> None:
    with dev(tmp_path, *workers(tmp_path)) as server:
        entry = tmp_path / "front" / "src" / "entry.py"
        entry.write_text(FRONT.replace("WORD ", "first "))
        changed(server, "first top")
        slow: list[str] = []
        thread = threading.Thread(target=lambda: slow.append(server.text("/slow")))
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while server.text("/begun") != "1":
            assert time.monotonic() < deadline
        entry.write_text(FRONT.replace("WORD ", "newer "))
        changed(server, "newer top")
        (tmp_path / "front" / ".dev.vars").write_text("WORD=secret")
        changed(server, "newer secret")
        entry.write_text(FRONT)
        changed(server, "WORD secret")
        assert server.text("/go") == "going"
        thread.join()
        assert slow == ["WORD"]


def test_a_version_of_which_a_task_goes_on_for_ever_is_left_behind(tmp_path: Path) -> None:
    source = STUBBORN.replace("SWALLOWED", "asyncio.CancelledError")
    project(tmp_path, source)
    with dev(tmp_path) as server:
        assert server.text("/task") == server.text("/begun") == "WORD"
        (tmp_path / "src" / "entry.py").write_text(source.replace("WORD", "newer"))
        changed(server, "newer", "/")
        lines_until(server, "task(s) given to wait_until go on though they were cancelled")
        assert server.text() == "newer"
        assert "though they were cancelled" not in server.stop()
        assert server.process.returncode == 0


def test_a_file_that_is_there_in_name_alone_ends_no_reloading(tmp_path: Path) -> None:
    """As an editor has it beside what it edits, or one that goes while others are looked at."""
    project(tmp_path, PLAIN)
    (tmp_path / "src" / ".#entry.py").symlink_to("somebody@somewhere.1")
    with dev(tmp_path) as server:
        assert server.text() == "old"
        (tmp_path / "src" / "entry.py").write_text(PLAIN.replace("old", "new"))
        changed(server, "new", "/")


def test_every_worker_of_the_process_is_reloaded(tmp_path: Path) -> None:
    with dev(tmp_path, *workers(tmp_path)) as server:
        assert '"of the back"' in server.text("/rpc")
        entry = tmp_path / "back" / "src" / "entry.py"
        entry.write_text(BACK.replace("return env.WORD", "return env.WORD + '!'"))
        begun = time.monotonic()
        while '"of the back!"' not in server.text("/rpc"):
            assert time.monotonic() - begun < PATIENCE
        (tmp_path / "back" / "src" / "helper.py").write_text("NAME = 'helper of the back'")
        while '"helper of the back"' not in server.text("/rpc"):
            assert time.monotonic() - begun < PATIENCE
        assert '"front"' in server.text("/rpc")


PLAIN = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("old")
"""

LAZY = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        import importlib
        import package.inner
        import package.later
        assert importlib.import_module("package.inner") is package.inner
        return Response("1" + package.inner.NAME + package.later.NAME)
"""


def test_a_failed_reload_leaves_the_old_version_whole(tmp_path: Path) -> None:
    project(tmp_path, LAZY)
    source = tmp_path / "src"
    (source / "package").mkdir()
    (source / "package" / "__init__.py").write_text("from . import inner")
    (source / "package" / "inner.py").write_text("NAME = 'inner'")
    (source / "package" / "later.py").write_text("NAME = 'later'")
    entry = source / "entry.py"
    with dev(tmp_path) as server:
        entry.write_text(LAZY.replace('"1"', '"2"'))
        changed(server, "2innerlater")
        for broken in (
            "syntax error",
            "import package.inner\nraise ZeroDivisionError",
            "import missing",
            "import sys\nsys.exit(3)",
        ):
            entry.write_text(broken)
            refused(server)
            assert server.text() == "2innerlater"
        (tmp_path / "wrangler.toml").write_text("main = 5")
        refused(server)
        assert server.text() == "2innerlater"
        project(tmp_path, LAZY.replace('"1"', '"3"'))
        changed(server, "3innerlater")


OBJECTS = """
from workers import DurableObject, Response, WorkerEntrypoint

class Counter(DurableObject):
    async def version(self):
        return 1

class Other(DurableObject):
    pass

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(str(await self.env.COUNTER.getByName("a").version()))
"""
OBJECTS_WRANGLER = """
name = "objects"
main = "src/entry.py"
durable_objects.bindings = [
  { name = "COUNTER", class_name = "Counter" },
  { name = "OTHER", class_name = "Other" },
]
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter", "Other"] }]
"""


def test_objects_stay_those_of_the_old_version_when_a_reload_fails(tmp_path: Path) -> None:
    project(tmp_path, OBJECTS, OBJECTS_WRANGLER)
    with dev(tmp_path) as server:
        changed(server, "1", "/")
        newer = OBJECTS.replace("return 1", "return 2")
        (tmp_path / "src" / "entry.py").write_text(newer.replace("class Other", "class Gone"))
        refused(server)
        assert server.text() == "1"
        (tmp_path / "src" / "entry.py").write_text(newer)
        changed(server, "2", "/")


CONSUMERS = """
from workers import DurableObject, Response, WorkerEntrypoint

class Counter(DurableObject):
    async def version(self):
        return 1

class Default(WorkerEntrypoint):
    async def queue(self, batch):
        for message in batch.messages:
            await self.env.KV.put(message.body, "1")
"""
CONSUMERS_WRANGLER = """
name = "consumers"
main = "entry.py"
kv_namespaces = [{ binding = "KV" }]
durable_objects.bindings = [{ name = "COUNTER", class_name = "Counter" }]
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter"] }]
[[queues.consumers]]
queue = "one"
max_batch_timeout = 0
[[queues.consumers]]
queue = "two"
max_batch_timeout = 0
"""


async def test_a_version_that_could_not_begin_consumes_nothing_and_has_no_objects(
    tmp_path: Path, state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tmp_path / "entry.py"
    entry.write_text(CONSUMERS)
    (tmp_path / "wrangler.toml").write_text(CONSUMERS_WRANGLER)
    workers = Workers([lambda: load_config(tmp_path / "wrangler.toml")], state)
    await workers.start()
    old = workers.first

    async def call(name: str) -> tuple[object, str | None]:
        await state.queue(name).send(name)
        while (seen := await state.kv("KV").get(name)) is None:
            await asyncio.sleep(0)
        await state.kv("KV").delete(name)
        return await old.env.COUNTER.getByName("a").version(), seen

    assert [await call("one"), await call("two")] == [(1, "1"), (1, "1")]
    entry.write_text(CONSUMERS.replace('"1"', '"2"').replace("return 1", "return 2"))
    start, begun = Consumer.start, []

    async def fails(consumer: Consumer) -> Consumer:
        begun.append(consumer)
        if consumer.queue == "two":
            raise bunflare.DatabaseBusy("another process")
        return await start(consumer)

    with monkeypatch.context() as patch:
        patch.setattr(Consumer, "start", fails)
        with pytest.raises(bunflare.DatabaseBusy):
            await workers.replace(0)
    assert [consumer.queue for consumer in begun] == ["one", "two"]
    for _ in range(5):
        assert [await call("one"), await call("two")] == [(1, "1"), (1, "1")]
    # A mistake is found before anything is taken.
    entry.write_text(CONSUMERS.replace("def queue", "def other").replace("return 1", "return 2"))
    with pytest.raises(bunflare.WorkerError, match="no queue handler"):
        await workers.replace(0)
    assert await call("one") == (1, "1")
    entry.write_text(CONSUMERS.replace('"1"', '"3"').replace("return 1", "return 3"))
    await (await workers.replace(0)).close(1)
    assert [await call("one"), await call("two")] == [(3, "3"), (3, "3")]
    await workers.close(1)
