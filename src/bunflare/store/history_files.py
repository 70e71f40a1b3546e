"""The folder of a history: its files, their names and formats, and its locks.

``lock`` and ``old.lock``; ``lineage``, which history this is; ``sealed``, the database's file as
our last checkpoint left it; ``settings``; and for each generation ``<number>.wal``, the frames,
``<number>.times``, the notes, and ``<number>-<frame>.sqlite``, a base that has all before that
frame. What they are for: :mod:`bunflare.store.history`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import apsw

from .turnstile import Turnstile

RETENTION_MS = 30 * 24 * 3600 * 1000
LARGEST = 1024 * 1024 * 1024
#: How long one waits for others that hold a lock, in seconds.
LONG_PATIENCE = 30.0

#: How many frames the log has after a commit, and when that was (ms epoch).
NOTE = Struct("<Iq")
LOG_HEADER = 32
FRAME_HEADER = 24
SALTS = slice(16, 24)
_PAGE_SIZE = slice(8, 12)
_LINEAGE = re.compile(r"[0-9a-f]{32}")


class Position(NamedTuple):
    """A state: the number of a life of the log, and how many of its frames."""

    generation: int
    frame: int


class Settings(NamedTuple):
    """For how long states are kept, and how many bytes of them at most. 0: not at all."""

    retention_ms: int = RETENTION_MS
    bytes: int = LARGEST

    @property
    def on(self) -> bool:
        return self.retention_ms > 0 and self.bytes > 0


class Lock:
    """A lock among processes and threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()

    @contextmanager
    def __call__(self, patience: float = LONG_PATIENCE) -> Iterator[None]:
        """Hold it; raises `apsw.BusyError` if others do not let go of it in time."""
        if not self._mutex.acquire(timeout=patience):
            raise apsw.BusyError(f"{self._path} is held for too long")
        try:
            gate = Turnstile(self._path)
            try:
                if not gate.enter(patience):
                    raise apsw.BusyError(f"{self._path} is held for too long")
                yield
            finally:
                gate.close()
        finally:
            self._mutex.release()


class Files:
    """The folder of a history."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        #: Held by whoever adds to it, and by whoever changes what is old.
        self.lock = Lock(folder / "lock")
        self.old = Lock(folder / "old.lock")

    @property
    def database(self) -> Path:
        """Whose history it is, by the folder's name."""
        name = self.folder.name.removeprefix(".").removesuffix(".history")
        return self.folder.with_name(f"{name}.sqlite")

    def frames(self, number: int) -> Path:
        return self.folder / f"{number:08d}.wal"

    def times(self, number: int) -> Path:
        return self.folder / f"{number:08d}.times"

    def base(self, at: Position) -> Path:
        return self.folder / f"{at.generation:08d}-{at.frame:08d}.sqlite"

    def generations(self) -> list[int]:
        """The numbers of all that are there, in order."""
        return sorted(int(path.stem) for path in self.folder.glob("*.wal") if path.stem.isdecimal())

    def bases(self) -> list[Position]:
        """From where on each base can be used, in order."""
        found = []
        for path in self.folder.glob("*-*.sqlite"):
            number, _, frame = path.stem.partition("-")
            if number.isdecimal() and frame.isdecimal():
                found.append(Position(int(number), int(frame)))
        return sorted(found)

    def based(self, number: int) -> bool:
        """Whether there is a base from which that generation can be reached."""
        present = set(self.generations())
        first = number
        while first - 1 in present:
            first -= 1
        return any(first <= base.generation <= number for base in self.bases())

    def salts(self, number: int) -> bytes:
        """What tells one life of the log from another."""
        try:
            with self.frames(number).open("rb") as file:
                return file.read(LOG_HEADER)[SALTS]
        except FileNotFoundError:
            return b""

    def count(self, number: int) -> int:
        """How many frames of a generation are kept."""
        try:
            with self.frames(number).open("rb") as file:
                header = file.read(LOG_HEADER)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0
        return max(0, size - LOG_HEADER) // frame_size(header)

    def notes(self, number: int) -> list[tuple[int, int]]:
        """The notes of a generation: frames, and when."""
        try:
            data = self.times(number).read_bytes()
        except FileNotFoundError:
            return []
        # The last one may have been cut by a crash.
        return list(NOTE.iter_unpack(data[: len(data) // NOTE.size * NOTE.size]))

    def settings(self) -> Settings:
        found = self._read("settings")
        return Settings(found.get("retention_ms", RETENTION_MS), found.get("bytes", LARGEST))

    def set(self, settings: Settings) -> None:
        self._write("settings", dict(settings._asdict()))

    def sealed(self) -> dict[str, int]:
        return self._read("sealed")

    def seal(self, seal: dict[str, int]) -> None:
        self._write("sealed", seal)

    def lineage(self) -> str:
        """Which history this is, made up when it is first asked for, or was spoilt."""
        path = self.folder / "lineage"
        with suppress(FileNotFoundError):
            known = path.read_text("latin-1")
            if _LINEAGE.fullmatch(known):
                return known
        made = secrets.token_hex(16)
        self.write(path, made.encode())
        return made

    def _read(self, name: str) -> dict[str, int]:
        try:
            found = json.loads((self.folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        # What somebody has spoilt counts as not there.
        return {key: value for key, value in found.items() if isinstance(value, int)}

    def _write(self, name: str, value: dict[str, int]) -> None:
        self.write(self.folder / name, json.dumps(value).encode())

    def write(self, path: Path, data: bytes) -> None:
        """Write a small file, whole or not at all."""
        partial = self.partial()
        partial.write_bytes(data)
        partial.replace(path)

    def partial(self) -> Path:
        """A name for what is being made."""
        return self.folder / f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}.part"

    def flush(self) -> None:
        """See to it that the names of new files outlast a loss of power."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def frame_size(header: bytes) -> int:
    """Bytes of a frame, by the log's header."""
    size = int.from_bytes(header[_PAGE_SIZE], "big")
    return FRAME_HEADER + (size or 4096)
