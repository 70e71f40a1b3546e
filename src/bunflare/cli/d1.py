"""``bunflare d1``: D1 databases, with wrangler's command names."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import Config, D1DatabaseConfig, find_config, load_config
from ..errors import BunflareError
from .place import check_directory
from .tables import plain, show

if TYPE_CHECKING:
    from ..bindings.d1 import D1Database
    from ..state import State

T = TypeVar("T")


class _Target:
    """Which directory and which database a command means."""

    def __init__(
        self, config: Path | None, environment: str | None, directory: Path | None
    ) -> None:
        self._given = (config, environment, directory)
        path = config or find_config(Path.cwd())
        self.config: Config | None = None if path is None else load_config(path, environment)
        self.root = Path.cwd() if path is None else path.parent
        self._directory = directory

    def but(self, config: Path | None, environment: str | None, directory: Path | None) -> _Target:
        """The same with what is given."""
        before = self._given
        return _Target(config or before[0], environment or before[1], directory or before[2])

    def database(self, name: str) -> D1DatabaseConfig:
        """The database of that name or binding in the configuration; else one of that name."""
        for one in self.config.d1_databases if self.config else ():
            if name in (one.database_name, one.binding, one.database_id):
                return one
        return D1DatabaseConfig(binding=name, database_name=name)

    def run(self, work: Callable[[State], Awaitable[T]]) -> T:
        """Do ``work`` on the state."""
        from .. import state as states

        directory = self._directory or states.default_directory(self.root)
        check_directory(directory, reads=False)

        async def whole() -> T:
            async with states.open(directory) as state:
                return await work(state)

        return asyncio.run(whole())

    def on(self, name: str, work: Callable[[D1Database], Awaitable[T]]) -> T:
        """Do ``work`` on a database."""
        database = self.database(name)
        return self.run(lambda state: work(state.d1(_name(database))))


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """What wrangler's commands take after their names, and ours before them too."""

    def run(
        config: Path | None,
        environment: str | None,
        persist_to: Path | None,
        local: bool,
        **rest: Any,
    ) -> None:
        target: _Target = click.get_current_context().obj
        if config or environment or persist_to:
            target = target.but(config, environment, persist_to)
        function(target, **rest)

    run.__doc__ = function.__doc__
    run.__name__ = function.__name__
    # Options that stand above this decorator are given to the command that comes of it.
    run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--config", "-c", type=_FILE, hidden=True),
        click.option("--env", "-e", "environment", hidden=True),
        click.option("--persist-to", type=_FOLDER, hidden=True),
        click.option("--local", is_flag=True, hidden=True),
    ):
        run = option(run)
    return run


_FILE: click.Path = click.Path(path_type=Path, dir_okay=False)
_FOLDER: click.Path = click.Path(path_type=Path, file_okay=False)


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
@_options
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
@_options
def info(target: _Target, name: str, as_json: bool) -> None:
    """Size and tables of a database."""

    async def work(db: D1Database) -> dict[str, Any]:
        result = await db.info()
        return {"name": _name(target.database(name)), **result}

    show([target.on(name, work)], as_json)


@command.command("create")
@click.argument("name")
@_options
def create_database(target: _Target, name: str) -> None:
    """Make a database, and show what to write into the wrangler file."""
    from ..bindings.d1_name import check_name

    async def work(state: State) -> Path:
        path = state.directory / "d1" / f"{check_name(name)}.sqlite"
        if path.exists():
            raise BunflareError(f"there is a database {name!r} already")
        await state.d1(name).info()
        return path

    path = target.run(work)
    click.echo(f"Made: {path}\n")
    binding = re.sub(r"\W", "_", name).upper()
    click.echo(f'[[d1_databases]]\nbinding = "{binding}"\ndatabase_name = "{name}"')


@command.command("delete")
@click.argument("name")
@click.option("--skip-confirmation", "-y", is_flag=True)
@_options
def delete_database(target: _Target, name: str, skip_confirmation: bool) -> None:
    """Remove a database, and its history."""
    from ..bindings.d1_name import check_name
    from ..store.d1_remove import remove

    known = check_name(_name(target.database(name)))

    async def work(state: State) -> None:
        remove(state.directory / "d1" / f"{known}.sqlite")

    if not skip_confirmation:
        click.confirm(f"Remove {known} and all of its history?", abort=True, err=True)
    target.run(work)
    click.echo(f"Removed: {known}")


@command.command("execute")
@click.argument("name")
@click.option("--command", "sql", help="The statements to run.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="A file of statements.")
@click.option("--json", "as_json", is_flag=True, help="Print what the platform's API gives.")
@click.option("--yes", "-y", is_flag=True, hidden=True)
@_options
def execute(
    target: _Target,
    name: str,
    sql: str | None,
    path: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Run statements: those of a file as one transaction."""
    if (sql is None) == (path is None):
        raise click.UsageError("give either --command or --file")

    async def work(db: D1Database) -> list[dict[str, Any]]:
        if path is not None:
            with _bar(path) as progress:
                count = await db.import_sql(path, progress)
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
@_options
def export(
    target: _Target,
    name: str,
    output: Path,
    tables: tuple[str, ...],
    no_schema: bool,
    no_data: bool,
) -> None:
    """Write a database as SQL."""
    target.on(
        name,
        lambda db: db.export_sql(
            output, schema=not no_schema, data=not no_data, tables=tables, progress=_rows()
        ),
    )
    click.echo(f"Written: {output}")


def _watched() -> bool:
    return sys.stderr.isatty()


def _rows() -> Callable[[int], object] | None:
    if not _watched():
        return None
    return lambda done: click.echo(f"\r{done:,} rows", nl=False, err=True)


@contextmanager
def _bar(path: Path) -> Iterator[Callable[[int], object] | None]:
    """Shows how much of a file is read, where somebody looks."""
    if not _watched() or not path.is_file():
        yield None
        return
    with click.progressbar(length=path.stat().st_size, label=path.name, file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


@command.group("migrations")
def migrations() -> None:
    """Create, list and apply migrations."""


@migrations.command("create")
@click.argument("name")
@click.argument("message")
@_options
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
@_options
def list_migrations(target: _Target, name: str) -> None:
    """The migrations that are still to be applied."""
    database = target.database(name)
    folder = target.root / database.migrations_dir
    names = target.on(name, lambda db: db.pending_migrations(folder, database.migrations_table))
    show([{"to be applied": one} for one in names], False)


@migrations.command("apply")
@click.argument("name")
@_options
def apply(target: _Target, name: str) -> None:
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
@click.option("--timestamp", help="The state of that time: ISO 8601, or seconds since the epoch.")
@click.option("--json", "as_json", is_flag=True)
@_options
def bookmark(target: _Target, name: str, timestamp: str | None, as_json: bool) -> None:
    """The bookmark of the present state, or of a time's."""
    at = None if timestamp is None else _time(timestamp)
    found = target.on(name, lambda db: db.bookmark(at))
    click.echo(json.dumps({"bookmark": found}) if as_json else found)


@time_travel.command("restore")
@click.argument("name")
@click.option("--bookmark", "mark")
@click.option("--timestamp", help="An ISO 8601 time, or seconds since the epoch.")
@click.option("--json", "as_json", is_flag=True)
@_options
def restore(
    target: _Target, name: str, mark: str | None, timestamp: str | None, as_json: bool
) -> None:
    """Go back to the state of a bookmark or a time."""
    if (mark is None) == (timestamp is None):
        raise click.UsageError("give either --bookmark or --timestamp")
    to = mark if timestamp is None else _time(timestamp)

    async def work(db: D1Database) -> dict[str, str]:
        before = await db.restore(to or "")
        return {"bookmark": await db.bookmark(), "previous_bookmark": before}

    found = target.on(name, work)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"Restored. To undo it: --bookmark {found['previous_bookmark']}")


@time_travel.command("keep")
@click.argument("name")
@click.option("--days", default=30.0, show_default=True, help="0 keeps nothing.")
@click.option("--megabytes", default=1024.0, show_default=True)
@_options
def keep(target: _Target, name: str, days: float, megabytes: float) -> None:
    """Say for how long earlier states are kept, and how much of them at most."""
    target.on(name, lambda db: db.keep_history(days, megabytes))
    click.echo(f"{name}: {days:g} days, up to {megabytes:g} MB")


def _time(text: str) -> datetime:
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"{text!r} is no time: {error}") from error
