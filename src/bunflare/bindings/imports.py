"""Taking over the state of another program, or of another directory, in one step.

Read are wrangler's ``.wrangler/state/v3``, and the data directories of all programs that follow the
seed's schema: ``.lopata``, and ``.bunflare`` of any version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import ImportRefused
from ..store.foreign import foreign_file
from ..store.import_seed import SeedImport, find_seed
from ..store.import_seed import count as count_seed
from ..store.import_wrangler import Names, WranglerImport, find_wrangler
from ..store.import_wrangler import count as count_wrangler
from ..store.importing import add_to
from ..store.intake import THERE, LeftOut, Taken, Tally, intake
from ..v8 import reader

if TYPE_CHECKING:
    from ..clock import Clock
    from ..config import Config

__all__ = ["ImportReport", "LeftOut", "Taken", "import_state"]

Progress = Callable[[int, int | None], object]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has taken over, and all that it has not."""

    #: "wrangler" or "seed".
    kind: Literal["wrangler", "seed"]
    source: Path
    taken: list[Taken] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def import_state(
    source: Path,
    directory: Path,
    *,
    config: Config | None = None,
    keep: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Take over what ``source`` holds into a data directory, made if it is not there. Blocks.

    It happens in one step: whatever is killed, the directory is as before, or has all of it. Nobody
    may have it open. The source is only read. ``config`` is the configuration of the Worker, for
    the names that wrangler has hashed.

    Where something of the same name and key is there already nothing is imported, unless ``keep``
    says that it is to stay; what then was not taken over is in the report, with everything else
    that nothing here can keep, or that is damaged.

    Raises `ImportRefused`, and `DirectoryError`, `StateError` and `DatabaseError` where one of the
    two directories cannot be used.
    """
    from ..clock import SystemClock
    from .cache import FILE_SIZE, stored_name

    now = (clock or SystemClock()).now()
    wrangler = find_wrangler(source)
    seed = None if wrangler is not None else find_seed(source)
    found = wrangler or seed
    if found is None:
        raise ImportRefused(
            f"{source} is no state that can be imported: neither wrangler's (a directory with "
            "state/v3) nor one with a data.sqlite"
        )
    if directory.exists() and found.resolve() == directory.resolve():
        raise ImportRefused(f"{found} is the state itself")
    tally = Tally()
    tell = progress or (lambda done, whole: None)

    def fill(made: Path) -> None:
        with intake(made, tally, now) as into:
            if wrangler is not None:
                whole = count_wrangler(wrangler)
                WranglerImport(
                    wrangler,
                    into,
                    _names(config),
                    reader,
                    stored_name,
                    FILE_SIZE,
                    lambda done: tell(done, whole),
                ).run()
            elif seed is not None:
                with foreign_file(seed / "data.sqlite") as file:
                    rows = count_seed(file)
                    SeedImport(seed, file, into, FILE_SIZE, lambda done: tell(done, rows)).run()
            conflicts = [one for one in tally.left_out if one.reason.startswith(THERE)]
            if conflicts and not keep:
                first = conflicts[0]
                what = f"{first.system} {first.name!r}" + (f" {first.key!r}" if first.key else "")
                raise ImportRefused(
                    f"{len(conflicts)} things are in {directory} already, the first of them "
                    f"{what}; nothing was imported. `--keep-existing` (keep=True) imports the rest"
                )

    add_to(directory, fill)
    return ImportReport(
        "wrangler" if wrangler is not None else "seed", found, tally.taken(), tally.left_out
    )


def _names(config: Config | None) -> Names:
    """What the configuration calls things, by each name that wrangler may have used for them."""
    names = Names()
    if config is None:
        return names
    for space in config.kv_namespaces:
        for used in (space.id, space.binding):
            if used is not None:
                names.kv[used] = space.namespace
        if space.preview_id is not None:
            names.kv[space.preview_id] = space.preview_id
    for bucket in config.r2_buckets:
        for used in (bucket.bucket_name, bucket.binding):
            if used is not None:
                names.r2[used] = bucket.bucket
    for database in config.d1_databases:
        name = database.database_name or database.database_id or database.binding
        for used in (
            database.database_id,
            database.preview_database_id,
            database.database_name,
            database.binding,
        ):
            if used is not None:
                names.d1.setdefault(used, name)
    for workflow in config.workflows:
        names.workflows[workflow.name] = workflow.class_name
    return names
