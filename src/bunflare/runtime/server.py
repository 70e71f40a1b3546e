"""The development server: a Worker on a local port, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn

from .. import state as states
from ..errors import WorkerError
from . import fetching
from .front import Front, RequestLog
from .http1 import HttpConnection
from .reload import Reloader
from .workers import Source, Workers

# How long open requests and tasks of `wait_until` may go on after the signal to stop, in seconds.
_GRACE = 5


class _Server(uvicorn.Server):
    """uvicorn under our own signals: the first one ends it gently, the second at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(
    sources: Sequence[Source],
    *,
    host: str = "127.0.0.1",
    port: int = 8787,
    directory: Path | None = None,
    test_scheduled: bool = False,
    reload: bool = True,
    log: bool = True,
    ready: Callable[[str], object],
) -> None:
    """Run Workers until SIGINT or SIGTERM: the first answers requests, all find one another.

    Each of ``sources`` reads a configuration, again when its files have changed. ``directory`` is
    the data directory, by default ``.bunflare`` beside the first configuration. ``ready`` is told
    the address once requests are answered, and what happens later.
    """
    config = sources[0]()
    listener = _listen(host, port)
    try:
        async with states.open(directory or states.default_directory(config.root)) as state:
            workers = Workers(sources, state)
            await workers.start()
            if workers.first.assets is None:
                workers.first.app  # noqa: B018 - says what is missing
            requests = RequestLog() if log else None
            front = Front(workers, test_scheduled=test_scheduled, log=requests)
            server = _Server(
                uvicorn.Config(
                    front,  # type: ignore[arg-type]
                    http=HttpConnection,
                    ws="none",
                    loop="none",
                    lifespan="off",
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    date_header=False,
                    interface="asgi3",
                    proxy_headers=False,
                    timeout_graceful_shutdown=_GRACE,
                )
            )
            ready(f"Ready on http://{_shown(host)}:{listener.getsockname()[1]}")
            reloader = Reloader(workers, _GRACE, ready)
            watching = asyncio.ensure_future(reloader.watch()) if reload else None
            await server.serve(sockets=[listener])
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])
            await reloader.close()
            if requests is not None:
                requests.close()
            await workers.close(_GRACE)
            await fetching.close()
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else is done: a port in use is the commonest mistake."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise WorkerError(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port"
        ) from error
    listener.listen(1024)
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
