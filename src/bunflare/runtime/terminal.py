"""What the server says: a line for each request, warnings, and what Workers log.

A thread writes it, so that a terminal that stands still holds nothing up; what comes too fast for
it is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from http import HTTPStatus
from typing import TextIO

_TOLD = {int(status): f"{int(status)} {status.phrase}" for status in HTTPStatus}
#: Method, raw path, status and seconds of a request.
Entry = tuple[str, bytes, int, float]

#: The name of the logger of what Workers say on their `console`.
CONSOLE = "bunflare.worker"


class Terminal:
    """Standard output and standard error.

    The thread is woken for many requests at once; each waking costs the event loop its lock.
    """

    _MOST_LINES = 10_000
    _PAUSE_SECONDS = 0.02

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._batches: queue.Queue[list[Entry] | tuple[TextIO, str] | None] = queue.Queue(1000)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, daemon=True, name="bunflare-terminal")
        self._thread.start()

    def request(self, entry: Entry) -> None:
        """Write the line of a request soon."""
        if not self._entries:
            asyncio.get_running_loop().call_later(self._PAUSE_SECONDS, self._hand_over)
        if len(self._entries) < self._MOST_LINES:
            self._entries.append(entry)
        else:
            self._dropped += 1

    def say(self, text: str, stream: TextIO) -> None:
        """Write a text with a line end after it. May be called by any thread."""
        try:
            self._batches.put_nowait((stream, text))
        except queue.Full:
            self._dropped += 1

    def _hand_over(self) -> None:
        entries, self._entries = self._entries, []
        if entries:
            try:
                self._batches.put_nowait(entries)
            except queue.Full:
                self._dropped += len(entries)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            stream = batch[0] if isinstance(batch, tuple) else sys.stdout
            text = batch[1] if isinstance(batch, tuple) else "\n".join(map(_line, batch))
            if self._dropped and self._batches.empty():
                text += f"\n({self._dropped} lines more were too many to be written)"
                self._dropped = 0
            try:
                stream.write(text + "\n")
                stream.flush()
            except (OSError, ValueError):
                continue  # nobody is there to read it

    def close(self) -> None:
        """Write what is left, if that can be done soon."""
        self._hand_over()
        try:
            self._batches.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(1)


class TerminalHandler(logging.Handler):
    """Log records on a `Terminal`: those of a Worker's `console` as they are."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == CONSOLE:
            calm = record.levelno < logging.WARNING
            self._terminal.say(record.getMessage(), sys.stdout if calm else sys.stderr)
        else:
            self._terminal.say(self.format(record), sys.stderr)


def _line(entry: Entry) -> str:
    method, path, status, seconds = entry
    told = _TOLD.get(status, str(status or "(no answer)"))
    return f"{method} {path.decode('latin-1')} {told} ({seconds * 1000:.0f}ms)"
