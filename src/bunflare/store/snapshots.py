"""Named moments of a data directory, kept in it: ``snapshots/<name>/`` is a whole one of its own.

The files of R2 and of the cache are written once, so a snapshot has them by a further name and
costs no space until they are replaced; files of SQLite are copied. To change such a file in place,
which bunflare never does, would change it in the snapshot too; where the file system can share
blocks among files (Btrfs, XFS) that is used where files are copied.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackupError
from .directory import Directory
from .images import (
    Image,
    Progress,
    copy_image,
    making,
    of_moment,
    recover,
    refusals,
    sync_directory,
    sync_tree,
)
from .layout import SNAPSHOTS, is_written_once, tree
from .moment import Moment
from .restoring import build

#: What a snapshot says of itself.
ABOUT = "snapshot.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named moment."""

    name: str
    #: Epoch milliseconds.
    at: int
    #: Bytes of its files. Most are shared with the directory for as long as they are in it.
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class About:
    """What was noted when a snapshot was made."""

    #: Epoch milliseconds.
    at: int
    #: Names and sizes of its files, but for those that rows name; none where that was not noted.
    files: dict[str, int]


def check_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BackupError(
            f"{name!r} is no name for a snapshot: 1 to 100 letters, digits, '.', '_' and '-', of "
            "which '.' and '-' are not the first"
        )
    return name


def take(directory: Directory, name: str, progress: Progress | None = None) -> Snapshot:
    """Keep this moment under a name. Blocks."""
    target = directory.path / SNAPSHOTS / check_name(name)
    if target.exists():
        raise BackupError(f"there is a snapshot {name!r} already")

    def make(found: Moment, pins: Path) -> None:
        Image(pins, found.sql).settle(progress)
        (pins / ABOUT).write_text(json.dumps({"at": found.at, "files": _sizes(pins)}))
        sync_tree(pins)
        try:
            pins.rename(target)
        except OSError:
            if target.exists():
                raise BackupError(f"there is a snapshot {name!r} already") from None
            raise
        sync_directory(target.parent)

    with refusals(target):
        of_moment(directory, make)
    return find(directory.path, name)


def _sizes(pins: Path) -> dict[str, int]:
    start = len(str(pins)) + 1
    files = ((entry.path[start:], entry.stat().st_size) for entry in tree(pins, ""))
    return {name: size for name, size in files if not is_written_once(name)}


def about(path: Path) -> About:
    """What a snapshot says of itself; raises `ValueError` where that is damaged."""
    told = json.loads((path / ABOUT).read_bytes())
    match told:
        case {"at": int(at)}:
            files = told.get("files", {})
        case _:
            raise ValueError("it does not say of what moment the snapshot is")
    if not isinstance(files, dict) or not all(isinstance(size, int) for size in files.values()):
        raise ValueError("its list of files is none")
    return About(at, files)


def kept(root: Path) -> list[Snapshot]:
    """All snapshots of a directory, the oldest first."""
    recover(root)
    paths = (root / SNAPSHOTS).glob("[!.]*")
    found = []
    for path in paths:
        if (path / ABOUT).is_file():
            with suppress(FileNotFoundError):  # it has just been dropped
                found.append(_read(path))
    return sorted(found, key=lambda one: (one.at, one.name))


def find(root: Path, name: str) -> Snapshot:
    recover(root)
    path = root / SNAPSHOTS / check_name(name)
    if not (path / ABOUT).is_file():
        raise BackupError(f"there is no snapshot {name!r}")
    return _read(path)


def _read(path: Path) -> Snapshot:
    try:
        at = about(path).at
    except ValueError:
        raise BackupError(f"{path / ABOUT} is damaged") from None
    return Snapshot(path.name, at, sum(entry.stat().st_size for entry in tree(path, "")), path)


def drop(root: Path, name: str) -> None:
    """Forget a snapshot, at once and as a whole; one that is damaged, too."""
    recover(root)
    path = root / SNAPSHOTS / check_name(name)
    if not path.is_dir():
        raise BackupError(f"there is no snapshot {name!r}")
    with making(root / SNAPSHOTS, "") as away:
        path.rename(away / "dropped")
        shutil.rmtree(away)


def branch(
    source: Path,
    target: Path,
    replace: bool | None = None,
    progress: Progress | None = None,
) -> None:
    """Make a data directory of a snapshot. Blocks."""

    def fill(made: Path) -> None:
        copy_image(source, made, progress)
        (made / ABOUT).unlink(missing_ok=True)

    build(target, replace, fill)


def branch_now(directory: Directory, target: Path, progress: Progress | None = None) -> None:
    """Make a data directory of the present moment. Blocks."""

    def make(found: Moment, pins: Path) -> None:
        Image(pins, found.sql).settle()
        build(target, None, lambda made: copy_image(pins, made, progress))

    with refusals(target):
        of_moment(directory, make)


def go_back(root: Path, name: str, progress: Progress | None = None) -> Snapshot:
    """Put a snapshot in the place of the present state. Blocks."""
    found = find(root, name)
    branch(found.path, root, True, progress)
    return find(root, name)
