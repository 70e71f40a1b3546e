"""miniflare (npm): Cloudflare's own emulator, on workerd. Its operations run inside a Worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path

from ..floor import Pair
from ..report import tell
from ..servers import Server

NAME = "miniflare, in a Worker"
#: Its queues live in memory.
QUEUE_NAME = "miniflare, in a Worker, memory only"

_HERE = Path(__file__).parent
_INSTALL_SECONDS = 300


class Miniflare:
    def __init__(self, server: Server) -> None:
        self.url = server.url

    def fill(self, pairs: Sequence[Pair]) -> None:
        self.put_at_once(pairs)

    def get(self, keys: Sequence[str]) -> int:
        return self._batch(work="get", keys=keys)

    def put(self, pairs: Sequence[Pair]) -> int:
        return self._batch(work="put", pairs=_texts(pairs))

    def put_at_once(self, pairs: Sequence[Pair]) -> int:
        return self._batch(work="put_at_once", pairs=_texts(pairs))

    def list(self, prefixes: Sequence[str]) -> int:
        return self._batch(work="list", prefixes=prefixes)

    def store(self, urls: Sequence[str]) -> int:
        return self._batch(work="store", keys=urls)

    def send(self, bodies: Sequence[object]) -> int:
        return self._batch(work="send", bodies=bodies)

    def match(self, urls: Sequence[str]) -> int:
        return self._batch(work="match", keys=urls)

    def _batch(self, **batch: object) -> int:
        request = urllib.request.Request(self.url, json.dumps(batch).encode(), method="POST")
        with urllib.request.urlopen(request) as answer:
            return int(answer.read())


def _texts(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(key, value.decode()) for key, value in pairs]


def start(directory: Path, stack: AsyncExitStack) -> Miniflare | None:
    """A running miniflare with an empty KV namespace."""
    command = _command()
    if command is None:
        return None
    directory.mkdir()
    server = Server("miniflare", lambda port: [*command, str(port), str(directory)], directory)
    stack.callback(server.stop)
    server.wait(expect=None)
    return Miniflare(server)


@cache
def _command() -> list[str] | None:
    """How to run it, installed if need be; None if that cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        tell("miniflare is not measured: there is no node or no npm")
        return None
    if not (_HERE / "node_modules" / "miniflare").is_dir():
        tell("installing miniflare into benchmarks/peers/node_modules")
        install = [npm, "install", "--silent", "--no-audit", "--no-fund"]
        try:
            subprocess.run(install, cwd=_HERE, check=True, timeout=_INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            tell(f"miniflare is not measured: {error}")
            return None
    return [node, str(_HERE / "miniflare.mjs")]
