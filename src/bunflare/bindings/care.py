"""Looking after a whole data directory: what `State` offers beside the systems' bindings."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..clock import Clock
from ..errors import StateError
from ..store.database import Database
from ..store.directory import locate
from ..store.threads import on_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store.archive import Backup
    from ..store.checks import StateCheck, StateRepair
    from ..store.compare import Difference
    from ..store.figures import StateInfo
    from ..store.images import Progress
    from ..store.r2_settle import Settler
    from ..store.snapshots import Snapshot
    from ..store.vacuum import Vacuumed
    from .care_prune import Pruned
    from .changes import Changes


class StateCare:
    """The state as one thing: counted, checked, copied, compared, followed."""

    _database: Database
    _clock: Clock

    def _settler(self) -> Settler:
        raise NotImplementedError

    @property
    def changes(self) -> Changes:
        """The log of what changes, for following it."""
        from .changes import Changes

        return Changes(self._database)

    async def info(self) -> StateInfo:
        """Counts, sizes and times of everything, by system and name."""
        from ..store.figures import state_info

        return await on_thread(state_info, self._database.directory)

    async def check(
        self, *, digests: bool = True, full: bool = False, progress: Progress | None = None
    ) -> StateCheck:
        """Hold everything against everything: rows, files, sizes, digests, SQLite's own structure.

        Snapshots too: each is to be readable and whole. ``digests`` reads every object of R2 and
        compares its MD5; ``full`` has SQLite compare every index entry with its row, which takes
        ten times as long. Others may go on writing. Problems are things that are wrong; notes are
        left over, or not finished yet. ``progress`` is called, here and below, with the bytes that
        are done and those that there are; it may be from a thread.
        """
        from .care_check import check_state

        return await check_state(
            self._database, self._settler(), self._clock, digests, full, progress
        )

    async def repair(self, *, full: bool = False, progress: Progress | None = None) -> StateRepair:
        """Mend what `check` finds and can be mended, each thing in one step; what was, what not."""
        from .care_check import repair_state

        self._outside("repair")
        return await repair_state(self._database, self._settler(), self._clock, full, progress)

    async def backup(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Backup:
        """Write everything of one moment to one file, while all others go on reading and writing.

        The file is a tar with digests, compressed if its name ends in ``.gz``, ``.tgz`` or
        ``.xz``; it gets its name when it is whole and on disk. ``progress`` is called, from a
        thread, with the bytes that are done and those that there are. Raises `BackupError`, and
        `DatabaseBusy` where somebody writes for half a minute without a pause.
        """
        from ..store.archive import write_backup

        self._outside("backup")
        target = Path(path)
        return await on_thread(write_backup, self._database.directory, target, progress)

    async def snapshot(self, name: str, *, progress: Progress | None = None) -> Snapshot:
        """Keep this moment under a name, in the data directory.

        It costs the space of the SQLite files, and of others what is replaced or deleted later.
        Raises `BackupError` where there is one of that name.
        """
        from ..store import snapshots

        self._outside("snapshot")
        return await on_thread(snapshots.take, self._database.directory, name, progress)

    async def snapshots(self) -> list[Snapshot]:
        """The named moments that are kept, the oldest first."""
        from ..store import snapshots

        return await on_thread(snapshots.kept, self._database.directory.path)

    async def drop_snapshot(self, name: str) -> None:
        """Forget a named moment."""
        from ..store import snapshots

        await on_thread(snapshots.drop, self._database.directory.path, name)

    async def branch(
        self,
        directory: str | os.PathLike[str],
        snapshot: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Make another data directory of a named moment, or of the present one.

        ``directory`` must be absent or empty. From then on each goes its own way. On the same
        volume files of R2 and of the cache are shared until one of the two replaces them.
        """
        from ..store import snapshots

        self._outside("branch")
        source, target = self._database.directory, Path(directory)

        def work() -> None:
            if snapshot is None:
                snapshots.branch_now(source, target.absolute(), progress)
            else:
                found = snapshots.find(source.path, snapshot).path
                snapshots.branch(found, target.absolute(), None, progress)

        await on_thread(work)

    async def diff(
        self, old: str, new: str | None = None, *, progress: Progress | None = None
    ) -> list[Difference]:
        """What was added, changed and removed since a named moment: until another one, or now.

        Names are those of snapshots. SQL files are compared by their tables. Others may go on
        writing; what they write meanwhile is in it or not. ``progress`` is called, on another
        thread, with how many tables and files were compared, and how many there are.
        """
        from ..store import snapshots
        from ..store.compare import differences

        root = self._database.directory.path

        def work() -> list[Difference]:
            before = snapshots.find(root, old).path
            after = root if new is None else snapshots.find(root, new).path
            return list(differences(before, after, progress))

        return await on_thread(work)

    async def prune(
        self,
        *,
        snapshots_older_than: timedelta | None = None,
        keep_snapshots: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Pruned:
        """Remove what has expired and what killed programs have left; old snapshots, if asked to.

        ``keep_snapshots`` is how many of the newest stay. Without either, all do. ``progress`` is
        called with how much was removed so far.
        """
        from .care_prune import prune_state

        self._outside("removal")
        return await prune_state(
            self._database,
            self._settler(),
            self._clock,
            snapshots_older_than,
            keep_snapshots,
            progress,
        )

    async def vacuum(self, *, progress: Progress | None = None) -> list[Vacuumed]:
        """Give back the space of what was deleted. All other writers of a file wait meanwhile.

        A file with virtual tables is left as it is: its rows could get other numbers.
        """
        from ..store.vacuum import vacuum

        self._outside("vacuum")
        return await on_thread(vacuum, self._database.directory.path, progress)

    def _outside(self, what: str) -> None:
        if self._database.in_transaction:
            raise StateError(f"a {what} inside an open transaction would wait for its end")


def restore(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str] | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Backup:
    """Make a data directory of a backup; blocks until it is on disk.

    ``directory`` is found as `bunflare.open` finds it. What is there already is replaced only if
    ``replace`` says so, if it is a state and nobody has it open; its snapshots stay. It happens in
    one step: whatever is killed, the directory is the old or the new one. Raises `BackupError`
    where ``path`` is no backup or is damaged, `DirectoryError` and `StateError`.
    """
    from ..store.restoring import restore_backup

    return restore_backup(Path(path).expanduser(), locate(directory), replace, progress)


def go_back(
    name: str,
    directory: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Snapshot:
    """Put a named moment in the place of the present state; blocks until it is on disk.

    Nobody may have the directory open. All its snapshots stay. It happens in one step, as with
    `restore`. What is to be found again of the present state needs a snapshot before.
    """
    from ..store import snapshots

    return snapshots.go_back(locate(directory), name, progress)
