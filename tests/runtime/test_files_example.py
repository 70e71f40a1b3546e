"""`examples/files`: uploads and downloads over real HTTP, one of them killed half-way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import bunflare
from tests.runtime.test_dev import Server, dev
from tests.support import PATIENCE, files

EXAMPLE = Path(__file__).parents[2] / "examples" / "files"
MIB = 1024 * 1024
#: Of the upload that is killed, and of the one that is not. ``make crash`` sends a gigabyte.
SIZE = (1024 if os.environ.get("BUNFLARE_CRASH") == "long" else 64) * MIB


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with dev(EXAMPLE, "--persist-to", str(tmp_path / "state")) as running:
        yield running


def test_a_file_goes_in_and_comes_out_as_http_has_it(server: Server) -> None:
    data = os.urandom(300_000)
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    path = "/dir/caf%C3%A9%20menu.bin"
    status, headers, _ = server.fetch(path, "PUT", data, {"Content-Type": "application/x-menu"})
    assert (status, headers["etag"]) == (201, etag)
    status, headers, body = server.fetch(path)
    assert (status, body, headers["content-type"]) == (200, data, "application/x-menu")
    assert (headers["etag"], headers["accept-ranges"]) == (etag, "bytes")
    status, headers, body = server.fetch(path, headers={"Range": "bytes=100-199"})
    assert (status, body) == (206, data[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(data)}"
    status, headers, body = server.fetch(path, headers={"Range": "bytes=-5"})
    assert (status, body) == (206, data[-5:])
    status, headers, body = server.fetch(path, headers={"Range": "bytes=300000-"})
    assert (status, body, headers["content-range"]) == (416, b"", "bytes */300000")
    status, _, body = server.fetch(path, headers={"If-None-Match": etag})
    assert (status, body) == (304, b"")
    status, _, _ = server.fetch(path, headers={"If-Match": '"another"'})
    assert status == 412
    status, _, _ = server.fetch(path, headers={"If-Match": '"another"', "If-None-Match": etag})
    assert status == 412
    status, headers, body = server.fetch(path, "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(data)))
    status, _, _ = server.fetch(path, "PUT", b"mine", {"If-Match": '"another"'})
    assert status == 412
    assert "café menu.bin" in server.text("/")
    assert server.fetch(path, "DELETE")[0] == 204
    assert server.fetch(path)[0] == 404


def test_a_download_goes_on_only_with_the_file_it_began_with(server: Server) -> None:
    old, new = os.urandom(1000), os.urandom(500)
    _, headers, _ = server.fetch("/key", "PUT", old)
    resume = {"Range": "bytes=200-", "If-Range": headers["etag"]}
    status, headers, body = server.fetch("/key", headers=resume)
    assert (status, body, headers["content-range"]) == (206, old[200:], "bytes 200-999/1000")
    assert server.fetch("/key", "PUT", new)[0] == 201
    status, headers, body = server.fetch("/key", headers=resume)
    assert (status, body, headers["content-range"]) == (200, new, None)
    # Also where the new file has no such range at all.
    status, headers, body = server.fetch("/key", headers={**resume, "Range": "bytes=700-"})
    assert (status, body, headers["content-length"]) == (200, new, "500")
    # Ranges are of GET alone.
    status, headers, _ = server.fetch("/key", "HEAD", headers={"Range": "bytes=200-"})
    assert (status, headers["content-length"]) == (200, "500")


def test_a_form_uploads_a_file(server: Server) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--x--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, headers, _ = server.fetch("/", "POST", body, kind)
    assert (status, headers["location"]) == (303, "/")
    status, headers, body = server.fetch("/a.txt")
    assert (body, headers["content-type"]) == (b"hello", "text/plain")
    assert server.fetch("/", "POST", b"--x--\r\n", kind)[0] == 400


def half_an_upload(server: Server, path: str, size: int) -> socket.socket:
    """A connection over which the first half of a file was sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    block = bytes(MIB)
    for _ in range(size // MIB // 2):
        connection.sendall(block)
    return connection


def largest(directory: Path) -> int:
    """The size in bytes of the largest file; a server may remove files meanwhile."""
    sizes = [0]
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def test_an_upload_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with dev(EXAMPLE, "--persist-to", str(state)) as server:
        assert server.fetch("/key", "PUT", b"old" * 100_000)[0] == 201
        assert server.fetch("/warm", "PUT", bytes(3 * MIB))[0] == 201
        assert server.fetch("/warm", "DELETE")[0] == 204
        before = peak(server.process.pid)
        with half_an_upload(server, "/key", SIZE):
            deadline = time.monotonic() + PATIENCE
            while largest(state / "r2-staging") <= MIB:
                assert time.monotonic() < deadline
            assert peak(server.process.pid) - before < 32 * MIB
            server.stop(signal.SIGKILL)
    assert any((state / "r2-staging").iterdir())
    with dev(EXAMPLE, "--persist-to", str(state)) as server:
        assert server.fetch("/key")[2] == b"old" * 100_000
        assert server.fetch("/new", "PUT", b"new")[0] == 201
        # The restart alone sweeps what the crash left: nobody repairs anything.
        deadline = time.monotonic() + PATIENCE
        while any((state / "r2-staging").iterdir()):
            assert time.monotonic() < deadline
        server.stop()
    assert files(state / "r2" / "files") == {"key": b"old" * 100_000, "new": b"new"}

    async def look() -> None:
        async with bunflare.open(state) as opened:
            found = await opened.r2("files").check(digests=True)
            assert (found.problems, found.strangers) == ([], [])

    asyncio.run(look())
    assert files(state / "r2-staging") == {}


def test_an_upload_that_the_client_breaks_off_leaves_the_old_file(
    server: Server, tmp_path: Path
) -> None:
    assert server.fetch("/key", "PUT", b"old")[0] == 201
    half_an_upload(server, "/key", 8 * MIB).close()
    deadline = time.monotonic() + PATIENCE
    while any((tmp_path / "state" / "r2-staging").iterdir()):
        assert time.monotonic() < deadline
    assert server.fetch("/key")[2] == b"old"


def test_memory_stays_flat(server: Server) -> None:
    assert server.fetch("/warm", "PUT", bytes(3 * MIB))[0] == 201
    assert server.fetch("/warm")[0] == 200
    before = peak(server.process.pid)
    connection = server.connect()
    digest = hashlib.md5()
    block = os.urandom(MIB)

    def body() -> Iterator[bytes]:
        for _ in range(SIZE // MIB):
            digest.update(block)
            yield block

    connection.request("PUT", "/large", body(), {"Content-Length": str(SIZE)})
    response = connection.getresponse()
    assert (response.status, response.headers["etag"]) == (201, f'"{digest.hexdigest()}"')
    response.read()
    connection.request("GET", "/large")
    response = connection.getresponse()
    received = hashlib.md5()
    while chunk := response.read(MIB):
        received.update(chunk)
    connection.close()
    assert received.hexdigest() == digest.hexdigest()
    assert peak(server.process.pid) - before < 32 * MIB


def peak(process: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_method_that_means_nothing_is_refused(server: Server) -> None:
    assert server.fetch("/", "DELETE")[0] == 405
