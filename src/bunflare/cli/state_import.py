"""``bunflare state import``: what other programs have stored, taken over in one step."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import DirectoryError
from .place import Place, place_options
from .progress import progress_bar
from .tables import JSON, show, show_json, styled

if TYPE_CHECKING:
    from ..bindings.imports import ImportReport
    from ..config import Config


@click.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--keep-existing",
    "keep",
    is_flag=True,
    help="What is there already stays, and is listed; by default nothing is imported then.",
)
@JSON
@place_options
def import_command(place: Place, source: Path, keep: bool, as_json: bool) -> None:
    """Take over the state in PATH: wrangler's, lopata's, or another .bunflare.

    PATH is a project, its .wrangler/state, or a data directory; it is only read. What cannot be
    taken over is listed. It happens in one step: whatever is killed, the state is as before, or
    has all of it.
    """
    from ..bindings.imports import import_state

    if not source.exists():
        raise DirectoryError(f"there is no {source}")
    with progress_bar("importing", "items") as progress:
        report = import_state(
            source.absolute(),
            place.directory.absolute(),
            config=_config(place, source),
            keep=keep,
            progress=progress,
        )
    if as_json:
        show_json({**asdict(report), "source": str(report.source)})
    else:
        _tell(report)


def _config(place: Place, source: Path) -> Config | None:
    """The configuration whose names the source has used: that of its own project, if it has one."""
    from ..config import load_config
    from ..config_source import find_config

    if not place.chosen:
        found = find_config(source)
        if found is not None:
            return load_config(found)
    return place.config


def _tell(report: ImportReport) -> None:
    click.echo(f"from {report.source}")
    rows = [
        {"system": one.system, "name": one.name, "count": one.count, "bytes": one.size}
        for one in report.taken
    ]
    show(rows, False)
    if report.left_out:
        click.echo()
        click.echo(styled(f"Not taken over ({len(report.left_out)}):", fg="yellow"))
        for one in report.left_out:
            where = " ".join(filter(None, (one.system, one.name, one.key)))
            click.echo(f"  {where}: {one.reason}")
