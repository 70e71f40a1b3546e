"""Going back: an earlier state of a D1 database in the place of the present one.

The state is made as a file of its own (`store/past.py`), and SQLite's backup copies that over the
database in a single transaction: a crash leaves the one or the other, and other processes see it
like any commit. It is a commit in the history too, so it can be undone.
"""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from ..errors import D1Error, DatabaseBusy
from .connection import translate
from .d1 import D1File, connect_beside
from .history_files import Position, Settings
from .past import materialize
from .turnstile import Turnstile

_PATIENCE = 60.0
_PAUSE_SECONDS = 0.001


async def restore(file: D1File, target: Position) -> Position | None:
    """Go back to a state; where the history was before. None if the state is not kept."""
    partial = file.history.files.partial()
    try:
        if not await file.on_thread(lambda: _materialize(file, target, partial)):
            return None
        return await file.aside(lambda: _replace(file, partial))
    except (apsw.Error, OSError) as error:
        raise D1Error(f"the history of {file.path} cannot be read ({error})") from error
    finally:
        for path in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm")):
            path.unlink(missing_ok=True)


def _materialize(file: D1File, target: Position, path: Path) -> bool:
    keep(file)
    return materialize(file.history.files, target, path)


def keep(file: D1File) -> None:
    """See to it that the present state can be gone back to, whatever happens to the database."""
    if not file.history.settings.on:
        raise D1Error("D1_ERROR: time travel is switched off for this database")
    try:
        with file.history.kept(_PATIENCE):
            pass
        file.history.make_base()
    except apsw.Error as error:
        raise translate(error, file.path) from error
    except OSError as error:
        raise D1Error(f"the history of {file.path} cannot be written ({error})") from error


def choose(file: D1File, settings: Settings) -> None:
    """Note how much is kept. From now on so much is."""
    history = file.history
    try:
        history.files.set(settings)
        file.running.choose(settings)
        if settings.on:
            history.wanting = True
            keep(file)
        file.running.trim()
    except OSError as error:
        raise D1Error(f"the history of {file.path} cannot be written ({error})") from error


def _replace(file: D1File, state: Path) -> Position:
    turnstile = Turnstile(file.directory.turnstile)
    here = connect_beside(file.path, file.durability)
    try:
        if not turnstile.enter(_PATIENCE):
            raise DatabaseBusy(f"{file.path} has been written to by others for too long")
        # From here on no process that knows the turnstile begins a write.
        here.execute("BEGIN IMMEDIATE")
        before = file.history.position()
        here.execute("ROLLBACK")
        source = apsw.Connection(str(state))
        try:
            _copy(here, source)
        finally:
            source.close()
        return before
    except apsw.Error as error:
        raise translate(error, file.path) from error
    finally:
        here.close()
        turnstile.leave()
        turnstile.close()


def _copy(target: apsw.Connection, source: apsw.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE
    with target.backup("main", source, "main") as backup:
        while not backup.done:
            try:
                backup.step()
            except (apsw.BusyError, apsw.LockedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
