"""What must be true of earlier states: those of D1 databases, and those of Durable Objects.

A history may break: an earlier state is then not gone back to, and everything else goes on. So what
is damaged of it can be dropped, but for the frames that its database is still adding to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from struct import iter_unpack
from typing import TYPE_CHECKING

import apsw

from . import object_bookmarks
from .beside import open_still, reading
from .checks import Problem
from .connection import translate
from .history_files import FRAME_HEADER, LOG_HEADER, SALTS, Files, frame_size
from .layout import histories
from .transaction import Transaction

if TYPE_CHECKING:
    from .directory import Directory

_MAGIC = 0x377F0682
_FORMAT = 3007000
_DROPPED = "it is dropped: what is older than what comes after it cannot be gone back to"
_FORGOTTEN = "the bookmark is forgotten"


# -- of SQLite files ---------------------------------------------------------------------------


def check_histories(root: Path, full: bool, still: bool = False) -> Iterator[Problem]:
    """Hold the files of all histories against what SQLite would make of them. Blocks.

    ``full`` says that every byte of the frames counts: their checksums take a while. ``still``
    says that nobody writes there, so that no lock is needed.
    """
    for name in histories(root):
        system = "d1" if name.startswith("d1/") else "objects"
        files = Files(root / name)
        for base in files.bases():
            try:
                with nullcontext() if still else files.old():
                    wrong = _damage(files.base(base))
            except apsw.Error as error:
                raise translate(error, files.folder) from error
            if wrong is not None:
                yield Problem(system, "base", name, files.base(base).name, wrong, _DROPPED)
        numbers = files.generations()
        for number in numbers:
            path = files.frames(number)
            wrong = _wrong_frames(path, number == numbers[-1], full)
            if wrong is not None:
                yield Problem(system, "frames", name, path.name, wrong, _DROPPED)


def drop(root: Path, problem: Problem) -> None:
    """Drop a damaged part of a history, unless the database is adding to it. Blocks."""
    files = Files(root / problem.name)
    path = files.folder / problem.key
    try:
        with files.lock(), files.old():
            if problem.kind == "frames":
                _drop_frames(files, int(path.stem))
            else:
                path.unlink(missing_ok=True)
    except apsw.Error as error:
        raise translate(error, path) from error


def _drop_frames(files: Files, number: int) -> None:
    name = files.folder.name.removeprefix(".").removesuffix(".history")
    log = files.folder.with_name(f"{name}.sqlite-wal")
    if number == files.generations()[-1] and _salts(log) == files.salts(number):
        return  # whoever opens the database next writes it anew
    # The bases first: one whose frames are gone would be taken to have them.
    for base in files.bases():
        if base.generation == number:
            files.base(base).unlink(missing_ok=True)
    files.frames(number).unlink(missing_ok=True)
    files.times(number).unlink(missing_ok=True)


def _salts(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            return file.read(LOG_HEADER)[SALTS]
    except FileNotFoundError:
        return b""


def _wrong_frames(path: Path, growing: bool, full: bool) -> str | None:
    """What is wrong with a copy of a write-ahead log; the last one may end within a frame."""
    try:
        with path.open("rb") as file:
            header = file.read(LOG_HEADER)
            if len(header) < LOG_HEADER or not _is_header(header):
                return "it does not begin like a write-ahead log"
            little = header[3] & 1 == 0
            sums = _checksum(header[:24], (0, 0), little)
            size = frame_size(header)
            number = 0
            while frame := file.read(size if full else FRAME_HEADER):
                number += 1
                if len(frame) < FRAME_HEADER:
                    return None if growing else f"frame {number} is not whole"
                if frame[8:16] != header[SALTS]:
                    return f"frame {number} is of another log"
                if not full:
                    file.seek(size - FRAME_HEADER, 1)
                    continue
                if len(frame) < size:
                    return None if growing else f"frame {number} is not whole"
                sums = _checksum(frame[FRAME_HEADER:], _checksum(frame[:8], sums, little), little)
                if sums != _pair(frame[16:24]):
                    return f"frame {number} has other bytes than were written"
            whole = (path.stat().st_size - LOG_HEADER) % size == 0
            return None if whole or growing else f"frame {number} is not whole"
    except FileNotFoundError:
        return None  # it has just been forgotten


def _is_header(header: bytes) -> bool:
    magic, version = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    if magic & ~1 != _MAGIC or version != _FORMAT:
        return False
    sums = _checksum(header[:24], (0, 0), magic & 1 == 0)
    return sums == _pair(header[24:32])


def _pair(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")


def _checksum(data: bytes, sums: tuple[int, int], little: bool) -> tuple[int, int]:
    """SQLite's, as its file format has it."""
    one, two = sums
    for first, second in iter_unpack("<II" if little else ">II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _damage(path: Path) -> str | None:
    """What SQLite finds wrong with a file that nobody writes to."""
    if Path(f"{path}-wal").exists():
        return None  # what a crash has interrupted is ended when the history is used next
    try:
        connection = open_still(path)
        try:
            rows = connection.execute("PRAGMA quick_check(1)").fetchall()
        finally:
            connection.close()
    except apsw.CantOpenError:
        return None  # it has just been forgotten
    except apsw.Error as error:
        return str(translate(error, path))
    return None if rows == [("ok",)] else str(rows[0][0]).strip().replace("\n", ": ")


# -- Durable Objects ---------------------------------------------------------------------------


def check_kept(directory: Directory) -> Iterator[Problem]:
    """Hold the kept states of objects against the copies of their SQL files. Blocks."""
    suspects: dict[tuple[str, str, int], str] = {}
    for where in _with_sql(directory):
        path = kept_file(directory.path, *where)
        wrong = _damage(path) if path.exists() else "the copy of its SQL file is not there"
        if wrong is not None:
            suspects[where] = wrong
    # What was forgotten meanwhile needs no file.
    for where in set(suspects).intersection(_with_sql(directory) if suspects else ()):
        namespace, digits, number = where
        yield Problem(
            "objects", "bookmark", namespace, f"{digits}/{number}", suspects[where], _FORGOTTEN
        )


def _with_sql(directory: Directory) -> list[tuple[str, str, int]]:
    with reading(directory.database) as connection:
        rows = object_bookmarks.with_sql(Transaction(connection))
        return [(str(row[0]), str(row[1]), int(row[2])) for row in rows]


def kept_file(root: Path, namespace: str, digits: str, number: int) -> Path:
    return root / "do-sql" / namespace / ".history" / f"{digits}-{number}.sqlite"


def forget(tx: Transaction, directory: Directory, problem: Problem) -> None:
    """Forget a kept state whose file is of no use."""
    digits, _, number = problem.key.rpartition("/")
    object_bookmarks.forget(tx, problem.name, digits, int(number))
    path = kept_file(directory.path, problem.name, digits, int(number))
    tx.after(lambda: path.unlink(missing_ok=True))
