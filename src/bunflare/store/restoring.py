"""Putting a backup or a snapshot in the place of a data directory, or where none is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import FutureFormatError
from .archive import Backup, read_backup
from .directory import _refuse_future
from .images import Progress, alone, check_target, making, put_in_place, refusals, sync_tree
from .layout import SNAPSHOTS

T = TypeVar("T")


def restore_backup(
    source: Path, target: Path, replace: bool, progress: Progress | None = None
) -> Backup:
    """Make a data directory of a backup. Blocks."""
    return build(target, replace, lambda made: read_backup(source, made, progress))


def build(target: Path, replace: bool | None, fill: Callable[[Path], T]) -> T:
    """Have ``fill`` make a data directory, and put it in its place. Its snapshots stay."""
    check_target(target, replace)
    with alone(target):
        pass  # to know that early
    with refusals(target), making(target.parent, target.name) as made:
        done = fill(made)
        try:
            _refuse_future(made)
        except FutureFormatError as error:
            raise FutureFormatError(str(error).replace(str(made), "it")) from None
        sync_tree(made)
        with alone(target):
            check_target(target, replace)
            kept = target / SNAPSHOTS
            if kept.is_dir():
                kept.rename(made / SNAPSHOTS)
            try:
                put_in_place(made, target)
            except BaseException:
                if (made / SNAPSHOTS).is_dir() and not kept.exists():
                    (made / SNAPSHOTS).rename(kept)
                raise
    return done
