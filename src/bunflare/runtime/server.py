"""The development server: a Worker on a local port, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from .. import state as states
from ..config import Config
from ..errors import WorkerError
from .asgi import WorkerApp
from .context import Background
from .env import make_env
from .fetching import close as close_connections
from .loader import load_worker
from .sdk import make_modules

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
    config: Config,
    *,
    host: str = "127.0.0.1",
    port: int = 8787,
    directory: Path | None = None,
    ready: Callable[[str], object],
) -> None:
    """Run the Worker of ``config`` until SIGINT or SIGTERM.

    ``directory`` is the data directory, by default ``.bunflare`` beside the configuration.
    ``ready`` is told the address once requests are answered.
    """
    if config.main is None:
        raise WorkerError(f'{config.path}: "main" is missing: which module is the Worker?')
    listener = _listen(host, port)
    background = Background()
    try:
        async with states.open(directory or states.default_directory(config.root)) as state:
            env = make_env(config, state)
            flags = config.compatibility_flags
            modules = make_modules(env, state.caches, background, flags)
            worker = load_worker(config.main, modules)
            background.at_end(close_connections)
            app = WorkerApp(worker.entrypoint(), env, background)
            server = _Server(
                uvicorn.Config(
                    app,
                    http="httptools",
                    loop="none",
                    lifespan="off",
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    date_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=_GRACE,
                )
            )
            ready(f"http://{_shown(host)}:{listener.getsockname()[1]}")
            await server.serve(sockets=[listener])
            await background.drain(_GRACE)
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
