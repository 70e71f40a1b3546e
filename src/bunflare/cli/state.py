"""``bunflare state``: a whole state, counted, checked, copied, compared and followed.

Other modules may add commands of their own to the group: `command` is it, and `state_command`
makes one that works on an existing state.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError, DirectoryError
from .tables import show

if TYPE_CHECKING:
    from ..state import State
    from ..store.checks import Problem

directory_option = click.option(
    "--persist-to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory; by default BUNFLARE_DIR, or .bunflare in the project's root.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("state")
def command() -> None:
    """Count, check, back up, restore, compare and follow a whole state."""


def located(directory: Path | None) -> Path:
    """The data directory that is meant, whether it is there or not."""
    from .. import state as states

    return (directory or states.default_directory(states.project_root())).absolute()


def existing(directory: Path | None) -> Path:
    """The data directory that is meant, which must be there: to look at one makes none."""
    path = located(directory)
    if not path.exists():
        raise DirectoryError(f"there is no state at {path}")
    if not (path / "data.sqlite").is_file():
        raise DirectoryError(f"{path} holds no state of bunflare")
    return path


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` to its end; what the system refuses is a sentence."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        raise  # whoever read has had enough; click ends quietly
    except OSError as error:
        reason = error.strerror or str(error)
        where = reason if error.filename is None else f"{error.filename}: {reason}"
        raise BunflareError(where) from error


def state_command(name: str, group: click.Group = command) -> Callable[..., Any]:
    """A command on an existing state: its function is asynchronous and gets that first."""

    def decorate(function: Callable[..., Coroutine[Any, Any, None]]) -> click.Command:
        @directory_option
        @wraps(function)
        def start(directory: Path | None, **options: Any) -> None:
            from .. import state as states

            path = existing(directory)

            async def work() -> None:
                async with states.open(path) as state:
                    await function(state, **options)

            run(work())

        return group.command(name)(start)

    return decorate


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, where somebody watches; what comes back is told how far things are."""
    with ExitStack() as stack:
        bars: list[Any] = []

        def progress(done: int, whole: int) -> None:
            if not bars and sys.stderr.isatty():
                made: Any = click.progressbar(length=whole, label=label, file=sys.stderr)
                bars.append(stack.enter_context(made))
            for one in bars:
                one.length = whole
                one.update(done - one.pos)

        yield progress


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


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
    if not sys.stdout.isatty() or size < 1024:
        return str(size)
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / 1024**power:.1f} {' KMGT'[power]}iB"


@state_command("info")
@json_option
async def info(state: State, as_json: bool) -> None:
    """Print counts, sizes and times of everything, by system and name."""
    found = await state.info()
    if as_json:
        print_json(asdict(found))
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
@click.option("--full", is_flag=True, help="Compare every index entry with its row: slow.")
@json_option
async def check(state: State, no_digests: bool, full: bool, as_json: bool) -> None:
    """Hold everything against everything. The exit code is 1 if something is wrong."""
    found = await state.check(digests=not no_digests, full=full)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(f"{found.files} files, {told_size(found.size)}")
        for one in found.problems:
            mended = f" (repair: {one.remedy})" if one.remedy else ""
            click.echo(f"problem: {_tell(one)}{mended}")
        for one in found.notes:
            click.echo(f"note: {_tell(one)}")
    if found.problems:
        raise BunflareError(f"{len(found.problems)} things are not as they should be")


@state_command("repair")
@click.option("--full", is_flag=True, help="Compare every index entry with its row: slow.")
@json_option
async def repair(state: State, full: bool, as_json: bool) -> None:
    """Mend what can be mended. The exit code is 1 if something is left."""
    done = await state.repair(full=full)
    if as_json:
        print_json(asdict(done))
    else:
        for one in done.mended:
            click.echo(f"mended: {_tell(one)}: {one.remedy}")
        for one in done.left:
            click.echo(f"left: {_tell(one)}")
    if done.left:
        raise BunflareError(f"{len(done.left)} things cannot be mended")


# -- copies ------------------------------------------------------------------------------------


@state_command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
async def backup(state: State, file: Path, force: bool, as_json: bool) -> None:
    """Write everything of one moment to FILE, while others go on writing.

    It is a tar file, compressed if its name ends in .gz, .tgz or .xz.
    """
    if file.exists() and not force:
        raise BunflareError(f"{file} is there already; --force replaces it")
    with bar(file.name) as progress:
        made = await state.backup(file, progress=progress)
    if as_json:
        print_json(asdict(made))
    else:
        click.echo(f"{file}: {made.files} files, {told_size(made.size)}, of {told_time(made.at)}")


@command.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the state that is there.")
@directory_option
@json_option
def restore(file: Path, replace: bool, directory: Path | None, as_json: bool) -> None:
    """Make the data directory of a backup, in one step. Its snapshots stay."""
    from ..bindings.care import restore

    path = located(directory)
    with bar(file.name) as progress:
        done = restore(file, path, replace=replace, progress=progress)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{path}: {done.files} files, {told_size(done.size)}, of {told_time(done.at)}")


@command.group("snapshot")
def snapshot() -> None:
    """Name a moment, and go back to it."""


@state_command("create", snapshot)
@click.argument("name")
async def create_snapshot(state: State, name: str) -> None:
    """Keep this moment as NAME."""
    made = await state.snapshot(name)
    click.echo(f"{made.name}: {told_size(made.size)}")


@state_command("list", snapshot)
@json_option
async def list_snapshots(state: State, as_json: bool) -> None:
    """The moments that are kept."""
    found = await state.snapshots()
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        rows = [
            {"name": one.name, "at": told_time(one.at), "size": told_size(one.size)}
            for one in found
        ]
        show(rows, False)


@state_command("drop", snapshot)
@click.argument("name")
async def drop_snapshot(state: State, name: str) -> None:
    """Forget a moment."""
    await state.drop_snapshot(name)


@snapshot.command("restore")
@click.argument("name")
@directory_option
def restore_snapshot(name: str, directory: Path | None) -> None:
    """Go back to NAME, in one step. What is there now is lost, but for what has a name."""
    from ..bindings.care import go_back

    path = existing(directory)
    done = go_back(name, path)
    click.echo(f"{path} is as it was at {told_time(done.at)}")


@state_command("branch")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--from", "name", help="A snapshot; by default the present moment.")
async def branch(state: State, target: Path, name: str | None) -> None:
    """Make another data directory, TARGET, of a snapshot or of the present moment."""
    await state.branch(target, name)
    click.echo(f"{target} was made")


@state_command("diff")
@click.argument("old")
@click.argument("new", required=False)
@json_option
async def diff(state: State, old: str, new: str | None, as_json: bool) -> None:
    """Print what has changed since the snapshot OLD: until the snapshot NEW, or now.

    A line has + (added), ~ (changed) or - (removed), and the system, kind, name and key.
    """
    found = await state.diff(old, new)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        sign = {"added": "+", "changed": "~", "removed": "-"}[one.change]
        click.echo(f"{sign} {one.system} {one.kind} {one.name} {one.key}".rstrip())


# -- what changes ------------------------------------------------------------------------------


@state_command("watch")
@click.option("--after", type=click.IntRange(0), help="A position; by default only what comes.")
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
@click.option("--system", help="Only changes of this system.")
@click.option("--name", help="Only changes of this namespace, bucket, queue, …")
@click.option("--off", is_flag=True, help="Switch the change log off, and end.")
@json_option
async def watch(
    state: State,
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
        await state.changes.disable()
        click.echo("the change log is off", err=True)
        return
    if not state.changes.enabled:
        # What is told from here on may not miss what comes before it is written.
        after = state.changes.position if after is None else after
        await state.changes.enable()
        click.echo("the change log was off and is on now; --off switches it off", err=True)
    left = count
    async for one in state.changes.follow(after):
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
