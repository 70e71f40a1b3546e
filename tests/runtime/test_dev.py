"""``bunflare dev``: Workers over real HTTP, in a process of their own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE

WRANGLER = """
name = "test"
main = "src/entry.py"
[vars]
GREETING = "hello"
[[kv_namespaces]]
binding = "KV"
id = "the-id"
[[r2_buckets]]
binding = "BUCKET"
bucket_name = "files"
[ai]
binding = "AI"
"""


class Server:
    """A running ``bunflare dev``."""

    def __init__(self, process: subprocess.Popen[str], port: int, project: Path) -> None:
        self.process = process
        self.port = port
        self.directory = project / ".bunflare"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def fetch(
        self, path: str = "/", method: str = "GET", body: Any = None, headers: Any = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def text(self, path: str = "/", **options: Any) -> str:
        return self.fetch(path, **options)[2].decode()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; what it had to say."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=PATIENCE)[1]


@contextmanager
def dev(project: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("bunflare")), "dev", "--port", "0", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("Ready on http://127.0.0.1:"):
            process.kill()
            raise AssertionError(line + process.communicate()[1])
        yield Server(process, int(line.rsplit(":", 1)[1]), project)
    finally:
        process.kill()
        process.communicate()


def project(path: Path, source: str, wrangler: str = WRANGLER) -> Path:
    (path / "src").mkdir(exist_ok=True)
    (path / "src" / "entry.py").write_text(textwrap.dedent(source))
    (path / "wrangler.toml").write_text(wrangler)
    return path


WORKER = """
import asyncio
from js import caches
from workers import Headers, Response, WorkerEntrypoint, env, wait_until
import helper

log = []
streamed = asyncio.Event()

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3].split("?")[0]
        return await getattr(self, path or "index")(request)

    async def index(self, request):
        return Response(f"{self.env.GREETING} {env.GREETING} {helper.NAME}")

    async def echo(self, request):
        return Response.json({
            "method": request.method, "url": request.url, "headers": dict(request.headers.items()),
            "body": await request.text(), "none": request.body is None,
        })

    async def put(self, request):
        await self.env.KV.put("key", await request.text())
        return Response(None, status=204)

    async def get(self, request):
        return Response(await self.env.KV.get("key"))

    async def count(self, request):
        size = 0
        async for chunk in request.body:
            size += len(chunk)
        return Response(str(size))

    async def store(self, request):
        await caches.default.put(request.url, Response(
            request.body, headers={"cache-control": "max-age=60"}))
        return Response("stored")

    async def cached(self, request):
        found = await caches.default.match(request.url.replace("cached", "store"))
        return found or Response("miss", status=404)

    async def stream(self, request):
        async def chunks():
            for i in range(200):
                yield b"x" * 1_000_000
            streamed.set()
        return Response(chunks())

    async def forever(self, request):
        async def chunks():
            try:
                while True:
                    yield b"x" * 100_000
                    await asyncio.sleep(0)
            finally:
                log.append("closed")
        return Response(chunks())

    async def log(self, request):
        return Response.json(log)

    async def fail(self, request):
        raise ZeroDivisionError("in the Worker")

    async def fail_late(self, request):
        async def chunks():
            yield b"begun"
            raise ZeroDivisionError("in the stream")
        return Response(chunks())

    async def nothing(self, request):
        return "not a response"

    async def model(self, request):
        return Response(str(await self.env.AI.run("model")))

    async def bucket(self, request):
        bucket = self.env.BUCKET
        if request.method == "PUT":
            put = await bucket.put(
                "a/b.txt",
                request.body,
                {"httpMetadata": request.headers, "customMetadata": {"fooBar": "1"}},
            )
            return Response(put.httpEtag)
        found = await bucket.get("a/b.txt", {"range": request.headers, "onlyIf": request.headers})
        if not hasattr(found, "body"):
            return Response(None, status=304)
        assert found.customMetadata.fooBar == found["customMetadata"]["fooBar"] == "1"
        assert found.uploaded.tzinfo is None
        assert found.checksums.toJSON().md5 == found.etag
        page = await bucket.list({"delimiter": "/", "include": ["httpMetadata"]})
        assert page.delimitedPrefixes == ["a/"]
        assert not hasattr(page, "cursor")
        [listed] = (await bucket.list(prefix="a/")).objects
        assert listed.key == "a/b.txt"
        upload = await bucket.createMultipartUpload("parts")
        part = await bucket.resumeMultipartUpload("parts", upload.uploadId).uploadPart(1, b"part")
        whole = await upload.complete([part])
        assert bytes(await (await bucket.get("parts")).arrayBuffer()) == b"part"
        assert (await (await bucket.get(whole.key)).bytes()).tobytes() == b"part"
        headers = Headers()
        found.writeHttpMetadata(headers)
        headers.set("x-range", f"{found.range.offset}-{found.range.length}")
        return Response(found.body, headers=headers)

    async def later(self, request):
        async def work():
            await streamed.wait()
            await self.env.KV.put("later", "done")
        wait_until(work())
        return Response("soon")

    async def read_later(self, request):
        return Response(await self.env.KV.get("later") or "nothing")

    async def headers(self, request):
        pairs = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-e", "é")]
        return Response("x", headers=pairs)

    async def empty(self, request):
        return Response(None, status=int(request.url.split("?")[1]))
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = project(tmp_path_factory.mktemp("worker"), WORKER)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    with dev(path) as server:
        yield server


def test_a_worker_answers_with_its_variables_and_modules(worker: Server) -> None:
    status, headers, body = worker.fetch()
    assert (status, body) == (200, b"hello hello helper")
    assert headers["content-type"] == "text/plain;charset=UTF-8"
    assert headers["content-length"] == "18"
    assert headers["date"].endswith(" GMT")
    assert headers["server"] is None


def test_a_worker_sees_the_request(worker: Server) -> None:
    _, _, body = worker.fetch(
        "/echo?a=%20b", "POST", "héllo".encode(), {"X-A": "1", "Host": "EXAMPLE.com"}
    )
    seen = json.loads(body)
    assert seen["method"] == "POST"
    assert seen["url"] == "http://example.com/echo?a=%20b"
    assert seen["headers"]["x-a"] == "1"
    assert (seen["body"], seen["none"]) == ("héllo", False)
    seen = json.loads(worker.text("/echo"))
    assert (seen["method"], seen["body"], seen["none"]) == ("GET", "", True)


def test_state_is_kept_through_sigkill(tmp_path: Path) -> None:
    path = project(tmp_path, WORKER)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    host = {"host": "one.name"}  # the port is another one each time
    for round_ in range(3):
        with dev(path) as server:
            if round_:
                assert server.text("/get") == f"value {round_ - 1}"
                assert server.text("/cached", headers=host) == "body" * 500_000
            server.fetch("/put", "POST", f"value {round_}")
            server.fetch("/store", "PUT", "body" * 500_000, host)
            server.process.kill()
    assert (path / ".bunflare" / "data.sqlite").exists()


def test_another_directory_can_be_named(tmp_path: Path) -> None:
    path = project(tmp_path, WORKER)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    with dev(path, "--persist-to", str(tmp_path / "elsewhere")) as server:
        server.fetch("/put", "POST", "x")
    assert (tmp_path / "elsewhere" / "data.sqlite").exists()
    with dev(path, BUNFLARE_DIR=str(tmp_path / "elsewhere")) as server:
        assert server.text("/get") == "x"
    assert not (path / ".bunflare").exists()


def test_bodies_stream_both_ways_with_flat_memory(worker: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(1_000_000)

    def resident() -> int:
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1])  # KiB

    worker.fetch()
    before = resident()
    assert worker.text("/count", method="POST", body=chunks()) == "200000000"
    connection = worker.connect()
    connection.request("GET", "/stream")
    response = connection.getresponse()
    assert response.headers["transfer-encoding"] == "chunked"
    size = 0
    while piece := response.read(1_000_000):
        size += len(piece)
    connection.close()
    assert size == 200_000_000
    assert resident() - before < 40 * 1024


def test_one_connection_takes_many_requests(worker: Server) -> None:
    connection = worker.connect()
    for _ in range(20):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.read() == b"hello hello helper"
        assert not response.will_close
    connection.close()


def test_a_client_that_goes_away_ends_the_stream(worker: Server) -> None:
    connection = worker.connect()
    connection.request("GET", "/forever")
    response = connection.getresponse()
    assert response.read(1_000_000)
    connection.close()
    response.close()
    deadline = time.monotonic() + PATIENCE
    while json.loads(worker.text("/log")) != ["closed"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # until the server has noticed


def test_a_worker_that_fails_says_where_and_goes_on(worker: Server) -> None:
    status, _, body = worker.fetch("/fail")
    assert status == 500
    assert b"ZeroDivisionError: in the Worker" in body
    assert b"entry.py" in body
    status, _, body = worker.fetch("/nothing")
    assert status == 500
    assert b"fetch must return a Response, not str" in body
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        worker.fetch("/fail_late")
    assert worker.text() == "hello hello helper"


def test_a_binding_that_is_not_offered_fails_when_it_is_used(worker: Server) -> None:
    status, _, body = worker.fetch("/model")
    assert status == 500
    assert b'the binding "AI" (ai) is not available' in body


def test_a_bucket_takes_a_request_and_gives_a_response(worker: Server) -> None:
    data = b"0123456789" * 100_000
    status, _, etag = worker.fetch(
        "/bucket", method="PUT", body=data, headers={"Content-Type": "text/x-digits"}
    )
    assert (status, etag) == (200, f'"{hashlib.md5(data).hexdigest()}"'.encode())
    assert (worker.directory / "r2/files/a/b.txt").read_bytes() == data
    status, headers, body = worker.fetch("/bucket")
    assert (status, headers["content-type"], body) == (200, "text/x-digits", data)
    _, headers, body = worker.fetch("/bucket", headers={"Range": "bytes=11-13"})
    assert (headers["x-range"], body) == ("11-3", b"123")
    status, _, _ = worker.fetch("/bucket", headers={"If-None-Match": etag.decode()})
    assert status == 304


def test_repeated_headers_and_statuses_without_a_body(worker: Server) -> None:
    _, headers, _ = worker.fetch("/headers")
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert headers["x-e"] == "é"
    for status in (204, 304):
        found, headers, body = worker.fetch(f"/empty?{status}")
        assert (found, body, headers["content-length"]) == (status, b"", None)
    assert worker.fetch("/", "HEAD")[2] == b""


def test_malformed_requests_do_no_harm(worker: Server) -> None:
    for data in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x00" * 100,
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", worker.port), PATIENCE) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert worker.text() == "hello hello helper"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_open_requests_and_tasks(tmp_path: Path, number: int) -> None:
    # As long as it takes here to read it all.
    patient = f"from bunflare.runtime import server\nserver._GRACE = {PATIENCE}\n"
    path = project(tmp_path, WORKER + patient)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    with dev(path) as server:
        assert server.text("/later") == "soon"
        connection = server.connect()
        connection.request("GET", "/stream")
        response = connection.getresponse()  # it has begun
        server.process.send_signal(number)
        assert len(response.read()) == 200_000_000
        connection.close()
        said = server.process.communicate(timeout=PATIENCE)[1]
        assert server.process.returncode == 0
        assert said == ""
    # Closed cleanly: no log is left.
    assert not (path / ".bunflare" / "data.sqlite-wal").exists()
    with dev(path) as server:
        assert server.text("/read_later") == "done"


def test_a_second_signal_waits_for_no_task(tmp_path: Path) -> None:
    source = """
        import asyncio
        from bunflare.runtime import server
        from bunflare.runtime.context import Background
        from workers import Response, WorkerEntrypoint

        server._GRACE = 3600
        drain = Background.drain

        async def told(background, timeout):
            print("waiting", timeout)
            await drain(background, timeout)

        Background.drain = told

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                self.ctx.wait_until(asyncio.sleep(3600))
                return Response("soon")
        """
    with dev(project(tmp_path, source)) as server:
        assert server.text() == "soon"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stdout is not None
        while (line := server.process.stdout.readline()) != "waiting 3600\n":
            assert line
        said = server.stop()
        assert server.process.returncode == 0
    assert "1 task(s) given to wait_until did not end in time" in said
    assert not (tmp_path / ".bunflare" / "data.sqlite-wal").exists()


def test_a_generator_that_does_not_end_is_left_behind(tmp_path: Path) -> None:
    source = """
        import asyncio
        from bunflare.runtime import looping
        from workers import Response, WorkerEntrypoint

        looping._GRACE_SECONDS = 0.1
        kept = []

        async def endless():
            try:
                yield 1
            finally:
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        pass

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                kept.append(endless())
                await anext(kept[-1])
                return Response("begun")
        """
    with dev(project(tmp_path, source)) as server:
        assert server.text() == "begun"
        said = server.stop()
        assert server.process.returncode == 0
    assert "an asynchronous generator does not end though it was cancelled" in said


def test_a_thread_that_blocks_is_left_behind(tmp_path: Path) -> None:
    source = """
        import asyncio, threading, time
        from bunflare.runtime import departing
        from workers import Response, WorkerEntrypoint

        departing._GRACE_SECONDS = 0.1

        def sleepy():
            time.sleep(3600)

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                self.ctx.wait_until(asyncio.sleep(0))
                asyncio.ensure_future(asyncio.to_thread(sleepy))
                threading.Thread(target=sleepy, name="mine").start()
                return Response("begun")
        """
    with dev(project(tmp_path, source)) as server:
        assert server.text() == "begun"
        said = server.stop()
        assert server.process.returncode == 0
    assert "WARNING: it ends though something does not:" in said
    assert re.search(r"mine: sleepy \(.*entry\.py:\d+\)", said)


def test_a_second_signal_ends_it_though_its_closing_does_not_end(tmp_path: Path) -> None:
    source = """
        import asyncio, time
        from bunflare.runtime import server, signals
        from bunflare.runtime.context import Background
        from bunflare.state import State
        from workers import Response, WorkerEntrypoint

        server._GRACE = 3600
        signals._LAST_SECONDS = 0.1
        drain = Background.drain

        async def told(background, timeout):
            print("waiting", timeout)
            await drain(background, timeout)

        async def endless(state):
            # As where all threads that it needs are taken.
            await asyncio.Event().wait()

        Background.drain = told
        State.close = endless

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                self.ctx.wait_until(asyncio.sleep(3600))
                return Response("soon")
        """
    with dev(project(tmp_path, source)) as server:
        assert server.text() == "soon"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stdout is not None
        while (line := server.process.stdout.readline()) != "waiting 3600\n":
            assert line
        said = server.stop()
        assert server.process.returncode == 1
    assert "WARNING: it ends though something does not" in said


# -- what goes wrong before it starts ----------------------------------------------------------


def refused(path: Path, *arguments: str) -> str:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("bunflare")), "dev", "--port", "0", *arguments],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1
    return result.stderr


def test_without_a_configuration_it_says_what_is_missing(tmp_path: Path) -> None:
    assert "error: there is no wrangler.json" in refused(tmp_path)
    assert "error: " in refused(tmp_path, "--config", "missing.toml")


@pytest.mark.parametrize(
    ("source", "wrangler", "message"),
    [
        ("x = 1", WRANGLER, "has no class Default(WorkerEntrypoint)"),
        (
            "from workers import WorkerEntrypoint\nclass Default(WorkerEntrypoint): pass",
            WRANGLER,
            "no fetch handler",
        ),
        ("", WRANGLER.replace("entry.py", "missing.py"), "does not exist"),
        ("", 'name = "x"', '"main" is missing'),
        ("", "name = 5", 'wrangler.toml:1: "name" must be a string'),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, source: str, wrangler: str, message: str
) -> None:
    said = refused(project(tmp_path, source, wrangler))
    assert message in said
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_an_error_in_the_workers_module_shows_its_traceback(tmp_path: Path) -> None:
    said = refused(project(tmp_path, "def f():\n    return 1 / 0\nf()\n"))
    assert "ZeroDivisionError" in said
    assert "entry.py" in said


def test_a_port_in_use_is_a_clear_error(worker: Server, tmp_path: Path) -> None:
    said = refused(project(tmp_path, WORKER), "--port", str(worker.port))
    assert f"error: 127.0.0.1:{worker.port} cannot be listened on" in said


def test_odd_keys_are_warned_of(tmp_path: Path) -> None:
    path = project(tmp_path, WORKER, "typo = 1\n" + WRANGLER)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    with dev(path) as server:
        server.text()
        assert "warning: " in (said := server.stop())
        assert 'wrangler.toml:1: "typo" is not a known key' in said


def test_an_environment_is_chosen(tmp_path: Path) -> None:
    wrangler = WRANGLER + "[env.other.vars]\nGREETING = 'bye'\n"
    path = project(tmp_path, WORKER, wrangler)
    (path / "src" / "helper.py").write_text("NAME = 'helper'")
    with dev(path, "--env", "other") as server:
        assert server.text() == "bye bye helper"


LISTEN = "0A"


def test_it_is_reached_from_this_machine_only(worker: Server) -> None:
    listening = Path("/proc/net/tcp").read_text()
    addresses = set()
    for line in listening.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        # Connections of whomever may have any port, of other addresses.
        if int(port, 16) == worker.port and state == LISTEN:
            addresses.add(address)
    assert addresses == {"0100007F"}


# -- the example -------------------------------------------------------------------------------


def test_an_entry_of_the_guestbook_survives_sigkill(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "guestbook"
    arguments = (
        "--config",
        str(example / "wrangler.toml"),
        "--persist-to",
        str(tmp_path / "state"),
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    with dev(tmp_path, *arguments) as server:
        assert "Nobody has signed yet" in server.text()
        status, headers, _ = server.fetch("/", "POST", "name=Ada&message=%3Cb%3Ehi+there", form)
        assert (status, headers["location"]) == (303, f"http://127.0.0.1:{server.port}/")
        server.process.kill()
    with dev(tmp_path, *arguments) as server:
        page = server.text()
        assert "Ada" in page
        assert "&lt;b&gt;hi there" in page
        assert server.text() == page
        assert server.fetch()[1]["cf-cache-status"] == "HIT"
        assert server.fetch("/", "POST", "name=&message=x", form)[0] == 400
        assert server.fetch("/", "DELETE")[0] == 405
        server.fetch("/", "POST", "name=Bob&message=second", form)
        page = server.text()
        assert page.index("Bob") < page.index("Ada")


def test_a_picture_of_the_guestbook_survives_sigkill(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "guestbook" / "wrangler.toml"
    arguments = ("--config", str(example), "--persist-to", str(tmp_path / "state"))
    picture = b"\x89PNG" * 10_000

    def form(kind: str) -> bytes:
        part = "--x\r\nContent-Disposition: form-data; name="
        fields = f'{part}"name"\r\n\r\nAda\r\n{part}"message"\r\n\r\nLook!\r\n'
        head = f'{part}"picture"; filename="a.png"\r\nContent-Type: {kind}\r\n\r\n'
        return fields.encode() + head.encode() + picture + b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with dev(tmp_path, *arguments) as server:
        assert server.fetch("/", "POST", form("image/png"), headers)[0] == 303
        server.process.kill()
    with dev(tmp_path, *arguments) as server:
        [link] = re.findall(r'src="(/picture/[^"]+)"', server.text())
        status, found, body = server.fetch(link)
        assert (status, found["content-type"], body) == (200, "image/png", picture)
        assert server.fetch("/picture/nothing")[0] == 404
        # What is no picture is not shown.
        assert server.fetch("/", "POST", form("text/html"), headers)[0] == 303
        assert server.text().count("<img") == 1


def test_options_of_wrangler_are_taken(tmp_path: Path) -> None:
    source = """
        import _cloudflare_compat_flags
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                flag = _cloudflare_compat_flags.a_flag
                return Response(f"{self.env.SECRET} {self.env.GREETING} {flag}")
    """
    path = project(tmp_path, source)
    (path / ".dev.vars").write_text("SECRET=unread")
    (path / "first.env").write_text("SECRET=first\nGREETING=first")
    (path / "second.env").write_text("SECRET=second")
    options = "--local --inspector-port 9229 --minify --ip 127.0.0.1 --compatibility-flags a_flag"
    files = ["--env-file", "first.env", "--env-file", "second.env", "--var", "GREETING:told"]
    with dev(path, *options.split(), *files) as server:
        assert server.text() == "second told True"
    command = [str(Path(sys.executable).with_name("bunflare")), "dev", "--remote"]
    result = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "there is no --remote" in result.stderr
