"""Connections as clients should not make them: bounded, told of, and harmless to the others."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from bunflare.runtime import http1
from bunflare.runtime.serving import Serving
from tests.support import PATIENCE

from .test_dev import Server, dev, project

WORKER = """
import asyncio
from workers import Response, WorkerEntrypoint

told = []

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3].partition("?")[0]
        if path == "echo":
            return Response(request.body)
        if path == "read":
            try:
                return Response(await request.text())
            except ConnectionResetError as error:
                told.append(str(error))
                raise
        if path == "idle":
            return Response(self.idle())
        if path == "endless":
            return Response(self.endless())
        if path == "stream":
            return Response(self.stream())
        if path == "long":
            return Response(self.stream(), headers={"content-length": "5"})
        if path == "short":
            return Response(self.stream(), headers={"content-length": "7"})
        if path == "known":
            return Response("known", headers={"content-length": "3", "connection": "x"})
        if path == "told":
            return Response.json(told)
        if path == "hang":
            await asyncio.Event().wait()
        return Response(f"{request.method} {request.url}")

    async def stream(self):
        yield b"one"
        yield b"two"

    async def endless(self):
        try:
            while True:
                yield bytes(100_000)
        finally:
            told.append("endless stream ended")

    async def idle(self):
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            told.append("idle stream ended")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # As long as it takes here to send what nobody wants.
    patient = f"from bunflare.runtime import http1\nhttp1.LINGER_SECONDS = {PATIENCE}\n"
    path = project(tmp_path_factory.mktemp("http"), WORKER + patient, 'main = "src/entry.py"')
    with dev(path) as running:
        said: list[str] = []
        readers = [
            threading.Thread(target=said.extend, args=(stream,))
            for stream in (running.process.stdout, running.process.stderr)
        ]
        for reader in readers:
            reader.start()
        running.said = said  # type: ignore[attr-defined]
        yield running
        running.process.kill()
        for reader in readers:
            reader.join()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def everything(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(1 << 16):
        data += more
    return data


def exchange(server: Server, data: bytes, *, shut: bool = False) -> bytes:
    """Send, and give what comes until the server ends the connection."""
    with connected(server) as connection:
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def said(server: Server, expected: str) -> None:
    """Wait until it is in the log."""
    deadline = time.monotonic() + PATIENCE
    while not any(expected in line for line in server.said):  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.005)  # until it has been written


def told(server: Server, expected: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while expected not in json.loads(server.text("/told")):
        assert time.monotonic() < deadline
        time.sleep(0.005)  # until the server has noticed


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 140_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 300_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9_000_000, 431),
    ],
    ids=range(10),
)
def test_what_is_not_http_is_refused(server: Server, data: bytes, status: int) -> None:
    answer = exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"\r\nconnection: close\r\n" in answer
    assert server.text("/fine").startswith("GET ")
    said(server, f"{status} for a request of 127.0.0.1")


def test_a_client_that_says_no_more_gets_its_answer(server: Server) -> None:
    answer = exchange(server, b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
    assert answer.endswith(b"GET http://x/half")
    assert exchange(server, b"", shut=True) == b""
    assert exchange(server, b"GET / HT", shut=True) == b""
    body = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    assert exchange(server, body, shut=True).startswith(b"HTTP/1.1 500 ")
    told(server, "the client went away before its request was complete")


def test_requests_sent_at_once_are_answered_in_order(server: Server) -> None:
    count = 3000
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count))
    last = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend"
    with connected(server) as connection:
        sender = threading.Thread(target=connection.sendall, args=(requests + last,))
        sender.start()
        answer = everything(connection)
        sender.join()
    found = [int(number) for number in re.findall(rb"GET http://x/(\d+)", answer)]
    assert found == list(range(count))
    assert answer.endswith(b"\r\n\r\nend")


def test_a_client_that_does_not_read_holds_nothing_up(server: Server) -> None:
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.settimeout(0.5)
        requests = (b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") * 64
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += connection.send(requests[sent % len(requests) :])
        assert sent < 30_000_000, "the server goes on reading"
        assert server.text("/others").startswith("GET ")


def test_an_answer_before_the_end_of_a_request(server: Server) -> None:
    size = 20_000_000
    with connected(server) as connection:
        connection.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        assert b"POST http://x/x" in connection.recv(4096)
        connection.sendall(bytes(size))
        connection.sendall(b"GET /after HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert everything(connection).endswith(b"GET http://x/after")
    # It is to be closed, and the client is still sending.
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    assert exchange(server, head + bytes(5_000_000)).endswith(b"POST http://x/x")


def test_a_client_may_wait_for_leave_to_send_its_body(server: Server) -> None:
    head = b"POST /%b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head % b"read")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(4096).endswith(b"body")
        # The Worker does not ask for this one.
        connection.sendall(head % b"unread")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_older_clients_and_other_forms_of_requests(server: Server) -> None:
    answer = exchange(server, b"GET /stream HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nonetwo")
    assert b"transfer-encoding" not in answer
    answer = exchange(server, b"GET /old HTTP/1.0\r\n\r\n")
    assert re.search(rb"GET http://127.0.0.1:\d+/old$", answer)
    kept = b"GET /old HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    assert (
        exchange(server, kept * 2 + b"GET /new HTTP/1.0\r\nHost: x\r\n\r\n").count(b"200 OK") == 3
    )
    close = b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert exchange(server, b"HEAD /stream " + close).endswith(b"\r\n\r\n")
    assert b"\r\ncontent-length: 18\r\n" in exchange(server, b"HEAD /four " + close).lower()
    assert exchange(server, b"GET http://y/full?q#f " + close).endswith(b"GET http://x/full?q")
    assert exchange(server, b"OPTIONS * " + close).endswith(b"OPTIONS http://x/")
    asking = b"HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert exchange(server, b"GET /plain " + asking).endswith(b"GET http://x/plain")


def test_lengths_that_a_worker_says(server: Server) -> None:
    close = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(server, b"GET /known" + close)
    assert b"content-length: 5\r\n" in answer
    assert answer.endswith(b"known")
    for path, kept in ((b"/long", b"one"), (b"/short", b"onetwo")):
        answer = exchange(server, b"GET " + path + close.replace(b"close", b"keep-alive"))
        assert answer.endswith(b"\r\n\r\n" + kept)
    said(server, "longer than its Content-Length")


def test_bodies_go_both_ways_at_once(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        data = b""
        for i in range(5):
            connection.sendall(b"5\r\ntick%d\r\n" % i)
            while b"tick%d" % i not in data:
                data += connection.recv(4096)
        connection.sendall(b"0\r\n\r\n")
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(4096)


def test_a_stream_ends_when_its_client_goes_away(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /idle HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"begun" not in connection.recv(4096):
            pass
    told(server, "idle stream ended")


def test_a_client_may_leave_while_the_server_waits_for_it_to_read(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(100)
        standing()
    told(server, "endless stream ended")
    said(server, "GET /endless 200 OK")
    assert not any("InvalidStateError" in line for line in server.said)  # type: ignore[attr-defined]


def standing() -> None:
    """Give the server the time to fill all buffers between: nobody tells that they are full."""
    time.sleep(0.2)


def test_a_request_that_hangs_holds_up_no_other(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):
            assert server.text("/others").startswith("GET ")


async def test_a_slow_head_and_an_idle_connection_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    made: list[http1.HttpConnection] = []
    serving = Serving(cast(Any, None))

    def make() -> http1.HttpConnection:
        made.append(http1.HttpConnection(serving))
        return made[-1]

    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def answer(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        while not made or (data and not made[-1]._in_head):
            await asyncio.sleep(0)
        connection = made.pop()
        connection.tick()
        monkeypatch.setattr(http1, "HEAD_SECONDS", -1)
        monkeypatch.setattr(http1, "IDLE_SECONDS", -1)
        connection.tick()
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said

    assert await answer(b"") == b""
    monkeypatch.undo()
    assert (await answer(b"GET / HTTP/1.1\r\nX:")).startswith(b"HTTP/1.1 408 ")
    listening.close()
    await listening.wait_closed()


def test_malformed_bodies_reach_the_worker_as_errors(server: Server) -> None:
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head + b"zz\r\n").startswith(b"HTTP/1.1 500 ")
    assert Path(f"/proc/{server.process.pid}").exists()
