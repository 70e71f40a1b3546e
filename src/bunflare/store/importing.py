"""Adding to a data directory in one step: whatever is killed, it is as before, or has it all.

What is there is copied beside it (files of R2 and the cache get a second name), the copy is added
to, and put in its place. Nobody may use the directory meanwhile; whoever did is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import StateError
from .images import alone, check_target, making, put_in_place, refusals, sync_tree
from .layout import CACHE, DATABASE, R2, SNAPSHOTS, STAGING, tree
from .moment import clone, link, signature

T = TypeVar("T")

# What belongs to running processes, or is made anew.
_LEFT = ("processes", "sockets", SNAPSHOTS)
_LEFT_ENDS = ("-shm", ".lock", ".part")


def add_to(target: Path, fill: Callable[[Path], T]) -> T:
    """Have ``fill`` add to a data directory, which may not be there yet. Blocks."""
    check_target(target, replace=True)
    with alone(target):
        pass  # whose log is now empty, if nobody has it open
    with refusals(target), making(target.parent, target.name) as made:
        before = signature(target / DATABASE)
        _copy(target, made)
        done = fill(made)
        sync_tree(made)
        with alone(target):
            if signature(target / DATABASE) != before:
                raise StateError(f"{target} was written to meanwhile; nothing was imported")
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


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    start = len(str(source)) + 1
    folders: set[str] = set()
    for entry in tree(source, ""):
        name = entry.path[start:]
        first = name.split("/", 1)[0]
        if first in _LEFT or name.endswith(_LEFT_ENDS):
            continue
        copy = f"{target}/{name}"
        above = copy.rpartition("/")[0]
        if above not in folders:
            Path(above).mkdir(mode=0o700, parents=True, exist_ok=True)
            folders.add(above)
        # These are written once; all others are written to.
        (link if first in (R2, CACHE, STAGING) else clone)(entry.path, copy)
