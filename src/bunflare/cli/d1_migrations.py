"""``bunflare d1 migrations``: files that bring a database from one form to the next."""

from __future__ import annotations

import re
from pathlib import Path

import click

from .d1_common import DATABASE, config_of, database_of, mention_new, must_exist
from .place import Place, check_directory, on_state, place_options
from .tables import JSON, show, show_json

_NUMBER = re.compile(r"(\d+)_.*\.sql\Z")
_PENDING = "to be applied"
_PREVIEW = click.option("--preview", is_flag=True, hidden=True, expose_value=False)


@click.group("migrations")
def migrations() -> None:
    """Create, list and apply migrations."""


@migrations.command("create")
@place_options
@DATABASE
@click.argument("message")
@JSON
def create(place: Place, name: str, message: str, as_json: bool) -> None:
    """Make an empty migration with the next number."""
    folder = _folder(place, name)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(found[1]) for path in folder.iterdir() if (found := _NUMBER.match(path.name))]
    number = max(numbers, default=0) + 1
    path = folder / f"{number:04d}_{re.sub(r'[^0-9A-Za-z]+', '_', message).strip('_')}.sql"
    path.write_text(f"-- Migration number: {number:04d}\n")
    if as_json:
        show_json({"file": str(path)})
    else:
        click.echo(str(path))


def _folder(place: Place, name: str) -> Path:
    return place.root / config_of(place, name).migrations_dir


@migrations.command("list")
@place_options
@DATABASE
@_PREVIEW
@JSON
def list_migrations(place: Place, name: str, as_json: bool) -> None:
    """The migrations that are still to be applied."""
    if not place.is_there:
        from ..bindings.d1_files import migration_files

        check_directory(place.directory, reads=False)
        _tell([one.name for one in migration_files(_folder(place, name))], _PENDING, as_json)
        return

    async def look() -> None:
        must_exist(place, name)
        table = config_of(place, name).migrations_table
        found = await database_of(place, name).pending_migrations(_folder(place, name), table)
        _tell(found, _PENDING, as_json)

    place.run(look, reads=True)


@on_state(migrations, "apply")
@DATABASE
@_PREVIEW
@JSON
async def apply(place: Place, name: str, as_json: bool) -> None:
    """Apply the migrations that are still to be applied."""
    mention_new(place, name)
    table = config_of(place, name).migrations_table
    done = await database_of(place, name).migrate(_folder(place, name), table)
    _tell(done, "applied", as_json)


def _tell(names: list[str], heading: str, as_json: bool) -> None:
    if as_json:
        show_json([{"Name": one} for one in names])
    else:
        show([{heading: one} for one in names], False)
