"""Checking a whole state, and mending what can be mended, each thing by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import BunflareError
from ..store import cache as cache_store
from ..store import check_history as histories
from ..store import checks, r2, r2_uploads
from ..store.checks import Problem, StateCheck, StateRepair
from ..store.images import sweep
from ..store.layout import DATABASE, SNAPSHOTS
from ..store.threads import on_thread
from . import r2_care
from .care_snapshots import check_snapshots, size_of_snapshots

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..store.images import Progress
    from ..store.r2_settle import Settler

_R2_REMEDIES = {
    "changed": "the file's bytes become the object's",
    "digest": "the file's bytes become the object's",
}


async def check_state(
    database: Database,
    settler: Settler,
    clock: Clock,
    digests: bool,
    full: bool,
    progress: Progress | None = None,
) -> StateCheck:
    """See `State.check`."""
    directory = database.directory
    buckets = r2.buckets(database.view)
    whole = await on_thread(checks.size_of_sql, directory)
    if progress is not None:
        whole += await on_thread(size_of_snapshots, directory.path, digests)
    if digests:
        whole += sum(r2.statistics(database.view, bucket)[1] for bucket in buckets)

    def told(done: int) -> None:
        if progress is not None:
            progress(min(done, whole), whole)

    def later(before: int, done: int, _: int | None = None) -> None:
        told(before + done)

    files, size, problems = await on_thread(checks.check_sql, directory, full, told)
    damaged = any(one.kind == "damaged" and one.name == DATABASE for one in problems)
    named = await on_thread(
        check_snapshots,
        directory.path,
        settler.files,
        not damaged,
        digests,
        full,
        partial(later, size),
    )
    in_files, in_size, read, in_snapshots = named
    files += in_files
    size += in_size
    if damaged:
        # Nothing that its rows say can be relied on.
        return StateCheck(files, size, (*problems, *in_snapshots), ())
    problems += await on_thread(checks.check_rows, directory, clock.now())
    found, notes = await on_thread(checks.check_files, directory, database.presence, digests)
    problems += found
    problems += await on_thread(
        lambda: [*histories.check_histories(directory.path, full), *histories.check_kept(directory)]
    )
    for bucket in buckets:
        in_bucket = partial(later, size + read)
        look = await r2_care.check(database, settler, bucket, digests, in_bucket)
        files += look.objects
        size += look.size
        problems += (_of_r2(bucket, one) for one in look.problems)
        notes += (
            Problem("r2", "stranger", bucket, name, "the file belongs to no object", None)
            for name in look.strangers
        )
    problems += in_snapshots
    return StateCheck(files, size, tuple(problems), tuple(notes))


def _of_r2(bucket: str, found: r2_care.R2Problem) -> Problem:
    return Problem("r2", found.kind, bucket, found.key, found.detail, _R2_REMEDIES.get(found.kind))


async def repair_state(
    database: Database,
    settler: Settler,
    clock: Clock,
    full: bool,
    progress: Progress | None = None,
) -> StateRepair:
    """See `State.repair`."""
    before = await check_state(database, settler, clock, True, full, progress)
    for problem in (*before.problems, *before.notes):
        if problem.remedy is not None:
            try:
                await _mend(database, problem)
            except BunflareError:
                continue  # it is found again below, and told as left
    for bucket in sorted({one.name for one in before.problems if one.system == "r2"}):
        if bucket in r2.buckets(database.view):
            await r2_care.repair(database, settler, bucket, clock)
    await on_thread(sweep, database.directory.path / SNAPSHOTS, "")
    after = await check_state(database, settler, clock, True, full)
    left = {(one.system, one.kind, one.name, one.key) for one in after.problems}
    done = (
        one
        for one in (*before.problems, *before.notes)
        if (one.system, one.kind, one.name, one.key) not in left
        and one.remedy is not None
        and one not in after.notes
    )
    return StateRepair(tuple(done), after.problems)


async def _mend(database: Database, problem: Problem) -> None:
    directory = database.directory
    match (problem.system, problem.kind):
        case (_, "damaged"):
            await on_thread(checks.reindex, directory.path / problem.name)
        case (_, "base" | "frames"):
            await on_thread(histories.drop, directory.path, problem)
        case ("objects", "bookmark"):
            await database.write(histories.forget, directory, problem)
        case ("cache", "missing"):
            await database.write(checks.forget_response, directory.cache_bodies, problem)
        case ("r2", "upload"):
            await database.write(checks.forget_part, problem)
        case ("cache", "left over"):
            named = cache_store.names_file(database.view, problem.key)
            await on_thread(checks.remove_left, directory, problem, named)
        case ("r2", "left over"):
            view = database.view
            named = r2.awaits_file(view, problem.key) or r2_uploads.names_file(view, problem.key)
            await on_thread(checks.remove_left, directory, problem, named)
        case _:
            await on_thread(checks.mend_row, database.path, problem)
