"""Requests over 32 connections: Workers beside servers that say hello; then their memory.

What follows a number of requests: resident memory, and what 100 MiB that stream through add to it.
How soon a changed source answers.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import bunflare

from .floor import NAMESPACE
from .measure import Batch, compare
from .peers import miniflare
from .report import Report, mebibytes, seconds, tell
from .servers import Server

_CONNECTIONS = 32
_SECONDS = 2
_ROUNDS = 5
_PATIENCE_SECONDS = 20.0

_HERE = Path(__file__).parent
_VALUE = "x" * 100
_CONFIGURATION = f"""
name = "benchmark"
main = "entry.py"
compatibility_date = "2026-11-01"
compatibility_flags = ["python_workers"]

[[kv_namespaces]]
binding = "KV"
id = "{NAMESPACE}"
"""
_WORKER = """
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(await self.env.KV.get("key"))
"""
_HELLO = """
from workers import Response, WorkerEntrypoint

VERSION = 0


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/echo"):
            return Response(request.body)
        if request.url.endswith("/version"):
            return Response(str(VERSION))
        return Response("x" * 100)
"""
_MIB = 1024 * 1024
_STREAMED = 100
_REQUESTS = re.compile(r"Requests/sec:\s*([\d.]+)")


async def measure(scratch: Path) -> Report:
    report = Report()
    if shutil.which("wrk") is None:
        tell("wrk is not installed: a generator in Python makes the load, and is part of the limit")
    await make_worker(scratch)
    async with AsyncExitStack() as stack:
        mini = miniflare.start(scratch / "miniflare", stack)
        urls = {}
        bare = scratch / "bare"
        bare.mkdir()
        await make_worker(bare, _HELLO)
        servers = {
            "ours": start("ours", dev, scratch),
            "bare": start("bare", dev, bare),
            "uvicorn": start("uvicorn", uvicorn, scratch),
            "granian": start("granian", granian, scratch),
        }
        for name, server in servers.items():
            stack.callback(server.stop)
            urls[name] = server.url
        if mini is not None:
            mini.fill([("key", _VALUE.encode())])
            urls["miniflare"] = mini.url
        rates = await compare(
            {name: _load(url) for name, url in urls.items()}, rounds=_ROUNDS, seconds=_SECONDS
        )
        _memory(report, servers)
        _reload(report, servers["bare"], bare / "entry.py")
    hello = f"HTTP request to a Worker without bindings, {_CONNECTIONS} connections, to"
    report.at_least(f"{hello} uvicorn's bare hello", 0.5, rates, ours="bare", floor="uvicorn")
    work = f"HTTP request that does one KV get, {_CONNECTIONS} connections, to"
    report.at_least(f"{work} uvicorn's bare hello (the chosen server)", 0.7, rates, floor="uvicorn")
    report.at_least(f"{work} granian's bare hello", None, rates, floor="granian")
    if mini is not None:
        report.at_least(f"{work} miniflare's with one KV get", 10.0, rates, floor="miniflare")
    else:
        report.peer(f"{work} miniflare's with one KV get", "miniflare", rates)
    return report


def _memory(report: Report, servers: Mapping[str, Server]) -> None:
    """Resident memory after all these requests, and at most while a stream passes."""
    floor, ours = (servers[name].memory("VmRSS") for name in ("uvicorn", "ours"))
    report.at_most(
        "memory resident after serving (floor: uvicorn's hello)",
        80 * _MIB,
        floor,
        ours,
        "at most 80 MiB",
        mebibytes,
    )
    bare = servers["bare"]
    before = bare.memory("VmHWM")
    size = _echo(bare.port)
    if size != _STREAMED * _MIB:
        raise RuntimeError(f"{size} bytes of {_STREAMED} MiB came back")
    report.at_most(
        f"memory at most, after {_STREAMED} MiB were streamed through (floor: before)",
        before + 16 * _MIB,
        before,
        bare.memory("VmHWM"),
        "16 MiB more",
        mebibytes,
    )


def _echo(port: int) -> int:
    """Send a body while it comes back; how much of it did."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    connection.putrequest("POST", "/echo")
    connection.putheader("Content-Length", str(_STREAMED * _MIB))
    connection.endheaders()

    def send() -> None:
        for _ in range(_STREAMED):
            connection.send(bytes(_MIB))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    size = 0
    with connection.getresponse() as answer:
        while piece := answer.read(_MIB):
            size += len(piece)
    sender.join()
    connection.close()
    return size


def _reload(report: Report, server: Server, source: Path) -> None:
    """From a change of the source to the first answer of the new version."""
    took: list[float] = []
    for version in range(1, 8):
        source.write_text(_HELLO.replace("VERSION = 0", f"VERSION = {version}"))
        begun = time.perf_counter()
        while server.ask("/version") != (200, str(version).encode()):
            if time.perf_counter() - begun > _PATIENCE_SECONDS:
                raise RuntimeError("the change was not noticed")
        took.append(time.perf_counter() - begun)
    report.at_most(
        "from a change of the source to an answer of the new Worker (floor: an answer)",
        0.5,
        _answer(server),
        median(took),
        "at most 0.5 s",
        seconds,
    )


def _answer(server: Server) -> float:
    begun = time.perf_counter()
    server.ask("/version")
    return time.perf_counter() - begun


async def make_worker(directory: Path, source: str = _WORKER) -> None:
    """A Worker that answers every request with what one KV get says."""
    for name, text in (("wrangler.toml", _CONFIGURATION), ("entry.py", source)):
        await asyncio.to_thread((directory / name).write_text, text)
    async with bunflare.open(directory / ".bunflare") as state:
        await state.kv(NAMESPACE).put("key", _VALUE)


def start(name: str, command: Callable[[int, Path], list[str]], directory: Path) -> Server:
    """A server in a process of its own, which has answered its first request."""
    server = Server(name, lambda port: command(port, directory), directory)
    server.wait(expect=_VALUE.encode())
    return server


def dev(port: int, directory: Path) -> list[str]:
    """`bunflare dev` with the Worker of `make_worker`."""
    program = str(Path(sys.executable).with_name("bunflare"))
    return [program, "dev", "--port", str(port), "--config", str(directory / "wrangler.toml")]


def uvicorn(port: int, _: Path) -> list[str]:
    """The bare server, told to do as little as `bunflare dev` tells it."""
    options = "--http httptools --loop uvloop --lifespan off --log-level warning --no-access-log"
    more = "--no-server-header --no-proxy-headers"
    module = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.hello:app",
        "--app-dir",
        str(_HERE.parent),
    ]
    return [*module, "--port", str(port), *options.split(), *more.split()]


def granian(port: int, _: Path) -> list[str]:
    """The other server that was to choose from."""
    program = str(Path(sys.executable).with_name("granian"))
    options = "--interface asginl --workers 1 --loop uvloop --log-level warning --no-access-log"
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(_HERE.parent)]
    return [program, *where, *options.split(), "benchmarks.hello:app"]


def _load(url: str) -> Callable[[], Batch]:
    """As many requests as are answered in a while."""
    if shutil.which("wrk") is not None:
        command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", url]
    else:
        command = [sys.executable, str(_HERE / "load.py"), url, str(_CONNECTIONS), str(_SECONDS)]

    def run() -> int:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = _REQUESTS.search(said)
        if found is None or not float(found[1]) or "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(f"{' '.join(command)}: {said}")
        return round(float(found[1]) * _SECONDS)

    return lambda: run
