"""Reading a history: which state a time means, any state as a file of its own, and forgetting.

SQLite itself does the work: a base and a generation's frames beside it, named like a write-ahead
log, are a database with a log to be recovered. It checks every frame, stops where it is told to by
the log's end, and a checkpoint makes one file of the two. To forget the oldest generation is the
same, done to the base.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw

from .connection import translate
from .history_files import LOG_HEADER, Files, Position, Settings, frame_size


def position_at(files: Files, moment: int) -> Position | None:
    """The newest state that there was at a moment (ms epoch); None if none is kept that old."""
    for number in reversed(files.generations()):
        # Processes write their notes a little later, so that one may be behind a newer one's.
        frames = [frame for frame, at in files.notes(number) if at <= moment]
        if frames:
            return Position(number, max(frames))
    return None


def reachable(files: Files, at: Position) -> Position | None:
    """The base from which a state is reached; None if it is not kept."""
    present = set(files.generations())
    if at.frame and at.generation not in present:
        return None
    for base in reversed(files.bases()):
        if base > at:
            continue
        if present.issuperset(range(base.generation, at.generation)):
            return base
        return None
    return None


def materialize(files: Files, at: Position, path: Path) -> bool:
    """Write the state of a position to a new file. False if it is not kept.

    The history must have all of the position's frames: see `History.kept`.
    """
    with files.old():
        settle(files)
        base = reachable(files, at)
        if base is None:
            return False
        shutil.copyfile(files.base(base), path)
        for number in range(base.generation, at.generation):
            _apply(path, files.frames(number))
        if at.frame:
            frames = files.frames(at.generation)
            with frames.open("rb") as file:
                header = file.read(LOG_HEADER)
                size = frame_size(header)
                end = LOG_HEADER + at.frame * size
                file.seek(end - size)
                last = file.read(8)
            if len(last) < 8 or not int.from_bytes(last[4:], "big"):
                # There is no commit there.
                path.unlink()
                return False
            _apply(path, frames, end)
    return True


def _apply(path: Path, frames: Path, end: int | None = None) -> None:
    log = Path(f"{path}-wal")
    shutil.copyfile(frames, log)
    if end is not None:
        with log.open("r+b") as file:
            file.truncate(end)
    _absorb(path, "OFF")


def _absorb(path: Path, synchronous: str) -> None:
    """Make one file of a database and its log."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()


def settle(files: Files) -> None:
    """End what a crash has interrupted. The lock of what is old is held."""
    present = set(files.generations())
    for base in files.bases():
        path = files.base(base)
        if Path(f"{path}-wal").exists():
            _absorb(path, "FULL")
        if base.generation not in present and base.generation + 1 in present:
            path.replace(files.base(Position(base.generation + 1, 0)))


def trim(files: Files, settings: Settings, now: int) -> None:
    """Forget what is too old or too much, but never the newest generation.

    Raises `DatabaseError` where what is kept is damaged, or the disk is full.
    """
    try:
        _trim(files, settings, now)
    except apsw.Error as error:
        raise translate(error, files.folder) from error


def _trim(files: Files, settings: Settings, now: int) -> None:
    with files.old():
        settle(files)
        _sweep(files)
        size = sum(path.stat().st_size for path in _all(files))
        numbers = files.generations()
        while len(numbers) > 1:
            notes = files.notes(numbers[1])
            old = bool(notes) and notes[0][1] <= now - settings.retention_ms
            if not old and size <= settings.bytes and settings.on:
                return
            size -= files.frames(numbers[0]).stat().st_size
            _forget(files, numbers[0], numbers[1])
            del numbers[0]


def _sweep(files: Files) -> None:
    """Remove what killed processes had begun to make."""
    for path in files.folder.glob("*.part*"):
        process = path.name.partition("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue


def _all(files: Files) -> Iterator[Path]:
    for pattern in ("*.wal", "*.times", "*.sqlite"):
        yield from files.folder.glob(pattern)


def _forget(files: Files, oldest: int, following: int) -> None:
    """Have the base take up the oldest generation, and drop that."""
    bases = [base for base in files.bases() if base.generation <= oldest]
    best = bases.pop() if bases else None
    frames = files.frames(oldest)
    if best is None:
        frames.unlink(missing_ok=True)
    elif following == oldest + 1:
        path = files.base(best)
        # From here on the base has it, whenever it is looked at next.
        frames.replace(f"{path}-wal")
        _absorb(path, "FULL")
        path.replace(files.base(Position(following, 0)))
    else:
        # The chain breaks here, so nothing that comes later needs this.
        frames.unlink(missing_ok=True)
        files.base(best).unlink(missing_ok=True)
    for base in bases:
        files.base(base).unlink(missing_ok=True)
    files.times(oldest).unlink(missing_ok=True)
