"""``bunflare d1``: D1 databases, with wrangler's command names."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import Config, D1DatabaseConfig, find_config, load_config
from .tables import plain, show

if TYPE_CHECKING:
    from ..bindings.d1 import D1Database
    from ..state import State

T = TypeVar("T")


class _Target:
    """Which directory and which database a command means."""

    def __init__(self, config: Path | None, environment: str | None, directory: Path | None):
        path = config or find_config(Path.cwd())
        self.config: Config | None = None if path is None else load_config(path, environment)
        self.root = Path.cwd() if path is None else path.parent
        self._directory = directory

    def database(self, name: str) -> D1DatabaseConfig:
        """The database of that name or binding in the configuration; else one of that name."""
        for one in self.config.d1_databases if self.config else ():
            if name in (one.database_name, one.binding, one.database_id):
                return one
        return D1DatabaseConfig(binding=name, database_name=name)

    def run(self, work: Callable[[State], Awaitable[T]]) -> T:
        """Do ``work`` on the state."""
        from .. import state as states

        async def whole() -> T:
            directory = self._directory or states.default_directory(self.root)
            async with states.open(directory) as state:
                return await work(state)

        return asyncio.run(whole())

    def on(self, name: str, work: Callable[[D1Database], Awaitable[T]]) -> T:
        """Do ``work`` on a database."""
        database = self.database(name)
        return self.run(lambda state: work(state.d1(_name(database))))


def _name(database: D1DatabaseConfig) -> str:
    return database.database_name or database.database_id or database.binding


@click.group("d1")
@click.option("--config", "-c", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--env", "-e", "environment", help="The environment of the wrangler file.")
@click.option(
    "--persist-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory; by default BUNFLARE_DIR, or .bunflare beside the wrangler file.",
)
@click.pass_context
def command(
    context: click.Context, config: Path | None, environment: str | None, persist_to: Path | None
) -> None:
    """Query, migrate, export and restore D1 databases."""
    context.obj = _Target(config, environment, persist_to)


@command.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_databases(target: _Target, as_json: bool) -> None:
    """The databases of the configuration, and the files that are there."""

    async def work(state: State) -> list[dict[str, Any]]:
        files = {path.stem: path for path in (state.directory / "d1").glob("*.sqlite")}
        declared = {
            _name(one): one for one in (target.config.d1_databases if target.config else ())
        }
        return [
            {
                "name": name,
                "binding": declared[name].binding if name in declared else None,
                "file_size": files[name].stat().st_size if name in files else None,
            }
            for name in sorted(files.keys() | declared.keys())
        ]

    show(target.run(work), as_json)


@command.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def info(target: _Target, name: str, as_json: bool) -> None:
    """Size and tables of a database."""

    async def work(db: D1Database) -> dict[str, Any]:
        result = await db.info()
        return {"name": _name(target.database(name)), **result}

    show([target.on(name, work)], as_json)


@command.command("execute")
@click.argument("name")
@click.option("--command", "sql", help="The statements to run.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="A file of statements.")
@click.option("--json", "as_json", is_flag=True, help="Print what the platform's API gives.")
@click.option("--local", is_flag=True, hidden=True)
@click.option("--yes", "-y", is_flag=True, hidden=True)
@click.pass_obj
def execute(
    target: _Target,
    name: str,
    sql: str | None,
    path: Path | None,
    as_json: bool,
    local: bool,
    yes: bool,
) -> None:
    """Run statements: those of a file as one transaction."""
    if (sql is None) == (path is None):
        raise click.UsageError("give either --command or --file")

    async def work(db: D1Database) -> list[dict[str, Any]]:
        if path is not None:
            count = await db.import_sql(path)
            return [{"success": True, "results": [{"statements": count}], "meta": {}}]
        return [asdict(one) for one in await db.execute(sql or "")]

    results = target.on(name, work)
    if as_json:
        click.echo(json.dumps(results, indent=2, default=plain))
        return
    for result in results:
        show(result["results"], False)


@command.command("export")
@click.argument("name")
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--table", "tables", multiple=True, help="Only this table; may be repeated.")
@click.option("--no-schema", is_flag=True)
@click.option("--no-data", is_flag=True)
@click.option("--local", is_flag=True, hidden=True)
@click.pass_obj
def export(
    target: _Target,
    name: str,
    output: Path,
    tables: tuple[str, ...],
    no_schema: bool,
    no_data: bool,
    local: bool,
) -> None:
    """Write a database as SQL."""
    target.on(
        name,
        lambda db: db.export_sql(
            output, schema=not no_schema, data=not no_data, tables=tables, progress=_progress()
        ),
    )
    click.echo(f"Written: {output}")


def _progress() -> Callable[[int], object] | None:
    if not sys.stderr.isatty():
        return None
    return lambda done: click.echo(f"\r{done:,} rows", nl=False, err=True)


@command.group("migrations")
def migrations() -> None:
    """Create, list and apply migrations."""


@migrations.command("create")
@click.argument("name")
@click.argument("message")
@click.pass_obj
def create(target: _Target, name: str, message: str) -> None:
    """Make an empty migration with the next number."""
    folder = target.root / target.database(name).migrations_dir
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(found[1]) for path in folder.iterdir() if (found := _NUMBER.match(path.name))]
    number = max(numbers, default=0) + 1
    path = folder / f"{number:04d}_{re.sub(r'[^0-9A-Za-z]+', '_', message).strip('_')}.sql"
    path.write_text(f"-- Migration number: {number:04d}\n")
    click.echo(str(path))


_NUMBER = re.compile(r"(\d+)_.*\.sql\Z")


@migrations.command("list")
@click.argument("name")
@click.option("--local", is_flag=True, hidden=True)
@click.pass_obj
def list_migrations(target: _Target, name: str, local: bool) -> None:
    """The migrations that are still to be applied."""
    database = target.database(name)
    folder = target.root / database.migrations_dir
    names = target.on(name, lambda db: db.pending_migrations(folder, database.migrations_table))
    show([{"to be applied": one} for one in names], False)


@migrations.command("apply")
@click.argument("name")
@click.option("--local", is_flag=True, hidden=True)
@click.pass_obj
def apply(target: _Target, name: str, local: bool) -> None:
    """Apply the migrations that are still to be applied."""
    database = target.database(name)
    folder = target.root / database.migrations_dir
    names = target.on(name, lambda db: db.migrate(folder, database.migrations_table))
    show([{"applied": one} for one in names], False)


@command.group("time-travel")
def time_travel() -> None:
    """Go back to an earlier state."""


@time_travel.command("info")
@click.argument("name")
@click.pass_obj
def bookmark(target: _Target, name: str) -> None:
    """Keep the present state, and print its bookmark."""
    click.echo(target.on(name, lambda db: db.bookmark()))


@time_travel.command("restore")
@click.argument("name")
@click.option("--bookmark", "mark")
@click.option("--timestamp", help="An ISO 8601 time, or seconds since the epoch.")
@click.pass_obj
def restore(target: _Target, name: str, mark: str | None, timestamp: str | None) -> None:
    """Go back to a bookmark, or to the newest state kept at or before a time."""
    if (mark is None) == (timestamp is None):
        raise click.UsageError("give either --bookmark or --timestamp")
    from datetime import UTC, datetime

    to: str | datetime = mark or timestamp or ""
    if timestamp is not None and timestamp.isdecimal():
        to = datetime.fromtimestamp(int(timestamp), UTC)
    before = target.on(name, lambda db: db.restore(to))
    click.echo(f"Restored. To undo it: --bookmark {before}")
