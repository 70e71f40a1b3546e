"""``bunflare d1``: D1 databases, with wrangler's command names."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import D1Error
from .d1_common import DATABASE, bound, care, database_of, mention_new, must_exist, name_of
from .d1_migrations import migrations
from .d1_travel import time_travel
from .elsewhere import only_there
from .place import Place, confirm, group_options, on_state
from .progress import progress_bar
from .tables import JSON, many, show, show_json, tell
from .wrangler_file import add_table, binding_options, show_table

if TYPE_CHECKING:
    from .d1_common import Bound


@click.group("d1")
@group_options
def command() -> None:
    """Query, migrate, export and restore D1 databases."""


command.add_command(migrations)
command.add_command(time_travel)
only_there(
    command,
    {"insights": "nobody records what was slow; `d1 execute --json` tells how long each took"},
)


@on_state(command, "list", reads=True)
@JSON
async def list_databases(place: Place, as_json: bool) -> None:
    """The databases of the configuration, and the files that are there."""
    files = care(place).sizes()
    declared: dict[str, Bound] = {one.name: one for one in bound(place)}
    absent = None if as_json else ""
    show(
        [
            {
                "name": name,
                "binding": declared[name].binding if name in declared else absent,
                "file_size": files.get(name, absent),
            }
            for name in sorted(files.keys() | declared.keys())
        ],
        as_json,
    )


@on_state(command, "info", reads=True)
@DATABASE
@JSON
async def info(place: Place, name: str, as_json: bool) -> None:
    """Size and tables of a database."""
    must_exist(place, name)
    found = {"name": name_of(place, name), **await database_of(place, name).info()}
    if as_json:
        show_json(found)
    else:
        show([found], False)


@on_state(command, "create")
@click.argument("name")
@binding_options
@click.option("--location", hidden=True, expose_value=False)
@click.option("--jurisdiction", hidden=True, expose_value=False)
@JSON
async def create_database(
    place: Place, name: str, binding: str | None, update_config: bool, as_json: bool
) -> None:
    """Make a database, and show what to write into the wrangler file.

    Nothing needs this: a database is there once something is executed on it.
    """
    path = care(place).path(name)
    if path.exists():
        raise D1Error(f"there is a database {name!r} already")
    entry = {"binding": binding or re.sub(r"\W", "_", name).upper(), "database_name": name}
    add = add_table(place, "d1_databases", entry) if update_config else None
    await place.state.d1(name).info()
    click.echo(f"Made: {path}", err=True)
    if add is not None:
        click.echo(f"{add()} binds it as {entry['binding']}.", err=True)
    if add is None or as_json:
        show_table(place, "d1_databases", entry, as_json)


@on_state(command, "delete", reads=True)
@DATABASE
@click.option("--skip-confirmation", "-y", "yes", is_flag=True, help="Do not ask.")
@JSON
async def delete_database(place: Place, name: str, yes: bool, as_json: bool) -> None:
    """Remove a database, and its history."""
    must_exist(place, name)
    known = name_of(place, name)
    confirm(f"Remove {known} and all of its history?", yes)
    care(place).remove(known)
    tell(as_json, f"Removed: {known}", name=known, deleted=True)


@on_state(command, "execute")
@DATABASE
@click.option("--command", "sql", help="The statements to run.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of statements.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what the platform's API gives.")
@click.option("--yes", "-y", is_flag=True, hidden=True, expose_value=False)
@click.option("--preview", is_flag=True, hidden=True, expose_value=False)
async def execute(
    place: Place, name: str, sql: str | None, path: Path | None, as_json: bool
) -> None:
    """Run statements: those of a file as one transaction."""
    if (sql is None) == (path is None):
        raise click.UsageError("give either --command or --file")
    mention_new(place, name)
    database = database_of(place, name)
    results: list[dict[str, Any]]
    if path is not None:
        size = path.stat().st_size
        with progress_bar(path.name) as progress:
            count = await database.import_sql(path, lambda done: progress(done, size))
        results = [{"success": True, "results": [{"statements": count}], "meta": {}}]
    else:
        results = [asdict(one) for one in await database.execute(sql or "")]
    if as_json:
        show_json(results)
        return
    for result in results:
        if result["results"] or not result["meta"].get("changed_db"):
            show(result["results"], False)
        else:
            changes = result["meta"]["changes"]
            click.echo(f"{many(changes, 'row')} changed" if changes else "done", err=True)


@on_state(command, "export", reads=True)
@DATABASE
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file."
)
@click.option("--table", "tables", multiple=True, help="Only this table; may be repeated.")
@click.option("--no-schema", is_flag=True, help="Only rows.")
@click.option("--no-data", is_flag=True, help="Only the definitions of tables.")
@click.option("--skip-confirmation", "-y", is_flag=True, hidden=True, expose_value=False)
@JSON
async def export(
    place: Place,
    name: str,
    output: Path,
    tables: tuple[str, ...],
    no_schema: bool,
    no_data: bool,
    as_json: bool,
) -> None:
    """Write a database as SQL."""
    if no_schema and no_data:
        raise click.UsageError("--no-schema and --no-data leave nothing to write")
    must_exist(place, name)
    with progress_bar(output.name, "items") as progress:
        await database_of(place, name).export_sql(
            output,
            schema=not no_schema,
            data=not no_data,
            tables=tables,
            progress=lambda done: progress(done, None),
        )
    tell(as_json, f"Written: {output}", name=name_of(place, name), file=str(output))
