"""How long a body is, is said of every answer of which it is known."""

from __future__ import annotations

import json
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
from workers import Blob, DurableObject, FormData, Request, Response, WorkerEntrypoint, fetch

DATA = b"0123456789" * 30_000

async def chunks(count=3):
    for _ in range(count):
        yield DATA[:100_000]

class Room(DurableObject):
    async def fetch(self, request):
        if request.body is not None:
            return Response(request.body)
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

    async def echo(self, request):
        return Response(request.body)

    async def echo_clone(self, request):
        return Response(request.clone().body)

    async def echo_object(self, request):
        return await self.env.ROOM.getByName("a").fetch(request)

    async def blob_stream(self, request):
        return Response(Blob([DATA]).stream())

    async def fetched_until(self, request):
        signal = js.AbortController.new().signal
        return await fetch(request.url.replace("fetched_until", "bytes"), signal=signal)

    async def told(self, request):
        names = ("content-length", "transfer-encoding")
        return Response.json([*(request.headers.get(name) for name in names),
            len(await request.bytes())])

    async def upload(self, request, body):
        url = request.url.rsplit("/", 1)[0] + "/told"
        return await fetch(url, method="POST", body=body)

    async def upload_bytes(self, request):
        return await self.upload(request, DATA)

    async def upload_text(self, request):
        return await self.upload(request, "é" * 150_000)

    async def upload_blob(self, request):
        return await self.upload(request, Blob([DATA]))

    async def upload_blob_stream(self, request):
        return await self.upload(request, Blob([DATA]).stream())

    async def upload_form(self, request):
        form = FormData()
        form.append("file", Blob([DATA]))
        return await self.upload(request, form)

    async def upload_body(self, request):
        return await self.upload(request, request.body)

    async def upload_request(self, request):
        return await fetch(Request(request.url.replace("upload_request", "told"), method="POST",
            headers=request.headers, body=request.body))

    async def upload_bucket(self, request):
        await self.env.FILES.put("key", DATA)
        return await self.upload(request, (await self.env.FILES.get("key")).body)

    async def upload_chunks(self, request):
        return await self.upload(request, chunks())

    async def upload_short(self, request):
        body = Response(chunks(2)).body.pipeThrough(js.FixedLengthStream.new(len(DATA)))
        return await self.upload(request, body)

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
        *("fetched_clone", "fetched_until", "bucket", "range", "key", "cached", "announced"),
        "blob_stream",
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


@pytest.mark.parametrize("path", ["echo", "echo_clone", "echo_object"])
def test_a_body_that_came_with_its_length_goes_with_it(server: Server, path: str) -> None:
    data = bytes(SIZE)
    _, headers, body = server.fetch(f"/{path}", "POST", data)
    assert (headers["content-length"], body) == (str(SIZE), data)
    assert "transfer-encoding" not in headers
    _, headers, body = server.fetch(f"/{path}", "POST", b"")
    assert (headers["content-length"], body) == ("0", b"")
    _, headers, body = server.fetch(f"/{path}", "POST", iter([b"one", b"two"]))
    assert (headers["transfer-encoding"], body) == ("chunked", b"onetwo")
    assert "content-length" not in headers


@pytest.mark.parametrize(
    "what", ["bytes", "text", "blob", "blob_stream", "body", "request", "bucket"]
)
def test_an_upload_is_announced_with_its_length(server: Server, what: str) -> None:
    told = json.loads(server.text(f"/upload_{what}", method="POST", body=bytes(SIZE)))
    assert told == [str(SIZE), None, SIZE]


def test_an_uploaded_form_is_announced_with_its_length(server: Server) -> None:
    length, encoding, size = json.loads(server.text("/upload_form"))
    assert (int(length), encoding) == (size, None)
    assert size > SIZE


def test_an_upload_of_unknown_length_is_sent_in_chunks(server: Server) -> None:
    assert json.loads(server.text("/upload_chunks")) == [None, "chunked", SIZE]
    chunks = iter([b"one", b"two"])
    told = server.text("/upload_body", method="POST", body=chunks)
    assert json.loads(told) == [None, "chunked", 6]


def test_an_upload_that_is_shorter_than_it_said_fails(server: Server) -> None:
    assert server.fetch("/upload_short")[0] == 500
    assert server.fetch("/bytes")[0] == 200
