"""The command line: ``bunflare``. One module a command; nothing is imported before it is needed."""

from __future__ import annotations

import importlib
import sys

import click

from ..errors import BunflareError

_COMMANDS = {
    "d1": "Query, migrate, export and restore D1 databases.",
    "dev": "Run a Worker on a local port, its state kept in .bunflare.",
    "do": "Look into Durable Objects: storage, SQL and alarms.",
    "init": "Prepare a project: its data directory, and .gitignore.",
    "r2": "Put, get and list objects, and look after their files.",
    "state": "Count, check, back up, restore, compare and follow a whole state.",
}


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bunflare", prog_name="bunflare")
def cli() -> None:
    """Cloudflare's stateful platform for Python, in one directory."""


def main() -> None:
    """The console script. Errors of ours are one sentence and exit code 1, never a traceback."""
    try:
        cli()
    except BunflareError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
