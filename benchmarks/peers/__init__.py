"""What others do with the same work, where they can be installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..measure import rate, scratch

HERE = Path(__file__).parent


def run() -> Iterator[tuple[str, str, float | None]]:
    """Rows of peer, work and rate; None where the peer cannot be installed."""
    yield from _diskcache()
    with miniflare(18705) as address:
        if address is None:
            yield "miniflare", "not installed: npm is missing", None
        else:
            for path, work in (("get", "KV get, 100 B"), ("put", "KV put, 100 B")):
                with urllib.request.urlopen(f"{address}{path}", timeout=120) as response:
                    yield "miniflare, in a Worker", work, float(response.read())


def _diskcache() -> Iterator[tuple[str, str, float | None]]:
    if importlib.util.find_spec("diskcache") is None:
        yield "diskcache", "not installed", None
        return
    from diskcache import Cache

    with scratch() as directory:
        cache = Cache(str(directory), sqlite_synchronous=2)
        numbers = iter(range(10**9))

        def puts() -> int:
            for _ in range(2_000):
                number = next(numbers)
                cache.set(f"key{number % 1000}", b"%0100d" % number)
            return 2_000

        def gets() -> int:
            for number in range(20_000):
                cache.get(f"key{number % 1000}")
            return 20_000

        yield "diskcache, flushing", "KV put, 100 B", rate(puts)
        yield "diskcache", "KV get, 100 B", rate(gets)
        cache.close()


@contextmanager
def miniflare(port: int) -> Iterator[str | None]:
    """The address of a Worker on miniflare; None without npm."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        yield None
        return
    if not (HERE / "node_modules").is_dir():
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True
        )
    with scratch() as directory:
        process = subprocess.Popen(
            [node, str(HERE / "miniflare.mjs"), str(port), str(directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{port}/"
        try:
            for _ in range(600):
                try:
                    with urllib.request.urlopen(address, timeout=5):
                        break
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            # With the workerd that it has started itself.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
