"""What the server says: a line for each request, warnings, and what Workers log.

A thread writes it, so that a terminal that stands still holds nothing up; what comes too fast for
it is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import io
import logging
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, TextIO

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
    # How long what a Worker prints may wait for a reader that is slow, before it is dropped.
    _PATIENCE_SECONDS = 1.0

    def __init__(self) -> None:
        #: Where it all goes.
        self.out, self.err = sys.stdout, sys.stderr
        self._stalled = False
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
            self._batches.put_nowait((stream, text + "\n"))
        except queue.Full:
            self._dropped += 1

    def pass_on(self, text: str, stream: TextIO) -> None:
        """Write a text as it is. Waits for a slow reader, but not for one that does not read."""
        patience = 0.0 if self._stalled else self._PATIENCE_SECONDS
        try:
            self._batches.put((stream, text), timeout=patience)
            self._stalled = False
        except queue.Full:
            self._stalled = True
            self._dropped += text.count("\n")

    def _hand_over(self) -> None:
        entries, self._entries = self._entries, []
        if entries:
            try:
                self._batches.put_nowait(entries)
            except queue.Full:
                self._dropped += len(entries)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            stream = batch[0] if isinstance(batch, tuple) else self.out
            text = batch[1] if isinstance(batch, tuple) else "".join(map(_line, batch))
            if self._dropped and self._batches.empty():
                text += self._count()
            _put(stream, text)
        if self._dropped:
            _put(self.out, self._count())

    def _count(self) -> str:
        dropped, self._dropped = self._dropped, 0
        return f"({dropped} lines more were too many to be written)\n"

    def close(self) -> None:
        """Write what is left, if that can be done soon."""
        self._hand_over()
        try:
            self._batches.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(1)


def _put(stream: TextIO, text: str) -> None:
    # Where it fails, nobody is there to read it.
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


class TerminalHandler(logging.Handler):
    """Log records on a `Terminal`: those of a Worker's `console` as they are."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == CONSOLE:
            calm = record.levelno < logging.WARNING
            terminal = self._terminal
            terminal.say(record.getMessage(), terminal.out if calm else terminal.err)
        else:
            self._terminal.say(self.format(record), self._terminal.err)


class Relayed(io.TextIOBase):
    """Standard output, or error, for what Workers print: by way of the terminal's thread.

    Only for a pipe or a file: debuggers want the terminal itself.
    """

    def __init__(self, terminal: Terminal, stream: TextIO) -> None:
        self._terminal = terminal
        self._stream = stream
        self._begun = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            lines, end, begun = (self._begun + text).rpartition("\n")
            self._begun = begun
        if end:
            self._terminal.pass_on(lines + end, self._stream)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, ""
        # Also where there is no text: bytes may have gone into `buffer`.
        self._terminal.pass_on(begun, self._stream)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        # `encoding`, `buffer` and others.
        return getattr(self._stream, name)


@contextmanager
def relayed(terminal: Terminal) -> Iterator[None]:
    """Have what is printed written by the terminal's thread, where nobody can be debugging."""
    before = sys.stdout, sys.stderr
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        sys.stdout = Relayed(terminal, terminal.out)
        sys.stderr = Relayed(terminal, terminal.err)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # a Worker has closed it
                stream.flush()
        sys.stdout, sys.stderr = before


def _line(entry: Entry) -> str:
    method, path, status, seconds = entry
    told = _TOLD.get(status, str(status or "(no answer)"))
    return f"{method} {path.decode('latin-1')} {told} ({seconds * 1000:.0f}ms)\n"
