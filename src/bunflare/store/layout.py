"""Which files of a data directory are its state, and how each of them may be copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: Where named moments are kept, and what is pinned for a while.
SNAPSHOTS = "snapshots"
DATABASE = "data.sqlite"
CACHE = "cache"
R2 = "r2"
STAGING = "r2-staging"

# What belongs to running processes.
_PASSING = frozenset({"processes", "sockets", SNAPSHOTS})
_OWN_WAY = frozenset({CACHE, R2, STAGING})
# What is kept of the earlier states of a D1 database, or an object's SQL; it is appended to.
_HISTORY = ".history"
_PASSING_ENDS = ("-wal", "-shm", "-journal", ".lock", ".part")


def sql_files(root: Path) -> Iterator[str]:
    """Paths of all SQLite files, ``data.sqlite`` first, relative to the directory.

    Kept states are none.
    """
    if (root / DATABASE).is_file():
        yield DATABASE
    for name in _walk(root, ""):
        if name != DATABASE and name.endswith(".sqlite") and not _is_kept(name):
            yield name


def plain_files(root: Path) -> Iterator[str]:
    """Files that are neither SQLite's, nor those of R2 and the cache, nor of a history.

    The copies that bookmarks of objects keep are among them: they never change.
    """
    for name in _walk(root, ""):
        if not in_history(name) and (not name.endswith(".sqlite") or _is_kept(name)):
            yield name


def histories(root: Path) -> Iterator[str]:
    """The directories with earlier states of databases."""
    for place in ("d1", "do-sql/*"):
        for path in sorted(root.glob(f"{place}/.*{_HISTORY}")):
            if path.is_dir():
                yield path.relative_to(root).as_posix()


def in_history(name: str) -> bool:
    """Whether a file belongs to the history of a SQLite file."""
    return f"{_HISTORY}/" in name and not _is_copy(name)


def _is_copy(name: str) -> bool:
    return f"/{_HISTORY}/" in name


def _is_kept(name: str) -> bool:
    return f"{_HISTORY}/" in name


def has_history(path: Path) -> bool:
    """Whether earlier states of a SQLite file are kept: its log is not to be copied back by those
    who know nothing of that."""
    return os.path.isdir(history_of(path))  # noqa: PTH112 - asked whenever a file is opened


def history_of(path: Path) -> str:
    """Where the earlier states of a SQLite file are."""
    above, _, name = str(path).rpartition("/")
    return f"{above}/.{name.removesuffix('.sqlite')}{_HISTORY}"


def is_written_once(name: str) -> bool:
    """Whether a file never changes under its name, so that it may have a further one."""
    return name.partition("/")[0] in _OWN_WAY


def tree(root: Path, below: str) -> Iterator[os.DirEntry[str]]:
    """The files of a directory in the data directory, with those of its directories."""
    waiting = [str(root / below)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry
        except FileNotFoundError:
            continue


def _walk(root: Path, below: str) -> Iterator[str]:
    try:
        with os.scandir(root / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            if below or entry.name not in _PASSING | _OWN_WAY:
                yield from _walk(root, name)
        elif entry.is_file(follow_symlinks=False) and not name.endswith(_PASSING_ENDS):
            yield name
