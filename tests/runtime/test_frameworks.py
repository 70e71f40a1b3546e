"""Frameworks in Workers, through the bridges and over real HTTP."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support import PATIENCE

from .test_dev import dev, project

FASTAPI = """
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from workers import WorkerEntrypoint
from workers.asgi import env as Env
import asgi

started = []

@asynccontextmanager
async def lifespan(app):
    started.append(1)
    yield {"ready": "yes"}

app = FastAPI(lifespan=lifespan)

class Item(BaseModel):
    name: str

@app.get("/items/{name}")
async def read(name: str, request: Request):
    return {"value": await request.scope["env"].KV.get(name), "state": request.state.ready,
            "started": len(started)}

@app.post("/items")
async def write(item: Item, env=Env):
    await env.KV.put(item.name, item.model_dump_json())
    return item

@app.get("/stream")
async def stream():
    async def chunks():
        for _ in range(50):
            yield b"x" * 100_000
    return StreamingResponse(chunks())

@app.get("/fail")
async def fail():
    raise ZeroDivisionError("in the application")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await asgi.fetch(app, request, self.env)
"""

FLASK = """
from flask import Flask, Response, request
from pyodide.ffi import run_sync
from workers import wsgi

app = Flask(__name__)

@app.post("/put/<name>")
def put(name):
    env = request.environ["workers.env"]
    run_sync(env.KV.put(name, request.get_data(as_text=True)))
    return run_sync(env.KV.get(name)), 201, {"x-length": str(request.content_length)}

@app.get("/stream")
def stream():
    return Response((b"y" * 1000 for _ in range(100)))

Default = wsgi.entrypoint(app)
"""

PARTS = """
from workers import Response, WorkerEntrypoint, asgi, wsgi

def echo(environ, start_response):
    start_response("201 Created", [("x-env", environ["workers.env"].NAME)])
    return [environ["wsgi.input"].read().upper()]

class Writer:
    async def close(self):
        raise OSError("gone")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if "wsgi" in request.url:
            return wsgi.process_request(echo, request, self.env, b"given")
        async def later():
            await self.env.KV.put("later", "done")
        running = asgi.run_in_background(later())
        begun = running in asgi.background_tasks
        await running
        await asgi.close_stream_quietly(Writer())
        with asgi.acquire_js_buffer(b"abc") as buffer:
            size = buffer.byteLength
        return Response.json([begun, size, await self.env.KV.get("later")])
"""
PARTS_WRANGLER = """
name = "parts"
main = "src/entry.py"
vars = { NAME = "parts" }
kv_namespaces = [{ binding = "KV" }]
"""

SYNCHRONOUS = """
import threading
import time
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from pyodide.ffi import run_sync
from workers import DurableObject, asgi, env, wait_until

class Counter(DurableObject):
    async def add(self, more):
        return more + 1

app = FastAPI()
held = []

def here():
    return threading.current_thread() is threading.main_thread()

@app.get("/bindings")
def bindings(inside: bool = Depends(here)):
    async def later():
        await env.KV.put("later", "done")
    wait_until(later())
    run_sync(env.KV.put("key", "value"))
    stub = env.COUNTER.getByName("a")
    return [inside, run_sync(env.KV.get("key")), run_sync(stub.add(1))]

@app.get("/later")
def later():
    return run_sync(env.KV.get("later"))

@app.get("/hold")
def hold():
    import asyncio
    held.append(asyncio.Event())
    run_sync(held[0].wait())
    return "let go"

@app.get("/release")
def release():
    if held:
        held[0].set()
    return len(held)

@app.get("/stream")
def stream():
    return StreamingResponse(run_sync(env.KV.get("key")).encode() for _ in range(3))

Default = asgi.entrypoint(app)
"""
SYNCHRONOUS_WRANGLER = """
name = "sync"
main = "src/entry.py"
kv_namespaces = [{ binding = "KV" }]
durable_objects.bindings = [{ name = "COUNTER", class_name = "Counter" }]
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter"] }]
"""

DJANGO = """
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="test")

async def hello(request, name):
    return HttpResponse(f"hello {name}")

def echo(request):
    return JsonResponse({"body": request.body.decode(), "query": request.GET["q"]})

urlpatterns = [path("hello/<name>", hello), path("echo", echo)]

from workers import WorkerEntrypoint, asgi, wsgi
applications = get_asgi_application(), get_wsgi_application()

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if "wsgi" in request.url:
            return await wsgi.fetch(applications[1], request, self.env)
        return await asgi.fetch(applications[0], request, self.env, self.ctx)
"""


def test_a_fastapi_application_has_bindings_streams_and_one_lifespan(tmp_path: Path) -> None:
    with dev(project(tmp_path, FASTAPI)) as server:
        json_type = {"content-type": "application/json"}
        assert server.text("/items", method="POST", body='{"name": "a"}', headers=json_type)
        assert server.fetch("/items", "POST", "{}", json_type)[0] == 422
        told = json.loads(server.text("/items/a"))
        assert told == {"value": '{"name":"a"}', "state": "yes", "started": 1}
        assert len(server.fetch("/stream")[2]) == 5_000_000
        assert server.fetch("/fail")[0] == 500
        assert json.loads(server.text("/items/a"))["started"] == 1


def test_synchronous_routes_use_bindings_and_hold_nobody_up(tmp_path: Path) -> None:
    with dev(project(tmp_path, SYNCHRONOUS, SYNCHRONOUS_WRANGLER)) as server:
        assert json.loads(server.text("/bindings")) == [True, "value", 2]
        deadline = time.monotonic() + PATIENCE
        while json.loads(server.text("/later")) != "done":
            assert time.monotonic() < deadline
        with ThreadPoolExecutor() as pool:
            held = pool.submit(server.text, "/hold")
            while server.text("/release") != "1":
                continue
            assert held.result(PATIENCE) == '"let go"'
        assert server.text("/stream") == "value" * 3


def test_a_flask_application_waits_for_bindings(tmp_path: Path) -> None:
    with dev(project(tmp_path, FLASK)) as server:
        status, headers, body = server.fetch("/put/k", "POST", b"v" * 300_000)
        assert (status, headers["x-length"], len(body)) == (201, "300000", 300_000)
        assert server.fetch("/stream")[2] == b"y" * 100_000
        assert server.fetch("/nowhere")[0] == 404


def test_a_django_project_runs_on_both_bridges(tmp_path: Path) -> None:
    with dev(project(tmp_path, DJANGO)) as server:
        assert server.text("/hello/world") == "hello world"
        for bridge in ("asgi", "wsgi"):
            told = json.loads(server.text(f"/echo?q={bridge}", method="POST", body="the body"))
            assert told == {"body": "the body", "query": bridge}


def test_the_parts_that_the_bridges_are_made_of(tmp_path: Path) -> None:
    with dev(project(tmp_path, PARTS, PARTS_WRANGLER)) as server:
        status, headers, body = server.fetch("/wsgi")
        assert (status, headers["x-env"], body) == (201, "parts", b"GIVEN")
        assert json.loads(server.text("/asgi")) == [True, 3, "done"]
