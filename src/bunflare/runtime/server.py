"""The development server: a Worker on a local port, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import state as states
from ..errors import WorkerError
from ..store.descriptors import allow
from . import fetching
from .connections import ServerConnection
from .front import Front
from .looping import apart
from .reload import Reloader
from .serving import Serving
from .signals import Signals
from .terminal import Terminal, TerminalHandler, relayed
from .watchdog import Watchdog
from .workers import Source, Workers

_log = logging.getLogger("bunflare")

# How long open requests and tasks of `wait_until` may go on after the signal to stop, in seconds.
_GRACE = 5
# Twice the sockets of one Durable Object.
_MOST_FILES = 65_536


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
    allow(_MOST_FILES)
    listener = _listen(host, port)
    terminal = Terminal()
    handler = TerminalHandler(terminal)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _log.addHandler(handler)
    before, _log.propagate = _log.propagate, False
    watchdog = Watchdog()
    printed = contextlib.ExitStack()
    printed.enter_context(relayed(terminal))
    try:
        async with states.open(directory or states.default_directory(config.root)) as state:
            workers = Workers(sources, state)
            await workers.start()
            if workers.first.assets is None:
                workers.first.app  # noqa: B018 - says what is missing
            front = Front(workers, terminal if log else None, test_scheduled=test_scheduled)
            serving = Serving(front, ServerConnection)
            with Signals() as signals:
                server = await serving.start(listener)
                ready(f"Ready on http://{_shown(host)}:{listener.getsockname()[1]}")
                reloader = Reloader(workers, _GRACE, ready)
                watching = apart(asyncio.create_task(reloader.watch())) if reload else None
                await signals.stop.wait()
                # Clients that the system has connected already are taken in first.
                await asyncio.sleep(0.01)
                server.close()
                if watching is not None:
                    watching.cancel()
                    await asyncio.wait([watching])
                await serving.end(_GRACE, signals)
                await _close(reloader, workers, signals)
                await fetching.close()
    finally:
        listener.close()
        watchdog.close()
        printed.close()
        terminal.close()
        _log.removeHandler(handler)
        _log.propagate = before


async def _close(reloader: Reloader, workers: Workers, signals: Signals) -> None:
    """Wait for what the Workers are doing; from the second signal on, for nothing."""

    async def gently() -> None:
        await reloader.close(_GRACE)
        await workers.close(_GRACE)

    closing = apart(asyncio.create_task(gently()))
    forced = apart(asyncio.create_task(signals.force.wait()))
    await asyncio.wait([closing, forced], return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    if closing.done():
        await closing
    else:
        closing.cancel()
        await asyncio.wait([closing])
        await reloader.close(0)
        await workers.close(0)


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
