"""Requests over 32 connections: a Worker that does one KV get, beside servers that say hello."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import bunflare

from .floor import NAMESPACE
from .measure import Batch, compare
from .peers import miniflare
from .report import Report, tell
from .servers import Server

_CONNECTIONS = 32
_SECONDS = 2
_ROUNDS = 5

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
_REQUESTS = re.compile(r"Requests/sec:\s*([\d.]+)")


async def measure(scratch: Path) -> Report:
    report = Report()
    if shutil.which("wrk") is None:
        tell("wrk is not installed: a generator in Python makes the load, and is part of the limit")
    await make_worker(scratch)
    async with AsyncExitStack() as stack:
        mini = miniflare.start(scratch / "miniflare", stack)
        urls = {}
        for name, command in (("ours", dev), ("uvicorn", uvicorn), ("granian", granian)):
            server = start(name, command, scratch)
            stack.callback(server.stop)
            urls[name] = server.url
        if mini is not None:
            mini.fill([("key", _VALUE.encode())])
            urls["miniflare"] = mini.url
        rates = await compare(
            {name: _load(url) for name, url in urls.items()}, rounds=_ROUNDS, seconds=_SECONDS
        )
    work = f"HTTP request that does one KV get, {_CONNECTIONS} connections, to"
    report.at_least(f"{work} uvicorn's bare hello (the chosen server)", 0.7, rates, floor="uvicorn")
    report.at_least(f"{work} granian's bare hello", None, rates, floor="granian")
    if mini is not None:
        report.at_least(f"{work} miniflare's with one KV get", 10.0, rates, floor="miniflare")
    else:
        report.peer(f"{work} miniflare's with one KV get", "miniflare", rates)
    return report


async def make_worker(directory: Path) -> None:
    """A Worker that answers every request with what one KV get says."""
    for name, text in (("wrangler.toml", _CONFIGURATION), ("entry.py", _WORKER)):
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
