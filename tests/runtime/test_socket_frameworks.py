"""WebSockets of ASGI applications in a Worker, over the network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.runtime.test_dev import Server, dev
from tests.runtime.test_sockets import _end, _text, _url, client, reloaded
from tests.support import PATIENCE

__all__ = ["client"]

_CONFIG = """
name = "sockets"
main = "entry.py"
compatibility_date = "2026-11-01"
[[kv_namespaces]]
binding = "KV"
id = "kv"
"""

_STUBBORN = """
import asyncio
from bunflare.runtime import context, looping, server
from workers import Response, WorkerEntrypoint, asgi

server._GRACE = context._GRACE_SECONDS = looping._GRACE_SECONDS = 0.1

async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "still here"})
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/talk"):
            return await asgi.fetch(app, request, self.env)
        return Response("WORD")
"""

_FASTAPI = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from workers import WorkerEntrypoint
from workers import asgi

@asynccontextmanager
async def lifespan(app):
    yield {"ready": "yes"}

app = FastAPI(lifespan=lifespan)

@app.get("/left")
async def left():
    return await app.state.left

@app.get("/sent")
async def sent():
    return app.state.sent

@app.websocket("/talk/{name}")
async def talk(ws: WebSocket, name: str, loud: bool = False):
    app.state.left = asyncio.get_running_loop().create_future()
    await ws.accept(subprotocol="second" if "second" in ws.scope["subprotocols"] else None,
                    headers=[(b"x-state", ws.state.ready.encode())])
    try:
        while True:
            text = await ws.receive_text()
            await ws.scope["env"].KV.put(name, text)
            stored = await ws.scope["env"].KV.get(name)
            await ws.send_text(stored.upper() if loud else stored)
    except WebSocketDisconnect as gone:
        app.state.left.set_result([gone.code, gone.reason])

@app.websocket("/bytes")
async def binary(ws: WebSocket):
    app.state.sent = 0
    await ws.accept()
    for app.state.sent in range(150):
        await ws.send_bytes(b"x" * 1_000_000)
    await ws.send_bytes((await ws.receive_bytes())[::-1])
    await ws.close(4002, "enough")

@app.websocket("/refused")
async def refused(ws: WebSocket):
    await ws.close(4403, "not you")

@app.websocket("/fails")
async def fails(ws: WebSocket):
    await ws.accept()
    raise ZeroDivisionError("on purpose")

@app.websocket("/ends")
async def ends(ws: WebSocket):
    await ws.accept()

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("ends"):
            return await asgi.websocket(app, request)
        return await asgi.fetch(app, request, self.env)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = tmp_path_factory.mktemp("frameworks")
    (project / "wrangler.toml").write_text(_CONFIG)
    (project / "entry.py").write_text(_FASTAPI)
    with dev(project) as running:
        yield running


async def test_a_route_of_fastapi_talks(server: Server, client: aiohttp.ClientSession) -> None:
    url = _url(server, "talk/kim?loud=true")
    async with client.ws_connect(url, protocols=["first", "second"]) as ws:
        assert (ws.protocol, ws._response.headers["x-state"]) == ("second", "yes")
        for word in ("hello", "wörld"):
            await ws.send_str(word)
            assert await _text(ws) == word.upper()
        await ws.close(code=3001, message=b"bye")
    async with client.get(_url(server, "left")) as answer:
        assert await answer.json() == [3001, "bye"]


async def test_much_is_sent_to_a_slow_client(server: Server, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(_url(server, "bytes"), max_msg_size=0) as ws:
        # While it could go on, it would between two requests.
        sent: list[int] = []
        while len(sent) < 10 or len(set(sent[-10:])) > 1:
            async with client.get(_url(server, "sent")) as answer:
                sent.append(await answer.json())
        assert sent[-1] < 149
        for _ in range(150):
            assert len(await ws.receive_bytes(timeout=PATIENCE)) == 1_000_000
        await ws.send_bytes(b"abc")
        assert await ws.receive_bytes(timeout=PATIENCE) == b"cba"
        assert await _end(ws) == (4002, "enough")


async def test_how_applications_end(server: Server, client: aiohttp.ClientSession) -> None:
    for path, end in (("refused", (4403, "not you")), ("fails", (1011, "")), ("ends", (1000, ""))):
        async with client.ws_connect(_url(server, path)) as ws:
            assert await _end(ws) == end


async def test_a_conversation_goes_on_through_a_reload(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    entry = tmp_path / "entry.py"
    entry.write_text(_FASTAPI)
    with dev(tmp_path) as server:
        before = await client.ws_connect(_url(server, "talk/kim"))

        async def ask() -> str:
            async with client.ws_connect(_url(server, "talk/kim?loud=true")) as ws:
                await ws.send_str("x")
                return str(await _text(ws))

        changed = _FASTAPI.replace("stored.upper()", 'f"new {stored}"')
        await reloaded(entry, changed, ask, "new x")
        await before.send_str("still")
        assert await _text(before) == "still"
        await before.close()


async def test_a_conversation_that_swallows_its_cancellation_keeps_nothing_from_its_end(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    entry = tmp_path / "entry.py"
    entry.write_text(_STUBBORN)
    with dev(tmp_path) as server:
        talk = await client.ws_connect(_url(server, "talk"))
        assert await _text(talk) == "still here"

        async def ask() -> str:
            return await asyncio.to_thread(server.text)

        await reloaded(entry, _STUBBORN.replace("WORD", "newer"), ask, "newer")
        said = await asyncio.to_thread(server.stop)
        assert server.process.returncode == 0
    assert "task(s) given to wait_until go on though they were cancelled:\n  app (" in said
