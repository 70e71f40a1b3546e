"""A backup: everything of one moment in one file.

It is an ordinary tar file. ``bunflare-backup.json`` comes first and says what it is, ``state/`` is
the data directory, and ``SHA256SUMS`` comes last, so that a file that was cut off is known as such;
``sha256sum --check SHA256SUMS`` checks what any tar has unpacked. Times of files are exact to the
nanosecond (in pax records), since objects of R2 are known by them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import tarfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import BackupError
from .blobs import copied_range
from .directory import Directory
from .images import Image, Progress, of_moment, refusals
from .moment import Moment

FORMAT = 1
_HEAD = "bunflare-backup.json"
_SUMS = "SHA256SUMS"
_STATE = "state/"
_BLOCK = 1024 * 1024
_LARGE = 4 * _BLOCK

# What is read of a file that is none of ours, or not as it was.
_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError)

#: Is told how many bytes are done, and how many there are.


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, or looked into."""

    path: Path
    #: The moment that it holds, in epoch milliseconds.
    at: int
    #: How many files of the state, and their bytes.
    files: int
    size: int


# -- making one --------------------------------------------------------------------------------


def write_backup(directory: Directory, target: Path, progress: Progress | None = None) -> Backup:
    """Write everything of one moment to a file, whole or not at all. Blocks."""
    if target.is_dir():
        raise BackupError(f"{target} is a directory; name a file")
    if not target.parent.is_dir():
        raise BackupError(f"there is no directory {target.parent}")

    def make(found: Moment, pins: Path) -> Backup:
        # On the disk of the backup, which has to have the room in any case.
        copy = target.with_name(f".{target.name}.{os.getpid()}.copy")
        try:
            with _partial(target) as file:
                return _write(found.at, Image(pins, found.sql, copy), target, file, progress)
        finally:
            copy.unlink(missing_ok=True)

    with refusals(target):
        return of_moment(directory, make)


@contextmanager
def _partial(target: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole and on disk."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write(
    at: int, image: Image, target: Path, file: IO[bytes], progress: Progress | None
) -> Backup:
    with ExitStack() as stack:
        raw: IO[bytes] = file
        match target.suffixes[-1:]:
            case [".gz" | ".tgz"]:
                packed: Any = gzip.GzipFile("", "wb", 6, file)
                raw = stack.enter_context(packed)
            case [".xz" | ".txz"]:
                packed = lzma.LZMAFile(file, "wb", preset=1)  # noqa: SIM115 - the stack does
                raw = stack.enter_context(packed)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        writer = _Writer(raw, raw is file, pool)
        writer.add_note(_HEAD, json.dumps({"bunflare_backup": FORMAT, "at": at}).encode() + b"\n")
        files = size = 0
        for name, found in image.files():
            if isinstance(found, bytes):
                done = writer.add_bytes(_STATE + name, found)
            else:
                done = writer.add_file(_STATE + name, found)
            files += 1
            size += done
            if progress is not None:
                progress(size, max(image.size, size))
        writer.add_note(_SUMS, "".join(writer.sums).encode(errors="surrogateescape"))
        raw.write(bytes(2 * tarfile.BLOCKSIZE))
    return Backup(target, at, files, size)


class _Writer:
    """Writes members of a tar file."""

    def __init__(self, raw: IO[bytes], plain: bool, pool: ThreadPoolExecutor) -> None:
        self._raw = raw
        self._plain = plain
        self._pool = pool
        self.sums: list[str] = []

    def add_note(self, name: str, data: bytes, mtime: int | None = None) -> None:
        """A member of ours, which is no file of the state."""
        self._begin(name, len(data), mtime)
        self._raw.write(data)
        self._end(len(data))

    def add_bytes(self, name: str, data: bytes) -> int:
        self.add_note(name, data, time.time_ns())
        self.sums.append(sum_line(hashlib.sha256(data).hexdigest(), name))
        return len(data)

    def add_file(self, name: str, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            size = found.st_size
            self._begin(name, size, found.st_mtime_ns)
            if size <= _LARGE:
                data = os.pread(descriptor, size, 0)
                if len(data) != size:
                    raise BackupError(f"{path} was cut off while it was read")
                digest = hashlib.sha256(data).hexdigest()
                self._raw.write(data)
            else:
                # A thread computes it meanwhile.
                pending = self._pool.submit(_digest, descriptor, size)
                try:
                    self._copy(descriptor, size)
                finally:
                    digest = pending.result()
            self._end(size)
        finally:
            os.close(descriptor)
        self.sums.append(sum_line(digest, name))
        return size

    def _copy(self, descriptor: int, size: int) -> None:
        if self._plain:
            self._raw.flush()
            for _ in copied_range(descriptor, self._raw.fileno(), 0, size):
                pass
            return
        for offset in range(0, size, _BLOCK):
            self._raw.write(os.pread(descriptor, min(_BLOCK, size - offset), offset))

    def _begin(self, name: str, size: int, mtime: int | None) -> None:
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = 0o600
        if mtime is not None:
            seconds, rest = divmod(mtime, 1_000_000_000)
            member.pax_headers = {"mtime": f"{seconds}.{rest:09d}"}
        self._raw.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _end(self, size: int) -> None:
        self._raw.write(bytes(-size % tarfile.BLOCKSIZE))


def _digest(descriptor: int, size: int, start: int = 0) -> str:
    digest = hashlib.sha256()
    for offset in range(start, start + size, _BLOCK):
        digest.update(os.pread(descriptor, min(_BLOCK, start + size - offset), offset))
    return digest.hexdigest()


def sum_line(digest: str, name: str) -> str:
    """As ``sha256sum`` writes it."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


# -- reading one -------------------------------------------------------------------------------


def read_backup(source: Path, into: Path, progress: Progress | None = None) -> Backup:
    """Unpack a backup into a new directory, with all digests compared, and on disk. Blocks.

    Raises `BackupError` where it is none, or is damaged.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb"))
            packed = file.peek(6)[:6]
            pool = stack.enter_context(ThreadPoolExecutor(1))
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:*"))
            plain = not packed.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh"))
            reader = _Reader(archive, into, file.fileno() if plain else None, pool)
            return reader.read(source, file.seek(0, os.SEEK_END) if plain else 0, progress)
    except FileNotFoundError:
        if source.exists():
            raise
        raise BackupError(f"there is no file {source}") from None
    except IsADirectoryError:
        raise BackupError(f"{source} is a directory, not a backup") from None
    except (*_DAMAGED, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise BackupError(f"{source} is not a backup of bunflare, or is damaged") from error


class _Reader:
    def __init__(
        self, archive: tarfile.TarFile, into: Path, plain: int | None, pool: ThreadPoolExecutor
    ) -> None:
        self._archive = archive
        self._into = str(into)
        # The descriptor of a file that was not compressed.
        self._plain = plain
        self._pool = pool
        self._made: set[str] = set()
        self._sums: list[str] = []

    def read(self, source: Path, whole: int, progress: Progress | None) -> Backup:
        head = self._head(source)
        files = size = 0
        told: str | None = None
        while (member := self._archive.next()) is not None:
            # It would remember them all.
            self._archive.members = []  # type: ignore[attr-defined]
            if member.name == _SUMS:
                told = self._bytes(member).decode(errors="surrogateescape")
                break
            name = member.name.removeprefix(_STATE)
            if not member.isreg() or name == member.name or not _is_inside(name):
                raise BackupError(f"{source} is damaged: it has {member.name!r} in it")
            self._sums.append(sum_line(self._unpack(member, name), member.name))
            files += 1
            size += member.size
            if progress is not None:
                progress(size, max(whole, size))
        if told is None:
            raise BackupError(f"{source} is damaged: its end is missing")
        if told != "".join(self._sums):
            wrong = set("".join(self._sums).splitlines()) ^ set(told.splitlines())
            names = sorted({line.partition("  ")[2] for line in wrong})
            raise BackupError(f"{source} is damaged: {', '.join(names[:5])} is not what it was")
        if f"{_STATE}data.sqlite" not in told:
            raise BackupError(f"{source} is damaged: there is no data.sqlite in it")
        return Backup(source, int(head["at"]), files, size)

    def _head(self, source: Path) -> dict[str, Any]:
        member = self._archive.next()
        if member is None or member.name != _HEAD or member.size > _BLOCK:
            raise BackupError(f"{source} is not a backup of bunflare")
        try:
            head = json.loads(self._bytes(member))
            form = int(head["bunflare_backup"])
            int(head["at"])
        except (ValueError, KeyError, TypeError):
            raise BackupError(f"{source} is not a backup of bunflare") from None
        if form > FORMAT:
            raise BackupError(f"{source} was written by a newer bunflare (format {form})")
        return dict(head)

    def _bytes(self, member: tarfile.TarInfo) -> bytes:
        file = self._archive.extractfile(member)
        return b"" if file is None else file.read()

    def _unpack(self, member: tarfile.TarInfo, name: str) -> str:
        """Write a member to its file; its digest."""
        target = f"{self._into}/{name}"
        above = target.rpartition("/")[0]
        if above not in self._made:
            Path(above).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._made.add(above)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(target, flags, 0o600)
        try:
            digest = self._copy(member, descriptor)
            mtime = _mtime(member)
            os.utime(descriptor, ns=(mtime, mtime))
        finally:
            os.close(descriptor)
        return digest

    def _copy(self, member: tarfile.TarInfo, target: int) -> str:
        start, size = member.offset_data, member.size
        if self._plain is not None and size > _LARGE:
            digest = self._pool.submit(_digest, self._plain, size, start)
            try:
                for _ in copied_range(self._plain, target, start, size):
                    pass
            finally:
                told = digest.result()
            return told
        if self._plain is not None:
            data = os.pread(self._plain, size, start)
            _write_all(target, data)
            return hashlib.sha256(data).hexdigest()
        digests = hashlib.sha256()
        file = self._archive.extractfile(member)
        while file is not None and (block := file.read(_BLOCK)):
            digests.update(block)
            _write_all(target, block)
        return digests.hexdigest()


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _mtime(member: tarfile.TarInfo) -> int:
    seconds, _, rest = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    return int(seconds) * 1_000_000_000 + int(f"{rest:0<9.9}" or 0)


def _is_inside(name: str) -> bool:
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))
