"""The files of R2's buckets: finding an object's, putting it in its place, taking it away.

Directories are entered one by one, and none that is a link: nothing is read or written outside of
the bucket's directory, whatever lies in it. A file is known to hold a version's bytes by its size
and its time of modification, which is chosen when the version is written and has random digits.

Everything here blocks, and nothing here knows of rows: see :mod:`bunflare.store.r2_settle`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import r2_paths as paths

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS = os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_TMPFILE", 0)
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.EPERM, errno.EXDEV)
# What says that something else is in the way of a path.
_TAKEN = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY, errno.EMLINK)
_ABSENT = (*_TAKEN, errno.ENOENT, errno.ENXIO, errno.ENAMETOOLONG)


# From so many files on, it is quicker to flush the whole volume than each of them.
_SYNC_ALL = 32


@dataclass(frozen=True, slots=True)
class Mark:
    """By what the file of a version is known."""

    version: str
    size: int
    #: Nanoseconds.
    mtime: int

    def fits(self, found: os.stat_result) -> bool:
        if found.st_size != self.size:
            return False
        time = found.st_mtime_ns
        # Some file systems keep whole seconds only.
        return time == self.mtime or (
            time % 1_000_000_000 == 0 and time == self.mtime - self.mtime % 1_000_000_000
        )


class R2Files:
    """The files of all buckets of one data directory."""

    def __init__(self, root: Path, staging: Path, folding: bool | None = None) -> None:
        self._root = str(root)
        self.staging = staging
        self._staged = f"{staging}/"
        self._folding = folding
        self._buckets: dict[str, str] = {}
        self._nameless = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir()

    @property
    def folding(self) -> bool:
        """Whether this volume takes ``A`` and ``a`` for one name."""
        if self._folding is None:
            self.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"Probe-{secrets.token_hex(8)}"
            os.close(os.open(self.staging / name, _CREATE, 0o600))
            try:
                self._folding = (self.staging / name.lower()).exists()
            finally:
                # Whoever sweeps the directory may have been quicker.
                (self.staging / name).unlink(missing_ok=True)
        return self._folding

    def bucket(self, bucket: str) -> str:
        """The directory of a bucket."""
        directory = self._buckets.get(bucket)
        if directory is None:
            directory = f"{self._root}/{paths.bucket_name(bucket, self.folding)}"
            self._buckets[bucket] = directory
        return directory

    # -- finding ---------------------------------------------------------------------------

    def open(self, bucket: str, key: str, mark: Mark) -> int | None:
        """A descriptor of the file that holds this version's bytes, if it is found."""
        root = self.bucket(bucket)
        for path in (paths.first(key, self.folding), paths.second(key, self.folding)):
            descriptor = _open(root, path)
            if descriptor is not None:
                if mark.fits(os.fstat(descriptor)):
                    return descriptor
                os.close(descriptor)
        return self.open_staged(mark.version)

    def open_staged(self, version: str) -> int | None:
        try:
            return os.open(self._staged + version, _READ)
        except FileNotFoundError:
            return None

    def open_any(self, bucket: str, key: str, size: int | None) -> int | None:
        """A descriptor of what lies where the object's file should, if it is of that size."""
        for descriptor in self._candidates(bucket, key, paths.verbatim(key)):
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and size in (None, found.st_size):
                return descriptor
            os.close(descriptor)
        return None

    def open_path(self, bucket: str, path: paths.Path) -> int | None:
        """A descriptor of a file, whatever it is."""
        return _open(self.bucket(bucket), path)

    def all_files(self, bucket: str) -> list[paths.Path]:
        """Paths of all files in a bucket's directory, within it. Links are none."""
        found: list[paths.Path] = []
        waiting: list[tuple[str, paths.Path]] = [(self.bucket(bucket), ())]
        while waiting:
            directory, above = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, (*above, entry.name)))
                        elif entry.is_file(follow_symlinks=False) and _can_be_key(entry.name):
                            found.append((*above, entry.name))
            except FileNotFoundError:
                continue
        return sorted(found)

    def key_of(self, path: paths.Path) -> str:
        """The key that a file stands for which belongs to no object."""
        return paths.key_of(path, self.folding)

    def paths_of(self, key: str, own: bool) -> list[paths.Path]:
        """Where the file of an object may lie: of one that we wrote, or another program."""
        found = [paths.first(key, self.folding), paths.second(key, self.folding)]
        other = paths.verbatim(key)
        return found if own or other is None else [*found, other]

    def _candidates(self, bucket: str, key: str, other: paths.Path | None = None) -> Iterator[int]:
        directory = self.bucket(bucket)
        first = paths.first(key, self.folding)
        for path in (first, paths.second(key, self.folding), other):
            if path is not None and (path is not other or path != first):
                descriptor = _open(directory, path)
                if descriptor is not None:
                    yield descriptor

    # -- changing --------------------------------------------------------------------------

    def place(
        self, bucket: str, key: str, mark: Mark, data: bytes | None, taken: bool = False
    ) -> None:
        """Have the version's file in its place: with these bytes, or the staged ones.

        ``taken`` says that its first path is some other object's.
        """
        if not taken:
            try:
                self._place(bucket, paths.first(key, self.folding), mark, data)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            else:
                other = f"{self.bucket(bucket)}/{paths.second(key, self.folding)[0]}"
                if os.path.lexists(other):
                    _unlink(other)
                return
        self._place(bucket, paths.second(key, self.folding), mark, data)

    def _place(self, bucket: str, path: paths.Path, mark: Mark, data: bytes | None) -> None:
        if len(path) > 1:
            directory = self._enter(bucket, path[:-1])
            try:
                self._put(path[-1], mark, data, directory)
            finally:
                os.close(directory)
            return
        target = f"{self.bucket(bucket)}/{path[0]}"
        try:
            self._put(target, mark, data, None)
        except FileNotFoundError:
            os.close(self._enter(bucket, ()))
            self._put(target, mark, data, None)

    def _put(self, target: str, mark: Mark, data: bytes | None, directory: int | None) -> None:
        staged = self._staged + mark.version
        if data is not None:
            if self._nameless and self._put_new(target, mark, data, directory):
                return
            _unlink(staged)
            try:
                _write(staged, mark, data)
            except FileNotFoundError:
                self.staging.mkdir(mode=0o700, exist_ok=True)
                _write(staged, mark, data)
        elif not os.path.lexists(staged):
            return  # it was put in its place before
        try:
            os.rename(staged, target, dst_dir_fd=directory)
        except OSError:
            if data is not None:
                _unlink(staged)
            raise

    def _put_new(self, target: str, mark: Mark, data: bytes, directory: int | None) -> bool:
        """Make a file that has its name only when it is whole; whether that could be done.

        This is quicker than to rename one, but cannot take the place of another.
        """
        where = target.rpartition("/")[0] if directory is None else "."
        try:
            descriptor = os.open(where, _NAMELESS, 0o600, dir_fd=directory)
            try:
                _fill(descriptor, mark, data)
                # Any `src_dir_fd` makes this follow the link; it has no other meaning here.
                own = f"/proc/self/fd/{descriptor}"
                os.link(own, target, src_dir_fd=descriptor, dst_dir_fd=directory)
            finally:
                os.close(descriptor)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
            self._nameless = False
            return False
        return True

    def holds(self, bucket: str, key: str, mark: Mark, data: bytes | None) -> bool:
        """Whether the version's file is in its place, with these bytes if they are known."""
        for descriptor in self._candidates(bucket, key):
            try:
                if mark.fits(os.fstat(descriptor)):
                    return data is None or os.pread(descriptor, len(data) + 1, 0) == data
            finally:
                os.close(descriptor)
        return False

    def remove(self, bucket: str, key: str) -> None:
        """Have no file for this key, nor directories that it leaves empty."""
        directory = self.bucket(bucket)
        _unlink(f"{directory}/{paths.second(key, self.folding)[0]}")
        self._remove(directory, paths.first(key, self.folding))

    def _remove(self, directory: str, path: paths.Path) -> None:
        entered: list[int] = []
        try:
            entered.append(os.open(directory, _ENTER & ~os.O_NOFOLLOW))
            for name in path[:-1]:
                entered.append(os.open(name, _ENTER, dir_fd=entered[-1]))
            os.unlink(path[-1], dir_fd=entered[-1])
            for depth in range(len(path) - 1, 0, -1):
                os.rmdir(path[depth - 1], dir_fd=entered[depth - 1])
        except OSError as error:
            if error.errno not in (*_ABSENT, errno.EPERM):
                raise
        finally:
            for descriptor in entered:
                os.close(descriptor)

    def remove_path(self, bucket: str, path: paths.Path) -> None:
        """Remove a file, and directories that it leaves empty."""
        self._remove(self.bucket(bucket), path)

    def discard(self, version: str) -> None:
        """Remove the staged file of a version that was overtaken."""
        _unlink(self._staged + version)

    # -- safety ----------------------------------------------------------------------------

    def sync(self, keys: set[tuple[str, str]]) -> None:
        """Have the files of these buckets' keys, or that there are none, on disk."""
        if len(keys) >= _SYNC_ALL and _sync_volume(self._root):
            return
        seen: set[tuple[str, ...]] = set()
        for bucket, key in keys:
            root = self.bucket(bucket)
            for path in (paths.first(key, self.folding), paths.second(key, self.folding)):
                descriptor = _open(root, path)
                if descriptor is not None:
                    _sync(descriptor)
            parents = paths.first(key, self.folding)[:-1]
            for depth in range(len(parents) + 1):
                where = (root, *parents[:depth])
                if where not in seen:
                    seen.add(where)
                    directory = _walk(root, where[1:])
                    if directory is not None:
                        _sync(directory)
        for above in (self._root, str(Path(self._root).parent)):
            _sync(os.open(above, _ENTER & ~os.O_NOFOLLOW))

    def _enter(self, bucket: str, names: paths.Path) -> int:
        """A descriptor of a directory of a bucket, made if it is not there."""
        root = self.bucket(bucket)
        try:
            directory = os.open(root, _ENTER & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            Path(root).mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = os.open(root, _ENTER & ~os.O_NOFOLLOW)
        for name in names:
            try:
                try:
                    inner = os.open(name, _ENTER, dir_fd=directory)
                except FileNotFoundError:
                    os.mkdir(name, 0o700, dir_fd=directory)
                    inner = os.open(name, _ENTER, dir_fd=directory)
            finally:
                os.close(directory)
            directory = inner
        return directory


def _write(path: str, mark: Mark, data: bytes) -> None:
    descriptor = os.open(path, _CREATE, 0o600)
    try:
        _fill(descriptor, mark, data)
    except BaseException:
        _unlink(path)
        raise
    finally:
        os.close(descriptor)


def _fill(descriptor: int, mark: Mark, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.utime(descriptor, ns=(mark.mtime, mark.mtime))


def _walk(root: str, names: paths.Path) -> int | None:
    """A descriptor of a directory; None if there is none, or a link on the way."""
    try:
        directory = os.open(root, _ENTER & ~os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    for name in names:
        try:
            inner = os.open(name, _ENTER, dir_fd=directory)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        finally:
            os.close(directory)
        directory = inner
    return directory


def _open(root: str, path: paths.Path) -> int | None:
    """A descriptor of a file; None if there is none, or a link on the way."""
    if len(path) == 1:
        try:
            return os.open(f"{root}/{path[0]}", _READ)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
    directory = _walk(root, path[:-1])
    if directory is None:
        return None
    try:
        return os.open(path[-1], _READ, dir_fd=directory)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    finally:
        os.close(directory)


def _can_be_key(name: str) -> bool:
    """Whether a file's name is one in UTF-8."""
    return name.isascii() or not any("\ud800" <= one <= "\udfff" for one in name)


def _unlink(path: str) -> None:
    try:
        Path(path).unlink()
    except OSError as error:
        if error.errno not in (*_ABSENT, errno.EPERM):
            raise


def _sync_volume(path: str) -> bool:
    """Have all that was written to a volume on disk; whether that can be asked for."""
    import ctypes

    try:
        syncfs = ctypes.CDLL(None).syncfs
    except (OSError, AttributeError):
        return False
    descriptor = os.open(path, _ENTER & ~os.O_NOFOLLOW)
    try:
        return bool(syncfs(descriptor) == 0)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
