"""``bunflare state``: a whole state, counted, checked, copied, compared and followed.

Other modules may add commands of their own to the group: `command` is it, and `state_command`
makes one that works on an existing state.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
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
    except BrokenPipeError:
        raise  # whoever read has had enough; click ends quietly
    except OSError as error:
        reason = error.strerror or str(error)
        where = reason if error.filename is None else f"{error.filename}: {reason}"
        raise BunflareError(where) from error


def state_command(name: str) -> Callable[..., Any]:
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

        return command.command(name)(start)

    return decorate


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
