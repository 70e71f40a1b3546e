"""What a process tells another one that has asked for it: at once, and in no commit.

A mailbox is a file beside those of the processes, ``<process>.<about>.<number>``. Whoever has
something to tell adds a line and closes the file, which all listeners of `Presence` hear.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .processes import Presence


class Mailbox:
    """Lines of others about one thing. There is no end to what it keeps until it is closed."""

    def __init__(self, presence: Presence, about: str) -> None:
        self._path = presence.directory / f"{presence.id}.{about}.{secrets.token_hex(4)}"
        # For reading only: to close a file that could be written is reported to listeners.
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._process = os.getpid()
        self._rest = b""

    def read(self) -> list[bytes]:
        """The lines that have come."""
        while data := os.read(self._descriptor, 65536):
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return lines

    def close(self) -> None:
        """Take no more, and forget what was not read. To be called once."""
        os.close(self._descriptor)
        if os.getpid() == self._process:
            self._path.unlink(missing_ok=True)


def mailboxes(presence: Presence) -> dict[str, set[str]]:
    """The names of the mailboxes of running processes, by what they are about."""
    found: dict[str, set[str]] = {}
    for file in presence.directory.iterdir():
        process, *about = file.name.split(".")
        if len(about) == 2 and presence.alive(process):
            found.setdefault(about[0], set()).add(file.name)
    return found


def post(presence: Presence, name: str, line: bytes) -> None:
    """Put a line into a mailbox, if it is still there, and there is room."""
    with suppress(OSError):
        descriptor = os.open(presence.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, line + b"\n")
        finally:
            os.close(descriptor)
