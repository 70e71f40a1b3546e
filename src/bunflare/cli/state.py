"""``bunflare state``: a whole state, counted, checked, copied, compared and followed.

Other modules may add commands of their own to the group, `command`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError
from .names import completion
from .place import Place, check_directory, confirm, on_state, place_options
from .progress import progress_bar
from .tables import JSON, is_terminal, many, show, show_json, tell

if TYPE_CHECKING:
    from ..store.checks import Problem


def _kept(place: Place) -> Iterator[str]:
    for one in (place.directory / "snapshots").glob("[!.]*"):
        yield one.name


_snapshots = completion(_kept, None)
_SNAPSHOT = click.argument("name", shell_complete=_snapshots)


@click.group("state")
def command() -> None:
    """Count, check, back up, restore, compare and follow a whole state."""


def state_command(name: str, group: click.Group = command) -> Callable[..., Any]:
    """A command on a state, which must be there: it gets its `Place` first."""
    return on_state(group, name, reads=True)


def told_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)


def told_size(size: int | None) -> str:
    """Bytes for people; a pipe gets the number."""
    if size is None:
        return "-"
    if not is_terminal() or size < 1024:
        return str(size)
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / 1024**power:.1f} {' KMGT'[power]}iB"


def _spoken(size: int) -> str:
    """Bytes in a sentence."""
    told = told_size(size)
    return many(size, "byte") if told.isdigit() else told


@state_command("info")
@JSON
async def info(place: Place, as_json: bool) -> None:
    """Print counts, sizes and times of everything, by system and name."""
    found = await place.state.info()
    if as_json:
        show_json(asdict(found))
        return
    click.echo(f"directory    {found.directory}")
    click.echo(f"data.sqlite  {told_size(found.database_size)}")
    click.echo(f"cache files  {told_size(found.cache_size)}")
    if found.figures:
        click.echo()
    rows = [
        {
            "system": one.system,
            "kind": one.kind,
            "name": one.name,
            "count": one.count,
            "size": told_size(one.size),
            "oldest": told_time(one.oldest),
            "newest": told_time(one.newest),
        }
        for one in found.figures
    ]
    if rows:
        show(rows, False)


# -- right and wrong ---------------------------------------------------------------------------


def _tell(problem: Problem) -> str:
    where = "/".join(part for part in (problem.name, problem.key) if part)
    return f"{problem.system}: {problem.kind}: {where}: {problem.detail}"


@state_command("check")
@click.option("--no-digests", is_flag=True, help="Do not read the objects of R2.")
@click.option("--full", is_flag=True, help="Also every index entry, every byte of histories: slow.")
@JSON
async def check(place: Place, no_digests: bool, full: bool, as_json: bool) -> None:
    """Hold everything against everything. The exit code is 1 if something is wrong."""
    with progress_bar("checking") as progress:
        found = await place.state.check(digests=not no_digests, full=full, progress=progress)
    if as_json:
        show_json(asdict(found))
    else:
        click.echo(f"{many(found.files, 'file')}, {_spoken(found.size)}")
        for one in found.problems:
            mended = f" (repair: {one.remedy})" if one.remedy else ""
            click.echo(f"problem: {_tell(one)}{mended}")
        for one in found.notes:
            click.echo(f"note: {_tell(one)}")
    if found.problems:
        raise BunflareError(
            f"{many(len(found.problems), 'thing', 'is', 'are')} not as it should be"
        )


@state_command("repair")
@click.option("--full", is_flag=True, help="Also every index entry, every byte of histories: slow.")
@JSON
async def repair(place: Place, full: bool, as_json: bool) -> None:
    """Mend what can be mended. The exit code is 1 if something is left."""
    with progress_bar("checking") as progress:
        done = await place.state.repair(full=full, progress=progress)
    if as_json:
        show_json(asdict(done))
    else:
        for one in done.mended:
            click.echo(f"mended: {_tell(one)}: {one.remedy}")
        for one in done.left:
            click.echo(f"left: {_tell(one)}")
    if done.left:
        raise BunflareError(f"{many(len(done.left), 'thing')} cannot be mended")


# -- copies ------------------------------------------------------------------------------------


@state_command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@JSON
async def backup(place: Place, file: Path, force: bool, as_json: bool) -> None:
    """Write everything of one moment to FILE, while others go on writing.

    It is a tar file, compressed if its name ends in .gz, .tgz or .xz.
    """
    if file.exists() and not force:
        raise BunflareError(f"{file} is there already; --force replaces it")
    with progress_bar(file.name) as progress:
        made = await place.state.backup(file, progress=progress)
    if as_json:
        show_json(asdict(made))
    else:
        click.echo(
            f"{file}: {many(made.files, 'file')}, {_spoken(made.size)}, of {told_time(made.at)}"
        )


@command.command("restore")
@place_options
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the state that is there.")
@JSON
def restore(place: Place, file: Path, replace: bool, as_json: bool) -> None:
    """Make the data directory of a backup, in one step. Its snapshots stay."""
    from ..bindings.care import restore

    path = place.directory.absolute()
    with progress_bar(file.name) as progress:
        done = restore(file, path, replace=replace, progress=progress)
    if as_json:
        show_json(asdict(done))
    else:
        click.echo(
            f"{path}: {many(done.files, 'file')}, {_spoken(done.size)}, of {told_time(done.at)}"
        )


@command.group("snapshot")
def snapshot() -> None:
    """Name a moment, and go back to it."""


@state_command("create", snapshot)
@click.argument("name")
@JSON
async def create_snapshot(place: Place, name: str, as_json: bool) -> None:
    """Keep this moment as NAME."""
    with progress_bar(name) as progress:
        made = await place.state.snapshot(name, progress=progress)
    if as_json:
        show_json(asdict(made))
    else:
        click.echo(f"{made.name}: {_spoken(made.size)}")


@state_command("list", snapshot)
@JSON
async def list_snapshots(place: Place, as_json: bool) -> None:
    """The moments that are kept."""
    found = await place.state.snapshots()
    if as_json:
        show_json([asdict(one) for one in found])
    else:
        rows = [
            {"name": one.name, "at": told_time(one.at), "size": told_size(one.size)}
            for one in found
        ]
        show(rows, False)


@state_command("drop", snapshot)
@_SNAPSHOT
@JSON
async def drop_snapshot(place: Place, name: str, as_json: bool) -> None:
    """Forget a moment."""
    await place.state.drop_snapshot(name)
    tell(as_json, None, name=name, dropped=True)


@snapshot.command("restore")
@place_options
@_SNAPSHOT
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@JSON
def restore_snapshot(place: Place, name: str, yes: bool, as_json: bool) -> None:
    """Go back to NAME, in one step. What is there now is lost, but for what has a name."""
    from ..bindings.care import go_back

    path = place.directory.absolute()
    check_directory(path, reads=True)
    confirm(f"What was written to {path} since then is lost, unless a snapshot has it. Go on?", yes)
    with progress_bar(name) as progress:
        done = go_back(name, path, progress=progress)
    tell(as_json, f"{path} is as it was at {told_time(done.at)}", **asdict(done))


@state_command("branch")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "name",
    help="A snapshot; by default the present moment.",
    shell_complete=_snapshots,
)
@JSON
async def branch(place: Place, target: Path, name: str | None, as_json: bool) -> None:
    """Make another data directory, TARGET, of a snapshot or of the present moment."""
    with progress_bar(target.name) as progress:
        await place.state.branch(target, name, progress=progress)
    tell(as_json, f"{target} was made", directory=str(target), snapshot=name)


@state_command("diff")
@click.argument("old", shell_complete=_snapshots)
@click.argument("new", required=False, shell_complete=_snapshots)
@JSON
async def diff(place: Place, old: str, new: str | None, as_json: bool) -> None:
    """Print what has changed since the snapshot OLD: until the snapshot NEW, or now.

    A line has + (added), ~ (changed) or - (removed), and the system, kind, name and key.
    """
    with progress_bar("comparing", "items") as progress:
        found = await place.state.diff(old, new, progress=progress)
    if as_json:
        show_json([asdict(one) for one in found])
        return
    for one in found:
        sign = {"added": "+", "changed": "~", "removed": "-"}[one.change]
        click.echo(f"{sign} {one.system} {one.kind} {one.name} {one.key}".rstrip())


# -- less of it --------------------------------------------------------------------------------


@state_command("prune")
@click.option(
    "--snapshots-older-than",
    "days",
    type=click.FloatRange(0),
    help="Also drop snapshots that are older than so many days.",
)
@click.option(
    "--keep-snapshots",
    "keep",
    type=click.IntRange(0),
    help="Also drop all snapshots but so many of the newest.",
)
@JSON
async def prune(place: Place, days: float | None, keep: int | None, as_json: bool) -> None:
    """Remove what has expired, what killed programs have left, and old snapshots."""
    with progress_bar("pruning", "items") as progress:
        done = await place.state.prune(
            snapshots_older_than=None if days is None else timedelta(days=days),
            keep_snapshots=keep,
            progress=lambda done: progress(done, None),
        )
    if as_json:
        show_json(asdict(done))
        return
    click.echo(f"keys       {done.keys}")
    click.echo(f"responses  {done.responses}")
    click.echo(f"uploads    {done.uploads}")
    click.echo(f"files      {done.files}")
    click.echo(f"snapshots  {' '.join(done.snapshots) or 0}")
    click.echo(f"changes    {done.changes}")


@state_command("vacuum")
@JSON
async def vacuum(place: Place, as_json: bool) -> None:
    """Give back the space of what was deleted."""
    with progress_bar("vacuuming") as progress:
        done = await place.state.vacuum(progress=progress)
    if as_json:
        show_json([asdict(one) for one in done])
        return
    for one in done:
        left = f" (left as it is: {one.left})" if one.left else ""
        click.echo(f"{one.name}: {told_size(one.before)} -> {told_size(one.after)}{left}")


# -- what changes ------------------------------------------------------------------------------


@state_command("watch")
@click.option("--after", type=click.IntRange(0), help="A position; by default only what comes.")
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
@click.option("--system", help="Only changes of this system.")
@click.option("--name", help="Only changes of this namespace, bucket, queue, …")
@click.option("--off", is_flag=True, help="Switch the change log off, and end.")
@JSON
async def watch(
    place: Place,
    after: int | None,
    count: int | None,
    system: str | None,
    name: str | None,
    off: bool,
    as_json: bool,
) -> None:
    """Print what changes, of whatever process, as it is committed.

    Switches the change log on where it is off, and leaves it on.
    """
    if off:
        await place.state.changes.disable()
        click.echo("the change log is off", err=True)
        if as_json:
            click.echo(json.dumps({"enabled": False}))
        return
    if not place.state.changes.enabled:
        # What is told from here on may not miss what comes before it is written.
        after = place.state.changes.position if after is None else after
        await place.state.changes.enable()
        click.echo("the change log was off and is on now; --off switches it off", err=True)
    left = count
    async for one in place.state.changes.follow(after):
        if one.system == "changes" or system not in (None, one.system):
            continue
        if name not in (None, one.name):
            continue
        if as_json:
            click.echo(json.dumps(asdict(one), ensure_ascii=False))
        else:
            sign = {"added": "+", "changed": "~", "removed": "-"}[one.change]
            size = "" if one.size is None else f" ({one.size})"
            click.echo(f"{one.position} {sign} {one.system} {one.kind} {one.name} {one.key}{size}")
        left = None if left is None else left - 1
        if left == 0:
            return


from .state_export import export_command  # noqa: E402
from .state_import import import_command  # noqa: E402

command.add_command(import_command)
command.add_command(export_command)
