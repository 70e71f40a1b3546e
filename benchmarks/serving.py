"""HTTP requests that do one KV get, against the bare server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from . import peers
from .measure import Result, scratch

WRANGLER = 'name = "bench"\nmain = "entry.py"\n[[kv_namespaces]]\nbinding = "KV"\n'
WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.method == "PUT":
            await self.env.KV.put("key", "x" * 100)
        return Response(await self.env.KV.get("key"))
"""
BARE = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"text/plain;charset=UTF-8"), (b"content-length", b"5"),
        (b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
CONNECTIONS = 32
SECONDS = 2
ROUNDS = 5


@contextmanager
def server(command: list[str], directory: Path, port: int) -> Iterator[str]:
    """A server that answers on a port of this machine."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(600):
            try:
                request = urllib.request.Request(address, method="PUT")
                with urllib.request.urlopen(request, timeout=5):
                    break
            except OSError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield address
    finally:
        # With the processes that it has started itself.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def load(address: str) -> float:
    """Requests a second over 32 connections."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("the HTTP benchmark needs wrk, of the Debian package of that name")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", address]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output, output
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found is not None, output
    return float(found[1])


def run() -> Iterator[Result]:
    scripts = Path(sys.executable).parent
    with scratch() as directory:
        (directory / "entry.py").write_text(WORKER)
        (directory / "wrangler.toml").write_text(WRANGLER)
        (directory / "bare.py").write_text(BARE)
        quiet = ["--log-level", "critical"]
        commands = {
            "uvicorn": [str(scripts / "uvicorn"), "bare:app", "--port", "18701", "--no-access-log"]
            + ["--no-date-header", "--no-server-header", "--http", "httptools", "--loop", "uvloop"]
            + ["--lifespan", "off"],
            "granian": [str(scripts / "granian"), "--interface", "asginl", "--port", "18702"]
            + [*quiet, "--loop", "uvloop", "bare:app"],
            "bunflare": [str(scripts / "bunflare"), "dev", "--port", "18703"],
        }
        rates: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for number, (name, command) in enumerate(commands.items()):
                with server(command, directory, 18701 + number) as address:
                    rates[name].append(load(address))
    work = "HTTP request that does one KV get, of"
    yield _result(f"{work} uvicorn's bare hello", rates["uvicorn"], rates["bunflare"], 0.7)
    yield _result(f"{work} granian's, for the choice", rates["granian"], rates["bunflare"], 0.0)
    with peers.miniflare(18704) as address:
        if address is not None:
            found = [load(address) for _ in range(ROUNDS)]
            yield _result(f"{work} the same on miniflare", found, rates["bunflare"], 10.0)


def _result(work: str, floor: list[float], ours: list[float], bar: float) -> Result:
    ratio = median(mine / other for mine, other in zip(ours, floor, strict=True))
    return Result(work, median(floor), median(ours), bar, ratio)
