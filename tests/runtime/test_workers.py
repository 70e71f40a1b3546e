"""Several Workers in one process, events by hand, and what a Worker cannot break."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .test_dev import dev, project

WRANGLER = """
name = "front"
main = "src/entry.py"
vars = { WORD = "top" }
kv_namespaces = [{ binding = "KV" }]
services = [
  { binding = "BACK", service = "back" },
  { binding = "ADMIN", service = "back", entrypoint = "Admin", props = { level = 7 } },
  { binding = "NOBODY", service = "nobody" },
]
ratelimits = [{ name = "LIMIT", namespace_id = "1", simple = { limit = 2, period = 60 } }]
version_metadata = { binding = "VERSION" }
"""

FRONT = """
import asyncio
import sys
import helper
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await getattr(self, "on_" + request.url.rsplit("/", 1)[1])(request)

    async def on_back(self, request):
        answer = await self.env.BACK.fetch("http://back/path", method="POST", body="sent")
        return Response(await answer.text(), status=answer.status)

    async def on_rpc(self, request):
        back = self.env.BACK
        given = {"list": [1, {"a": None}]}
        back_again = await back.echo(given)
        assert back_again == given and back_again is not given and back_again.list[1].a is None
        add = await back.adder(10)
        failures = []
        for name in ("_hidden", "nothing", "fail"):
            try:
                await getattr(back, name)()
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
        return Response.json({
            "add": await add(5), "called": await back.calls(lambda x: x * 2),
            "admin": await self.env.ADMIN.level(), "helper": helper.NAME, "failures": failures,
            "its helper": await back.helper(), "word": await back.word(),
        })

    async def on_nobody(self, request):
        await self.env.NOBODY.fetch("http://x/")

    async def on_limit(self, request):
        return Response.json([(await self.env.LIMIT.limit({"key": "a"})).success for _ in "123"])

    async def on_version(self, request):
        return Response.json(self.env.VERSION)

    async def on_exit(self, request):
        sys.exit(3)

    async def on_leak(self, request):
        async def leave():
            sys.exit(4)
        self.ctx.wait_until(leave())
        asyncio.create_task(asyncio.sleep(1000))
        return Response("left")

    async def on_fail(self, request):
        return helper.fail()

    async def on_slow(self, request):
        await self.env.KV.put("begun", "1")
        while await self.env.KV.get("go") is None:
            await asyncio.sleep(0.01)
        return Response("WORD")

    async def on_begun(self, request):
        return Response(await self.env.KV.get("begun") or "")

    async def on_go(self, request):
        await self.env.KV.put("go", "1")
        return Response("going")

    async def on_word(self, request):
        return Response("WORD " + self.env.WORD)

    async def on_seen(self, request):
        return Response(await self.env.KV.get("seen") or "")

    async def scheduled(self, controller):
        await self.env.KV.put("seen", f"{controller.cron} {controller.scheduledTime}")
        if controller.cron == "fail":
            raise ZeroDivisionError
"""

BACK = """
import helper
from workers import Response, WorkerEntrypoint, env

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(f"{request.method} {request.url} {await request.text()}", status=202)

    def echo(self, value):
        return value

    def adder(self, base):
        return lambda more: base + more

    async def calls(self, function):
        return await function(21)

    def helper(self):
        return helper.NAME

    def word(self):
        return env.WORD

    def fail(self):
        raise ValueError("in the back")

class Admin(WorkerEntrypoint):
    async def level(self):
        return self.ctx.props["level"]
"""


def workers(path: Path) -> list[str]:
    front, back = path / "front", path / "back"
    front.mkdir()
    back.mkdir()
    project(front, FRONT, WRANGLER)
    project(back, BACK, 'name = "back"\nmain = "src/entry.py"\nvars = { WORD = "of the back" }')
    (front / "src" / "helper.py").write_text("NAME = 'front'\ndef fail():\n    return 1 / 0\n")
    (back / "src" / "helper.py").write_text("NAME = 'back'")
    return ["-c", str(front / "wrangler.toml"), "-c", str(back / "wrangler.toml")]


def test_workers_call_one_another_and_keep_their_modules(tmp_path: Path) -> None:
    with dev(tmp_path, *workers(tmp_path)) as server:
        assert server.fetch("/back")[::2] == (202, b"POST http://back/path sent")
        status, _, body = server.fetch("/rpc")
        assert status == 200, body.decode()
        told = json.loads(body)
        assert (told["add"], told["called"], told["admin"]) == (15, 42, 7)
        assert (told["helper"], told["its helper"]) == ("front", "back")
        assert told["word"] == "of the back"
        hidden, nothing, fail = told["failures"]
        assert hidden.startswith("AttributeError")
        assert nothing == 'TypeError: The RPC receiver does not implement the method "nothing".'
        assert fail == "ValueError: in the back"
        status, _, body = server.fetch("/nobody")
        assert status == 500
        assert b'there is no Worker "nobody"' in body
        assert json.loads(server.text("/limit")) == [True, True, False]
        assert len(json.loads(server.text("/version"))["id"]) == 36


def test_events_come_by_hand_and_a_worker_cannot_end_the_server(tmp_path: Path) -> None:
    arguments = [*workers(tmp_path), "--test-scheduled", "--var", "WORD:other"]
    with dev(tmp_path, *arguments) as server:
        assert server.text("/cdn-cgi/handler/scheduled?cron=*+*+*+*+*&time=5") == "ok"
        assert server.text("/seen") == "* * * * * 5"
        assert server.text("/__scheduled?cron=x") == "Ran scheduled event"
        assert server.fetch("/cdn-cgi/handler/scheduled?cron=fail")[0] == 500
        status, _, body = server.fetch("/cdn-cgi/handler/email")
        assert status == 501
        assert b"does not support email" in body
        assert server.fetch("/exit")[0] == 500
        assert server.text("/leak") == "left"
        status, _, body = server.fetch("/fail")
        assert status == 500
        assert b"helper.py" in body
        assert b"asgi.py" not in body
        assert server.text("/word") == "WORD other"


KEEPER = """
from workers import DurableObject, Response, WorkerEntrypoint

class Counter(DurableObject):
    async def add(self, more):
        total = (await self.ctx.storage.get("total") or 0) + more
        await self.ctx.storage.put("total", total)
        return total

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("the keeper")
"""
KEEPER_WRANGLER = """
name = "keeper"
main = "src/entry.py"
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter"] }]
"""
USER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        binding = getattr(self.env, request.url.rsplit("/", 1)[1])
        stub = binding.get(binding.idFromName("a"))
        return Response(str(await stub.add(5)))
"""
USER_WRANGLER = """
name = "user"
main = "src/entry.py"
durable_objects.bindings = [
  { name = "COUNTER", class_name = "Counter", script_name = "keeper" },
  { name = "MISSING", class_name = "Missing", script_name = "keeper" },
  { name = "NOBODY", class_name = "Counter", script_name = "nobody" },
]
"""


def test_objects_of_another_worker_are_reached_and_follow_its_reload(tmp_path: Path) -> None:
    for name, source, wrangler in (
        ("user", USER, USER_WRANGLER),
        ("keeper", KEEPER, KEEPER_WRANGLER),
    ):
        (tmp_path / name).mkdir()
        project(tmp_path / name, source, wrangler)
    both = [f"--config={tmp_path / name / 'wrangler.toml'}" for name in ("user", "keeper")]
    with dev(tmp_path, *both) as server:
        assert [server.text("/COUNTER") for _ in range(2)] == ["5", "10"]
        assert 'the Worker "keeper" has no class Missing(DurableObject)' in server.text("/MISSING")
        assert 'there is no Worker "nobody" in this process' in server.text("/NOBODY")
        entry = tmp_path / "keeper" / "src" / "entry.py"
        entry.write_text(KEEPER.replace("+ more", "+ 10 * more"))
        assert server.process.stdout is not None
        while "Reloaded" not in server.process.stdout.readline():
            continue
        assert server.text("/COUNTER") == "60"
    # Two Workers cannot both have the class.
    project(tmp_path / "user", USER + KEEPER, KEEPER_WRANGLER.replace("keeper", "user"))
    refused = pytest.raises(AssertionError, match="both have a Durable Object class Counter")
    with refused, dev(tmp_path, *both):
        pass


EXPORTING = """
from workers import DurableObject, Response, WorkerEntrypoint

class Counter(DurableObject):
    async def add(self, more):
        value = (await self.ctx.storage.get("value") or 0) + more
        await self.ctx.storage.put("value", value)
        # An object has them, too.
        return [value, await self.ctx.exports.Admin({"props": {"level": value}}).level()]

class Admin(WorkerEntrypoint):
    def level(self):
        return self.ctx.props.get("level")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("inner"):
            return Response("inside")
        exports = self.ctx.exports
        inner = await exports.default.fetch("http://x/inner")
        return Response.json([
            await exports.Counter.getByName("a").add(5), await exports.Admin.level(),
            await inner.text(), hasattr(exports, "Missing"),
        ])
"""
EXPORTING_WRANGLER = """
name = "exporting"
main = "src/entry.py"
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter"] }]
"""


def test_a_worker_reaches_what_it_exports_without_a_binding(tmp_path: Path) -> None:
    project(tmp_path, EXPORTING, EXPORTING_WRANGLER)
    with dev(tmp_path) as server:
        assert json.loads(server.text("/")) == [[5, 5], None, "inside", False]


DRIVEN = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        one = getattr(self.env, request.url.rsplit("/", 1)[1])
        return Response.json([one.host, one.port, one.user, one.password, one.database,
                              one.connectionString])
"""
DRIVEN_WRANGLER = """
name = "driven"
main = "src/entry.py"
hyperdrive = [
  { binding = "HERE", id = "1", localConnectionString = "postgres://me:p%40ss@127.0.0.1:5433/db" },
  { binding = "OVER", id = "2", localConnectionString = "postgres://no@nowhere/none" },
  { binding = "NONE", id = "3" },
]
"""


def test_hyperdrive_is_the_database_that_stands_for_it(tmp_path: Path) -> None:
    project(tmp_path, DRIVEN, DRIVEN_WRANGLER)
    over = {"CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_OVER": "mysql://you:pw@host/other"}
    with dev(tmp_path, **over) as server:
        assert json.loads(server.text("/HERE")) == [
            *("127.0.0.1", 5433, "me", "p@ss", "db"),
            "postgres://me:p%40ss@127.0.0.1:5433/db",
        ]
        assert json.loads(server.text("/OVER"))[:5] == ["host", 3306, "you", "pw", "other"]
        assert 'the binding "NONE" (hyperdrive) needs localConnectionString' in server.text("/NONE")


RENAMED_WRANGLER = """
name = "keeper"
main = "src/entry.py"
durable_objects.bindings = [{ name = "COUNTER", class_name = "%s" }]
[exports]
"""


def test_classes_are_declared_renamed_and_deleted_by_exports(tmp_path: Path) -> None:
    live = '{ type = "durable-object", storage = "sqlite" }'
    source = KEEPER.replace(
        'Response("the keeper")', 'Response(str(await self.env.COUNTER.getByName("a").add(5)))'
    )
    wrangler = RENAMED_WRANGLER % "Counter" + f"Counter = {live}\n"
    project(tmp_path, source, wrangler)
    with dev(tmp_path) as server:
        assert [server.text("/") for _ in range(2)] == ["5", "10"]
    source = source.replace("class Counter", "class Total")
    gone = '{ type = "durable-object", state = "renamed", renamed_to = "Total" }'
    wrangler = RENAMED_WRANGLER % "Total" + f"Counter = {gone}\nTotal = {live}\n"
    project(tmp_path, source, wrangler)
    with dev(tmp_path) as server:
        assert server.text("/") == "15"
    with dev(tmp_path) as server:
        assert server.text("/") == "20"
    deleted = '{ type = "durable-object", state = "deleted" }'
    source = source.replace("class Total", "class Other")
    wrangler = RENAMED_WRANGLER % "Other" + f"Total = {deleted}\nOther = {live}\n"
    project(tmp_path, source, wrangler)
    with dev(tmp_path) as server:
        assert server.text("/") == "5"
