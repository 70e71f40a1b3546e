"""Durable Objects in a Worker, over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.runtime.fetching import fetch
from tests.runtime.test_dev import Server, dev
from tests.support import PATIENCE

COUNTER = Path(__file__).parents[2] / "examples" / "counter"

_CONFIG = """
name = "objects"
main = "entry.py"
compatibility_date = "2026-11-01"

[[durable_objects.bindings]]
name = "THING"
class_name = "Thing"

[[durable_objects.bindings]]
name = "SMALL"
class_name = "Small"

[[migrations]]
tag = "v1"
new_sqlite_classes = ["Thing"]
new_classes = ["Small"]
"""

# Written as for the platform: its spellings, options in a dict, results with attributes.
_WORKER = """
import asyncio, time, warnings
from workers import DurableObject, Response, WorkerEntrypoint

class Thing(DurableObject):
    async def storage(self):
        storage = self.ctx.storage
        await storage.put({"b": {"deep": 1}, "a": b"raw"}, {"allowUnconfirmed": True})
        await storage.put("c", 3, {"noCache": True})
        listed = await storage.list({"startAfter": "a", "limit": 1})
        value = await storage.get("b", {"noCache": True})
        async def closure(txn):
            await txn.put("d", 4)
            await txn.rollback() if False else txn.rollback()
        await storage.transaction(closure)
        storage.kv.put("e", 5)
        deleted = await storage.delete(["c", "x"])
        return [list(listed), value.deep, type(await storage.get("a")).__name__,
                await storage.get("d"), storage.kv.get("e"), deleted]

    async def synchronous(self):
        kv = self.ctx.storage.kv
        kv.put("s1", {"deep": 1})
        kv.put("s2", b"raw")
        entries = kv.list({"prefix": "s"})
        told = [[key, getattr(value, "deep", type(value).__name__)] for key, value in entries]
        for put in (self.ctx.storage.put, kv.put):
            for value in ((1,), [(1,)], {"a": bytearray()}):
                try:
                    result = put("s3", value)
                    await result
                except TypeError as error:
                    told.append(str(error))
        return [*told, kv.get("s3")]

    async def unawaited(self):
        storage = self.ctx.storage
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            storage.put("u1", 1)
            storage.put({"u2": 2}, {"allowUnconfirmed": True})
            await asyncio.gather(storage.put("u3", 3), storage.delete("u1"))
        return await storage.list({"prefix": "u"})

    def sql(self):
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS t (a, b)")
        cursor = sql.exec("INSERT INTO t VALUES (?, ?) RETURNING a, b", 1, "x")
        names = cursor.columnNames
        row = cursor.one()
        rows = [one.b for one in sql.exec("SELECT a, b FROM t")]
        step = sql.exec("SELECT a FROM t").next()
        raw = sql.exec("SELECT a, b FROM t").raw().toArray()
        told = [names, row.a, rows, step.done, step.value.a, raw[0], sql.databaseSize > 0]
        # A cursor that was not read to its end, and that nobody has any more, is in nobody's way.
        sql.exec("INSERT INTO t VALUES (2, 'y')")
        sql.exec("SELECT a FROM t").next()
        sql.exec("DROP TABLE t")
        return told

    async def context(self):
        seen = []
        async def section():
            seen.append("in")
            return "out"
        seen.append(await self.ctx.blockConcurrencyWhile(section))
        async def later():
            await self.ctx.storage.put("later", True)
        self.ctx.waitUntil(later())
        return [self.ctx.id.toString(), self.ctx.id.name, seen]

    async def camelCase(self, value):
        return value

    async def ring(self):
        await self.ctx.storage.setAlarm(time.time() * 1000 + 50)

    async def alarm(self, info):
        told = [info.retryCount, info.isRetry, info.scheduledTime > 1_000_000]
        await self.ctx.storage.put("rang", told)

    async def rang(self):
        return await self.ctx.storage.get("rang")

    async def fetch(self, request):
        return Response(await request.text(), status=201, headers={"x-method": request.method})

class Small(DurableObject):
    async def limits(self):
        said = []
        for attempt in (lambda: self.ctx.storage.put("key", "x" * 200_000),
                        lambda: self.ctx.storage.sql.exec("SELECT 1"),
                        lambda: self.ctx.storage.kv.get("key")):
            try:
                result = attempt()
                await result
            except Exception as error:
                said.append(str(error)[:40])
        await self.ctx.storage.put("key", "x")
        return [*said, await self.ctx.storage.get("key")]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/limits"):
            return Response.json(await self.env.SMALL.getByName("a").limits())
        things = self.env.THING
        stub = things.get(things.idFromName("a"))
        what = request.url.rsplit("/", 1)[1]
        if what == "fetch":
            return await stub.fetch("https://object/", {"method": "PUT", "body": "hello"})
        if what == "pass":
            return await stub.fetch(request)
        if what == "ids":
            again = things.idFromString(stub.id.toString())
            return Response.json([again.equals(stub.id), again == stub.id, stub.name, str(again) ==
                                  str(things.jurisdiction("eu").idFromName("a"))])
        if what == "camel":
            return Response.json(await stub.camelCase({"aB": [1]}))
        try:
            return Response.json(await getattr(stub, what)())
        except Exception as error:
            return Response.json([type(error).__name__, str(error)], status=500)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = tmp_path_factory.mktemp("objects")
    (project / "wrangler.toml").write_text(_CONFIG)
    (project / "entry.py").write_text(_WORKER)
    with dev(project) as running:
        yield running


def _json(server: Server, what: str, status: int = 200) -> Any:
    code, _, body = server.fetch(f"/{what}")
    assert code == status, body
    return json.loads(body)


def test_storage_as_the_platform_spells_it(server: Server) -> None:
    assert _json(server, "storage") == [["b"], 1, "memoryview", None, 5, 1]


def test_what_is_stored_without_awaiting_it_is_stored(server: Server) -> None:
    assert _json(server, "unawaited") == {"u2": 2, "u3": 3}


def test_what_is_stored_is_what_the_platforms_sdk_sends(server: Server) -> None:
    tuples, buffers = (
        f"<class '{kind}'> cannot be sent over RPC." for kind in ("tuple", "bytearray")
    )
    refused = [tuples, tuples, buffers]
    told = [["s1", 1], ["s2", "memoryview"], *refused, *refused, None]
    assert _json(server, "synchronous") == told


def test_sql_as_the_platform_spells_it(server: Server) -> None:
    found = _json(server, "sql")
    assert found == [["a", "b"], 1, ["x"], False, 1, [1, "x"], True]


def test_a_class_of_new_classes_has_the_limits_of_one(server: Server) -> None:
    assert _json(server, "limits") == [
        "Values cannot be larger than 131072 byte",
        "SQL is not enabled for this Durable Obje",
        "The storage.kv (synchronous KV) API is o",
        "x",
    ]


def test_context_and_ids(server: Server) -> None:
    digits, name, seen = _json(server, "context")
    assert (len(digits), name, seen) == (64, "a", ["in", "out"])
    assert _json(server, "ids") == [True, True, "a", False]
    assert _json(server, "camel") == {"aB": [1]}


def test_errors_reach_the_worker(server: Server) -> None:
    kind, message = _json(server, "missing", 500)
    assert kind == "DurableObjectTypeError"
    assert "does not implement the method" in message


def test_fetch_and_passing_a_request_on(server: Server) -> None:
    status, headers, body = server.fetch("/fetch")
    assert (status, headers["x-method"], body) == (201, "PUT", b"hello")
    status, headers, body = server.fetch("/pass", "POST", b"body" * 100_000)
    assert (status, headers["x-method"], body) == (201, "POST", b"body" * 100_000)


async def test_a_request_leaves_an_object_when_its_writes_are_on_disk(
    state: bunflare.State,
) -> None:
    seen: list[object] = []

    async def answer(_: bunflare.Request) -> bunflare.Response:
        seen.append(state.database.view.one("SELECT key, value FROM do_storage"))
        return bunflare.Response("ok")

    class Caller(bunflare.DurableObject):
        async def send(self) -> str:
            await self.ctx.storage.put("before", 1)
            response = await fetch("https://elsewhere/", fetcher=answer)
            return await response.text()

    stub = state.durable_objects(Caller).get_by_name("a")
    assert await stub.send() == "ok"
    assert seen == [("before", "1")]


def test_an_alarm_rings(server: Server) -> None:
    _json(server, "ring")
    deadline = time.monotonic() + PATIENCE
    while not (told := _json(server, "rang")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert told == [0, False, True]


def test_a_changed_class_is_taken_up_and_what_it_stored_is_kept(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    entry = tmp_path / "entry.py"
    source = _WORKER + "\n"
    entry.write_text(source)
    with dev(tmp_path) as server:
        assert _json(server, "storage")
        assert _json(server, "rang") is None
        changed = source.replace('storage.get("rang")', 'storage.get("e")')
        entry.write_text(changed)
        deadline = time.monotonic() + PATIENCE
        while _json(server, "rang") != 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # until the files have been looked at


def test_a_class_that_is_missing_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    (tmp_path / "entry.py").write_text(_WORKER.replace("class Thing", "class Other"))
    with pytest.raises(AssertionError, match=r"has no class Thing"), dev(tmp_path):
        pass


def test_the_counter_example_survives_sigkill_in_the_middle_of_traffic(tmp_path: Path) -> None:
    state = tmp_path / "state"
    answered = 0
    with dev(COUNTER, "--persist-to", str(state)) as server:
        assert "visitors: 0" in server.text("/")
        stop = threading.Event()
        counts = [0, 0, 0]

        def press(lane: int) -> None:
            while not stop.is_set():
                try:
                    kind = {"Content-Type": "application/x-www-form-urlencoded"}
                    status, _, _ = server.fetch("/visitors", "POST", b"by=1", kind)
                except (OSError, HTTPException):
                    return
                if status == 303:
                    counts[lane] += 1

        lanes = [threading.Thread(target=press, args=(lane,)) for lane in range(3)]
        for lane in lanes:
            lane.start()
        deadline = time.monotonic() + PATIENCE
        while sum(counts) < 50:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        server.process.kill()
        stop.set()
        for lane in lanes:
            lane.join()
        answered = sum(counts)
    assert answered >= 50
    with dev(COUNTER, "--persist-to", str(state)) as server:
        _, _, body = server.fetch("/visitors", headers={"Accept": "application/json"})
        found = json.loads(body)
        assert answered <= found["value"] <= answered + 3
        assert found["changes"][0]["value"] == found["value"]
