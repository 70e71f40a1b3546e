"""``fetch`` with bodies that are larger than what may be in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import brotli
import pytest

from tests.support import PATIENCE

from .test_dev import Server, dev, project

MIB = 1024 * 1024
SIZE = 128 * MIB
# What the system may hold in the buffers of four sockets, and a little.
HELD = 40 * MIB

WORKER = """
import asyncio
import gzip
import js
from js import TransformStream
from workers import Response, WorkerEntrypoint, fetch

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        way, base = request.url.split("/", 3)[3].split("?")
        return await getattr(self, way)(request, base)

    async def hands_on(self, request, base):
        return await fetch(f"http://{base}/download")

    async def looks(self, request, base):
        answer = await fetch(f"http://{base}/download")
        async def chunks():
            async for chunk in answer.body:
                assert len(chunk) <= 1024 * 1024
                yield chunk
        return Response(chunks(), headers={"x-length": answer.headers["content-length"]})

    async def pipes(self, request, base):
        answer = await fetch(f"http://{base}/download")
        return Response(answer.body.pipeThrough(TransformStream.new()))

    async def uploads(self, request, base):
        answer = await fetch(f"http://{base}/upload", method="POST", body=request.body)
        return Response(await answer.text())

    async def pressed(self, request, base):
        return await fetch(f"http://{base}/pressed", headers=request.headers)

    async def squeezed(self, request, base):
        return await fetch(f"http://{base}/squeezed")

    async def parts(self, request, base):
        async def chunks():
            for number in range(3):
                yield f"part {number} ".encode() * 100
                await asyncio.sleep(0)
        return Response(chunks(), headers={"content-encoding": base})

    async def read(self, request, base):
        answer = await fetch(f"http://{base}/pressed")
        return Response.json([await answer.text(), answer.headers["content-encoding"]])

    async def own(self, request, base):
        return Response("own " * 1000, headers={"content-encoding": base})

    async def manual(self, request, base):
        options = {"headers": {"content-encoding": "gzip"}, "encodeBody": "manual"}
        return js.Response.new(gzip.compress(b"by hand"), options)

    async def rss(self, request, base):
        with open("/proc/self/status") as status:
            return Response(status.read().split("VmHWM:")[1].split()[0])
"""


class Download:
    """How far it is: of its own, since the thread of one may end late."""

    def __init__(self) -> None:
        self.moved = 0
        self.ended = threading.Event()


class Origin(BaseHTTPRequestHandler):
    """Sends, or takes, as much as the other side lets it."""

    last = Download()
    #: While it is not set, uploads are not read.
    reads = threading.Event()

    def do_GET(self) -> None:
        if self.path in ("/pressed", "/squeezed"):
            plain = b"pressed " * 1000
            zipped = self.path == "/pressed"
            body = gzip.compress(plain) if zipped else brotli.compress(plain)
            self.send_response(200)
            self.send_header("content-encoding", "gzip" if zipped else "br")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        download = Origin.last = Download()
        self.send_response(200)
        self.send_header("content-length", str(SIZE))
        self.end_headers()
        piece = bytes(65536)
        try:
            while download.moved < SIZE:
                self.wfile.write(piece)
                download.moved += len(piece)
        except OSError:
            self.close_connection = True
        download.ended.set()

    def do_POST(self) -> None:
        Origin.reads.wait(PATIENCE)
        size, left = 0, int(self.headers["content-length"])
        while size < left and (piece := self.rfile.read(min(65536, left - size))):
            size += len(piece)
        self.send_response(200)
        self.send_header("content-length", str(len(str(size))))
        self.end_headers()
        self.wfile.write(str(size).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dev(project(tmp_path_factory.mktemp("fetching"), WORKER)) as server:
        yield server


def highest(worker: Server, origin: str) -> int:
    """The most memory that the server ever had."""
    return int(worker.text(f"/rss?{origin}")) * 1024


@pytest.mark.parametrize("way", ["hands_on", "looks", "pipes"])
def test_a_large_download_is_streamed_on_with_flat_memory(
    worker: Server, origin: str, way: str
) -> None:
    assert worker.fetch(f"/{way}?{origin}")[0] == 200
    before = highest(worker, origin)
    connection = worker.connect()
    connection.request("GET", f"/{way}?{origin}")
    response = connection.getresponse()
    size = 0
    while piece := response.read(MIB):
        size += len(piece)
    connection.close()
    assert size == SIZE
    assert highest(worker, origin) - before < 8 * MIB


@pytest.mark.parametrize("way", ["hands_on", "looks", "pipes"])
def test_a_client_that_reads_slowly_slows_the_origin_down(
    worker: Server, origin: str, way: str
) -> None:
    worker.fetch(f"/{way}?{origin}")
    before = highest(worker, origin)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", worker.port))
    client.sendall(f"GET /{way}?{origin} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
    download = Origin.last
    standing(download)
    assert download.moved < HELD
    assert highest(worker, origin) - before < 8 * MIB
    # It goes on when the client does.
    read = 0
    while read < 2 * HELD:
        read += len(client.recv(MIB))
    assert download.moved > HELD
    # And ends with the client.
    client.close()
    assert download.ended.wait(PATIENCE)
    assert download.moved < SIZE


def standing(download: Download) -> None:
    """Wait until the origin cannot send any more."""
    deadline = time.monotonic() + PATIENCE
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        assert time.monotonic() < deadline
        if download.moved != seen:
            seen, since = download.moved, time.monotonic()
        time.sleep(0.02)  # nobody tells of what does not happen


async def test_an_upload_is_streamed_on_as_fast_as_the_origin_reads(
    worker: Server, origin: str
) -> None:
    before = highest(worker, origin)
    Origin.reads.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    head = f"POST /uploads?{origin} HTTP/1.1\r\nhost: x\r\ncontent-length: {SIZE}\r\n\r\n"
    writer.write(head.encode())
    sent = 0
    try:
        while sent < SIZE:
            writer.write(bytes(65536))
            sent += 65536
            await asyncio.wait_for(writer.drain(), 1)
    except TimeoutError:
        assert sent < HELD
    assert sent < SIZE
    Origin.reads.set()
    while sent < SIZE:
        writer.write(bytes(65536))
        sent += 65536
        await writer.drain()
    answer = await reader.readuntil(str(SIZE).encode())
    assert answer.startswith(b"HTTP/1.1 200 OK")
    writer.close()
    await asyncio.to_thread(worker.text, f"/rss?{origin}")
    assert await asyncio.to_thread(highest, worker, origin) - before < 16 * MIB


def test_a_compressed_answer_is_plain_inside_and_compressed_outside(
    worker: Server, origin: str
) -> None:
    plain = b"pressed " * 1000
    _, headers, body = worker.fetch(f"/pressed?{origin}", headers={"accept-encoding": "br, gzip"})
    assert (headers["content-encoding"], gzip.decompress(body)) == ("gzip", plain)
    _, headers, body = worker.fetch(f"/squeezed?{origin}", headers={"accept-encoding": "gzip, br"})
    assert (headers["content-encoding"], brotli.decompress(body)) == ("br", plain)
    for accepted in ("", "gzip;q=0, br"):
        _, headers, body = worker.fetch(f"/pressed?{origin}", headers={"accept-encoding": accepted})
        assert (headers["content-encoding"], body) == (None, plain)
    assert json.loads(worker.text(f"/read?{origin}")) == [plain.decode(), "gzip"]


@pytest.mark.parametrize(
    ("encoding", "accepted", "sent", "bits"),
    [
        ("gzip", "gzip", "gzip", 31),
        ("deflate", "gzip, deflate", "deflate", 15),
        ("gzip", "deflate", None, None),
        ("br", "gzip", None, None),
        ("zstd", "zstd", None, None),
    ],
)
def test_a_body_is_compressed_as_its_header_says(
    worker: Server, encoding: str, accepted: str, sent: str | None, bits: int | None
) -> None:
    _, headers, body = worker.fetch(f"/own?{encoding}", headers={"accept-encoding": accepted})
    assert headers["content-encoding"] == sent
    assert int(headers["content-length"]) == len(body)
    assert (body if bits is None else zlib.decompress(body, bits)) == b"own " * 1000
    _, headers, body = worker.fetch("/manual?x", headers={"accept-encoding": accepted})
    assert (headers["content-encoding"], gzip.decompress(body)) == ("gzip", b"by hand")


def test_brotli_is_an_encoding_too(worker: Server) -> None:
    accepted = {"accept-encoding": "gzip, deflate, br"}
    _, headers, body = worker.fetch("/own?br", headers=accepted)
    assert headers["content-encoding"] == "br"
    assert int(headers["content-length"]) == len(body)
    assert brotli.decompress(body) == b"own " * 1000
    _, headers, body = worker.fetch("/parts?br", headers=accepted)
    assert headers["content-encoding"] == "br"
    assert brotli.decompress(body) == b"".join(b"part %d " % one * 100 for one in range(3))
    _, headers, body = worker.fetch("/own?br", headers={"accept-encoding": "br;q=0"})
    assert (headers["content-encoding"], body) == (None, b"own " * 1000)


def test_brotli_that_is_not_installed_leaves_a_body_plain(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "brotli.py").write_text("raise ImportError")
    with dev(project(tmp_path, WORKER), PYTHONPATH=str(hidden)) as server:
        _, headers, body = server.fetch("/own?br", headers={"accept-encoding": "br"})
        assert (headers["content-encoding"], body) == (None, b"own " * 1000)
