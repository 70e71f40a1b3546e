"""``bunflare init``: prepare a project."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from .. import state as states

_IGNORED = ".bunflare/"


@click.command("init")
@click.argument("project", type=click.Path(path_type=Path, file_okay=False), required=False)
def command(project: Path | None) -> None:
    """Prepare PROJECT (by default the one around the working directory).

    Makes its data directory, and adds it to the project's .gitignore. What is there already stays
    as it is.
    """
    root = states.project_root(project)
    directory = root / ".bunflare"
    existed = (directory / "data.sqlite").exists()

    async def touch() -> None:
        async with states.open(directory):
            pass

    asyncio.run(touch())
    click.echo(f"{directory} {'is there already' if existed else 'was made'}")
    if _ignore(root / ".gitignore"):
        click.echo(f"{_IGNORED} was added to {root / '.gitignore'}")


def _ignore(path: Path) -> bool:
    """Whether the line had to be added."""
    text = path.read_text() if path.exists() else ""
    lines = {line.strip().rstrip("/").lstrip("/") for line in text.splitlines()}
    if _IGNORED.rstrip("/") in lines:
        return False
    separator = "" if not text or text.endswith("\n") else "\n"
    path.write_text(f"{text}{separator}{_IGNORED}\n")
    return True
