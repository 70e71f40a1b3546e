"""The modules ``workers``, ``js`` and ``pyodide`` of a Worker, over real HTTP."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bunflare.runtime.modules import WorkerModules

from .test_dev import Server, dev, project

WORKER = """
import asyncio
import dataclasses
from datetime import datetime
import _cloudflare_compat_flags
import asgi, workers, workers.asgi
from js import Array, Date, Headers, JSON, Object, URL, Uint8Array, console
import js
from pyodide.code import relaxed_call
from pyodide.ffi import JsException, JsProxy, create_proxy, jsnull, run_sync, to_js
from pyodide.http import pyfetch
from workers import Response, env, fetch, handler, patch_env, python_from_rpc, python_to_rpc
import helper

@dataclasses.dataclass
class Point:
    x: int

@handler
async def on_fetch(request, env):
    return await globals()[URL.new(request.url).pathname[1:]](request, env)

async def values(request, env):
    options = to_js({"expirationTtl": 60}, dict_converter=Object.fromEntries)
    await env.KV.put("k", "v", options)
    await env.KV.put("l", to_js(b"bytes"), to_js(None))
    found = await env.KV.get("l", "arrayBuffer")
    assert isinstance(found, memoryview) and bytes(found) == b"bytes"
    assert (await env.KV.get("none")) is None
    assert not isinstance(found, JsProxy)
    assert asgi is workers.asgi and helper.NAME == "ours"
    assert relaxed_call(lambda a: a, 1, 2) == 1
    assert _cloudflare_compat_flags.python_workflows_implicit_dependencies is False
    assert JSON.parse('{"a": [1]}').a[0] == 1 and JSON.stringify({"a": 1}) == '{"a":1}'
    assert not hasattr(js, "document") and js.undefined is None
    with patch_env(GREETING="patched"):
        assert env.GREETING == workers.env.GREETING == "patched"
    assert env.GREETING == "hello"
    return js.Response.new("fine", headers=Headers.new([["x-a", "1"]]), status=201)

async def rpc(request, env):
    moment = datetime(2026, 1, 2, 3, 4, 5)
    assert python_from_rpc(python_to_rpc(moment)) == moment
    assert python_to_rpc(None) is jsnull and python_from_rpc(jsnull) is None
    assert python_from_rpc(python_to_rpc({"a": [1, {"b": 2}]})).a[1].b == 2
    for wrong in ((1,), bytearray(b"x"), [(1,)]):
        try:
            python_to_rpc(wrong)
        except TypeError as error:
            assert "cannot be sent over RPC." in str(error)
        else:
            raise AssertionError(wrong)
    return Response("fine")

def waits():
    # Synchronous, three calls deep, and asynchronous underneath.
    async def inner():
        await asyncio.sleep(0.01)
        return await workers.env.KV.get("k")
    return run_sync(inner())

async def sync(request, env):
    await env.KV.put("k", "waited")
    tasks = [asyncio.create_task(asyncio.sleep(0, waits())) for _ in range(3)]
    return Response.json(await asyncio.gather(*tasks))

async def outgoing(request, env):
    base = request.headers["x-base"]
    async def chunks():
        yield b"a" * 10
        yield b"b" * 10
    posted = await fetch(base + "/echo", method="POST", body=chunks(), headers={"x-q": "1"})
    followed = await pyfetch(base + "/redirect")
    manual = await fetch(base + "/redirect", redirect="manual")
    try:
        await fetch(base + "/redirect", redirect="error")
    except TypeError as error:
        refused = str(error)
    controller = js.AbortController.new()
    asyncio.get_running_loop().call_later(0.05, controller.abort)
    try:
        await fetch(base + "/hang", signal=controller.signal)
    except JsException as error:
        aborted = error.name
    try:
        await fetch("http://127.0.0.1:1/")
    except OSError as error:
        lost = str(error)
    return Response.json({
        "posted": await posted.json(), "followed": [followed.url, followed.redirected],
        "manual": [manual.status, manual.headers["location"]], "refused": refused,
        "aborted": aborted, "lost": lost, "status": (await fetch(base + "/missing")).status,
    })
"""


class Site(BaseHTTPRequestHandler):
    """Another server, on the same machine."""

    hang = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("location", "/echo")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path == "/hang":
            self.hang.wait(10)
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        body = b""
        while (size := int(self.rfile.readline(), 16)) > 0:
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        answer = json.dumps({"body": body.decode(), "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = project(tmp_path_factory.mktemp("sdk"), WORKER)
    (path / "src" / "helper.py").write_text("from workers import env\nNAME = 'ours'")
    # A package of the same name that somebody has installed.
    (path / "elsewhere" / "workers").mkdir(parents=True)
    (path / "elsewhere" / "workers" / "__init__.py").write_text("raise ImportError('not this')")
    with dev(path, PYTHONPATH=str(path / "elsewhere")) as server:
        yield server


def test_javascripts_names_behave_as_on_the_platform(worker: Server) -> None:
    status, headers, body = worker.fetch("/values")
    assert (status, headers["x-a"], body) == (201, "1", b"fine"), body.decode()


def test_values_cross_rpc_as_the_sdk_converts_them(worker: Server) -> None:
    assert worker.text("/rpc") == "fine"


def test_run_sync_waits_within_tasks_that_go_on_together(worker: Server) -> None:
    assert json.loads(worker.text("/sync")) == ["waited"] * 3


def test_fetch_streams_follows_refuses_and_aborts(worker: Server, site: str) -> None:
    status, _, body = worker.fetch("/outgoing", headers={"x-base": site})
    assert status == 200, body.decode()
    told = json.loads(body)
    assert told["posted"]["body"] == "a" * 10 + "b" * 10
    assert told["posted"]["headers"]["x-q"] == "1"
    assert "User-Agent" not in told["posted"]["headers"]
    assert told["followed"] == [f"{site}/echo", True]
    assert told["manual"] == [302, "/echo"]
    assert "redirect" in told["refused"]
    assert told["aborted"] == "AbortError"
    assert told["lost"].startswith("Network connection lost")
    assert told["status"] == 404


def test_two_workers_have_modules_of_the_same_names(tmp_path: Path) -> None:
    before = set(sys.modules)
    loaded = []
    for name in ("one", "two"):
        directory = tmp_path / name
        (directory / "part").mkdir(parents=True)
        (directory / "part" / "__init__.py").write_text("")
        (directory / "part" / "inner.py").write_text(f"NAME = {name!r}")
        (directory / "helper.py").write_text("from part.inner import NAME")
        (directory / "entry.py").write_text(
            "import helper\ndef late():\n    from part import inner\n    return inner.NAME\n"
        )
        modules = WorkerModules([directory], {}, resident=False)
        loaded.append(modules.load(directory / "entry.py"))
    assert [module.helper.NAME for module in loaded] == ["one", "two"]
    assert [module.late() for module in loaded] == ["one", "two"]
    assert not {"helper", "entry", "part"} & (set(sys.modules) - before)
