"""``bunflare d1 migrations``: files that bring a database from one form to the next."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click

from ..errors import D1Error
from .d1_common import DATABASE, config_of, database_of, mention_new, must_exist
from .place import Place, check_directory, on_state, place_options
from .tables import JSON, show, show_json

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
    from ..bindings.d1_migrations import is_migration, migration_names, number_of

    folder = _folder(place, name)
    pattern = config_of(place, name).migrations_glob
    there = migration_names(folder, pattern) if folder.is_dir() else []
    numbers = [int(number) for one in there if (number := number_of(one)) != math.inf]
    number = max(numbers, default=0) + 1
    made = f"{number:04d}_{re.sub(r'[^0-9A-Za-z]+', '_', message).strip('_')}.sql"
    if not is_migration(pattern).fullmatch(made):
        raise D1Error(
            f"a new migration would be called {made}, and be passed over: it does not match the "
            f'configured migrations_pattern: "{config_of(place, name).migrations_pattern}"'
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / made
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
        from ..bindings.d1_migrations import migration_names

        check_directory(place.directory, reads=False)
        names = migration_names(_folder(place, name), config_of(place, name).migrations_glob)
        _tell(place, name, names, _PENDING, as_json)
        return

    async def look() -> None:
        must_exist(place, name)
        config = config_of(place, name)
        found = await database_of(place, name).pending_migrations(
            _folder(place, name), config.migrations_table, config.migrations_glob
        )
        _tell(place, name, found, _PENDING, as_json)

    place.run(look, reads=True)


@on_state(migrations, "apply")
@DATABASE
@_PREVIEW
@JSON
async def apply(place: Place, name: str, as_json: bool) -> None:
    """Apply the migrations that are still to be applied."""
    mention_new(place, name)
    config = config_of(place, name)
    done = await database_of(place, name).migrate(
        _folder(place, name), config.migrations_table, config.migrations_glob
    )
    _tell(place, name, done, "applied", as_json)


def _tell(place: Place, name: str, names: list[str], heading: str, as_json: bool) -> None:
    if not names:
        _hint(place, name)
    if as_json:
        show_json([{"Name": one} for one in names])
    else:
        show([{heading: one} for one in names], False)


def _hint(place: Place, name: str) -> None:
    """Mention the key of the wrangler file that finds migrations as Drizzle makes them."""
    config, folder = config_of(place, name), _folder(place, name)
    if config.migrations_pattern is not None or any(folder.glob("*.sql")):
        return
    if any(folder.glob("*/migration.sql")):
        click.echo(
            "There are migrations in directories of their own. If they are meant, set "
            f'migrations_pattern to "{config.migrations_dir}/*/migration.sql".',
            err=True,
        )
