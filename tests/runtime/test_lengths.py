"""How long a body is, is said of every answer of which it is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .test_dev import Server, dev, project

SIZE = 300_000

WRANGLER = """
name = "test"
main = "src/entry.py"
[[kv_namespaces]]
binding = "KV"
[[r2_buckets]]
binding = "FILES"
bucket_name = "files"
[[services]]
binding = "SELF"
service = "test"
[[durable_objects.bindings]]
name = "ROOM"
class_name = "Room"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""

WORKER = """
import js
from js import caches
from workers import DurableObject, Response, WorkerEntrypoint, fetch

DATA = b"0123456789" * 30_000

async def chunks(count=3):
    for _ in range(count):
        yield DATA[:100_000]

class Room(DurableObject):
    async def fetch(self, request):
        return Response(DATA)

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3]
        return await getattr(self, path)(request)

    async def bytes(self, request):
        return Response(DATA)

    async def chunks(self, request):
        return Response(chunks())

    async def service(self, request):
        return await self.env.SELF.fetch("http://self/bytes")

    async def service_body(self, request):
        answer = await self.env.SELF.fetch("http://self/bytes")
        return Response(answer.body, status=answer.status)

    async def service_chunks(self, request):
        return await self.env.SELF.fetch("http://self/chunks")

    async def object(self, request):
        return await self.env.ROOM.getByName("a").fetch("http://room/")

    async def fetched(self, request):
        return await fetch(request.url.replace("fetched", "bytes"))

    async def fetched_body(self, request):
        answer = await fetch(request.url.replace("fetched_body", "bytes"))
        return Response(answer.body, headers={"x-kind": "another"})

    async def fetched_clone(self, request):
        answer = await fetch(request.url.replace("fetched_clone", "bytes"))
        return Response(answer.clone().body)

    async def fetched_chunks(self, request):
        answer = await fetch(request.url.replace("fetched_chunks", "chunks"))
        return Response(answer.body)

    async def bucket(self, request):
        await self.env.FILES.put("key", DATA)
        return Response((await self.env.FILES.get("key")).body)

    async def range(self, request):
        await self.env.FILES.put("key", DATA + DATA)
        found = await self.env.FILES.get("key", range={"offset": 10, "length": len(DATA)})
        return Response(found.body)

    async def key(self, request):
        await self.env.KV.put("key", DATA)
        return Response(await self.env.KV.get("key", "stream"))

    async def cached(self, request):
        kept = Response(chunks(), headers={"cache-control": "max-age=60"})
        await caches.default.put("https://example.com/", kept)
        return await caches.default.match("https://example.com/")

    async def announced(self, request):
        return Response(Response(chunks()).body.pipeThrough(js.FixedLengthStream.new(len(DATA))))

    async def begun(self, request):
        await self.env.FILES.put("key", DATA + DATA[:50_000])
        stream = (await self.env.FILES.get("key")).body
        left, other = stream.tee()
        got = 0
        while got < 50_000:
            got += len(await anext(left))
        await other.aclose()
        return Response(left, headers={"x-left": str(len(DATA) + 50_000 - got)})

    async def too_short(self, request):
        return Response(Response(chunks(2)).body.pipeThrough(js.FixedLengthStream.new(len(DATA))))

    async def transformed(self, request):
        return Response(Response(DATA).body.pipeThrough(js.TransformStream.new()))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dev(project(tmp_path_factory.mktemp("lengths"), WORKER, WRANGLER)) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        *("bytes", "service", "service_body", "object", "fetched", "fetched_body"),
        *("fetched_clone", "bucket", "range", "key", "cached", "announced"),
    ],
)
def test_a_length_that_is_known_is_announced(server: Server, path: str) -> None:
    status, headers, body = server.fetch(f"/{path}")
    assert (status, len(body)) == (200, SIZE)
    assert headers["content-length"] == str(SIZE)
    assert "transfer-encoding" not in headers
    status, headers, body = server.fetch(f"/{path}", method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(SIZE), b"")


@pytest.mark.parametrize("path", ["chunks", "service_chunks", "fetched_chunks", "transformed"])
def test_a_length_that_is_not_known_is_not(server: Server, path: str) -> None:
    status, headers, body = server.fetch(f"/{path}")
    assert (status, len(body)) == (200, SIZE)
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers


def test_what_was_read_before_does_not_count(server: Server) -> None:
    _, headers, body = server.fetch("/begun")
    assert headers["content-length"] == headers["x-left"] == str(len(body))


def test_a_body_that_is_shorter_than_it_said_is_seen_as_such(server: Server) -> None:
    connection = server.connect()
    connection.request("GET", "/too_short")
    response = connection.getresponse()
    assert response.headers["content-length"] == str(SIZE)
    with pytest.raises(Exception, match="IncompleteRead"):
        response.read()
    connection.close()
