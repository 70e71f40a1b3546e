"""Where state lives: finding the data directory, making it, and refusing what cannot be one."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import BunflareError, DatabaseFull, DirectoryError, FutureFormatError
from .connection import head_of

DIRECTORY_NAME = ".bunflare"
ENVIRONMENT_VARIABLE = "BUNFLARE_DIR"
MEMORY = ":memory:"

#: What ``PRAGMA user_version`` of ``data.sqlite`` says. 0 is a file that follows the seed's schema
#: and was made by any program.
FORMAT_VERSION = 1

_ROOT_MARKS = (
    ("wrangler.json", "wrangler.jsonc", "wrangler.toml"),
    ("pyproject.toml",),
    (".git",),
)
_USER_VERSION_OFFSET = 60
_SQLITE_HEADER_SIZE = 100


@dataclass(frozen=True, slots=True)
class Directory:
    """An existing data directory and the places in it."""

    path: Path
    #: A throw-away directory is removed when its state is closed.
    temporary: bool = False

    @property
    def database(self) -> Path:
        """KV, Durable Object storage, queues, workflows, cache, and the metadata of the rest."""
        return self.path / "data.sqlite"

    @property
    def cache_bodies(self) -> Path:
        """Bodies of cached responses that are too large for a row."""
        return self.path / "cache"

    @property
    def r2(self) -> Path:
        """The objects of R2: ``r2/<bucket>/<key>``."""
        return self.path / "r2"

    @property
    def r2_staging(self) -> Path:
        """Objects, and parts of such, that are being written or not in their places yet."""
        return self.path / "r2-staging"

    @property
    def turnstile(self) -> Path:
        """The file whose lock decides which process writes next."""
        return self.path / "writer.lock"

    @property
    def processes(self) -> Path:
        """A locked file for each process that holds claims."""
        return self.path / "processes"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def project_root(start: Path | None = None) -> Path:
    """The nearest ancestor with a wrangler file, then ``pyproject.toml``, then ``.git``; else
    the directory itself."""
    start = (start or Path.cwd()).absolute()
    for marks in _ROOT_MARKS:
        for candidate in (start, *start.parents):
            if any((candidate / mark).exists() for mark in marks):
                return candidate
    return start


def locate(path: str | os.PathLike[str] | None = None) -> Path:
    """The data directory: the argument, else ``BUNFLARE_DIR``, else ``.bunflare`` in the project
    root."""
    if path is None:
        path = os.environ.get(ENVIRONMENT_VARIABLE) or project_root() / DIRECTORY_NAME
    return Path(path).expanduser().resolve()


def open_directory(path: str | os.PathLike[str] | None = None) -> Directory:
    """Find the data directory, made if it is not there.

    Raises `DirectoryError` where that cannot be, and `FutureFormatError`, touching nothing, when
    a newer bunflare wrote it.
    """
    if path == MEMORY:
        # Imported here because it takes long, and programs that keep their state need it not.
        import tempfile

        return Directory(_populate(Path(tempfile.mkdtemp(prefix="bunflare-"))), temporary=True)
    where = locate(path)
    _refuse_future(where)
    return Directory(_populate(where))


def _refuse_future(path: Path) -> None:
    # The header is read as bytes: opening a database of the file would already write beside it.
    header = head_of(path / "data.sqlite", _SQLITE_HEADER_SIZE)
    field = header[_USER_VERSION_OFFSET : _USER_VERSION_OFFSET + 4]
    version = int.from_bytes(field, "big", signed=True)
    if header.startswith(b"SQLite format 3\0"):
        check_format(path, version)


def check_format(path: Path, version: int) -> None:
    """Refuse a format that this program does not know."""
    if version > FORMAT_VERSION:
        raise FutureFormatError(
            f"{path} was written by a newer bunflare (format {version}, this one knows "
            f"{FORMAT_VERSION}); upgrade bunflare, or use another directory. Nothing was changed"
        )


def _populate(path: Path) -> Path:
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DirectoryError(f"{path} is not a directory") from error
    except NotADirectoryError as error:
        raise DirectoryError(
            f"{path} cannot be a directory: a part of its path is a file"
        ) from error
    except OSError as error:
        raise _translated(error, path) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DirectoryError(f"{path} cannot be written to (check its owner and permissions)")
    return path


def ignore(path: Path) -> None:
    """Keep the data directory out of version control. To be called once its format is known."""
    target = path / ".gitignore"
    try:
        if not target.exists():
            # Another process may do the same at this moment: both write the same bytes, whole.
            partial = path / f".gitignore.{os.getpid()}"
            try:
                partial.write_text("# State of bunflare; not for version control.\n*\n")
                partial.replace(target)
            except FileNotFoundError:
                # The other one was quicker, and took this for left over.
                if not target.exists():
                    raise
            except OSError:
                partial.unlink(missing_ok=True)
                raise
        for left in path.glob(".gitignore.*"):  # by those that were killed half-way
            left.unlink(missing_ok=True)
    except OSError as error:
        raise _translated(error, path) from error


def _translated(error: OSError, path: Path) -> BunflareError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DatabaseFull(f"the disk that holds {path} is full; nothing was written")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DirectoryError(f"{path} cannot be written to ({error.strerror})")
    return DirectoryError(f"{path} cannot be used ({error.strerror})")
