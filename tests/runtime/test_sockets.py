"""WebSockets of Workers over the network, with a client that is not ours."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.runtime.test_dev import Server, dev
from tests.support import PATIENCE

_CONFIG = """
name = "sockets"
main = "entry.py"
compatibility_date = "2026-11-01"

[[durable_objects.bindings]]
name = "ROOM"
class_name = "Room"

[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""

# Written as for the platform.
_WORKER = """
from js import Object, Response as JsResponse
from js import WebSocket, WebSocketPair, WebSocketRequestResponsePair
from pyodide.ffi import create_proxy
from workers import DurableObject, Response, WorkerEntrypoint, fetch
import asyncio, json

class Room(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair.new().object_values()
        self.ctx.acceptWebSocket(server, [request.url.rsplit("/", 1)[1]])
        self.ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair.new("ping", "pong"))
        server.serializeAttachment({"path": request.url.rsplit("/", 1)[1]})
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        if message == "who":
            stamp = self.ctx.getWebSocketAutoResponseTimestamp(ws)
            ws.send(json.dumps([ws.deserializeAttachment()["path"], self.ctx.getTags(ws),
                                stamp is not None and stamp.tzinfo is None]))
        elif message == "die":
            self.ctx.abort("on purpose")
        else:
            for one in self.ctx.getWebSockets():
                one.send(message)

    async def webSocketError(self, ws, error):
        await self.ctx.storage.put("closed", ["error", str(error), ws.readyState])

    async def webSocketClose(self, ws, code, reason, wasClean):
        await self.ctx.storage.put("closed", [code, reason, wasClean])
        ws.close(code, reason)

    async def closed(self):
        return await self.ctx.storage.get("closed")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3]
        room = self.env.ROOM.getByName("one")
        if path == "closed":
            return Response.json(await room.closed())
        if path.startswith("call"):
            return Response.json(await self.call(path, request))
        if path == "plain":
            client, _ = WebSocketPair.new()
            return Response(None, status=101, web_socket=client)
        if request.headers.get("upgrade") != "websocket":
            return Response("Expected Upgrade: websocket", status=426)
        if path.startswith("room/"):
            return await room.fetch(request)
        if path == "denied":
            return Response("not you", status=403, headers={"x-why": "because"})
        if path == "raises":
            raise ValueError("on purpose")
        if path == "long":
            async def body():
                for _ in range(50):
                    yield b"x" * 100_000
            return Response(body(), status=503)
        pair = WebSocketPair.new()
        client, server = Object.values(pair)
        if path == "accepted":
            client.accept()
        elif path == "proxy":
            origin = request.url.replace("/proxy", "/echo")
            return await fetch(origin, headers={"Upgrade": "websocket"})
        elif path == "silent":
            pass
        else:
            server.accept()
            def hear(event):
                data = event.data
                if data == "close":
                    server.close(4001, "as asked")
                elif data == "flood":
                    for _ in range(200):
                        server.send("x" * 1_000_000)
                elif isinstance(data, str):
                    server.send("echo " + data)
                else:
                    server.send(data.to_bytes()[::-1])
            server.addEventListener("message", create_proxy(hear))
        return JsResponse.new(None, status=101, webSocket=client, headers={
            "sec-websocket-protocol": "second", "x-other": "1"} if path == "protocol" else {})

    async def call(self, path, request):
        host = request.headers.get("host")
        told = []
        done = asyncio.Event()
        def note(event):
            told.append([event.type, getattr(event, "data", getattr(event, "code", None))])
            if event.type == "open":
                socket.send("hi")
            if event.type == "message":
                socket.close(1000, "thanks")
            if event.type == "close":
                done.set()
        where = path.removeprefix("call/")
        if where.startswith("fetch/"):
            answer = await fetch(f"http://{host}/{where[6:]}", headers={
                "Upgrade": "websocket", "Sec-WebSocket-Protocol": "first, second"})
            if answer.webSocket is None:
                return [answer.status, await answer.text()]
            socket = answer.webSocket
            told.append([answer.status, socket.protocol, answer.headers.get("x-other")])
            socket.accept()
            socket.send("hi")
        else:
            socket = WebSocket.new(f"ws://{host}/{where}")
            told.append(socket.readyState)
        for kind in ("open", "message", "close", "error"):
            socket.addEventListener(kind, note)
        await done.wait()
        return [*told, socket.readyState == WebSocket.CLOSED]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = tmp_path_factory.mktemp("sockets")
    (project / "wrangler.toml").write_text(_CONFIG)
    (project / "entry.py").write_text(_WORKER)
    with dev(project) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def _url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.port}/{path}"


async def reloaded(
    entry: Path, source: str, ask: Callable[[], Awaitable[str]], answer: str
) -> None:
    """Write a changed source and see it work."""
    entry.write_text(source)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while await ask() != answer:
        assert asyncio.get_running_loop().time() < deadline, "it was not reloaded"
        await asyncio.sleep(0.02)  # until the files have been looked at


async def _text(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return await socket.receive_str(timeout=PATIENCE)


async def _end(socket: aiohttp.ClientWebSocketResponse) -> Any:
    message = await socket.receive(timeout=PATIENCE)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
    return message.data, message.extra


async def test_messages_of_all_sizes_and_kinds(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "echo"), max_msg_size=0) as ws:
        await ws.send_str("hällo")
        assert await _text(ws) == "echo hällo"
        for size in (0, 1, 125, 126, 65_536, 5_000_000):
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            await ws.send_bytes(data)
            assert await ws.receive_bytes(timeout=PATIENCE) == data[::-1]
        # In frames, with a ping between them.
        await ws._writer.send_frame(b"\x01\x02", aiohttp.WSMsgType.BINARY)
        assert await ws.receive_bytes(timeout=PATIENCE) == b"\x02\x01"
        await ws.ping()
        await ws.send_str("close")
        assert await _end(ws) == (4001, "as asked")


async def test_a_message_over_32_mib_ends_the_connection(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "echo"), max_msg_size=0) as ws:
        await ws.send_bytes(bytes(32 * 1024 * 1024))
        assert len(await ws.receive_bytes(timeout=PATIENCE)) == 32 * 1024 * 1024
        await ws.send_bytes(bytes(32 * 1024 * 1024 + 1))
        code, _ = await _end(ws)
        assert code == 1009


async def test_an_answer_that_is_no_socket_is_what_the_client_gets(
    server: Server, client: aiohttp.ClientSession
) -> None:
    asking = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with client.get(_url(server, "denied"), headers=asking) as answer:
        assert (answer.status, answer.headers["x-why"]) == (403, "because")
        assert await answer.text() == "not you"
    async with client.get(_url(server, "long"), headers=asking) as answer:
        assert (answer.status, len(await answer.read())) == (503, 5_000_000)
    async with client.get(_url(server, "raises"), headers=asking) as answer:
        assert answer.status == 500
        assert "ValueError: on purpose" in await answer.text()
    async with client.get(_url(server, "accepted"), headers=asking) as answer:
        assert answer.status == 500
        assert "after calling accept()" in await answer.text()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(_url(server, "denied"))
    assert refused.value.status == 403


async def test_a_socket_for_a_request_that_asked_for_none(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.get(_url(server, "plain")) as answer:
        assert answer.status == 500
        assert 'which did not contain the header "Upgrade: websocket"' in await answer.text()
    async with client.get(_url(server, "echo")) as answer:
        assert (answer.status, await answer.text()) == (426, "Expected Upgrade: websocket")


async def test_a_subprotocol_and_other_headers_pass(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "protocol"), protocols=["first", "second"]) as ws:
        assert ws.protocol == "second"
        assert ws._response.headers["x-other"] == "1"


async def test_a_socket_that_nobody_accepts_is_closed(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "silent")) as ws:
        assert await _end(ws) == (None, None)
        assert ws.close_code == 1006


async def test_a_room_in_a_durable_object(server: Server, client: aiohttp.ClientSession) -> None:
    url = _url(server, "room/a")
    async with client.ws_connect(url) as one, client.ws_connect(url) as other:
        await one.send_str("hello")
        await other.send_bytes(b"\x00\xff")
        for ws in (one, other):
            assert await _text(ws) == "hello"
            assert await ws.receive_bytes(timeout=PATIENCE) == b"\x00\xff"
        await one.send_str("ping")
        assert await _text(one) == "pong"
        await one.send_str("who")
        assert json.loads(await _text(one)) == ["a", ["a"], True]
        await other.close(code=3003, message=b"enough")
        assert other.close_code == 3003
        await one.send_str("who")
        assert await _text(one)
    found = json.loads(server.text("/closed"))
    assert found[0] in (3003, 1000)


async def test_a_client_that_breaks_the_protocol_is_told_to_the_object(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "room/a")) as ws:
        await ws._writer.send_frame(b"\xff", aiohttp.WSMsgType.TEXT)
        assert await _end(ws) == (1007, "invalid UTF-8")
    words = "a text message was not valid UTF-8"
    assert json.loads(server.text("/closed")) == ["error", words, 3]


async def test_requests_have_long_headers_and_addresses(
    server: Server, client: aiohttp.ClientSession
) -> None:
    url = _url(server, "echo?" + "y" * 10_000)
    async with client.ws_connect(url, headers={"cookie": "z" * 20_000}) as ws:
        await ws.send_str("hello")
        assert await _text(ws) == "echo hello"


async def test_a_client_that_is_cut_off_is_told_to_the_object(
    server: Server, client: aiohttp.ClientSession
) -> None:
    ws = await client.ws_connect(_url(server, "room/a"))
    transport = ws._writer.transport
    assert transport is not None
    transport.abort()
    deadline = asyncio.get_running_loop().time() + PATIENCE
    reason = "WebSocket disconnected without sending Close frame."
    # Until then it has what it heard before, if there was anything.
    while json.loads(server.text("/closed")) != [1006, reason, False]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_a_reset_of_the_object_disconnects(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(_url(server, "room/a")) as ws:
        await ws.send_str("die")
        await _end(ws)
        assert ws.close_code == 1006
    async with client.ws_connect(_url(server, "room/a")) as ws:
        await ws.send_str("again")
        assert await _text(ws) == "again"


async def test_a_worker_opens_sockets(server: Server) -> None:
    opened = [0, ["open", None], ["message", "echo hi"], ["close", 1000], True]
    assert json.loads(server.text("/call/echo")) == opened
    failed = [0, ["error", None], ["close", 1006], True]
    assert json.loads(server.text("/call/denied")) == failed
    fetched = [[101, "second", "1"], ["message", "echo hi"], ["close", 1000], True]
    assert json.loads(server.text("/call/fetch/protocol")) == fetched
    assert json.loads(server.text("/call/fetch/denied")) == [403, "not you"]


async def test_a_socket_is_passed_through(server: Server, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(_url(server, "proxy")) as ws:
        await ws.send_str("through")
        assert await _text(ws) == "echo through"
        await ws.send_str("close")
        assert await _end(ws) == (4001, "as asked")


_HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_client_that_does_not_read_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as raw:
        raw.sendall(_HANDSHAKE)
        assert raw.recv(10_000).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        raw.sendall(b"\x81\x85\x00\x00\x00\x00flood")
        # It has begun to send, and what comes after is heard when all is sent.
        raw.recv(1, socket.MSG_PEEK)
        assert server.text("/echo") == "Expected Upgrade: websocket"
        received = 0
        while data := raw.recv(1_000_000):
            received += len(data)
        assert received < 200_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x05hello",  # not masked
        b"\x83\x80\x00\x00\x00\x00",  # an opcode that is not there
        b"\x81\x82\x00\x00\x00\x00\xff\xfe",  # text that is not UTF-8
        b"\x80\x80\x00\x00\x00\x00",  # goes on with nothing
        b"\xf1\x80\x00\x00\x00\x00",  # extensions that were not agreed on
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",  # longer than anything
        b"\x88\x81\x00\x00\x00\x00\x00",  # half a code
    ],
)
async def test_nonsense_ends_the_connection_and_nothing_else(server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as raw:
        raw.sendall(_HANDSHAKE)
        assert raw.recv(10_000).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        raw.sendall(data)
        while raw.recv(10_000):
            pass
    assert server.text("/echo") == "Expected Upgrade: websocket"


async def test_a_handshake_that_is_wrong_is_refused(server: Server) -> None:
    for lines, status in (
        ("Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"400"),
        ("Sec-WebSocket-Version: 13", b"400"),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x", b"400"),
    ):
        asking = (
            "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"{lines}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as raw:
            raw.sendall(asking.encode())
            assert raw.recv(10_000).startswith(b"HTTP/1.1 " + status)


async def test_the_end_of_the_server_is_said(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    (tmp_path / "entry.py").write_text(_WORKER)
    with dev(tmp_path) as server:
        sockets = [await client.ws_connect(_url(server, path)) for path in ("echo", "room/a")]
        ending = asyncio.ensure_future(asyncio.to_thread(server.stop, signal.SIGTERM))
        for ws in sockets:
            assert await _end(ws) == (1012, "Service Restart")
        assert "Traceback" not in await ending
        assert server.process.returncode == 0


async def test_a_reload_keeps_all_sockets_and_the_object_is_the_new_one(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    entry = tmp_path / "entry.py"
    entry.write_text(_WORKER)
    with dev(tmp_path) as server:
        room = await client.ws_connect(_url(server, "room/a"))
        plain = await client.ws_connect(_url(server, "echo"))

        async def ask() -> str:
            await room.send_str("x")
            return str(await _text(room))

        changed = _WORKER.replace("one.send(message)", 'one.send("new " + message)')
        await reloaded(entry, changed, ask, "new x")
        await room.send_str("who")
        assert json.loads(await _text(room)) == ["a", ["a"], False]
        await plain.send_str("still")
        assert await _text(plain) == "echo still"
        await room.close()
        await plain.close()


async def test_a_thousand_sockets_on_one_object(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").write_text(_CONFIG)
    (tmp_path / "entry.py").write_text(_WORKER)
    connector = aiohttp.TCPConnector(limit=0)
    with dev(tmp_path) as server:
        async with aiohttp.ClientSession(connector=connector) as client:
            url = _url(server, "room/a")
            sockets = [await client.ws_connect(url, max_msg_size=0) for _ in range(1_000)]
            await sockets[0].send_str("to all")
            assert {await _text(ws) for ws in sockets} == {"to all"}
            for ws in sockets[1:]:
                await ws.send_str("ping")
            assert {await _text(ws) for ws in sockets[1:]} == {"pong"}
            for ws in sockets[500:]:
                await ws.close()
            await sockets[1].send_str("to the rest")
            assert {await _text(ws) for ws in sockets[:500]} == {"to the rest"}
